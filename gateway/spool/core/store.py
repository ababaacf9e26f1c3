"""What a store of records does. Two do it: SQLite on disk, and one in memory for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from gateway.errors import SpoolError
from gateway.spool.core.record import Backlog, SpoolRecord


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a store is, and how it is. Bytes and seconds; ``problem`` is empty when all is well.

    ``dead_bytes`` are part of ``bytes``. ``dead_dropped`` are the dead letters, by binding, that newer ones pushed out since
    the store was opened: they have a share of their own.
    """

    records: int = 0
    dead: int = 0
    bytes: int = 0
    dead_bytes: int = 0
    dead_dropped: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    slowest_commit_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a store holds when it is opened: by binding, not message by message, for there may be a million.

    ``seen`` is what targets were given lately: (target port, message id), oldest first.
    """

    backlogs: Sequence[Backlog]
    seen: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of one binding, in order. ``exhausted``: there are no more in what was asked for."""

    records: Sequence[SpoolRecord]
    exhausted: bool


Appended: TypeAlias = Callable[[list[int] | SpoolError], None]
Fetched: TypeAlias = Callable[[Page | SpoolError], None]


class Store(Protocol):
    """Messages on disk while their target is away. Answers come on the loop, in the order of the questions."""

    def submit(self, records: Sequence[SpoolRecord], done: Appended) -> None:
        """Commit all or none; ``done`` gets their numbers, or ``SpoolFull``, ``SpoolUnavailable`` or ``SpoolCorrupt``."""

    def fetch(self, binding_id: str, after: int, upto: int, limit: int, done: Fetched) -> None:
        """The first records of a binding with ``after < seq <= upto`` that wait: ``limit``, or fewer if they are large."""

    def forget(self, seqs: Sequence[int]) -> None:
        """Their targets have them. Batched, and late: a late one costs a duplicate, never a loss."""

    def bury(self, seq: int, reason: str, attempts: int = 0) -> None:
        """Mark a record dead after so many attempts. Batched like ``forget``."""

    def tried(self, seq: int, attempts: int, reason: str) -> None:
        """A record was refused so often by now, last for this reason. Batched like ``forget``."""

    async def opening(self) -> Opening:
        """What was there when the store was opened."""

    async def look(
        self, *, dead: bool | None = None, binding_id: str = "", after: int = 0, limit: int = 100
    ) -> list[SpoolRecord]:
        """Records for a person: in the order of ``seq``, those above ``after``: ``limit``, or fewer if they are large."""

    async def newest(self) -> int:
        """The highest number of a record; 0 where there is none."""

    async def states(self, seqs: Sequence[int]) -> dict[int, bool]:
        """Those of these records that are there, and whether they are dead."""

    async def find(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Those of these records that are there, in this order: the first of them only, if they are large."""

    async def requeue(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Give dead ones of these another try: each as a new record at the end. What they are now."""

    def usage(self) -> Usage:
        """Counts and state, without touching the disk."""

    async def close(self) -> None:
        """Commit what is asked for, and let go of the file."""
