"""``gateway simulate`` and ``gateway monitor`` as a person uses them: several boards, crashes, unplugging, recordings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from examples.simulated_board import ask_board
from gateway.firmware.sources import component_map
from gateway.serial_link.ports.tty import PortOptions, open_tty
from gateway.serial_link.protocol.capture_format import CaptureLine, capture_head
from gateway.serial_link.protocol.codec import W8_06, W10, Command, Wire, command, encode, opening
from gateway.serial_link.protocol.commandformat import CommandKind, DebugLevel, DebugPoint
from gateway.serial_link.protocol.dissector import LineDirection
from tests.support.gateway import EXAMPLES, Process, until

Start = Callable[..., Process]
THERMOMETER = str(EXAMPLES / "thermometer.fbp")
COMPONENTS = str(component_map())
READING = "00670200000700080000"
"""The board's port sensor.out says 2048."""
STARTED = command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.INFO, point=DebugPoint.PROGRAM_START)


@pytest.fixture
def start() -> Iterator[Start]:
    """Child processes that end with the test."""
    running: list[Process] = []

    def begin(*arguments: str) -> Process:
        running.append(Process(*arguments))
        return running[-1]

    yield begin
    for process in running:
        process.stop()


class Line:
    """A hand on the host's end of a pty."""

    def __init__(self, link: Path, wire: Wire) -> None:
        self._port = open_tty(str(link), PortOptions())
        self._wire = wire

    def say(self, *units: Command | bytes) -> None:
        for unit in units:
            os.write(self._port._fd, unit if isinstance(unit, bytes) else encode(self._wire, unit))

    def hear(self, count: int) -> list[str]:
        """So many commands, but not the board's word that it started: who opens the port late doesn't hear it."""
        got = bytearray()

        def commands() -> list[str]:
            with suppress(BlockingIOError):
                got.extend(os.read(self._port._fd, 4096))
            size = self._wire.size
            units = [bytes(got[at : at + size]) for at in range(0, len(got) - size + 1, size)]
            return [unit.hex() for unit in units if unit != encode(self._wire, STARTED)]

        until(f"{count} commands", lambda: len(commands()) >= count)
        return commands()

    def close(self) -> None:
        self._port.close()


def test_several_boards_run_each_with_its_own_pins(start: Start, tmp_path: Path) -> None:
    process = start("simulate", "--link", f"{tmp_path}/tty", "--count", "3", "--graph", THERMOMETER)
    for name in ("tty", "tty1", "tty2"):
        process.wait_line(f"board ready on {tmp_path}/{name} ")
    line = Line(tmp_path / "tty1", W10)
    line.say(opening(W10, 200), command(CommandKind.SEND_PACKET, 130, b"\1", node=3, port=0, type=6))
    process.wait_line(f"{tmp_path}/tty1: pin 7 = on")
    assert ask_board(tmp_path / "tty2", "get 7")["value"] is None
    line.close()


@pytest.mark.parametrize(("wire", "answer"), [(W8_06, "7600000000000000"), (W10, "81760000000000000000")])
def test_a_board_of_each_shape_answers_on_its_pty(start: Start, tmp_path: Path, wire: Wire, answer: str) -> None:
    process = start("simulate", "--link", f"{tmp_path}/tty", "--wire", wire.name)
    process.wait_line("board ready")
    line = Line(tmp_path / "tty", wire)
    line.say(opening(wire, 200), command(CommandKind.GET_NETWORK_STATUS, 129))
    assert line.hear(2)[-1] == answer
    line.close()


def test_a_stock_board_hangs_up_where_firmware_crashes_and_comes_back(start: Start, tmp_path: Path) -> None:
    process = start("simulate", "--link", f"{tmp_path}/tty")
    process.wait_line("board ready")
    line = Line(tmp_path / "tty", W10)
    line.say(opening(W10, 200), command(CommandKind.CREATE_COMPONENT, 129, component=9, parent=0))
    line.hear(2)
    line.say(command(CommandKind.CONNECT_NODES, 130, src=2, tgt=1, src_port=0, tgt_port=0))
    assert "source node 2 was removed or is the next free one" in process.wait_line("the board crashed")
    line.close()
    until("the board is back", (tmp_path / "tty").is_symlink)
    assert ask_board(tmp_path / "tty", "stats")["crashes"] == 1


def test_a_strict_board_answers_the_same_with_an_error(start: Start, tmp_path: Path) -> None:
    start("simulate", "--link", f"{tmp_path}/tty", "--strict").wait_line("board ready")
    line = Line(tmp_path / "tty", W10)
    line.say(opening(W10, 200), command(CommandKind.CONNECT_NODES, 130, src=1, tgt=1, src_port=0, tgt_port=0))
    assert line.hear(2)[-1].startswith("826e0c")
    line.close()


def test_a_board_is_unplugged_and_comes_back_under_another_name(start: Start, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("0.5 rename 0.3\n")
    (tmp_path / "tty.1").symlink_to("/dev/pts/nowhere")  # left by one that was killed
    start("simulate", "--link", f"{tmp_path}/tty", "--faults", f"@{tmp_path}/script").wait_line("board ready")
    until("it has another name", (tmp_path / "tty.1").exists)
    assert not (tmp_path / "tty").exists()


def test_a_board_is_plugged_in_only_where_no_other_file_is(start: Start, tmp_path: Path) -> None:
    start("simulate", "--link", f"{tmp_path}/tty").wait_line("board ready")
    (tmp_path / "notes").write_text("mine")
    assert ask_board(tmp_path / "tty", "unplug") == {"ok": True}
    for place, problem in ((tmp_path / "notes", "is there already"), (tmp_path / "no" / "where", "No such file")):
        assert problem in ask_board(tmp_path / "tty", f"plug {place}")["error"]
    assert (tmp_path / "notes").read_text() == "mine"
    assert ask_board(tmp_path / "tty", "plug") == {"ok": True}
    assert (tmp_path / "tty").exists()


def test_a_second_board_does_not_take_the_link_of_one_that_runs(start: Start, tmp_path: Path) -> None:
    start("simulate", "--link", f"{tmp_path}/tty").wait_line("board ready")
    second = start("simulate", "--link", f"{tmp_path}/tty")
    until("it ends", lambda: not second.running)
    assert second.stop() != 0
    assert second.lines == [f"gateway: {tmp_path}/tty: a simulated board runs there already; choose another name"]
    assert (tmp_path / "tty").exists()
    assert ask_board(tmp_path / "tty", "unplug") == {"ok": True}


def test_a_recording_is_played_back(start: Start, tmp_path: Path) -> None:
    lines = [
        capture_head(W10, 115200, "attic"),
        CaptureLine(0.0, LineDirection.TO_BOARD, opening(W10, 201)),
        CaptureLine(0.01, LineDirection.FROM_BOARD, bytes.fromhex("c9130000000000000000")),
        CaptureLine(0.1, LineDirection.FROM_BOARD, bytes.fromhex(READING)),
    ]
    (tmp_path / "line.capture").write_text("".join(f"{line}\n" for line in lines))
    start("simulate", "--link", f"{tmp_path}/tty", "--replay", f"{tmp_path}/line.capture").wait_line("playing")
    line = Line(tmp_path / "tty", W10)
    line.say(opening(W10, 222))
    assert line.hear(2) == ["de130000000000000000", READING]
    line.close()


def said_until_shown(link: Path, monitor: Process, words: str) -> str:
    """A reading said again and again: until the monitor has opened the port, the bytes wait there, or are thrown away."""
    lines: list[str] = []

    def shown() -> bool:
        assert monitor.running, monitor.lines
        ask_board(link, f"noise {READING}")
        with suppress(AssertionError):
            lines.append(monitor.wait_line(words, 1))
        return bool(lines)

    until(f"{words} is shown", shown)
    return lines[0]


def test_monitor_shows_what_a_board_says_with_the_names_of_its_graph(start: Start, tmp_path: Path) -> None:
    start("simulate", "--link", f"{tmp_path}/tty").wait_line("board ready")
    words = start("monitor", f"{tmp_path}/tty", "--hex", "--graph", THERMOMETER, "--components", COMPONENTS)
    heard = said_until_shown(tmp_path / "tty", words, "packet sent")
    assert f"< packet sent sensor.out: 2048 (integer)   [{READING}]" in heard
    words.stop()
    as_json = start("monitor", f"{tmp_path}/tty", "--json")
    said = json.loads(said_until_shown(tmp_path / "tty", as_json, "packet_sent"))
    assert (said["version"], said["port"], said["value"], said["hex"]) == (1, "node 2 port 0", 2048, READING)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--faults", "flop=1"], 1, "no fault: 'flop=1'"),
        (["--replay", "none"], 4, "none: no such recording"),
        (["--faults", "@none"], 4, "none: no such script"),
        (["--faults", "@/dev"], 1, "/dev: can't be read: Is a directory"),
        (["--components", "none"], 4, "none: no such component map"),
        (["--replay", "x", "--strict"], 2, "--replay plays what was recorded"),
        (["--link", "b", "--count", "2"], 2, "--count makes names of one --link"),
    ],
)
def test_a_wrong_option_is_one_line_and_an_exit_code(
    start: Start, tmp_path: Path, options: list[str], code: int, says: str
) -> None:
    process = start("simulate", "--link", f"{tmp_path}/tty", *options)
    assert says in process.wait_line(says)
    until("it has ended", lambda: not process.running)
    assert process.stop() == code


def test_a_link_that_cannot_be_made_is_one_line(tmp_path: Path, start: Start) -> None:
    board = start("simulate", "--link", str(tmp_path / "nowhere" / "tty"))
    until("it ends", lambda: not board.running)
    assert board.stop() != 0
    (line,) = board.lines
    assert line.startswith("gateway: ")
    assert "no link can be made there: No such file or directory" in line
