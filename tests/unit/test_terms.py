"""What is agreed on with a board beyond the stock protocol, and what is remembered of it in the board's state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.errors import AccessRefused, RequestTimeout
from gateway.model.component import ComponentLibrary
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.negotiation import MOST_FAILURES, Negotiation
from gateway.serial_link.description.self_description import Description, FirmwareLimits, encode_description
from gateway.serial_link.ports.core.identity import Identity
from gateway.serial_link.protocol.codec import W10, Command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.extensions import NONE, WANTED, Extension
from gateway.serial_link.protocol.link_events import LinkCounters
from gateway.serial_link.records.board_status import BoardStatus, board_entry
from gateway.simulator.core.our_firmware import OurFirmware, Told

ATTIC, OTHER = b"attic..1", b"other..1"
KNOWN = Identity("board", ATTIC.hex())


def document(version: str) -> bytes:
    """What a board with this version of our firmware tells."""
    limits = FirmwareLimits(nodes=49, messages=48, outports=255, receive_bytes=64)
    return encode_description(Description("test", version, "a board", ComponentLibrary(), limits))


class Line:
    """A conversation with a board of our own that answers at once. ``breaks``: it falls silent when extensions are on."""

    def __init__(self, version: str = "1", board_id: bytes = ATTIC, *, breaks: bool = False) -> None:
        self.link = SimpleNamespace(wire=W10, active=NONE, limit_credit=lambda limits: None)
        self.reported = 7
        self._breaks = breaks
        self._board = OurFirmware(Told(document(version), board_id))

    async def ask(self, unit: Command) -> Command:
        """One request and its answer."""
        if self._breaks and self.link.active & Extension.CHECKSUM:
            raise RequestTimeout("device attic", "counters", "no reply")
        network: Any = SimpleNamespace(lost=0, reported=self.reported, room=48)
        reply = self._board.answer(unit, network)
        if reply.kind == CommandKind.EXTENDED:
            self.link.active = Extension(reply["active"])
        return reply


async def opened(status: BoardStatus, line: Line) -> Extension:
    """A connection: what was agreed on."""
    status.begin(LinkCounters())
    terms = Negotiation("device attic", cast(LinkDriver, line), status)
    await terms.agree(KNOWN, document("1"))
    return status.extensions


async def given_up(status: BoardStatus) -> None:
    """The line has fallen silent so often that extensions are not asked for any more."""
    for _ in range(MOST_FAILURES):
        with pytest.raises(RequestTimeout):
            await opened(status, Line(breaks=True))
    assert await opened(status, Line(breaks=True)) == NONE


def counters(status: BoardStatus) -> Any:
    """``board_counters`` of ``gateway devices --json``."""
    record = SimpleNamespace(id="a", role="attic", path="/dev/x", baud=115200, wire="w10", managed=True)
    return board_entry(record, status)["board_counters"]


async def test_the_same_firmware_goes_on_without_what_it_fell_silent_on() -> None:
    status = BoardStatus()
    await given_up(status)
    assert await opened(status, Line()) == NONE


async def test_another_firmware_gets_its_extensions_again() -> None:
    status = BoardStatus()
    await given_up(status)
    assert await opened(status, Line("2")) == WANTED
    assert await opened(status, Line("1")) == WANTED


async def test_another_firmware_that_falls_silent_too_is_given_up_as_well() -> None:
    status = BoardStatus()
    await given_up(status)
    for _ in range(MOST_FAILURES):
        with pytest.raises(RequestTimeout):
            await opened(status, Line("2", breaks=True))
    assert await opened(status, Line("2", breaks=True)) == NONE


async def test_a_board_that_made_room_for_another_one_gets_its_extensions_again() -> None:
    status = BoardStatus()
    await given_up(status)
    with pytest.raises(AccessRefused, match="is in its place"):
        await opened(status, Line(board_id=OTHER))
    assert await opened(status, Line()) == WANTED


async def test_a_board_that_was_paired_again_gets_its_extensions_again() -> None:
    status = BoardStatus()
    await given_up(status)
    status.begin_anew()
    assert await opened(status, Line()) == WANTED


async def test_the_board_s_own_counters_are_shown_only_while_it_tells_them() -> None:
    status = BoardStatus()
    await opened(status, Line())
    assert counters(status)["reported"] == 7
    await given_up(status)
    assert counters(status) is None
    status = BoardStatus()
    await opened(status, Line())
    status.end()
    assert counters(status)["reported"] == 7  # the last that is known
    status.begin(LinkCounters())
    assert counters(status) is None
