"""A store in memory, for tests of what stands above it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import SpoolError, SpoolFull
from gateway.spool.core.record import Backlog, SpoolRecord, again
from gateway.spool.core.store import Appended, Fetched, Opening, Page, Usage


class MemoryStore:
    """Keeps records until told to forget them. ``failure`` is what every append and fetch gets while it is set."""

    def __init__(self, max_bytes: int = 1 << 40) -> None:
        self.records: dict[int, SpoolRecord] = {}
        self.seen: list[tuple[str, str]] = []
        self.failure: SpoolError | None = None
        self._max_bytes = max_bytes
        self._last = 0
        self._commits = 0

    def submit(self, records: Sequence[SpoolRecord], done: Appended) -> None:
        """Commit all or none."""
        taken = sum(record.size for record in self.records.values())
        wanted = sum(record.size for record in records)
        answer: list[int] | SpoolError
        if self.failure is not None:
            answer = self.failure
        elif taken + wanted > self._max_bytes:
            answer = SpoolFull(f"spool: full, {taken} of {self._max_bytes} bytes are taken", self._max_bytes - taken)
        else:
            self._commits += 1
            answer = [self._add(record).seq for record in records]
        asyncio.get_running_loop().call_soon(done, answer)

    def _add(self, record: SpoolRecord) -> SpoolRecord:
        self._last += 1
        self.records[self._last] = replace(record, seq=self._last)
        self.seen.extend(record.seen)
        return self.records[self._last]

    def fetch(self, binding_id: str, after: int, upto: int, limit: int, done: Fetched) -> None:
        """The next ones of a binding."""
        found = [
            record
            for record in self._in_order(dead=False)
            if record.binding_id == binding_id and after < record.seq <= upto
        ]
        answer = self.failure or Page(found[:limit], len(found) <= limit)
        asyncio.get_running_loop().call_soon(done, answer)

    def forget(self, seqs: Sequence[int]) -> None:
        """Take these out."""
        for seq in seqs:
            self.records.pop(seq, None)

    def bury(self, seq: int, reason: str, attempts: int = 0) -> None:
        """Mark one dead."""
        if seq in self.records:
            self.records[seq] = replace(self.records[seq], dead=True, last_error=reason, attempts=attempts)

    def tried(self, seq: int, attempts: int, reason: str) -> None:
        """Note what became of an attempt."""
        if seq in self.records:
            self.records[seq] = replace(self.records[seq], attempts=attempts, last_error=reason)

    async def opening(self) -> Opening:
        """What is there now."""
        backlogs: dict[str, Backlog] = {}
        for record in self._in_order(dead=False):
            known = backlogs.get(record.binding_id, Backlog(record.binding_id, 0, 0, 0))
            size = known.bytes + len(record.message.body)
            backlogs[record.binding_id] = Backlog(record.binding_id, known.records + 1, size, record.seq)
        return Opening(list(backlogs.values()), list(self.seen))

    def _in_order(self, dead: bool | None) -> list[SpoolRecord]:
        return [self.records[seq] for seq in sorted(self.records) if dead in (None, self.records[seq].dead)]

    async def look(
        self, *, dead: bool | None = None, binding_id: str = "", after: int = 0, limit: int = 100
    ) -> list[SpoolRecord]:
        """Records for a person."""
        found = [one for one in self._in_order(dead) if one.seq > after and binding_id in ("", one.binding_id)]
        return found[:limit]

    async def newest(self) -> int:
        """The highest number."""
        return max(self.records, default=0)

    async def states(self, seqs: Sequence[int]) -> dict[int, bool]:
        """Whether these are dead."""
        return {seq: self.records[seq].dead for seq in seqs if seq in self.records}

    async def find(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Those that are there."""
        return [self.records[seq] for seq in seqs if seq in self.records]

    async def requeue(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Another try for dead ones."""
        dead = [self.records.pop(seq) for seq in seqs if seq in self.records and self.records[seq].dead]
        return [self._add(again(record)) for record in dead]

    def usage(self) -> Usage:
        """Counts."""
        dead = sum(record.dead for record in self.records.values())
        size = sum(record.size for record in self.records.values())
        return Usage(len(self.records) - dead, dead, size, commits=self._commits, problem=str(self.failure or ""))

    async def close(self) -> None:
        """Nothing to let go of."""
