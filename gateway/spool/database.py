"""The spool's file: SQLite in WAL mode, ``synchronous=FULL``. The one place that knows SQL.

Names (of bindings and target ports) are numbers in the rows: they come again and again. What waits has an index by
binding, so that a lane's next records are found at once, whatever else the file holds.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import SpoolCorrupt, SpoolError, SpoolUnavailable
from gateway.files import sync_directory
from gateway.spool.core.record import RECORD_BYTES, Backlog, SpoolRecord, decode_message, encode_message

SCHEMA_VERSION = 2
SEEN_KEPT = 65_536
"""Message ids remembered across restarts, for all target ports together."""

SEEN_TRIMMED = 4_096
"""How many more there may be before the oldest are taken out."""

FETCH_BYTES = 1 << 20
"""Bodies brought into memory at once; a single larger one comes alone."""

BUSY_TIMEOUT_S = 5.0
DELETED_AT_ONCE = 256

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    binding INTEGER NOT NULL,
    body BLOB NOT NULL,
    size INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    dead INTEGER NOT NULL DEFAULT 0,
    boot TEXT NOT NULL DEFAULT '',
    born REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS waiting ON records (binding, seq, size) WHERE dead = 0;
CREATE INDEX IF NOT EXISTS resting ON records (seq, size) WHERE dead = 1;
CREATE TABLE IF NOT EXISTS seen (number INTEGER PRIMARY KEY, target INTEGER NOT NULL, message_id TEXT NOT NULL);
"""

COLUMNS = "seq, name, body, attempts, last_error, dead, boot, born"
ROWS = f"SELECT {COLUMNS} FROM records JOIN names ON number = binding"
CORRUPT_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def boot_id() -> str:
    """What tells this boot of the machine from others: monotonic times of another boot mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return f"process {os.getpid()}"


def make_database(path: Path) -> None:
    """An empty spool, written aside and renamed: a file of this name is whole, or it is damaged, never half made."""
    log, index = companions(path)
    if log.exists() and log.stat().st_size:  # an empty one is what a run leaves that had nothing to write
        raise corrupt(path, f"it is missing, but {log.name} is there")
    aside = path.with_name(f"{path.name}.new")
    for part in (log, index, aside, *companions(aside)):
        part.unlink(missing_ok=True)
    database = Database(aside)
    try:
        database.make_schema()
    finally:
        database.close()  # the last connection brings everything into the one file, synced
    aside.rename(path)
    sync_directory(path.parent)


def companions(path: Path) -> tuple[Path, Path]:
    """The files that belong to a database while it is in use (or after a crash)."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


class Database:
    """One connection. Every method raises ``SpoolCorrupt`` or ``SpoolUnavailable`` for what SQLite can't do."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._boot = boot_id()
        self._names: dict[str, int] = {}
        self._last_seq: int | None = None
        self._seen_added = SEEN_TRIMMED
        with self._translated():
            if path.exists() and not path.stat().st_size:
                raise corrupt(path, "it is empty")
            if read_only:
                self._connection = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S
                )
            else:
                self._connection = sqlite3.connect(path, isolation_level="IMMEDIATE", timeout=BUSY_TIMEOUT_S)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise self._problem(exc) from exc
        except OSError as exc:
            raise SpoolUnavailable(f"spool: {self._path}: {exc.strerror}") from exc

    def _problem(self, exc: sqlite3.Error) -> SpoolError:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in CORRUPT_CODES:
            return corrupt(self._path, str(exc))
        return SpoolUnavailable(f"spool: {self._path}: {exc}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        try:
            with self._translated():
                yield
                self._connection.commit()
        except BaseException:
            self._names.clear()  # numbers that were made in it are gone
            self._last_seq = None
            try:
                self._connection.rollback()
            except sqlite3.Error as exc:
                raise self._problem(exc) from exc
            raise

    # -- opening ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Whether the file is whole and ours. Run once, before anything is trusted."""
        with self._translated():
            problem = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise corrupt(self._path, str(problem))
            if not self._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]:
                raise corrupt(self._path, "it holds no spool")
            self._check_version()

    def make_schema(self) -> None:
        """The tables of an empty spool."""
        with self._translated():
            self._connection.executescript(SCHEMA)
            self._connection.execute("INSERT INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))
            self._connection.commit()

    def _check_version(self) -> None:
        version = self._connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        if version is None or version[0] != str(SCHEMA_VERSION):
            found = "none" if version is None else version[0]
            raise SpoolCorrupt(
                f"spool: {self._path} has version {found}, this gateway knows {SCHEMA_VERSION};"
                f" let the gateway that wrote it drain it, or set it aside with `mv {self._path} {self._path}.old`"
            )

    def try_writing(self) -> None:
        """Write a little, to see whether the disk takes anything."""
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('tried', hex(randomblob(8)))")

    def totals(self) -> tuple[int, int, int, int]:
        """Records that wait, records that are dead, bytes of all, bytes of the dead."""
        with self._translated():
            waiting, bytes_waiting = self._count("dead = 0")
            dead, bytes_dead = self._count("dead = 1")
        return waiting, dead, bytes_waiting + bytes_dead, bytes_dead

    def _count(self, where: str) -> tuple[int, int]:
        row: tuple[int, int] = self._connection.execute(
            f"SELECT count(*), coalesce(sum(size), 0) FROM records WHERE {where}"
        ).fetchone()
        return row

    def backlogs(self) -> list[Backlog]:
        """What waits, by binding."""
        query = (
            "SELECT name, count(*), sum(size), max(seq) FROM records JOIN names ON number = binding"
            " WHERE dead = 0 GROUP BY binding"
        )
        with self._translated():
            rows = self._connection.execute(query).fetchall()
        return [Backlog(name, count, size - count * RECORD_BYTES, last) for name, count, size, last in rows]

    def bindings(self) -> list[str]:
        """The bindings that have records, waiting or dead."""
        query = "SELECT name FROM names WHERE EXISTS (SELECT 1 FROM records WHERE binding = number AND dead = 0)"
        dead = "SELECT DISTINCT name FROM records JOIN names ON number = binding WHERE dead = 1"
        with self._translated():
            return [row[0] for row in self._connection.execute(f"{query} UNION {dead}")]

    def seen(self) -> list[tuple[str, str]]:
        """Target port and message id of what was committed lately, oldest first."""
        query = "SELECT name, message_id FROM seen JOIN names ON names.number = target ORDER BY seen.number"
        with self._translated():
            return self._connection.execute(query).fetchall()

    def free_bytes(self) -> int:
        """What the file could take without growing."""
        with self._translated():
            pages = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
            size = self._connection.execute("PRAGMA page_size").fetchone()[0]
        return int(pages) * int(size)

    # -- writing, within a transaction -----------------------------------------------------------------------------

    def insert(self, records: Sequence[SpoolRecord]) -> list[int]:
        """Records at the end; their numbers. What they are for counts as seen from now on."""
        if self._last_seq is None:
            row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
            self._last_seq = int(row[0]) if row else 0
        first = self._last_seq + 1
        self._last_seq += len(records)
        self._connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    seq,
                    self._number(record.binding_id),
                    encode_message(record.message),
                    record.size,
                    record.attempts,
                    record.last_error,
                    int(record.dead),
                    "" if record.born is None else self._boot,
                    record.born or 0.0,
                )
                for seq, record in enumerate(records, first)
            ],
        )
        self._remember([(self._number(target), name) for record in records for target, name in record.seen])
        return list(range(first, first + len(records)))

    def _remember(self, seen: Sequence[tuple[int, str]]) -> None:
        self._connection.executemany("INSERT INTO seen (target, message_id) VALUES (?, ?)", seen)
        self._seen_added += len(seen)
        if self._seen_added > SEEN_TRIMMED:
            self._seen_added = 0
            self._connection.execute(
                "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?", (SEEN_KEPT,)
            )

    def _number(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            self._connection.execute("INSERT OR IGNORE INTO names (name) VALUES (?)", (name,))
            number = int(self._connection.execute("SELECT number FROM names WHERE name = ?", (name,)).fetchone()[0])
            self._names[name] = number
        return number

    def delete(self, seqs: Sequence[int]) -> Iterator[tuple[int, bool]]:
        """Take records out; size and deadness of each that was there."""
        for start in range(0, len(seqs), DELETED_AT_ONCE):
            part = seqs[start : start + DELETED_AT_ONCE]
            query = f"DELETE FROM records WHERE seq IN ({','.join('?' * len(part))}) RETURNING size, dead"
            for size, dead in self._connection.execute(query, part).fetchall():
                yield size, bool(dead)

    def mark_dead(self, seq: int, reason: str, attempts: int) -> int:
        """Bury one where it lies; its size, or 0 if there is no such record or it is dead already."""
        query = "UPDATE records SET dead = 1, last_error = ?, attempts = ? WHERE seq = ? AND dead = 0 RETURNING size"
        row = self._connection.execute(query, (reason, attempts, seq)).fetchone()
        return int(row[0]) if row else 0

    def note_attempts(self, seq: int, attempts: int, reason: str) -> None:
        """How often one that waits was refused, and why the last time."""
        query = "UPDATE records SET attempts = ?, last_error = ? WHERE seq = ? AND dead = 0"
        self._connection.execute(query, (attempts, reason, seq))

    def oldest_dead(self, wanted: int) -> list[int]:
        """The oldest dead letters that take ``wanted`` bytes or more together; all, where they don't."""
        found: list[int] = []
        for seq, size in self._connection.execute("SELECT seq, size FROM records WHERE dead = 1 ORDER BY seq"):
            if wanted <= 0:
                break
            found.append(seq)
            wanted -= size
        return found

    def bindings_of(self, seqs: Sequence[int]) -> Counter[str]:
        """How many of these records each binding has."""
        query = "SELECT name FROM records JOIN names ON number = binding WHERE seq = ?"
        rows = (self._connection.execute(query, (seq,)).fetchone() for seq in seqs)
        return Counter(row[0] for row in rows if row)

    # -- reading ---------------------------------------------------------------------------------------------------

    def waiting(self, binding_id: str, after: int, upto: int, limit: int) -> tuple[list[SpoolRecord], bool]:
        """The next records of one binding, at most so many and about ``FETCH_BYTES``; whether those were all."""
        query = f"{ROWS} WHERE name = ? AND dead = 0 AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        found: list[SpoolRecord] = []
        size = 0
        with self._translated():
            for row in self._connection.execute(query, (binding_id, after, upto, limit + 1)):
                if len(found) == limit or (found and size > FETCH_BYTES):
                    return found, False
                found.append(self._record(row))
                size += found[-1].size
        return found, True

    def records(
        self, *, dead: bool | None = None, binding_id: str = "", after: int = 0, limit: int = -1
    ) -> list[SpoolRecord]:
        """Records in the order of their numbers, those above ``after``: at most ``limit`` and about ``FETCH_BYTES``.

        ``limit`` -1: all of them, however much that is.
        """
        where, arguments = ["seq > ?"], list[int | str]([after])
        if dead is not None:
            where.append(f"dead = {int(dead)}")
        if binding_id:
            where.append("name = ?")
            arguments.append(binding_id)
        query = f"{ROWS} WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?"
        found: list[SpoolRecord] = []
        size = 0
        with self._translated():
            for row in self._connection.execute(query, (*arguments, limit)):
                found.append(self._record(row))
                size += found[-1].size
                if limit >= 0 and size > FETCH_BYTES:
                    break
        return found

    def record(self, seq: int) -> SpoolRecord | None:
        """One record, or None."""
        with self._translated():
            row = self._connection.execute(f"{ROWS} WHERE seq = ?", (seq,)).fetchone()
        return self._record(row) if row else None

    def newest(self) -> int:
        """The highest number of a record; 0 where there is none."""
        with self._translated():
            return int(self._connection.execute("SELECT ifnull(max(seq), 0) FROM records").fetchone()[0])

    def find(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        """Those of these that are there, in this order: about ``FETCH_BYTES``."""
        found: list[SpoolRecord] = []
        size = 0
        for seq in seqs:
            record = self.record(seq)
            if record is not None:
                found.append(record)
                size += record.size
                if size > FETCH_BYTES:
                    break
        return found

    def states(self, seqs: Sequence[int]) -> dict[int, bool]:
        """Those of these that are there, and whether they are dead."""
        query = "SELECT dead FROM records WHERE seq = ?"
        with self._translated():
            rows = ((seq, self._connection.execute(query, (seq,)).fetchone()) for seq in seqs)
            return {seq: bool(row[0]) for seq, row in rows if row is not None}

    def _record(self, row: Sequence[object]) -> SpoolRecord:
        seq, binding_id, body, attempts, last_error, dead, boot, born = row
        try:
            return SpoolRecord(
                str(binding_id),
                decode_message(body),  # type: ignore[arg-type]
                int(seq),  # type: ignore[call-overload]
                int(attempts),  # type: ignore[call-overload]
                str(last_error),
                bool(dead),
                float(born) if boot == self._boot else None,  # type: ignore[arg-type]
            )
        except SpoolCorrupt as exc:
            raise corrupt(self._path, str(exc)) from exc


def corrupt(path: Path, problem: str) -> SpoolCorrupt:
    """The error that leaves the file alone and says how to mend it."""
    aside = path.parent / "damaged"
    return SpoolCorrupt(
        f"spool: {path} is damaged ({' '.join(problem.split())}); save what can be read with"
        f" `sqlite3 {path} .recover | sqlite3 {path}.mended`, or set it aside with"
        f" `mkdir {aside} && mv {path}* {aside}`"
    )
