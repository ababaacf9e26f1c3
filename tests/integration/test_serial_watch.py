"""Ports that come are noticed, by the kernel's word or by looking; nothing stays open when nobody waits."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.ports.hotplug import Ports

BOARD = Identity("usb", "2341:0043:A1")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kernel", [True, False], ids=["inotify", "looking"])
async def test_a_board_is_noticed_by_the_kernels_word_or_by_looking(
    tmp_path: Path, mocker: MockerFixture, kernel: bool
) -> None:
    present: list[PortFacts] = []
    ports = Ports(lambda: present)
    if kernel:
        mocker.patch("gateway.serial_link.ports.hotplug.LOST_EVENT_S", 600.0)
    else:
        mocker.patch("asyncinotify.Inotify", side_effect=OSError("no more instances"))
    before = descriptors()
    known = PortFacts(path=str(tmp_path / "ttyACM0"), usb_vid=0x2341, usb_pid=0x43, usb_serial="A1")
    waiting = asyncio.ensure_future(ports.wait_for(BOARD, known, 120.0))
    await asyncio.sleep(0)
    there = PortFacts(path=str(tmp_path / "ttyACM1"), usb_vid=0x2341, usb_pid=0x43, usb_serial="A1")
    present.append(there)
    (tmp_path / "ttyACM1").touch()
    assert await waiting == there
    assert descriptors() <= before


async def test_a_board_that_never_comes_is_given_up(tmp_path: Path) -> None:
    before = descriptors()
    known = PortFacts(path=str(tmp_path / "ttyACM0"))
    assert await Ports(lambda: []).wait_for(BOARD, known, 0.1) is None
    assert descriptors() <= before


async def test_the_ports_of_this_machine_can_be_listed() -> None:
    for port in Ports().present():
        assert port.path.startswith("/dev/")
