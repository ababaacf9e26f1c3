"""Ports that are lent: to the program that writes firmware, or to a pairing. Known to every process of one state directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import PortBusy
from gateway.serial_link.ports.core.identity import is_network

TRIES = 5
TRY_AGAIN_S = 0.01
"""Somebody who only looks holds the lock for some microseconds: that must not be taken for a loan."""

LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class PortLocks:
    """One lock file a port: the kernel gives it back when its holder ends, however that happens."""

    directory: Path

    @classmethod
    def of(cls, state_dir: Path) -> PortLocks:
        """Those of a state directory."""
        return cls(state_dir / "lent")

    @contextmanager
    def lend(self, path: str, borrower: str) -> Iterator[None]:
        """Lend a port while the block runs. ``PortBusy`` if it is lent already.

        Where no lock can be kept (a state directory of somebody else), the port is lent without one.
        """
        descriptor = self._opened(path)
        try:
            if descriptor is not None:
                if not _taken(descriptor):
                    raise _busy(path, descriptor)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, borrower.encode()[:LONGEST_TEXT], 0)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def check(self, path: str) -> None:
        """``PortBusy`` if a port is lent."""
        try:
            descriptor = os.open(self._file(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise _busy(path, descriptor) from None
        finally:
            os.close(descriptor)

    def _opened(self, path: str) -> int | None:
        with suppress(OSError):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return None

    def _file(self, path: str) -> Path:
        real = path if is_network(path) else os.path.realpath(path)
        return self.directory / f"{hashlib.sha256(real.encode()).hexdigest()[:16]}.lock"


def borrower(command: str) -> str:
    """Who we are, for whoever wants the port meanwhile."""
    return f"{command} (process {os.getpid()})"


def _taken(descriptor: int) -> bool:
    for attempt in range(TRIES):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if attempt < TRIES - 1:
            time.sleep(TRY_AGAIN_S)
    return False


def _busy(path: str, descriptor: int) -> PortBusy:
    who = ""
    with suppress(OSError):
        who = os.pread(descriptor, LONGEST_TEXT, 0).decode(errors="replace")
    return PortBusy(f"port {path}", f"is lent to {who or 'another program'}; wait until that is done")
