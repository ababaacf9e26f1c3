"""The USB device behind a port: found in sysfs, taken away and given back, or the one reason why not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from gateway.serial_link.ports.usb import CannotReauthorise, reauthorise, usb_device
from tests.support.sysfs import UsbTree

PORT = "/dev/ttyACM7"


@pytest.fixture
def usb(tmp_path: Path) -> Iterator[UsbTree]:
    tree = UsbTree(tmp_path / "sys", PORT)
    yield tree
    tree.close()


def test_the_device_of_a_port_is_the_one_above_its_interface(usb: UsbTree) -> None:
    assert usb_device(PORT, usb.root) == usb.device


def test_a_device_is_taken_away_and_given_back_in_this_order(usb: UsbTree) -> None:
    reauthorise(PORT, usb.root)
    assert usb.written() == b"01"


def test_a_port_that_is_on_no_usb_device_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotReauthorise, match="/dev/ttyS0 is on no USB device"):
        reauthorise("/dev/ttyS0", tmp_path)


def test_who_may_not_is_told_what_gives_the_right(usb: UsbTree, mocker: MockerFixture) -> None:
    mocker.patch("gateway.serial_link.ports.usb.os.open", side_effect=PermissionError(13, os.strerror(13)))
    with pytest.raises(CannotReauthorise, match=r"authorized can't be written: Permission denied \(a udev rule may"):
        reauthorise(PORT, usb.root)


def test_a_device_that_stays_off_is_told_with_the_line_that_mends_it(usb: UsbTree, mocker: MockerFixture) -> None:
    def write(descriptor: int, value: bytes) -> int:
        if value == b"1":
            raise OSError(5, os.strerror(5))
        return len(value)

    mocker.patch("gateway.serial_link.ports.usb.os.write", side_effect=write)
    with pytest.raises(CannotReauthorise, match=f"can't be switched on: echo 1 > {usb.switch}"):
        reauthorise(PORT, usb.root)


def test_a_switch_that_is_no_file_changes_nothing(usb: UsbTree) -> None:
    usb.switch.unlink()
    usb.switch.mkdir()
    with pytest.raises(CannotReauthorise, match="Is a directory"):
        reauthorise(PORT, usb.root)
    shutil.rmtree(usb.switch)
