"""What our own firmware offers beyond the stock protocol, on a simulated board (docs/firmware.md): the board's side of
self-description, sequence numbers, credit, checksums and counters.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from gateway.serial_link.protocol.codec import Command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.extensions import NONE, WANTED, Extension
from gateway.simulator.core.network import Network

SILENT_HOST_S = 10.0
"""Silence of the host after which the network doesn't wait for its credit any more."""

PIECE = 7
"""Bytes of the description in one answer."""

MOST_CREDIT = 0xFFFF
_CHANGES_GRAPH = frozenset(
    {
        CommandKind.CLEAR_NODES,
        CommandKind.CREATE_COMPONENT,
        CommandKind.CONNECT_NODES,
        CommandKind.DISCONNECT_NODES,
        CommandKind.REMOVE_NODE,
    }
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a board tells of itself: the document in CBOR, and the eight bytes of its id."""

    document: bytes
    id: bytes


class OurFirmware:
    """State of one board's conversation, from reset on. ``own_graph``: the built-in graph is still the one on the board."""

    def __init__(self, told: Told) -> None:
        self.active = NONE
        self.own_graph = False
        self.bad_checksums = 0
        self.refused_sends = 0
        self._told = told
        self._credit = 0
        self._heard = 0.0

    def opened(self) -> None:
        """Another host may be there now, one that knows of nothing."""
        self.active = NONE

    def heard(self, now: float) -> None:
        """The host said something."""
        self._heard = now

    def obeyed(self, kind: CommandKind) -> None:
        """A command of the stock protocol was carried out."""
        self.own_graph = self.own_graph and kind not in _CHANGES_GRAPH

    def wakes(self, now: float) -> float | None:
        """When packets may be reported: ``now``, or when the host will have been silent for long."""
        if Extension.CREDIT not in self.active or self._credit:
            return now
        return max(now, self._heard + SILENT_HOST_S)

    def reported(self, arguments: bytes, sequence: int) -> bytes:
        """The arguments of a packet that is reported now, with what was agreed on."""
        if Extension.CREDIT in self.active:
            self._credit = max(0, self._credit - 1)
        if Extension.SEQUENCE not in self.active:
            return arguments
        return arguments[:2] + bytes((arguments[2] | sequence << 1,)) + arguments[3:]

    def answer(self, unit: Command, network: Network) -> Command:
        """The answer to a request of the extension. What an EXTEND turns on begins behind it: see ``agree``."""
        match unit.kind:
            case CommandKind.DESCRIBE:
                return Command(unit.request_id, CommandKind.DESCRIPTION, self._describe(unit))
            case CommandKind.EXTEND:
                wanted = unit["wanted"] & WANTED
                return Command(unit.request_id, CommandKind.EXTENDED, bytes((wanted, WANTED)))
            case CommandKind.GRANT:
                count = unit["count_low"] | unit["count_high"] << 8
                self._credit = min(MOST_CREDIT, self._credit + count)
                told = self._credit.to_bytes(2, "little") + bytes((network.room,))
                return Command(unit.request_id, CommandKind.GRANTED, told)
        return Command(unit.request_id, CommandKind.COUNTED, self._count(unit["page"], network))

    def agree(self, unit: Command) -> None:
        """After the answer."""
        if unit.kind == CommandKind.EXTEND:
            self.active = Extension(unit["wanted"] & WANTED)
            self._credit = 0

    def _describe(self, unit: Command) -> bytes:
        document = self._told.document
        head = len(document).to_bytes(2, "little") + binascii.crc_hqx(document, 0xFFFF).to_bytes(2, "little")
        stream = head + self._told.id + bytes((self.own_graph, 0)) + document
        at = unit["offset_low"] | unit["offset_high"] << 8
        piece = stream[at : at + PIECE]
        return bytes((len(piece),)) + piece

    def _count(self, page: int, network: Network) -> bytes:
        if page == 0:
            lost = (network.lost & 0xFFFF).to_bytes(2, "little")
            return (network.reported & 0xFFFFFFFF).to_bytes(4, "little") + lost + bytes(2)
        if page == 1:
            counts = (self.bad_checksums, 0, self.refused_sends)
            return b"".join((count & 0xFFFF).to_bytes(2, "little") for count in counts)
        return b""
