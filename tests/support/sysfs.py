"""What the kernel tells of a USB port in sysfs, as a tree of directories."""

from __future__ import annotations

import os
from pathlib import Path


class UsbTree:
    """One tty on one USB device. What is written to ``authorized`` is kept by a pipe, in its order."""

    def __init__(self, root: Path, port: Path | str) -> None:
        self.root = root
        self.device = root / "devices" / "usb1" / "1-1"
        self.switch = self.device / "authorized"
        tty = os.path.basename(os.path.realpath(port))
        interface = self.device / "1-1:1.0"
        interface.mkdir(parents=True)
        (self.device / "idVendor").write_text("2341\n")
        os.mkfifo(self.switch)
        self._pipe = os.open(self.switch, os.O_RDWR | os.O_NONBLOCK)
        entry = root / "class" / "tty" / tty
        entry.mkdir(parents=True)
        (entry / "device").symlink_to(interface)

    def written(self) -> bytes:
        """What was written since this was last asked."""
        try:
            return os.read(self._pipe, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._pipe)
