"""A line with checksums and numbered packets, on a simulated clock: what one harmed byte costs, and that it is counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gateway.fbp.files import parse_graph
from gateway.serial_link.codec import W10, Command, command
from gateway.serial_link.commandformat import CommandKind
from gateway.serial_link.credit import CreditLimits
from gateway.serial_link.extensions import WANTED, count_page, extend
from gateway.serial_link.gaps import Gaps
from gateway.serial_link.link import Link
from gateway.serial_link.linkevents import Desynced, LinkEvent, Opened, PacketSent, Replied, options_for
from gateway.serial_link.upload import compile_stream
from gateway.simulator.board import Board
from gateway.simulator.ourfirmware import Told
from tests.support.boards import library
from tests.support.wires import WHOLE, Bench

BAUD = 115200
SIZE = 11
TICKER = parse_graph("tick(Timer) OUT -> IN forward(Forward)\n'10' -> INTERVAL tick\n", "ticker.fbp")
SETTLED_S, AFTER_S = 0.905, 4.0
"""Both in the middle between two reports, so that none is under way."""


class Host:
    """Agrees on everything after each opening, then listens to a board that reports a hundred packets a second."""

    def __init__(self) -> None:
        self.link = Link(W10, options_for(W10, BAUD))
        self.link.limit_credit(CreditLimits(packets=16))
        self.readings = self.lost = self.desyncs = 0
        self.on_desync: Callable[[], None] = lambda: None
        self._gaps = Gaps()
        self._steps: Iterator[Command] = iter(())
        built_in = compile_stream(TICKER, library(), W10, embedded=True)

        def make() -> Board:
            return Board(library(), embedded=built_in, strict=True, told=Told(b"a document", b"ticker.1"))

        self.bench = Bench(self.link, make, WHOLE, 1, BAUD, on_event=self.on_event)
        self.link.start(0.0)
        self.bench.run_until(SETTLED_S)
        assert self.link.active == WANTED
        self.unread = self.bench.board.network.reported - self.readings

    def on_event(self, event: LinkEvent, now: float) -> None:
        match event:
            case Opened():
                self._steps = self._agreement()
                self._ask(now)
            case Replied():
                self._ask(now)
            case Desynced():
                self.desyncs += 1
                self.on_desync()
            case PacketSent():
                self.readings += 1
                self.lost += self._gaps.feed(event.sequence)

    def _ask(self, now: float) -> None:
        unit = next(self._steps, None)
        if unit is not None and self.link.is_open:
            self.link.request(unit, now)

    @staticmethod
    def _agreement() -> Iterator[Command]:
        yield command(CommandKind.DESCRIBE, offset_low=0, offset_high=0)
        yield extend(WANTED)
        yield count_page(0)
        yield command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=0, enable=1)

    def run(self) -> int:
        """Go on until all is well again; how many readings never came."""
        self.bench.run_until(SETTLED_S + AFTER_S)
        assert self.link.active == WANTED
        return self.bench.board.network.reported - self.readings - self.unread


# 16 packets of credit are filled up when eight are used: among so many bytes is the answer to a grant.
@pytest.mark.parametrize("at", range(10 * SIZE))
def test_a_harmed_byte_from_the_board_costs_the_one_reading_it_was_in_or_none(at: int) -> None:
    host = Host()
    host.bench.to_host.strikes = {at: 1 << at % 8}
    missing = host.run()
    assert host.lost == missing
    assert missing <= 1


@pytest.mark.parametrize("at", range(2 * SIZE))
def test_a_harmed_byte_to_the_board_costs_no_reading(at: int) -> None:
    host = Host()
    host.bench.to_board.strikes = {at: 1 << at % 8}
    assert host.run() == host.lost == 0
    assert host.desyncs == 1


@pytest.mark.parametrize("at", range(W10.size))
def test_a_harmed_answer_to_an_opening_costs_what_comes_until_the_next_and_each_reading_of_that_is_counted_once(
    at: int,
) -> None:
    host = Host()
    host.bench.to_board.strikes = {0: 1}
    host.on_desync = lambda: host.bench.to_host.strikes.update({at: 1 << at % 8})
    missing = host.run()
    assert host.desyncs == 1
    assert host.lost == missing
    assert 2 < missing < 20
