"""What ``gateway simulate --firmware`` does."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from gateway.errors import GatewayError, NotFound

OnPin = Callable[[int, int, str], None]
EMULATED = "uno"


def run_firmware(target_name: str, link: Path, graph: Path | None, on_pin: OnPin) -> None:
    """Build the firmware and run it as a board on a pty, until SIGINT or SIGTERM."""
    from gateway.cli.boards.firmware import describe, generated, known_target
    from gateway.firmware.build import build_emulator, build_firmware

    target = known_target(target_name)
    if target_name not in ("host", EMULATED):
        raise NotFound(f"firmware for {target_name} can't be run here; host and {EMULATED} can")
    with tempfile.TemporaryDirectory(prefix="gateway-firmware-") as name:
        directory = Path(name)
        image = build_firmware(target, generated(target, describe(target, graph)), directory)
        command: list[str | Path] = [image, link]
        if target_name == EMULATED:
            board_id = hashlib.blake2b(str(link.absolute()).encode(), digest_size=8).hexdigest()
            command = [build_emulator(directory), image.with_suffix(".elf"), "-l", link, "-i", board_id]
        asyncio.run(emulate(command, link, on_pin, f"{target.board}, {graph.name if graph else 'without a graph'}"))


async def emulate(command: list[str | Path], link: Path, on_pin: OnPin, what: str) -> None:
    """Until SIGINT or SIGTERM. ``GatewayError`` if the board's process ends by itself."""
    from gateway.firmware.emulated import EmulatedBoard

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EmulatedBoard(command, link, on_pin) as board:
        board.ended.add_done_callback(lambda ended: stop.set())
        click.echo(f"board ready on {link} -> {board.path}, {what}")
        await stop.wait()
        if board.ended.done():
            raise GatewayError(f"{link}: the board's process ended with {board.ended.result()}")
