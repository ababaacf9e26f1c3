"""A port that is lent to the program which writes firmware is left alone by everybody else, with a daemon and without."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.errors import PortBusy
from gateway.serial_link.ports.port_locks import PortLocks
from tests.support.boards import Registry, request, simulated
from tests.support.gateway import EXAMPLES, Gateway, Process, gateway_with, pair_thermometer, simulated_board, until

AVRDUDE = """\
#!/bin/sh
echo avrdude is at work
while [ ! -e "{done}" ]; do sleep 0.05; done
"""
IMAGE = ":0400000001020304F2\n:00000001FF\n"


@contextmanager
def flashing(gateway: Gateway, directory: Path, target: str) -> Iterator[tuple[Process, Path]]:
    """``gateway flash`` in the middle of its work while the block runs; and the file that it writes."""
    done, image, programs = directory / "done", directory / "image.hex", directory / "bin"
    image.write_text(IMAGE)
    programs.mkdir()
    avrdude = programs / "avrdude"
    avrdude.write_text(AVRDUDE.format(done=done))
    avrdude.chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    process = Process(*gateway.arguments("flash", target, str(image)), environment=path)
    try:
        process.wait_line("avrdude is at work")
        yield process, image
        done.touch()
        process.wait_line("is on the board")
    finally:
        done.touch()
        process.stop()


@pytest.mark.parametrize("with_daemon", [True, False], ids=["daemon", "alone"])
def test_nobody_gets_a_port_that_is_lent_to_flash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_daemon: bool
) -> None:
    with gateway_with(tmp_path) as gateway, simulated_board(tmp_path) as board:
        if with_daemon:
            gateway.start()
        pair_thermometer(gateway, board)
        with flashing(gateway, tmp_path, str(board.link)) as (process, image):
            monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
            graph = str(EXAMPLES / "thermometer.fbp")
            line = f"port {board.link}: is lent to gateway flash (process {process.pid}); wait until that is done"
            for command in (
                ("pair", str(board.link)),
                ("flash", str(board.link), str(image)),
                ("flash", "attic", str(image)),
                ("upload", "attic", graph),
            ):
                done = gateway.run(*command)
                assert (done.returncode, done.stderr) == (5, f"gateway: {line}\n"), command
        pair_thermometer(gateway, board)
        if with_daemon:
            until("the board runs", lambda: gateway.json("devices")["devices"][0]["state"] == "running")


def test_a_port_of_no_paired_board_is_lent_too(tmp_path: Path) -> None:
    with gateway_with(tmp_path) as gateway, simulated_board(tmp_path) as board:
        gateway.start()
        with flashing(gateway, tmp_path, str(board.link)) as (process, _):
            done = gateway.run("pair", str(board.link))
            assert done.returncode == 5
            assert f"is lent to gateway flash (process {process.pid})" in done.stderr
        pair_thermometer(gateway, board)


async def test_a_port_on_which_a_board_is_being_paired_is_not_lent(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        pairing = asyncio.ensure_future(registry.boards.pair(request(tmp_path / "tty")))
        await asyncio.sleep(0)
        with (
            pytest.raises(PortBusy, match="is lent to gateway pair"),
            registry.boards.lent.lend(str(tmp_path / "tty"), ""),
        ):
            pass
        await pairing
        with registry.boards.lent.lend(str(tmp_path / "tty"), ""):
            pass


def test_a_loan_goes_by_the_port_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "ttyACM0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyACM0")
    lent = PortLocks(tmp_path / "lent")
    with lent.lend(str(tmp_path / "by-id"), "somebody"):
        with pytest.raises(PortBusy, match="ttyACM0: is lent to somebody"):
            lent.check(str(tmp_path / "ttyACM0"))
        lent.check(str(tmp_path / "ttyACM1"))
    lent.check(str(tmp_path / "ttyACM0"))


def test_where_no_lock_can_be_kept_a_port_is_lent_without(tmp_path: Path) -> None:
    (tmp_path / "lent").touch()
    with PortLocks(tmp_path / "lent").lend("/dev/ttyACM0", "somebody"):
        pass
