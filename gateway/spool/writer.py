"""The thread that writes the spool: group commit, the limits, and what it does when the disk is in trouble."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from gateway.errors import SpoolError, SpoolFull, SpoolUnavailable
from gateway.spool.core.record import SpoolRecord, again
from gateway.spool.core.store import Usage
from gateway.spool.database import Database
from gateway.spool.write_operations import (
    TIDYING,
    AppendWrite,
    AskDatabase,
    AttemptsWrite,
    BuryWrite,
    ForgetWrite,
    Operation,
    Totals,
)

log = logging.getLogger(__name__)

LARGEST_BATCH = 1024
LATE_FORGET_S = 0.2
"""How long a forget may wait for company: a late one costs a duplicate after a crash, never a loss."""

BROKEN_PAUSE_S = 0.1
PROBE_S = 2.0
"""How often a disk that took nothing is tried while nobody asks for it: what is shown of it should be true."""

PROBE_BYTES = 65_536
"""So much room there has to be, for a spool that was full to count as healthy."""

Answer: TypeAlias = tuple[Callable[[Any], None], Any]


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Bytes: of all records, of the dead ones among them, and what is left free on the disk for others."""

    max_bytes: int
    max_dead_bytes: int
    reserve_bytes: int


class Writer:
    """Everything but ``put``, ``usage`` and ``close`` happens in its thread. ``tell`` is called there with the answers."""

    def __init__(
        self, path: Path, limits: SpoolLimits, totals: Totals, tell: Callable[[Sequence[Answer]], None]
    ) -> None:
        self._path = path
        self._limits = limits
        self._totals = totals
        self._tell = tell
        self._operations: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._usage = Usage()
        self._dead_dropped: Counter[str] = Counter()
        self._dead_full = False
        self._trouble: SpoolError | None = None
        self._report(0.0, "")
        self._thread = threading.Thread(target=self._write, name="spool writer", daemon=True)
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Have this done, after what was asked for before."""
        self._operations.put(operation)

    def usage(self) -> Usage:
        """Counts and state, as of the last commit."""
        return self._usage

    def close(self) -> None:
        """Do what was asked for, and end. Takes as long as the disk does."""
        self._operations.put(None)
        self._thread.join()

    def _write(self) -> None:
        """The thread. Whoever asks is answered, whatever happens: a silence would hold his messages for ever."""
        database: Database | None = None
        ending = False
        while not ending:
            batch, ending = self._next_batch()
            try:
                if batch:
                    database = self._work_off(database, batch)
                elif self._trouble is not None and not ending:
                    database = self._probe(database)
            except Exception as exc:
                log.exception("spool: the writer failed")
                self._answer([(one.done, _bug(exc)) for one in batch if isinstance(one, AppendWrite | AskDatabase)])
        if database is not None:
            database.close()

    def _work_off(self, database: Database | None, batch: Sequence[Operation]) -> Database | None:
        """Commit and answer. What to go on with: None where the file has to be opened anew."""
        try:
            database = database or Database(self._path)
            began = time.monotonic()
            answers = self._commit(database, batch)
            if any(not isinstance(operation, AskDatabase) for operation in batch):
                self._report(time.monotonic() - began, "")
            self._answer(answers + _ask_all(database, batch))
        except SpoolFull as full:
            assert database is not None
            self._complain(full)
            self._answer(self._commit_each(database, batch) + _ask_all(database, batch))
        except SpoolError as problem:
            self._complain(problem)
            if database is not None:
                database.close()
            self._refuse(batch, problem)
            return None
        return database

    def _next_batch(self) -> tuple[list[Operation], bool]:
        """Whatever is asked for by now; waits a little for company where only forgets are there."""
        batch: list[Operation] = []
        deadline = 0.0
        urgent = False
        while len(batch) < LARGEST_BATCH:
            try:
                if not batch:
                    operation = self._operations.get(timeout=None if self._trouble is None else PROBE_S)
                    deadline = time.monotonic() + LATE_FORGET_S
                elif urgent:
                    operation = self._operations.get_nowait()
                else:
                    operation = self._operations.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if operation is None:
                return batch, True
            batch.append(operation)
            urgent = urgent or isinstance(operation, AppendWrite | AskDatabase)
        return batch, False

    def _probe(self, database: Database | None) -> Database | None:
        """Whether what was wrong is over."""
        try:
            database = database or Database(self._path)
            self._check_room(database, self._totals, PROBE_BYTES)
            database.try_writing()
        except SpoolFull:
            return database
        except SpoolError:
            if database is not None:
                database.close()
            return None
        self._report(0.0, "")
        return database

    def _commit(self, database: Database, batch: Sequence[Operation]) -> list[Answer]:
        """All of the batch, or nothing of it. What takes records out goes first: room is made before it is used."""
        appends = [operation for operation in batch if isinstance(operation, AppendWrite)]
        if not appends and all(isinstance(operation, AskDatabase) for operation in batch):
            return []
        totals = replace(self._totals)
        answers: list[Answer] = []
        fresh = [record for append in appends for record in append.records]
        with database.transaction():
            _tidy_up(database, totals, batch)
            dropped = self._make_dead_room(database, totals, sum(one.size for one in fresh if one.dead))
            if appends:
                self._check_room(database, totals, sum(one.size for one in fresh))
            for append in appends:
                answers.append((append.done, database.insert(append.records)))
                for record in append.records:
                    totals.count(1, record.size, dead=record.dead)
            dropped += self._make_dead_room(database, totals, 0)
        self._totals = totals
        self._count_dropped(dropped)
        return answers

    def _make_dead_room(self, database: Database, totals: Totals, coming: int) -> Counter[str]:
        """Dead letters have a share of their own: the oldest go where newer ones would take more. How many, by binding.

        A single one that is larger than the share may stay, until the next one comes: it is worth more than a rule.
        """
        excess = totals.dead_bytes + coming - self._limits.max_dead_bytes
        if excess <= 0:
            return Counter()
        seqs = database.oldest_dead(excess)
        if not coming and len(seqs) == totals.dead:
            seqs = seqs[:-1]
        dropped = database.bindings_of(seqs)
        for size, dead in database.delete(seqs):
            totals.count(-1, size, dead=dead)
        return dropped

    def _count_dropped(self, dropped: Counter[str]) -> None:
        self._dead_dropped += dropped
        if dropped and not self._dead_full:
            self._dead_full = True
            log.warning(
                "spool: dead letters take all of spool.max_dead_bytes (%d bytes); the oldest are dropped for the newest;"
                " see: gateway spool list --dead",
                self._limits.max_dead_bytes,
            )
        elif self._totals.dead_bytes * 10 < self._limits.max_dead_bytes * 9:
            self._dead_full = False

    def _check_room(self, database: Database, totals: Totals, wanted: int) -> None:
        room = self._limits.max_bytes - totals.bytes
        if wanted > room:
            raise SpoolFull(f"spool: full, {totals.bytes} of {self._limits.max_bytes} bytes are taken", room)
        try:
            disk = os.statvfs(self._path.parent)
        except OSError as exc:
            raise SpoolUnavailable(f"spool: {self._path.parent}: {exc.strerror}") from exc
        reserve = self._limits.reserve_bytes
        room = disk.f_bavail * disk.f_frsize - reserve
        if wanted > room and wanted > room + database.free_bytes():
            raise SpoolFull(
                f"spool: less than {reserve} bytes would be left free on the disk", room + database.free_bytes()
            )

    def _commit_each(self, database: Database, batch: Sequence[Operation]) -> list[Answer]:
        """The batch as a whole has no room: tidy up first, then take what fits."""
        tidying: list[Operation] = [one for one in batch if isinstance(one, TIDYING)]
        answers: list[Answer] = []
        try:
            answers += self._commit(database, tidying)
        except SpoolError as problem:  # the disk is so full that it can't even be tidied up
            for operation in tidying:
                self._operations.put(operation)
            return [(one.done, problem) for one in batch if isinstance(one, AppendWrite)]
        for operation in batch:
            if isinstance(operation, AppendWrite):
                try:
                    answers += self._commit(database, (operation,))
                except SpoolError as problem:
                    answers.append((operation.done, problem))
        self._report(0.0, self._usage.problem)
        return answers

    def _refuse(self, batch: Sequence[Operation], problem: SpoolError) -> None:
        """A commit failed: questions and appends are refused, what only tidies up is tried again with the next batch."""
        for operation in batch:
            if isinstance(operation, TIDYING):
                self._operations.put(operation)
        self._answer([(one.done, problem) for one in batch if isinstance(one, AppendWrite | AskDatabase)])
        time.sleep(BROKEN_PAUSE_S)  # in the writer's own thread: a broken disk is not asked without end

    def _complain(self, problem: SpoolError) -> None:
        if type(problem) is not type(self._trouble):
            log.error("%s", problem)
        self._trouble = problem
        self._report(0.0, str(problem))

    def _answer(self, answers: Sequence[Answer]) -> None:
        if answers:
            self._tell(answers)

    def again(self, database: Database, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Another try for these dead ones, each as a new record at the end. To be called by a question (``AskDatabase``)."""
        totals = replace(self._totals)
        made: list[SpoolRecord] = []
        with database.transaction():
            for seq in seqs:
                record = database.record(seq)
                if record is None or not record.dead:
                    continue
                fresh = again(record)
                for size, dead in database.delete((seq,)):
                    totals.count(-1, size, dead=dead)
                made.append(replace(fresh, seq=database.insert((fresh,))[0]))
                totals.count(1, fresh.size, dead=False)
        self._totals = totals
        self._report(0.0, self._usage.problem)
        return made

    def _report(self, took_s: float, problem: str) -> None:
        if not problem and self._trouble is not None:
            log.info("spool: %s takes messages again", self._path)
        if not problem:
            self._trouble = None
        self._usage = Usage(
            records=self._totals.records,
            dead=self._totals.dead,
            bytes=self._totals.bytes,
            dead_bytes=self._totals.dead_bytes,
            dead_dropped=dict(self._dead_dropped),
            commits=self._usage.commits + bool(took_s),
            slowest_commit_s=max(self._usage.slowest_commit_s, took_s),
            problem=problem,
        )


def _tidy_up(database: Database, totals: Totals, batch: Sequence[Operation]) -> None:
    """What takes records out or marks them goes first: room is made before it is used."""
    gone: list[int] = []
    for operation in batch:
        match operation:
            case ForgetWrite(seqs):
                gone.extend(seqs)
            case AttemptsWrite(seq, attempts, reason):
                database.note_attempts(seq, attempts, reason)
            case BuryWrite(seq, reason, attempts):
                if size := database.mark_dead(seq, reason, attempts):
                    totals.count(-1, size, dead=False)
                    totals.count(1, size, dead=True)
    for size, dead in database.delete(gone):
        totals.count(-1, size, dead=dead)


def _ask_all(database: Database, batch: Sequence[Operation]) -> list[Answer]:
    answers: list[Answer] = []
    for operation in batch:
        if isinstance(operation, AskDatabase):
            try:
                answers.append((operation.done, operation.question(database)))
            except SpoolError as problem:
                answers.append((operation.done, problem))
            except Exception as exc:
                log.exception("spool: a question failed")
                answers.append((operation.done, _bug(exc)))
    return answers


def _bug(exc: Exception) -> SpoolError:
    """Neither full nor unavailable: the pump takes it for the end."""
    return SpoolError(f"spool: a bug: {exc!r}")
