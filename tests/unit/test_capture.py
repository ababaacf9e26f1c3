"""A recorded line: written, read, put into words, and played again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.fbp.text.graph_files import parse_graph
from gateway.serial_link.protocol.capture_format import (
    Capture,
    CaptureLine,
    capture_commands,
    capture_head,
    parse_capture,
)
from gateway.serial_link.protocol.codec import W8_06, W10, Command, Wire, command, encode
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.dissector import Dissector, LineDirection, Names, describe, fields
from gateway.serial_link.protocol.extensions import checked
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import LinkEvent, LinkRequestFailed, Opened, PacketSent, Replied
from gateway.simulator.core.replay import ReplayBoard
from tests.support.vectors import CAPTURES, each, library

BLINK = parse_graph("tick(Timer) OUT -> IN flip(ToggleBoolean) OUT -> IN lamp(DigitalWrite)", "blink.fbp")
NAMES = Names.of(BLINK, library())


def recorded(wire: Wire, name: str) -> Capture:
    scenario = next(s for s in CAPTURES[wire.name]["scenarios"] if s["name"] == name)
    lines = [
        CaptureLine(
            at / 100,
            LineDirection.TO_BOARD if frame["dir"].startswith("host") else LineDirection.FROM_BOARD,
            bytes.fromhex(frame["hex"]),
        )
        for at, frame in enumerate(scenario["frames"])
    ]
    return Capture(wire, wire.baud, name, tuple(lines))


def text_of(capture: Capture) -> str:
    head = capture_head(capture.wire, capture.baud, capture.name)
    return "\n".join([head, *(str(line) for line in capture.lines)]) + "\n"


def test_a_capture_survives_writing_and_reading() -> None:
    capture = recorded(W10, "upload-3-nodes")
    assert parse_capture(text_of(capture), "c") == capture


def test_a_last_line_that_was_cut_is_left_out() -> None:
    text = text_of(recorded(W10, "upload-3-nodes"))
    assert len(parse_capture(text[:-9], "c").lines) == len(parse_capture(text, "c").lines) - 1


def test_remarks_are_kept() -> None:
    line = CaptureLine(1.5, None, remark="unplugged\nby hand")
    assert str(line) == "1.500000 ! unplugged by hand"
    assert parse_capture(f"{capture_head(W8_06, 9600, 'x')}\n{line}\n", "c").lines[0].remark == "unplugged by hand"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello\n", "c: line 1: no capture"),
        ("# gateway capture 9 wire=w10 baud=1 name=x\n", "newer gateway"),
        ("# gateway capture 1 wire=w11 baud=1 name=x\n", "unknown wire generation w11"),
        (f"{capture_head(W10, 1, 'x')}\n0.1 > 00\nbad\n", "c: line 3: no line"),
        (f"{capture_head(W10, 1, 'x')}\n0.1 > 0z\n", "c: line 2: no bytes in hex"),
    ],
)
def test_a_wrong_capture_names_its_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_capture(text, "c")


@pytest.mark.parametrize(
    ("frame", "way", "says"),
    [
        ("6d6963726f666c6f31c8", LineDirection.TO_BOARD, "> open #200"),
        ("c8130000000000000000", LineDirection.FROM_BOARD, "< communication open #200"),
        ("810b1700000000000000", LineDirection.TO_BOARD, "> create component Timer #129"),
        ("81651701000000000000", LineDirection.FROM_BOARD, "< node added Timer as tick #129"),
        ("820c0102000000000000", LineDirection.TO_BOARD, "> connect nodes tick.out -> flip.in #130"),
        ("82660100020000000000", LineDirection.FROM_BOARD, "< nodes connected tick.out -> flip.in #130"),
        ("830d0100076400000000", LineDirection.TO_BOARD, "> send packet tick.interval: 100 (integer) #131"),
        ("83720100070000000000", LineDirection.FROM_BOARD, "< send packet done tick.interval (integer) #131"),
        ("84100200010000000000", LineDirection.TO_BOARD, "> subscribe to port flip.out on #132"),
        ("00670200010601000000", LineDirection.FROM_BOARD, "< packet sent flip.out: true (boolean)"),
        ("00670100010300000000", LineDirection.FROM_BOARD, "< packet sent tick.out: null (void)"),
        ("00670900010b03000000", LineDirection.FROM_BOARD, "< packet sent node 9 port 0: UnsupportedValue (error)"),
        ("00670100000c00000000", LineDirection.FROM_BOARD, "< packet sent tick.out (type 12)"),
        ("006a0109000000000000", LineDirection.FROM_BOARD, "< debug message error parser unknown command"),
        ("856e0f00000000000000", LineDirection.FROM_BOARD, "< error add node invalid instance #133"),
        ("86760100000000000000", LineDirection.FROM_BOARD, "< network status running #134"),
        ("87f10102000000000000", LineDirection.TO_BOARD, "> unknown 241 0102000000000000"),
    ],
)
def test_a_command_in_words_has_the_names_of_the_graph(frame: str, way: LineDirection, says: str) -> None:
    data = bytes.fromhex(frame)
    assert describe(W10, way, Command(data[0], data[1], data[2:]), NAMES) == says


def test_without_names_numbers_stand_there() -> None:
    unit = command(CommandKind.CONNECT_NODES, 129, src=1, tgt=2, src_port=0, tgt_port=0)
    assert describe(W10, LineDirection.TO_BOARD, unit) == "> connect nodes node 1 port 0 -> node 2 port 0 #129"


def test_the_older_wires_are_read_too_and_without_ids() -> None:
    unit = Command(0, CommandKind.PACKET_SENT, bytes.fromhex("0200010007feff"))
    assert describe(W8_06, LineDirection.FROM_BOARD, unit, NAMES) == "< packet sent flip.out: -2 (integer)"


@pytest.mark.parametrize(("wire", "scenario"), each("scenarios"))
def test_everything_captured_can_be_put_into_words_and_json(wire: Wire, scenario: dict[str, Any]) -> None:
    for frame in scenario["frames"]:
        way = LineDirection.TO_BOARD if frame["dir"].startswith("host") else LineDirection.FROM_BOARD
        for unit in Dissector(wire, way).feed(bytes.fromhex(frame["hex"]) * 2):
            if isinstance(unit, Command):
                assert describe(wire, way, unit)
                assert json.dumps(fields(wire, way, unit))


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 3, b"boot v1.2\r\n", b"\0" * 7])
@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_a_listener_finds_the_commands_wherever_it_joins_in(garbage: bytes, chunk: int) -> None:
    unit = Command(0, CommandKind.PACKET_SENT, bytes.fromhex("0200010705000000"))
    data = garbage + encode(W10, unit) * 4
    listener, found = Dissector(W10, LineDirection.FROM_BOARD), []
    for at in range(0, len(data), chunk):
        found += listener.feed(data[at : at + chunk])
    found += listener.flush()
    assert [piece for piece in found if isinstance(piece, Command)] == [unit] * 4
    assert b"".join(piece for piece in found if isinstance(piece, bytes)) == garbage


@pytest.mark.parametrize("before", [b"", b"\xff" * 3, b"\0" * 7])
@pytest.mark.parametrize("chunk", [1, 3, 11, 1000])
def test_a_listener_finds_commands_with_checksums_too_wherever_it_joins_in(before: bytes, chunk: int) -> None:
    units = [Command(0, CommandKind.PACKET_SENT, bytes((2, 0, n << 1, 7, n, 0, 0, 0))) for n in range(1, 6)]
    data = before + b"".join(checked(encode(W10, unit)) for unit in units)
    listener, found = Dissector(W10, LineDirection.FROM_BOARD), []
    for at in range(0, len(data), chunk):
        found += listener.feed(data[at : at + chunk])
    found += listener.flush()
    assert [piece for piece in found if isinstance(piece, Command)] == units
    assert b"".join(piece for piece in found if isinstance(piece, bytes)) == before


def test_a_listener_follows_when_checksums_are_turned_on_and_off() -> None:
    plain = command(CommandKind.PONG, 129, bytes(8))
    on, off = (command(CommandKind.EXTENDED, 130, active=active, known=31) for active in (4, 0))
    opened = command(CommandKind.COMMUNICATION_OPEN, 200)
    units = [plain, on, plain, plain, off, plain, on, plain, opened, plain]
    sizes = [10, 10, 11, 11, 11, 10, 10, 11, 10, 10]
    data = b"".join(
        checked(encode(W10, unit)) if size == 11 else encode(W10, unit) for unit, size in zip(units, sizes, strict=True)
    )
    for chunk in (1, 7, 200):
        listener, found = Dissector(W10, LineDirection.FROM_BOARD), []
        for at in range(0, len(data), chunk):
            found += listener.feed(data[at : at + chunk])
        assert [piece.kind for piece in found if isinstance(piece, Command)] == [unit.kind for unit in units]


@pytest.mark.parametrize("wire", [W10, W8_06], ids=lambda wire: wire.name)
def test_a_played_board_answers_and_reports_as_the_recorded_one(wire: Wire) -> None:
    capture = recorded(wire, "upload-3-nodes")
    units = [(time, way is LineDirection.TO_BOARD, unit) for time, way, unit in capture_commands(capture)]
    board, link = ReplayBoard(wire, units), Link(wire)
    events: list[tuple[float, LinkEvent]] = []
    now = 0.0
    link.start(now)
    asked = [unit for _, to_board, unit in units if to_board and not encode(wire, unit).startswith(wire.magic)]
    while now < 2.0:
        now += 0.01
        board.receive(link.data_to_send(), now)
        link.receive(board.data_to_send(), now)
        events += [(now, event) for event in link.events()]
        if link.is_open and asked and link.room:
            link.request(asked.pop(0), now)
    kinds = [type(event) for _, event in events]
    assert [event.reason for _, event in events if isinstance(event, LinkRequestFailed)] == []
    assert kinds.count(Opened) == 1
    assert kinds.count(Replied) == len([unit for _, to_board, unit in units if to_board]) - 1
    readings = [event.packet.value for _, event in events if isinstance(event, PacketSent) and event.packet]
    assert readings == [False, True, False, True, False, True]
