"""A disk that gets full or read-only when a test wants it: a tmpfs for root, a limit on file sizes for everybody.

The limit makes every write of one process fail that would go beyond it, with all its files open: as a disk does whose
errors make the kernel stop writing. A tmpfs can only be made read-only while no file on it is open for writing.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.gateway import until

LARGE = "64m"


class SmallDisk(Protocol):
    """``place`` lies on it."""

    place: Path

    def watch(self, pid: int) -> None:
        """The process for which it is small; this one, if nobody says."""

    def fill(self, leave: int) -> None:
        """Only about so many bytes more may be written."""

    def relieve(self) -> None:
        """There is room again."""

    def read_only(self) -> None:
        """Nothing may be written."""

    def writable(self) -> None:
        """As before that."""


class Tmpfs:
    """Somebody else fills it. Needs root."""

    def __init__(self, place: Path, size: str) -> None:
        self.place = place
        self._filler = place / "somebody-else"
        mount("-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place))

    def watch(self, pid: int) -> None:
        """It is small for everybody."""

    def fill(self, leave: int) -> None:
        """All is taken but for so many bytes."""
        free = os.statvfs(self.place)
        self._filler.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))

    def relieve(self) -> None:
        """The other one is gone, and there is more of it."""
        self._filler.unlink(missing_ok=True)
        self._remount(f"size={LARGE}")

    def read_only(self) -> None:
        """As the kernel does it, once nobody is writing a file."""
        until("the disk is read-only", lambda: not remount_problem(self.place, "ro"))

    def writable(self) -> None:
        """As the kernel does it."""
        self._remount("rw")

    def _remount(self, options: str) -> None:
        problem = remount_problem(self.place, options)
        assert not problem, problem

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.place)], check=True)


class Limited:
    """No file of the process may become larger."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._pid = os.getpid()
        _, self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._before = self._most = self._hard

    def watch(self, pid: int) -> None:
        """This one."""
        self._pid = pid

    def fill(self, leave: int) -> None:
        """Files may have this size."""
        self._most = leave
        self._set(leave)

    def relieve(self) -> None:
        """Files may have any size."""
        self._most = self._hard
        self._set(self._hard)

    def read_only(self) -> None:
        """No byte may be written, wherever in a file."""
        self._set(0)

    def writable(self) -> None:
        """As before that."""
        self._set(self._most)

    def _set(self, most: int) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (most, self._hard))

    def close(self) -> None:
        """The process may be gone by now; then so is its limit."""
        with suppress(ProcessLookupError):
            self._set(self._before)


def mount(*arguments: str) -> None:
    """``mount``; fails with what it says."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr.strip()


def remount_problem(place: Path, options: str) -> str:
    """What the kernel has against it; empty once it is done."""
    command = ["mount", "-o", f"remount,{options}", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


@lru_cache(1)
def kinds() -> tuple[str, ...]:
    """What can be had here."""
    with tempfile.TemporaryDirectory() as place, suppress(AssertionError, OSError):
        Tmpfs(Path(place), "1m").close()
        return ("tmpfs", "limit")
    return ("limit",)


@contextmanager
def small_disk_at(place: Path, kind: str, size: str) -> Iterator[SmallDisk]:
    """A disk of one of these kinds while the block runs. ``size`` is that of the whole tmpfs."""
    place.mkdir(parents=True, exist_ok=True)
    disk = Tmpfs(place, size) if kind == "tmpfs" else Limited(place)
    try:
        yield disk
    finally:
        disk.close()


def on_small_disks() -> pytest.MarkDecorator:
    """Have a test run once on each kind, as its argument ``kind``."""
    return pytest.mark.parametrize("kind", kinds())
