"""How a serial port is opened, seen from outside: nobody else has it, closing resets no board, DTR is as was asked for."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Iterator

import pytest
import serial
from pytest_mock import MockerFixture

from gateway.errors import PortBusy
from gateway.serial_link.ports.tty import Port, PortOptions, open_serial

TIOCGEXCL = 0x80045440
"""Linux: whether a tty is held exclusively (asm-generic/ioctls.h)."""


@pytest.fixture
def tty() -> Iterator[int]:
    """The descriptor of a tty, hang-up bit on, as the kernel gives it."""
    master, slave = os.openpty()
    settings = termios.tcgetattr(slave)
    settings[2] |= termios.HUPCL
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    yield slave
    os.close(slave)
    os.close(master)


@pytest.fixture
def real(mocker: MockerFixture) -> None:
    """Have a pty taken for a line with a plug: no hardware is at hand."""
    mocker.patch("gateway.serial_link.ports.tty.PTY_MAJORS", range(0))


@pytest.fixture
def dtr(mocker: MockerFixture) -> list[bool]:
    """What DTR was set to, in the order: a pty has no such line."""
    levels: list[bool] = []
    mocker.patch.object(serial.Serial, "_update_dtr_state", lambda device: levels.append(device._dtr_state))
    return levels


def hangs_up(tty: int) -> bool:
    return bool(termios.tcgetattr(tty)[2] & termios.HUPCL)


def is_exclusive(tty: int) -> bool:
    flag = array.array("i", [0])
    fcntl.ioctl(tty, TIOCGEXCL, flag)
    return bool(flag[0])


async def opened(tty: int, *, dtr: bool = True) -> Port:
    return await open_serial(os.ttyname(tty), PortOptions(dtr=dtr))


@pytest.mark.parametrize("dtr", [True, False])
async def test_closing_a_port_does_not_hang_up(tty: int, *, dtr: bool) -> None:
    assert hangs_up(tty)
    port = await opened(tty, dtr=dtr)
    assert not hangs_up(tty)
    port.close()
    assert not hangs_up(tty)


async def test_another_speed_does_not_bring_the_hang_up_back(tty: int) -> None:
    port = await opened(tty)
    port.set_baud(9600)
    assert not hangs_up(tty)
    assert termios.tcgetattr(tty)[4:6] == [termios.B9600, termios.B9600]
    port.close()


async def test_a_port_is_raw(tty: int) -> None:
    port = await opened(tty)
    incoming, outgoing, _, local, *_ = termios.tcgetattr(tty)
    assert not incoming & (termios.ICRNL | termios.IXON | termios.ISTRIP)
    assert not outgoing & termios.OPOST
    assert not local & (termios.ICANON | termios.ECHO | termios.ISIG)
    port.close()


async def test_whoever_locks_ports_too_finds_it_locked(tty: int) -> None:
    port = await opened(tty)
    with pytest.raises(BlockingIOError):
        fcntl.flock(tty, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(PortBusy):
        await opened(tty)
    port.close()
    fcntl.flock(tty, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.usefixtures("real")
async def test_a_port_is_held_exclusively_and_given_back(tty: int) -> None:
    port = await opened(tty)
    assert is_exclusive(tty)
    port.close()
    assert not is_exclusive(tty)


async def test_a_pty_is_not_held_exclusively_for_it_would_stay_so_after_our_death(tty: int) -> None:
    port = await opened(tty)
    assert not is_exclusive(tty)
    port.close()


async def test_dtr_is_raised_unless_it_shall_be_taken_back(tty: int, dtr: list[bool]) -> None:
    (await opened(tty)).close()
    assert dtr == [True]
    (await opened(tty, dtr=False)).close()
    assert dtr == [True, False]


@pytest.mark.usefixtures("real")
async def test_a_reset_is_a_pulse_on_dtr(tty: int, dtr: list[bool]) -> None:
    port = await opened(tty)
    await port.reset()
    assert dtr == [True, False, True]
    port.close()


@pytest.mark.usefixtures("real")
async def test_a_port_that_was_closed_in_the_middle_of_a_reset_is_left_alone(tty: int, dtr: list[bool]) -> None:
    port = await opened(tty)
    resetting = asyncio.ensure_future(port.reset())
    await asyncio.sleep(0)
    port.close()
    await resetting
    assert dtr == [True, False]
