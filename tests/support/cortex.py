"""Our firmware on a Cortex-M3 in qemu: for correctness, not for speed, and without pins."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.firmware.build import require_tools
from tests.support.firmware import build, missing_tools_fail

WAIT_S = 120.0
OPENED = b"\xfa\x13"
MONITOR = {"reset": "system_reset", "pause": "stop", "run": "cont"}
"""Requests, and what qemu calls them."""


class CortexBoard:
    """One qemu with its UART on a pty, and its monitor on stdin."""

    def __init__(self, image: Path) -> None:
        words = ["qemu-system-arm", "-M", "lm3s6965evb", "-display", "none", "-serial", "pty", "-monitor", "stdio"]
        self._process = subprocess.Popen(
            [*words, "-kernel", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if found := re.search(r"/dev/pts/\d+", line):
                self.link = Path(found[0])
                break
        else:
            raise AssertionError(said)
        # Our own hand on the other end: qemu looks only once a second whether somebody opened it.
        self._held = os.open(self.link, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._held)
        self._until_it_listens()

    def _until_it_listens(self) -> None:
        """What comes before the firmware has enabled its receiver is lost."""
        heard, deadline = b"", time.monotonic() + WAIT_S
        while OPENED not in heard:
            assert time.monotonic() < deadline, "the emulated board does not start"
            os.write(self._held, b"microflo1\xfa")
            while select.select([self._held], [], [], 0.1)[0]:
                heard += os.read(self._held, 4096)

    def ask(self, request: str) -> Any:
        """Only ``reset``, ``pause`` and ``run``: a test that needs pins, or a board that hangs, is skipped."""
        if request not in MONITOR:
            pytest.skip(f"the emulated Cortex-M3 knows no {request.split()[0]!r}")
        assert self._process.stdin is not None
        self._process.stdin.write(f"{MONITOR[request]}\n")
        self._process.stdin.flush()
        return {"ok": True}

    def close(self) -> None:
        """End it."""
        os.close(self._held)
        self._process.kill()  # it has nothing to save, and hears no signal while it waits for somebody to read its UART
        self._process.communicate(timeout=WAIT_S)


@contextmanager
def cortex_board(directory: Path, graph: Path | None = None) -> Iterator[CortexBoard]:
    """A board while the block runs."""
    image = build("lm3s", graph)
    with missing_tools_fail():
        require_tools((("qemu-system-arm", "qemu-system-arm"),), "the emulated Cortex-M3")
    board = CortexBoard(image)
    try:
        yield board
    finally:
        board.close()
