"""The USB device behind a port, as sysfs has it: taken from the kernel and given back, as if it had been pulled and plugged.

Source: the kernel's Documentation/usb/authorization.rst: 0 in a device's ``authorized`` unbinds its drivers, 1 has it
configured anew.
"""

from __future__ import annotations

import os
from pathlib import Path

SYSFS = Path("/sys")
AUTHORISED = "authorized"
DEEPEST = 8
"""Steps from a tty up to its USB device; two (interface, device) are usual, three with a converter's port between."""


class CannotReauthorise(Exception):
    """Why not, for a person."""


def usb_device(path: str, sysfs: Path = SYSFS) -> Path:
    """The directory of the USB device that a port belongs to. ``CannotReauthorise`` if it is on none."""
    tty = os.path.basename(os.path.realpath(path))
    place = Path(os.path.realpath(sysfs / "class" / "tty" / tty / "device"))
    for directory in (place, *place.parents)[:DEEPEST]:
        if (directory / AUTHORISED).exists() and (directory / "idVendor").exists():
            return directory
    raise CannotReauthorise(f"{path} is on no USB device")


def reauthorise(path: str, sysfs: Path = SYSFS) -> None:
    """Take the USB device of a port away and give it back. Waits for the kernel: to be called in a worker thread.

    ``CannotReauthorise`` says why not; then the device is as it was, or the text has the line that mends it.
    """
    switch = usb_device(path, sysfs) / AUTHORISED
    try:
        _write(switch, b"0")
    except OSError as exc:
        raise CannotReauthorise(f"{switch} can't be written: {exc.strerror}{_remedy(exc)}") from exc
    try:
        _write(switch, b"1")
    except OSError as exc:
        raise CannotReauthorise(f"it is switched off, and can't be switched on: echo 1 > {switch}") from exc


def _write(switch: Path, value: bytes) -> None:
    descriptor = os.open(switch, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def _remedy(problem: OSError) -> str:
    if not isinstance(problem, PermissionError):
        return ""
    return " (a udev rule may give it to the gateway's group; only root may else)"
