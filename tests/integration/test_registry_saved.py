"""The registry of boards on a slow disk: what is changed is saved before it is so, holds up nobody, and is never half done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from gateway.serial_link.records.devices_json import BoardRecord, DevicesFile
from tests.support.boards import Registry, request, simulated
from tests.support.wait import soon

LONGEST_S = 60.0


class SlowDisk:
    """Nothing is synced before ``go_on``."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.began = threading.Event()
        self._go_on = threading.Event()
        self._sync = os.fsync
        mocker.patch("gateway.files.os.fsync", self._slowly)

    def _slowly(self, descriptor: int) -> None:
        self.began.set()
        self._go_on.wait(LONGEST_S)
        self._sync(descriptor)

    def go_on(self) -> None:
        self._go_on.set()


@pytest.fixture
async def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty1"), simulated(tmp_path / "tty2"):
        await registry.boards.pair(request(tmp_path / "tty1", role="one"))
        await registry.boards.pair(request(tmp_path / "tty2", role="two"))
    return registry


@pytest.fixture
def disk(registry: Registry, mocker: MockerFixture) -> Iterator[SlowDisk]:
    disk = SlowDisk(mocker)
    yield disk
    disk.go_on()


def saved(tmp_path: Path) -> tuple[BoardRecord, ...]:
    return DevicesFile(tmp_path / "state" / "devices.json").load()


async def test_a_change_is_on_the_disk_before_it_is_so_and_holds_up_nobody(
    registry: Registry, disk: SlowDisk, tmp_path: Path
) -> None:
    changing = asyncio.ensure_future(registry.boards.rename("one", "cellar"))
    await soon(disk.began.is_set)  # it waits for the disk, and we don't
    assert registry.boards.records()[0].role == "one"
    assert not changing.done()
    disk.go_on()
    await changing
    assert registry.boards.records()[0].role == "cellar"
    assert saved(tmp_path) == registry.boards.records()


async def test_a_change_whose_client_hangs_up_is_the_same_on_the_disk_and_here(
    registry: Registry, disk: SlowDisk, tmp_path: Path
) -> None:
    changing = asyncio.ensure_future(registry.boards.rename("one", "cellar"))
    await soon(disk.began.is_set)
    changing.cancel()
    await asyncio.sleep(0)
    disk.go_on()
    with pytest.raises(asyncio.CancelledError):
        await changing
    assert registry.boards.records()[0].role == "cellar"
    assert saved(tmp_path) == registry.boards.records()


async def test_changes_at_the_same_time_are_all_kept(registry: Registry, tmp_path: Path) -> None:
    await asyncio.gather(
        registry.boards.set("one", "keep_running", "true"),
        registry.boards.set("one", "boot_wait_s", "3"),
        registry.boards.rename("two", "deux"),
        registry.boards.set("one", "temp.unit", "K"),
    )
    one, two = saved(tmp_path)
    assert (one.keep_running, one.boot_wait_s, one.ports["temp"].unit, two.role) == (True, 3.0, "K", "deux")
    assert registry.boards.records() == (one, two)


async def test_a_board_that_is_paired_again_is_left_alone_until_it_is_remembered(
    registry: Registry, disk: SlowDisk, tmp_path: Path
) -> None:
    connector = registry.boards.connector(registry.boards.records()[0].id)
    async with simulated(tmp_path / "tty1"):
        pairing = asyncio.ensure_future(
            registry.boards.pair(request(tmp_path / "tty1", "INPORT=a.IN:in\na(Forward)\n"))
        )
        await soon(disk.began.is_set)

        async def ports() -> list[str]:
            async with connector.connect():
                return [port.id for port in registry.boards.participants()[0].inports]

        connecting = asyncio.ensure_future(ports())
        await asyncio.sleep(0)
        disk.go_on()
        await pairing
        assert await connecting == ["in"]
