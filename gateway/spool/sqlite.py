"""The spool on disk: one writer thread, group commit.

The writer takes whatever is asked for while the commit before runs, up to a limit, commits once, and answers everybody:
one sync a batch, and the slower the disk the larger the batch. While nothing is asked for, nothing is written. What is
read goes through the same thread, so that answers come in the order of the questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.errors import SpoolError, SpoolUnavailable
from gateway.spool.core.record import SpoolRecord
from gateway.spool.core.store import Appended, Fetched, Opening, Page, Usage
from gateway.spool.database import Database, make_database
from gateway.spool.write_operations import AppendWrite, AskDatabase, AttemptsWrite, BuryWrite, ForgetWrite, Totals
from gateway.spool.writer import Answer, SpoolLimits, Writer

T = TypeVar("T")

DEAD_SHARE = 4
"""Of ``max_bytes``, dead letters take a quarter at most where nothing else is said."""


class SqliteStore:
    """One file, one writer. Everything but ``read_records`` belongs to the loop that opened it.

    Bytes; ``max_dead_bytes`` 0: a quarter of ``max_bytes``.
    """

    def __init__(self, path: Path, *, max_bytes: int, disk_reserve_bytes: int, max_dead_bytes: int = 0) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._opening, totals = _open(path)
        limits = SpoolLimits(max_bytes, max_dead_bytes or max_bytes // DEAD_SHARE, disk_reserve_bytes)
        self._writer = Writer(path, limits, totals, self._tell)

    def _tell(self, answers: Sequence[Answer]) -> None:
        """In the writer's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, answers)

    # -- what the loop calls -----------------------------------------------------------------------------------

    def submit(self, records: Sequence[SpoolRecord], done: Appended) -> None:
        """Commit and sync all or none; then call ``done`` on the loop."""
        self._writer.put(AppendWrite(records, done))

    async def append(self, records: Sequence[SpoolRecord]) -> list[int]:
        """The same for who waits: their numbers. Raises ``SpoolFull`` or ``SpoolUnavailable``."""
        result: asyncio.Future[list[int]] = self._loop.create_future()

        def done(answer: list[int] | SpoolError) -> None:
            _resolve(result, answer)

        self.submit(records, done)
        return await result

    def fetch(self, binding_id: str, after: int, upto: int, limit: int, done: Fetched) -> None:
        """The first records of a binding with ``after < seq <= upto`` that wait."""
        self._writer.put(AskDatabase(lambda database: Page(*database.waiting(binding_id, after, upto, limit)), done))

    def forget(self, seqs: Sequence[int]) -> None:
        """Their targets have them. Written a little later, with others."""
        self._writer.put(ForgetWrite(seqs))

    def bury(self, seq: int, reason: str, attempts: int = 0) -> None:
        """Mark a record dead."""
        self._writer.put(BuryWrite(seq, reason, attempts))

    def tried(self, seq: int, attempts: int, reason: str) -> None:
        """Note what became of an attempt. Written a little later, with others."""
        self._writer.put(AttemptsWrite(seq, attempts, reason))

    async def opening(self) -> Opening:
        """What the file held when it was opened."""
        opening, self._opening = self._opening, Opening((), ())
        return opening

    async def load(self) -> list[SpoolRecord]:
        """Everything that is there now, in order: for tests and small files."""
        return await self._ask(lambda database: database.records())

    async def look(
        self, *, dead: bool | None = None, binding_id: str = "", after: int = 0, limit: int = 100
    ) -> list[SpoolRecord]:
        """Records for a person."""
        return await self._ask(lambda db: db.records(dead=dead, binding_id=binding_id, after=after, limit=limit))

    async def newest(self) -> int:
        """The highest number of a record; 0 where there is none."""
        return await self._ask(lambda database: database.newest())

    async def states(self, seqs: Sequence[int]) -> dict[int, bool]:
        """Those of these records that are there, and whether they are dead."""
        return await self._ask(lambda database: database.states(seqs))

    async def find(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Those of these records that are there: the first of them only, if they are large."""
        return await self._ask(lambda database: database.find(seqs))

    async def requeue(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Another try for dead ones, each as a new record at the end."""
        return await self._ask(lambda database: self._writer.again(database, seqs))

    async def _ask(self, question: Callable[[Database], T]) -> T:
        result: asyncio.Future[T] = self._loop.create_future()

        def done(answer: T | SpoolError) -> None:
            _resolve(result, answer)

        self._writer.put(AskDatabase(question, done))
        return await result

    def usage(self) -> Usage:
        """Counts and state, as of the last commit."""
        return self._writer.usage()

    async def close(self) -> None:
        """Write what was asked for, and let go of the file."""
        await asyncio.to_thread(self._writer.close)


def _open(path: Path) -> tuple[Opening, Totals]:
    """What the file holds; it is made where it isn't there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            make_database(path)
    except OSError as exc:
        raise SpoolUnavailable(f"spool: {path} can't be made: {exc.strerror}") from exc
    database = Database(path, read_only=True)  # a damaged file is not touched, not even to mend it
    try:
        database.check()
        return Opening(database.backlogs(), database.seen()), Totals(*database.totals())
    finally:
        database.close()


def _deliver(answers: Sequence[Answer]) -> None:
    """On the loop: tell those who wait."""
    for done, answer in answers:
        done(answer)


def _resolve(result: asyncio.Future[Any], answer: Any) -> None:
    if result.done():
        return  # who asked was cancelled
    if isinstance(answer, SpoolError):
        result.set_exception(answer)
    else:
        result.set_result(answer)


def read_records(path: Path, *, dead: bool | None = None, after: int = 0, limit: int = -1) -> list[SpoolRecord]:
    """What the file holds now, read beside a daemon that may be running. A missing file holds nothing."""
    with _reading(path) as database:
        return [] if database is None else database.records(dead=dead, after=after, limit=limit)


def read_bindings(path: Path) -> list[str]:
    """The bindings that have records in the file now. A missing file holds nothing."""
    with _reading(path) as database:
        return [] if database is None else database.bindings()


@contextmanager
def _reading(path: Path) -> Iterator[Database | None]:
    if not path.exists():
        yield None
        return
    try:
        database = Database(path, read_only=True)
    except SpoolUnavailable as exc:
        raise SpoolUnavailable(f"{exc}; is it readable for you?") from exc
    try:
        yield database
    finally:
        database.close()
