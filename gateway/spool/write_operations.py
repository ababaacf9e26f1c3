"""What the spool's writer is asked to do, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.spool.core.record import SpoolRecord
from gateway.spool.core.store import Appended
from gateway.spool.database import Database


@dataclass(slots=True)
class AppendWrite:
    """Commit these, all or none."""

    records: Sequence[SpoolRecord]
    done: Appended


@dataclass(slots=True)
class ForgetWrite:
    """Their targets have them."""

    seqs: Sequence[int]


@dataclass(slots=True)
class BuryWrite:
    """Mark it dead."""

    seq: int
    reason: str
    attempts: int = 0


@dataclass(slots=True)
class AttemptsWrite:
    """So often it was refused by now."""

    seq: int
    attempts: int
    reason: str


@dataclass(slots=True)
class AskDatabase:
    """Something else to do with the file, after the commit."""

    question: Callable[[Database], Any]
    done: Callable[[Any], None]


Operation: TypeAlias = AppendWrite | ForgetWrite | BuryWrite | AttemptsWrite | AskDatabase
TIDYING = ForgetWrite | BuryWrite | AttemptsWrite
"""What nobody waits for: where it can't be written, it is tried again."""


@dataclass(slots=True)
class Totals:
    """What the file holds: counted once at the start, then by what is added and taken out."""

    records: int = 0
    dead: int = 0
    bytes: int = 0
    dead_bytes: int = 0

    def count(self, sign: int, size: int, *, dead: bool) -> None:
        """One record more (``sign`` 1) or fewer (-1)."""
        self.bytes += sign * size
        if dead:
            self.dead += sign
            self.dead_bytes += sign * size
        else:
            self.records += sign
