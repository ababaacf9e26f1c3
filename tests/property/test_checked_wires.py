"""A line with checksums and numbered packets, on a simulated clock: what one harmed byte costs, and that it is counted once."""

from __future__ import annotations

import pytest

from gateway.fbp.text.graph_files import parse_graph
from gateway.serial_link.graph.upload import compile_stream
from gateway.serial_link.protocol.codec import W10
from gateway.serial_link.protocol.extensions import WANTED
from gateway.simulator.core.board import Board
from gateway.simulator.core.our_firmware import Told
from tests.support.agreeing import Agreeing
from tests.support.boards import library

SIZE = 11
TICKER = parse_graph("tick(Timer) OUT -> IN forward(Forward)\n'10' -> INTERVAL tick\n", "ticker.fbp")
SETTLED_S, AFTER_S = 0.905, 4.0
"""Both in the middle between two reports, so that none is under way."""


def ticking() -> Board:
    """It reports a hundred packets a second."""
    built_in = compile_stream(TICKER, library(), W10, embedded=True)
    return Board(library(), embedded=built_in, strict=True, told=Told(b"a document", b"ticker.1"))


def settled() -> Agreeing:
    """All is agreed on."""
    host = Agreeing(ticking)
    host.bench.run_until(SETTLED_S)
    assert host.link.active == WANTED
    return host


def missing(host: Agreeing) -> int:
    """How many readings never came, when all is well again."""
    host.bench.run_until(SETTLED_S + AFTER_S)
    assert host.link.active == WANTED
    return int(host.bench.board.network.reported) - len(host.packets)


# Of 16 packets of credit eight are used when it is filled up: among so many bytes is the answer to a grant.
@pytest.mark.parametrize("at", range(10 * SIZE))
def test_a_harmed_byte_from_the_board_costs_the_one_reading_it_was_in_or_none(at: int) -> None:
    host = settled()
    host.bench.to_host.strikes = {at: 1 << at % 8}
    assert missing(host) == host.lost
    assert host.lost <= 1


@pytest.mark.parametrize("at", range(2 * SIZE))
def test_a_harmed_byte_to_the_board_costs_no_reading(at: int) -> None:
    host = settled()
    host.bench.to_board.strikes = {at: 1 << at % 8}
    assert missing(host) == host.lost == 0
    assert host.desyncs == 1


@pytest.mark.parametrize("at", range(W10.size))
def test_a_harmed_answer_to_an_opening_costs_what_comes_until_the_next_and_each_reading_of_that_is_counted_once(
    at: int,
) -> None:
    host = settled()
    host.bench.to_board.strikes = {0: 1}
    host.on_desync = lambda: host.bench.to_host.strikes.update({at: 1 << at % 8})
    assert missing(host) == host.lost
    assert host.desyncs == 1
    assert 2 < host.lost < 20
