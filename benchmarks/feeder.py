"""``python -m benchmarks.feeder DIRECTORY COUNT``: boards on ptys that answer as boards do, and then send by the clock.

Hand-shake and upload are those of ``gateway simulate``. After a line ``COMMANDS RATE STEP`` on standard input each board
sends so many readings a second, encoded beforehand: what is measured is the reader, not the boards. What is due within STEP
seconds is written together. ``done`` is printed after the last one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import W10, encode, sent_arguments
from gateway.serial_link.protocol.codec import Command as Unit
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.simulator.pty import SimulatedBoard
from tests.support.boards import board_maker

GRAPH = """\
INPORT=echo.IN:in
OUTPORT=echo.OUT:out
echo(Forward)
"""
NODE, PORT = 1, 0
DIFFERENT = 512


def readings() -> list[str]:
    """Some hundred different readings, each as the hexadecimal text of one command."""
    units = (
        Unit(0, CommandKind.PACKET_SENT, sent_arguments(W10, NODE, PORT, None, Packet(PacketType.INTEGER, 2000 + n)))
        for n in range(DIFFERENT)
    )
    return [encode(W10, unit).hex() for unit in units]


async def send(boards: list[SimulatedBoard], commands: int, rate: float, step_s: float) -> None:
    """``commands`` from each board, ``rate`` a second (0: as fast as they are read), every ``step_s``."""
    texts = readings() * (commands // DIFFERENT + 1)
    began, sent = time.monotonic(), 0
    while sent < commands:
        due = min(commands, int((time.monotonic() - began + step_s) * rate) if rate else sent + DIFFERENT)
        if due > sent:
            piece = "".join(texts[sent:due])
            for board in boards:
                board.request(["noise", piece])
            sent = due
        await asyncio.sleep(step_s if rate else 0)
        while not rate and any(board.request(["stats"])["unread"] for board in boards):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def main(directory: Path, count: int) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        boards = [
            await stack.enter_async_context(SimulatedBoard(board_maker(), directory / f"tty{n}")) for n in range(count)
        ]
        print("boards ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            commands, rate, step_s = line.split()
            await send(boards, int(commands), float(rate), float(step_s))
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
