"""A serial port on the loop: opened exclusively and raw by pyserial, then read and written by its descriptor."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import os
import stat
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import serial

from gateway.errors import ConnectFailed, PortBusy, PortForbidden, PortMissing
from gateway.serial_link.ports.read_batching import ReadBatching

CHUNK = 4096
PTY_MAJORS = range(136, 144)
"""Device numbers of Unix98 pty slaves on Linux."""

FORBIDDEN_RETRY_S = 2.0
"""A port's name may appear before udev has given it its group: so long a refusal is tried again."""

RETRY_STEP_S = 0.1
PULSE_S = 0.1

UNPLUGGED = "the board was unplugged, or its port hung up"

OnBytes = Callable[[bytes], None]
OnLost = Callable[[str], None]


class Port(Protocol):
    """A line to a board, whatever carries it. Everything is called from the loop's thread."""

    @property
    def resets(self) -> bool:
        """Whether opening it may have reset the board, so that its boot must be waited for."""

    @property
    def has_speed(self) -> bool:
        """Whether its baud rate means anything, so that several are worth a try."""

    def listen(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """From now on, hand over what arrives; tell once, with the reason, when the line is lost."""

    def write(self, data: bytes) -> None:
        """Send; what the line does not take at once waits in memory."""

    def set_baud(self, baud: int) -> None:
        """Change the speed without closing, which could reset the board again."""

    async def reset(self) -> None:
        """Reset the board by a pulse on DTR, where there is such a line."""

    def close(self) -> None:
        """Let go of it. Doing it twice is harmless."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """``baud`` in bits per second. ``dtr`` False takes DTR back right after opening (the first edge can't be helped)."""

    baud: int = 115200
    dtr: bool = True


class TtyPort:
    """An open tty. ``open_tty`` makes one. ``pace`` says when it is read; without one it has its own."""

    def __init__(self, device: serial.Serial, path: str, *, is_pty: bool, pace: ReadBatching | None = None) -> None:
        self._device = device
        self._fd: int = device.fileno()
        self._path = path
        self._is_pty = is_pty
        self._pace = pace or ReadBatching()
        self._waiting = bytearray()
        self._on_bytes: OnBytes | None = None
        self._on_lost: OnLost | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def resets(self) -> bool:
        """A pty has no control lines, so nothing behind it was reset."""
        return not self._is_pty

    @property
    def has_speed(self) -> bool:
        """A pty takes every speed and has none."""
        return not self._is_pty

    def listen(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """See ``Port``."""
        self._on_bytes, self._on_lost = on_bytes, on_lost
        self._loop = asyncio.get_running_loop()
        if self._fd < 0:
            self._loop.call_soon(on_lost, UNPLUGGED)
            return
        self._pace.watch(self._loop, self._fd, self._readable)

    def write(self, data: bytes) -> None:
        """See ``Port``. One ``write`` call for the whole: our death can't cut a command in two."""
        if self._fd < 0:
            return
        self._pace.at_once(self._fd)
        if self._waiting:
            self._waiting += data
            return
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError as exc:
            self._lose(exc)
            return
        if written < len(data) and self._loop is not None:
            self._waiting += data[written:]
            self._loop.add_writer(self._fd, self._writable)

    def set_baud(self, baud: int) -> None:
        """See ``Port``."""
        if self._fd < 0 or baud == self._device.baudrate:
            return
        try:
            self._device.baudrate = baud
            _settle(self._fd)
        except (OSError, ValueError, termios.error) as exc:  # as when the board was unplugged just now
            self._lose(OSError(errno.EIO, str(exc)))

    async def reset(self) -> None:
        """See ``Port``."""
        if self._is_pty or self._fd < 0:
            return
        with suppress(OSError, serial.SerialException):
            self._device.dtr = False
            await asyncio.sleep(PULSE_S)
            if self._fd >= 0:
                self._device.dtr = True

    def close(self) -> None:
        """See ``Port``. What could not be sent is thrown away: the kernel would wait for it up to 30 s."""
        if self._fd < 0:
            return
        self._pace.forget(self._fd)
        if self._loop is not None:
            self._loop.remove_writer(self._fd)
        with suppress(OSError, termios.error):
            termios.tcflush(self._fd, termios.TCOFLUSH)
        if not self._is_pty:
            with suppress(OSError):
                fcntl.ioctl(self._fd, termios.TIOCNXCL)
        self._fd = -1
        with suppress(OSError, serial.SerialException):
            self._device.close()

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def _readable(self) -> int:
        """Take what is there; how many bytes."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError as exc:
            self._lose(exc)
            return 0
        if not data:
            self._lose(OSError(errno.EIO, "hung up"))
        elif self._on_bytes is not None:
            self._on_bytes(data)
        return len(data)

    def _writable(self) -> None:
        try:
            written = os.write(self._fd, self._waiting)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lose(exc)
            return
        del self._waiting[:written]
        if not self._waiting and self._loop is not None:
            self._loop.remove_writer(self._fd)

    def _lose(self, exc: OSError) -> None:
        """Close at once: a name that is held open makes the board come back under another one."""
        self.close()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None and self._loop is not None:
            gone = exc.errno in (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF)
            reason = UNPLUGGED if gone else f"the port failed: {exc.strerror}"
            self._loop.call_soon(on_lost, reason)


async def open_serial(path: str, options: PortOptions, pace: ReadBatching | None = None) -> Port:
    """Open a tty without holding up the loop. ``TransportDown`` (missing, busy, forbidden, no port) with the remedy."""
    patience = FORBIDDEN_RETRY_S
    while True:
        try:
            return await _opened(path, options, pace)
        except PortForbidden:
            if patience <= 0 or not _is_fresh(path):
                raise
        patience -= RETRY_STEP_S
        await asyncio.sleep(RETRY_STEP_S)


def _is_fresh(path: str) -> bool:
    """Whether the device node was made (or changed) just now, so that udev may still be at it."""
    with suppress(OSError):
        return time.time() - os.stat(path).st_ctime < FORBIDDEN_RETRY_S * 2
    return False


_LATE: dict[str, asyncio.Future[TtyPort]] = {}
"""Ports whose opening was given up while the driver was still at it; they are closed as soon as they are open."""


async def _opened(path: str, options: PortOptions, pace: ReadBatching | None) -> Port:
    """In a worker thread: a wedged driver may hold ``open`` for seconds."""
    if path in _LATE:
        await asyncio.wait([_LATE[path]])
        await asyncio.sleep(0)  # its callback closes it
    opening = asyncio.get_running_loop().run_in_executor(None, open_tty, path, options, pace)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        _LATE[path] = opening
        opening.add_done_callback(partial(_close_late, path))
        raise


def _close_late(path: str, opening: asyncio.Future[TtyPort]) -> None:
    del _LATE[path]
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def open_tty(path: str, options: PortOptions, pace: ReadBatching | None = None) -> TtyPort:
    """Open and configure now. Raises as ``open_serial``."""
    name = f"port {path}"
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise PortMissing(name, "there is no such port; see: gateway ports") from None
    except OSError as exc:
        raise _translated(name, path, exc.errno) from exc
    if not stat.S_ISCHR(status.st_mode):
        raise ConnectFailed(name, "is no serial port; see: gateway ports")
    is_pty = os.major(status.st_rdev) in PTY_MAJORS
    device = serial.Serial()
    device.port, device.baudrate, device.exclusive = path, options.baud, True
    device.timeout = 0
    device.dtr = options.dtr
    try:
        device.open()
    except serial.SerialException as exc:
        raise _translated(name, path, exc.errno) from exc
    except (OSError, ValueError) as exc:
        raise ConnectFailed(name, f"can't be opened: {exc}") from exc
    try:
        _settle(device.fileno())
        if not is_pty:  # a pty keeps this flag as long as its other end lives, and we may be killed
            fcntl.ioctl(device.fileno(), termios.TIOCEXCL)
    except (OSError, termios.error) as exc:
        device.close()
        raise ConnectFailed(name, f"can't be configured: {exc}") from exc
    return TtyPort(device, path, is_pty=is_pty, pace=pace)


def _settle(descriptor: int) -> None:
    """Hang-up bit off, so that closing does not reset the board; an empty read then means a hang-up, not silence."""
    settings = termios.tcgetattr(descriptor)
    settings[2] &= ~termios.HUPCL
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)


def _translated(name: str, path: str, number: int | None) -> ConnectFailed | PortForbidden:
    match number:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return PortMissing(name, "there is no such port; see: gateway ports")
        case errno.EACCES | errno.EPERM:
            return PortForbidden(name, permission_text(path))
        case errno.EBUSY | errno.EAGAIN:
            return PortBusy(name, f"is in use by {holder(path) or 'another program'}; end it, or let it close the port")
        case errno.EIO:
            return ConnectFailed(name, "does not work (input/output error): unplug the board and plug it in again")
        case None:
            return ConnectFailed(name, "is no serial port; see: gateway ports")
    return ConnectFailed(name, f"can't be opened: {os.strerror(number)}")


def permission_text(path: str) -> str:
    """What to do when a port may not be opened."""
    group = "dialout"
    with suppress(OSError, KeyError):
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    if group == "root":
        group = "dialout"
    return (
        f"you may not open it (it belongs to group {group}): sudo usermod -aG {group} $USER, then log out and in again"
    )


def holder(path: str) -> str:
    """``process 123 (minicom)``: who has the port open, as far as /proc tells us; empty if it doesn't."""
    real = os.path.realpath(path)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            for link in (process / "fd").iterdir():
                if os.readlink(link) == real and process.name != str(os.getpid()) and not _is_other_end(process, real):
                    return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _is_other_end(process: Path, real: str) -> bool:
    """Whether this process made the pty (it has the master open): it is the board, not somebody who took the port."""
    if not real.startswith("/dev/pts/"):
        return False
    return any(os.readlink(link) in ("/dev/ptmx", "/dev/pts/ptmx") for link in (process / "fd").iterdir())
