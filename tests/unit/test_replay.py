"""A recorded line on which more than the stock protocol was agreed on, played to a host that agrees on it too, or doesn't."""

from __future__ import annotations

import pytest

from gateway.fbp.text.graph_files import parse_graph
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.graph.upload import compile_stream
from gateway.serial_link.protocol.capture_format import Capture, CaptureLine, capture_commands
from gateway.serial_link.protocol.codec import W10, Command, command, encode, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind, DebugLevel, DebugPoint
from gateway.serial_link.protocol.dissector import LineDirection
from gateway.serial_link.protocol.extensions import NONE, WANTED, Extension, extend
from gateway.simulator.core.board import Board
from gateway.simulator.core.our_firmware import Told
from gateway.simulator.core.replay import ReplayBoard
from tests.support.agreeing import Agreeing
from tests.support.boards import library

COUNTER = parse_graph(
    "tick(Timer) OUT -> IN toggle(ToggleBoolean)\nin(Forward) OUT -> IN out(Forward)\n'50' -> INTERVAL tick\n", "g.fbp"
)
SENT = send_packet(0, 3, 0, Packet(PacketType.INTEGER, 5))
TWO_S = 2.0


class Recorded:
    """A board whose line is written down."""

    def __init__(self) -> None:
        built_in = compile_stream(COUNTER, library(), W10, embedded=True)
        self.lines: list[CaptureLine] = []
        self.now = 0.0
        self._board = Board(library(), embedded=built_in, strict=True, told=Told(b"a document", b"record.1"))
        self._board.data_to_send()
        self.crashed = ""

    @property
    def deadline(self) -> float | None:
        return self._board.deadline

    def receive(self, data: bytes, now: float) -> None:
        self.now = now
        self.lines.append(CaptureLine(now, LineDirection.TO_BOARD, data))
        self._board.receive(data, now)

    def tick(self, now: float) -> None:
        self.now = now
        self._board.tick(now)

    def data_to_send(self) -> bytes:
        data = self._board.data_to_send()
        if data:
            self.lines.append(CaptureLine(self.now, LineDirection.FROM_BOARD, data))
        return data


def recorded() -> tuple[Agreeing, list[tuple[float, bool, Command]]]:
    """Two seconds of a line with everything on; what the host saw of it, and the line."""
    board = Recorded()
    host = Agreeing(lambda: board, SENT)
    host.bench.run_until(TWO_S)
    assert (host.link.active, host.failures, host.desyncs, host.lost) == (WANTED, [], 0, 0)
    assert host.link.counters.grants > 2
    capture = Capture(W10, 115200, "attic", tuple(board.lines))
    return host, [(time, way is LineDirection.TO_BOARD, unit) for time, way, unit in capture_commands(capture)]


def test_a_host_that_agrees_gets_what_the_recorded_one_got() -> None:
    before, line = recorded()
    host = Agreeing(lambda: ReplayBoard(W10, line), SENT)
    host.bench.run_until(TWO_S)
    assert (host.link.active, host.failures, host.desyncs, host.lost) == (WANTED, [], 0, 0)
    assert host.packets == before.packets
    assert len(host.packets) > 30


def test_a_host_that_grants_and_counts_otherwise_is_answered_for_as_long_as_it_asks() -> None:
    _, line = recorded()
    host = Agreeing(lambda: ReplayBoard(W10, line), SENT)
    host.bench.run_until(30.0)  # long after the end of the recording: keepalives are grants
    host.link.request(command(CommandKind.COUNTERS, page=1), host.bench.now)  # was never asked
    host.bench.run_until(31.0)
    assert (host.link.is_open, host.failures, host.desyncs) == (True, [], 0)


def test_a_host_that_wants_less_gets_less() -> None:
    _, line = recorded()
    board = ReplayBoard(W10, line)
    said = talk(board, extend(Extension.CREDIT), SENT)
    assert said[0] == encode(W10, command(CommandKind.EXTENDED, 1, active=int(Extension.CREDIT), known=int(WANTED)))
    assert len(said[1]) == W10.size


def test_a_host_that_wants_nothing_hears_stock_firmware() -> None:
    _, line = recorded()
    board = ReplayBoard(W10, line)
    done = talk(board, SENT)[0]
    assert done == encode(W10, command(CommandKind.SEND_PACKET_DONE, 1, node=3, port=0, type=PacketType.INTEGER))


def test_a_damaged_command_is_told_and_not_answered_until_the_next_opening() -> None:
    _, line = recorded()
    board = ReplayBoard(W10, line)
    talk(board, extend(Extension.CHECKSUM))
    board.receive(b"\x01" * 11, 0.0)
    said = board.data_to_send()
    assert said[:2] == bytes((0, CommandKind.DEBUG_MESSAGE))
    assert said[3] == DebugPoint.BAD_CHECKSUM
    assert talk(board, SENT)[0][1] == CommandKind.SEND_PACKET_DONE


def test_a_recorded_restart_turns_everything_off_as_on_the_board() -> None:
    _, line = recorded()
    restarted = command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.INFO, point=DebugPoint.PROGRAM_START)
    host = Agreeing(lambda: ReplayBoard(W10, [*line, (TWO_S, False, restarted)]), SENT)
    host.bench.run_until(TWO_S - 0.1)
    assert host.link.active == WANTED
    host.bench.run_until(TWO_S + 0.5)
    assert (host.desyncs, host.link.active) == (1, WANTED)


@pytest.mark.parametrize("wanted", [NONE, WANTED])
def test_a_recording_of_stock_firmware_knows_of_no_extension(wanted: Extension) -> None:
    board = ReplayBoard(W10, [])
    assert talk(board, extend(wanted))[0] == encode(
        W10, command(CommandKind.ERROR, 1, code=DebugPoint.PARSER_UNKNOWN_COMMAND)
    )


def talk(board: ReplayBoard, *units: Command) -> list[bytes]:
    """Open, ask, and what is said to each."""
    board.receive(W10.magic + b"\xc8", 0.0)
    assert board.data_to_send()[1] == CommandKind.COMMUNICATION_OPEN
    said = []
    for unit in units:
        board.receive(encode(W10, Command(1, unit.kind, unit.args)), 0.0)
        said.append(board.data_to_send())
    return said
