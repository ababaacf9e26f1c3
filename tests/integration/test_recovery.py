"""The recovery ladder on a board that is silent: the rung that takes its USB device away and gives it back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from gateway.config.schema import SerialSection
from gateway.errors import TransportDown
from gateway.model.participant import BoardState
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.paired.boards import Boards
from gateway.simulator.pty import SimulatedBoard
from tests.support.boards import LOOP_GRAPH, request, simulated
from tests.support.sysfs import UsbTree

AT_ONCE = SerialSection(boot_wait_s=0.0)
EVERY_BOARD = SerialSection(boot_wait_s=0.0, usb_reauthorise=True)


@pytest.fixture(autouse=True)
def low_ladder(mocker: MockerFixture) -> None:
    """Opened, reset, and authorised anew at the third attempt: a silent board costs over a second each time."""
    mocker.patch("gateway.serial_link.connected.core.recovery.DTR_EVERY", 1)
    mocker.patch("gateway.serial_link.connected.core.recovery.REAUTHORISE_EVERY", 2)


@dataclass
class Silent:
    """A board that was paired, and answers no more."""

    board: SimulatedBoard
    boards: Boards
    usb: UsbTree

    @property
    def connector(self) -> BoardConnector:
        return self.boards.connector(self.boards.records()[0].id)

    @property
    def entry(self) -> dict[str, Any]:
        return self.boards.status()[0]

    async def attempt(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(TransportDown):
                async with self.connector.connect():
                    pass


@asynccontextmanager
async def silent(tmp_path: Path, settings: SerialSection = AT_ONCE) -> AsyncIterator[Silent]:
    async with simulated(tmp_path / "tty") as board:
        usb = UsbTree(tmp_path / "sys", tmp_path / "tty")
        boards = Boards(
            tmp_path / "state",
            settings,
            on_change=lambda: None,
            on_running=lambda board_id: None,
            sysfs=usb.root,
        )
        await boards.pair(request(tmp_path / "tty", LOOP_GRAPH))
        board.request(["hang"])
        try:
            yield Silent(board, boards, usb)
        finally:
            usb.close()


async def test_a_board_that_stays_silent_has_its_usb_device_authorised_anew_in_its_turn(tmp_path: Path) -> None:
    async with silent(tmp_path) as it:
        await it.boards.set("attic", "usb_reauthorise", "true")
        await it.attempt(2)
        assert it.usb.written() == b""
        await it.attempt(1)
        assert it.usb.written() == b"01"
        assert (it.entry["counters"]["usb_reauthorisations"], it.entry["counters"]["dtr_resets"]) == (1, 0)
        it.board.request(["resume"])
        async with it.connector.connect():
            assert it.entry["state"] == BoardState.RUNNING


async def test_what_was_said_of_a_board_comes_before_what_is_configured(tmp_path: Path) -> None:
    async with silent(tmp_path, EVERY_BOARD) as it:
        await it.boards.set("attic", "usb_reauthorise", "false")
        await it.attempt(3)
        assert it.usb.written() == b""


async def test_where_it_is_not_permitted_one_line_says_so_and_the_ladder_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway.serial_link.connected.connector")
    async with silent(tmp_path, EVERY_BOARD) as it:
        it.usb.switch.unlink()
        it.usb.switch.mkdir()
        await it.attempt(5)
        told = [record.getMessage() for record in caplog.records]
        assert told == [
            f"device attic: USB re-authorise is not possible: {it.usb.switch} can't be written: Is a directory;"
            " going on without"
        ]
        assert it.entry["counters"]["usb_reauthorisations"] == 0
        assert it.entry["counters"]["reopens"] == 5
