"""Boards that are pulled and plugged, renumbered and swapped: the right identity every time, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.config.schema import SerialSection
from gateway.model.address import serial
from gateway.model.message import Message
from gateway.model.participant import BoardState
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.ports.core.identity import PortFacts
from gateway.serial_link.ports.hotplug import Ports
from gateway.simulator.pty import SimulatedBoard
from gateway.supervise import Backoff, ConnectionReport, keep_connected
from gateway.transport import Session
from tests.support.boards import board_maker, request

WAIT_S = 120.0


@dataclass
class Usb:
    """A bus with boards on it. A pty that is made anew gets the lowest free number, as a USB port does."""

    boards: dict[str, SimulatedBoard] = field(default_factory=dict)
    plugged: set[str] = field(default_factory=set)

    def scan(self) -> Sequence[PortFacts]:
        return [
            PortFacts(path=self.boards[name].path, usb_vid=0x2341, usb_pid=0x43, usb_serial=name, by_path=f"usb-{name}")
            for name in self.plugged
        ]

    def pull(self, name: str) -> None:
        self.plugged.discard(name)
        self.boards[name].request(["unplug"])

    def plug(self, name: str) -> None:
        self.boards[name].request(["plug"])
        self.plugged.add(name)


@asynccontextmanager
async def usb_with(directory: Path, *names: str) -> AsyncIterator[Usb]:
    usb = Usb()
    async with AsyncExitStack() as stack:
        for name in names:
            usb.boards[name] = await stack.enter_async_context(SimulatedBoard(board_maker(), directory / name))
            usb.plugged.add(name)
        yield usb


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():  # noqa: ASYNC110 - the boards are seen from outside
            await asyncio.sleep(0.005)


class Gateway:
    """The boards as the daemon has them: one supervised task each."""

    def __init__(self, state: Path, usb: Usb) -> None:
        self.usb = usb
        self.boards = Boards(
            state,
            SerialSection(boot_wait_s=0.0, request_timeout_s=5.0),
            on_change=lambda: None,
            on_running=lambda board_id: None,
            ports=Ports(usb.scan),
        )
        self.sessions: dict[str, Session] = {}

    async def keep(self, board_id: str) -> None:
        async def serve(session: Session) -> None:
            self.sessions[board_id] = session
            async for delivery in session.deliveries():
                raise AssertionError(delivery)

        connector = self.boards.connector(board_id)
        await keep_connected(connector, serve, Backoff(5.0), ConnectionReport(connector.name))

    def is_running(self, board_id: str) -> bool:
        entry = next(entry for entry in self.boards.status() if entry["id"] == board_id)
        return bool(entry["state"] == BoardState.RUNNING) and board_id in self.sessions


async def prove_identity(gateway: Gateway, ids: dict[str, str], number: int) -> None:
    """What is sent to each board's address must switch that board's pin, and no other's."""
    for name, board_id in ids.items():
        before = {other: board.board.pins.writes.get(7, 0) for other, board in gateway.usb.boards.items()}
        await gateway.sessions[board_id].publish(serial(board_id, "fan"), Message(f"{number}-{name}", b"true"))
        pins = gateway.usb.boards[name].board.pins
        await until(lambda pins=pins, old=before[name]: pins.writes.get(7, 0) > old)  # type: ignore[misc]
        after = {other: board.board.pins.writes.get(7, 0) for other, board in gateway.usb.boards.items()}
        assert {other for other in after if after[other] != before[other]} == {name}


async def replug(tmp_path: Path, cycles: int, seed: int = 4) -> None:
    """So many cycles."""
    draw = random.Random(seed)
    names = ("alpha", "beta")
    async with usb_with(tmp_path, *names) as usb:
        gateway = Gateway(tmp_path / "state", usb)
        ids = {}
        for name in names:
            paired = await gateway.boards.pair(request(usb.boards[name].path, role=name))
            ids[name] = paired["id"]
        keepers = [asyncio.create_task(gateway.keep(board_id)) for board_id in ids.values()]
        await until(lambda: all(gateway.is_running(board_id) for board_id in ids.values()))
        descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        paths = set()
        for cycle in range(cycles):
            pulled = list(names) if draw.random() < 0.5 else [draw.choice(names)]
            for name in pulled:
                usb.pull(name)
                gateway.sessions.pop(ids[name], None)
            if draw.random() < 0.5:
                await until(lambda pulled=pulled: not any(gateway.is_running(ids[name]) for name in pulled))  # type: ignore[misc]
            draw.shuffle(pulled)
            for name in pulled:
                usb.plug(name)
            await until(lambda: all(gateway.is_running(board_id) for board_id in ids.values()))
            paths.add((usb.boards["alpha"].path, usb.boards["beta"].path))
            await prove_identity(gateway, ids, cycle)
        assert len(paths) > 1, "the boards were never renumbered"
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def test_replugged_renumbered_and_swapped_boards_keep_their_identity(tmp_path: Path) -> None:
    await replug(tmp_path, 12)


@pytest.mark.slow
async def test_a_thousand_replugs_leave_nothing_behind(tmp_path: Path) -> None:
    await replug(tmp_path, 1000)
