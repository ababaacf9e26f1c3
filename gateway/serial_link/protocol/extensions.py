"""What our own firmware offers beyond the stock protocol, and the bytes of it (docs/firmware.md).

Every opening turns all of it off, on both sides: a host that knows of none sees none, and a board that knows of none is
never asked, because only a board that has described itself is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from gateway.errors import RemoteProtocolError
from gateway.serial_link.protocol.codec import Command, command
from gateway.serial_link.protocol.commandformat import CommandKind


class Extension(IntFlag):
    """Bits of EXTEND and EXTENDED. FLOATS and COUNTERS turn nothing on: they say what the firmware can do anyway."""

    SEQUENCE = 1
    """Packets are numbered, in seven bits that are zero elsewhere."""
    CREDIT = 2
    """The board reports packets only while it has credit, and tells how much room its queue has."""
    CHECKSUM = 4
    """Every command has an eleventh byte."""
    FLOATS = 8
    COUNTERS = 16


NONE = Extension(0)
WANTED = Extension.SEQUENCE | Extension.CREDIT | Extension.CHECKSUM | Extension.FLOATS | Extension.COUNTERS

CHECKSUM_BYTES = 1


def names(active: Extension) -> tuple[str, ...]:
    """As ``gateway devices`` prints them: ``sequence``, ``credit`` …"""
    return tuple(str(bit.name).lower() for bit in Extension if bit in active)


def extend(wanted: Extension) -> Command:
    """The request that turns on what is wanted, and everything else off."""
    return command(CommandKind.EXTEND, wanted=int(wanted))


# -- checksum --------------------------------------------------------------------------------------------------------


def _crc8_table() -> bytes:
    table = bytearray()
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return bytes(table)


_CRC8 = _crc8_table()


def checksum(data: bytes | bytearray) -> int:
    """CRC-8 with polynomial 0x07, started with 0xFF. Of data with their checksum behind them it is 0."""
    total = 0xFF
    for byte in data:
        total = _CRC8[total ^ byte]
    return total


def checked(data: bytes) -> bytes:
    """A command with its checksum behind it."""
    return data + bytes((checksum(data),))


# -- counters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BoardCounts:
    """What a board has counted since its start. 16 bits each but the first, and round again."""

    reported: int = 0
    """Packets of subscribed ports."""
    queue_full: int = 0
    """Those of them, and of its edges, that found its queue full."""
    input_lost: int = 0
    """Bytes that came too fast, or damaged."""
    bad_checksums: int = 0
    half_commands: int = 0
    refused_sends: int = 0
    """Packets from us that found the queue full: they were refused, and sent again."""


PAGES = (
    (("reported", 4), ("queue_full", 2), ("input_lost", 2)),
    (("bad_checksums", 2), ("half_commands", 2), ("refused_sends", 2)),
)
"""Names and bytes of the numbers on each page."""


def count_page(page: int) -> Command:
    """The request for one page of counters."""
    return command(CommandKind.COUNTERS, page=page)


def read_counts(*replies: Command) -> BoardCounts:
    """The counters of the pages, in their order. ``RemoteProtocolError`` if one of them is no such answer."""
    found: dict[str, int] = {}
    for page, reply in zip(PAGES, replies, strict=False):
        if reply.kind != CommandKind.COUNTED:
            raise RemoteProtocolError(f"answer {reply.kind} to a request for the counters")
        at = 0
        for name, size in page:
            found[name] = int.from_bytes(reply.args[at : at + size], "little")
            at += size
    return BoardCounts(**found)
