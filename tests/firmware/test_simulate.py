"""``gateway simulate --firmware``: machine code as a board, for users as well as for tests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.simulated_board import ask_board
from gateway.firmware.emulated import EmulatedBoard
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import command, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind
from tests.support.firmware import EXAMPLES, host_end
from tests.support.gateway import COMMAND, Process, clean_environment

GRAPH = str(EXAMPLES / "thermometer.fbp")
WAIT_S = 60.0
EATEN = 40
"""Bytes of three openings, and of what a board says at its start before anybody listens."""


@pytest.mark.parametrize("target", ["host", "uno"])
def test_our_firmware_is_a_board_like_the_simulated_one(target: str, tmp_path: Path) -> None:
    link = tmp_path / "tty"
    process = Process("simulate", "--firmware", target, "--graph", GRAPH, "--link", str(link))
    try:
        process.wait_line("board ready")
        with host_end(link) as host:
            host.open()
            host.good(send_packet(0, 3, 0, Packet(PacketType.BOOLEAN, True)))
            process.wait_line("pin 7 = on")
            assert ask_board(link, "get 7") == {"pin": 7, "value": 1}
            host.good(command(CommandKind.SUBSCRIBE_TO_PORT, node=2, port=0, enable=1))
            host.wait_packets(1)
            assert "error" in ask_board(link, "dance")
            assert ask_board(link, "reset") == {"ok": True}
            host.open()
        assert process.stop() == 0
        assert not link.is_symlink()
        assert not Path(f"{link}.ctl").exists()
    finally:
        process.kill()


def test_an_uno_that_resets_when_opened_is_found_behind_its_boot_loader(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    process = Process("simulate", "--firmware", "uno", "--link", str(link))
    try:
        process.wait_line("board ready")
        lost = ask_board(link, "stats")["bytes_lost"]
        ask_board(link, "boot 3600000")
        ask_board(link, "dtr 1")
        with host_end(link) as host:
            host.link.start(time.monotonic())
            host.pump(lambda: ask_board(link, "stats")["bytes_lost"] >= lost + EATEN)
            ask_board(link, "boot 700")
            ask_board(link, "reset")  # this time the boot loader ends by itself
            host.pump(lambda: host.link.is_open)
            host.good(command(CommandKind.PING, 0, bytes(range(8))))
    finally:
        assert process.stop() == 0


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "letter.txt"
    taken.write_text("dear")
    done = subprocess.run(
        [str(COMMAND), "simulate", "--firmware", "host", "--link", str(taken)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "choose another name" in done.stderr
    assert "Traceback" not in done.stderr
    assert taken.read_text() == "dear"


CHILD = """
import sys
print("ready /dev/null", flush=True)
first, second = sys.stdin.readline(), sys.stdin.readline()
sys.stdout.write('{"to": "%s"}\\n{"to": "%s"}\\n' % (first.strip(), second.strip()))
sys.stdout.flush()
sys.stdin.read()
"""


async def test_answers_that_come_together_reach_those_who_asked(tmp_path: Path) -> None:
    async with EmulatedBoard([sys.executable, "-c", CHILD], tmp_path / "tty", lambda pin, value, kind: None) as board:
        async with asyncio.timeout(WAIT_S):
            answers = await asyncio.gather(board.request("one"), board.request("two"))
    assert [json.loads(answer) for answer in answers] == [{"to": "one"}, {"to": "two"}]
