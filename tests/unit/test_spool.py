"""The spool on disk, against the real SQLite: what it keeps, what it refuses, and what it leaves alone."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import EXIT_CONFIG, SpoolCorrupt, SpoolError, SpoolFull, SpoolUnavailable
from gateway.model.message import Message
from gateway.spool import database, writer
from gateway.spool.core.record import RECORD_BYTES, SpoolRecord, decode_message, encode_message
from gateway.spool.core.store import Page
from gateway.spool.sqlite import SqliteStore, read_records
from gateway.spool.write_operations import AskDatabase
from gateway.spool.writer import Writer
from tests.support.smalldisk import SmallDisk, kinds, small_disk_at

FULL_MESSAGE = Message(
    "id-1", b"\x00\xff21.5", "application/json", 1_700_000_000_123, False, "shop attic", 3, True, "r"
)


def record(name: str, binding: str = "edge", size: int = 4) -> SpoolRecord:
    return SpoolRecord(binding, Message(name, b"x" * size), born=5.0, seen=(("amqp:in", name),))


@asynccontextmanager
async def opened(path: Path, max_bytes: int = 1 << 30, reserve: int = 0) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, max_bytes=max_bytes, disk_reserve_bytes=reserve)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def standing_still(store: SqliteStore) -> Iterator[None]:
    """The thread that writes waits while the block runs."""
    waits, go_on = threading.Event(), threading.Event()

    def question(_: database.Database) -> None:
        waits.set()
        go_on.wait(60)

    store._writer.put(AskDatabase(question, lambda answer: None))
    try:
        assert waits.wait(60)
        yield
    finally:
        go_on.set()


async def page(store: SqliteStore, binding: str, after: int, upto: int, limit: int) -> Page:
    answer: asyncio.Future[Page | SpoolError] = asyncio.get_running_loop().create_future()
    store.fetch(binding, after, upto, limit, answer.set_result)
    found = await answer
    assert isinstance(found, Page)
    return found


def names(records: object) -> list[str]:
    return [one.message.id for one in records]  # type: ignore[attr-defined]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.db"


# -- what it keeps -----------------------------------------------------------------------------------------------------


def test_a_message_comes_back_as_it_was() -> None:
    assert decode_message(encode_message(FULL_MESSAGE)) == FULL_MESSAGE


async def test_records_survive_a_restart_in_order_with_numbers_that_only_rise(path: Path) -> None:
    async with opened(path) as store:
        assert await store.append([record("a"), record("b")]) == [1, 2]
        store.forget([2])
    async with opened(path) as store:
        assert await store.append([record("c")]) == [3]
        assert names(await store.load()) == ["a", "c"]


async def test_opening_counts_by_binding_and_does_not_read_the_messages(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a"), record("b", "other", 10), record("c")])
        store.bury(3, "poison")
    async with opened(path) as store:
        opening = await store.opening()
        found = {one.binding_id: (one.records, one.bytes, one.last_seq) for one in opening.backlogs}
        assert found == {"edge": (1, 4, 1), "other": (1, 10, 2)}
        assert (store.usage().records, store.usage().dead) == (2, 1)


async def test_a_bindings_records_come_in_pages(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record(str(n), "edge" if n % 2 else "other") for n in range(10)])
        first = await page(store, "edge", 0, 10, 3)
        assert (names(first.records), first.exhausted) == (["1", "3", "5"], False)
        last = await page(store, "edge", first.records[-1].seq, 10, 3)
        assert (names(last.records), last.exhausted) == (["7", "9"], True)


async def test_a_page_is_bounded_in_bytes_but_never_empty(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FETCH_BYTES", 1000)
    async with opened(path) as store:
        await store.append([record(str(n), size=5000) for n in range(3)])
        first = await page(store, "edge", 0, 3, 100)
        assert (names(first.records), first.exhausted) == (["0"], False)


async def test_an_answer_about_what_was_written_before_a_question_comes_first(path: Path) -> None:
    async with opened(path) as store:
        log: list[str] = []
        done = asyncio.Event()

        def fetched(answer: Page | SpoolError) -> None:
            assert isinstance(answer, Page)
            log.append(f"fetched {len(answer.records)}")
            done.set()

        store.submit([record("a")], lambda answer: log.append("stored"))
        store.fetch("edge", 0, 1, 10, fetched)
        await done.wait()
        assert log == ["stored", "fetched 1"]


async def test_ages_hold_over_a_restart_of_the_daemon_and_not_of_the_machine(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as store:
        await store.append([record("a")])
    async with opened(path) as store:
        assert [one.born for one in await store.load()] == [5.0]
    monkeypatch.setattr(database, "boot_id", lambda: "the next boot")
    async with opened(path) as store:
        assert [one.born for one in await store.load()] == [None]


async def test_what_targets_were_given_is_remembered_in_the_same_commit_and_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SEEN_KEPT", 10)
    monkeypatch.setattr(database, "SEEN_TRIMMED", 5)
    async with opened(path) as store:
        for number in range(40):
            store.forget(await store.append([record(str(number))]))
    async with opened(path) as store:
        seen = list((await store.opening()).seen)
        assert seen[-10:] == [("amqp:in", str(number)) for number in range(30, 40)]
        assert len(seen) <= 10 + 5 + 1


async def test_a_dead_record_is_given_another_try_as_a_new_one_at_the_end(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a"), record("b")])
        store.bury(1, "poison")
        made = await store.requeue([1, 2, 99])
        assert [(one.seq, one.message.id, one.dead, one.last_error) for one in made] == [(3, "a", False, "")]
        assert names(await store.load()) == ["b", "a"]
        assert (store.usage().records, store.usage().dead) == (2, 0)


async def test_what_waits_together_is_committed_together(path: Path) -> None:
    async with opened(path) as store:
        before = store.usage().commits
        with standing_still(store):
            appending = [asyncio.ensure_future(store.append([record(str(number))])) for number in range(200)]
            await asyncio.sleep(0)
        await asyncio.gather(*appending)
        assert store.usage().commits == before + 1


async def test_a_file_is_read_beside_a_running_store(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a"), record("b")])
        store.bury(2, "poison")
        await store.append([record("c")])
        assert names(read_records(path, dead=True)) == ["b"]
        assert names(read_records(path, dead=False)) == ["a", "c"]
    assert read_records(path.with_name("none.db")) == []


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_full_by_bytes_says_what_is_left_and_takes_again_when_there_is_room(path: Path) -> None:
    async with opened(path, max_bytes=3 * (RECORD_BYTES + 4)) as store:
        seqs = await store.append([record("a"), record("b")])
        with pytest.raises(SpoolFull, match="are taken") as caught:
            await store.append([record("c"), record("d")])
        assert caught.value.room == RECORD_BYTES + 4
        assert store.usage().problem
        store.forget(seqs)
        await store.append([record("c"), record("d")])
        assert store.usage().problem == ""


async def test_a_batch_that_is_too_much_as_a_whole_is_taken_as_far_as_it_fits(path: Path) -> None:
    async with opened(path, max_bytes=5 * (RECORD_BYTES + 4)) as store:
        results = await asyncio.gather(
            *(store.append([record(str(number))]) for number in range(9)), return_exceptions=True
        )
        assert [isinstance(one, SpoolFull) for one in results] == [False] * 5 + [True] * 4


async def test_the_disks_reserve_is_respected(path: Path) -> None:
    async with opened(path, reserve=1 << 60) as store:
        with pytest.raises(SpoolFull, match="left free on the disk"):
            await store.append([record("a")])


# -- idle --------------------------------------------------------------------------------------------------------------


async def test_nothing_is_written_while_nothing_is_asked_for(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a")])

        def written() -> tuple[int, list[int], list[int]]:
            files = sorted(path.parent.iterdir())
            return store.usage().commits, [f.stat().st_size for f in files], [f.stat().st_mtime_ns for f in files]

        before = written()
        await asyncio.sleep(0.5)  # long enough for a late forget, had there been one
        assert written() == before


async def test_forgets_wait_for_company(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LATE_FORGET_S", 60.0)
    async with opened(path) as store:
        seqs = await store.append([record(str(number)) for number in range(50)])
        before = store.usage().commits
        for seq in seqs:
            store.forget([seq])
        assert (await store.load()) == []
        assert store.usage().commits == before + 1


# -- damage ------------------------------------------------------------------------------------------------------------


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but it has some length" * 20)


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 + 100 : 8192] = b"\xa5" * (4096 - 100)
    path.write_bytes(bytes(data))


def empty_it(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()


def lose_the_file_but_not_its_log(path: Path) -> None:
    log = path.with_name("spool.db-wal")
    kept = log.read_bytes()
    path.unlink()
    log.unlink()
    log.write_bytes(kept)


def refused(path: Path) -> SpoolCorrupt:
    """The error that opening gives, and the file is as it was."""
    files = [path, path.with_name("spool.db-wal")]
    before = {file: file.read_bytes() for file in files if file.exists()}
    with pytest.raises(SpoolCorrupt) as caught:
        SqliteStore(path, max_bytes=1, disk_reserve_bytes=0)
    assert {file: file.read_bytes() for file in before} == before
    return caught.value


@pytest.mark.parametrize("damage", [damage_header, damage_page, empty_it, foreign])
async def test_a_damaged_file_is_left_as_it_is_with_the_line_that_mends_it(
    path: Path, damage: Callable[[Path], None]
) -> None:
    async with opened(path) as store:
        await store.append([record(str(number), size=500) for number in range(200)])
    damage(path)
    error = refused(path)
    assert error.exit_code == EXIT_CONFIG
    assert f"mv {path}* " in str(error)
    assert "\n" not in str(error)


async def test_a_log_without_its_file_is_damage_and_not_an_empty_spool(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a")])
        lose_the_file_but_not_its_log(path)
    assert "spool.db-wal is there" in str(refused(path))


def delete(path: Path) -> None:
    path.unlink()


async def test_who_deletes_the_file_of_a_run_that_wrote_nothing_gets_an_empty_spool(path: Path) -> None:
    for _ in range(2):  # the second finds a file, and leaves what a reader leaves beside it
        async with opened(path):
            pass
    delete(path)
    async with opened(path) as store:
        await store.append([record("a")])
    assert names(read_records(path)) == ["a"]


async def test_a_spool_of_another_version_is_not_touched(path: Path) -> None:
    async with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
    connection.commit()
    connection.close()
    assert "version 99" in str(refused(path))


async def test_a_commit_that_was_torn_by_a_power_cut_is_as_if_it_had_not_been(path: Path, tmp_path: Path) -> None:
    """The log is cut at every length: what is found is a prefix of what was committed, and nothing is damaged."""
    async with opened(path) as store:
        for number in range(4):
            await store.append([record(str(number))])
        copy = tmp_path / "copy"
        shutil.copytree(path.parent, copy)
    log = copy / "spool.db-wal"
    whole = log.read_bytes()
    for length in range(0, len(whole) + 1, 997):
        log.write_bytes(whole[:length])
        (copy / "spool.db-shm").unlink(missing_ok=True)
        found = names(read_records(copy / "spool.db"))
        assert found == [str(number) for number in range(len(found))]


# -- trouble that heals ------------------------------------------------------------------------------------------------


@pytest.fixture(params=kinds())
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of one megabyte, or a limit on file sizes."""
    with small_disk_at(tmp_path / "disk", request.param, "1m") as disk:
        yield disk


NO_RESERVE = -(1 << 60)
"""The disk itself has to say that it is full."""

LEFT = 600_000


async def fill(store: SqliteStore) -> list[int]:
    """Append until the disk takes no more."""
    taken: list[int] = []
    for number in range(1000):
        try:
            taken += await store.append([record(str(number), size=10_000)])
        except SpoolUnavailable:
            return taken
    raise AssertionError("the disk never was full")


async def test_a_full_disk_is_a_state_that_heals_without_a_restart(small_disk: SmallDisk) -> None:
    async with opened(small_disk.place / "spool.db", reserve=NO_RESERVE) as store:
        small_disk.fill(LEFT)
        taken = await fill(store)
        assert store.usage().problem
        small_disk.relieve()
        assert await store.append([record("after")]) == [taken[-1] + 1]
        assert store.usage().problem == ""
        assert len(await store.load()) == len(taken) + 1


async def test_a_read_only_disk_is_a_state_that_heals_without_a_restart(small_disk: SmallDisk) -> None:
    async with opened(small_disk.place / "spool.db", reserve=NO_RESERVE) as store:
        small_disk.fill(LEFT)
        await fill(store)  # after an error the file is opened anew, so that the disk can change meanwhile
        small_disk.read_only()
        with pytest.raises(SpoolUnavailable):
            await store.append([record("a")])
        small_disk.writable()
        small_disk.relieve()
        await store.append([record("b")])
        assert store.usage().problem == ""


async def test_a_disk_that_was_full_loses_nothing_of_what_it_took(small_disk: SmallDisk) -> None:
    async with opened(small_disk.place / "spool.db", reserve=NO_RESERVE) as store:
        small_disk.fill(LEFT)
        taken = await fill(store)
    assert [one.seq for one in read_records(small_disk.place / "spool.db")] == taken


async def test_a_forget_that_could_not_be_written_is_written_later(small_disk: SmallDisk) -> None:
    async with opened(small_disk.place / "spool.db", reserve=NO_RESERVE) as store:
        small_disk.fill(LEFT)
        taken = await fill(store)
        store.forget(taken)
        small_disk.relieve()
        await store.append([record("after")])
        assert names(await store.load()) == ["after"]


async def test_a_bug_in_the_writer_is_an_answer_and_not_a_silence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: Message) -> bytes:
        raise ZeroDivisionError

    async with opened(path) as store:
        monkeypatch.setattr(database, "encode_message", broken)
        with pytest.raises(SpoolError, match="a bug: ZeroDivisionError") as caught:
            await store.append([record("a")])
        assert not isinstance(caught.value, SpoolFull | SpoolUnavailable)
        monkeypatch.undo()
        assert await store.append([record("b")]) == [1]


@pytest.mark.parametrize("step", ["_commit_each", "_complain"])
async def test_a_bug_while_trouble_is_dealt_with_is_an_answer_too(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    async with opened(path, max_bytes=1) as store:
        monkeypatch.setattr(Writer, step, broken)
        with pytest.raises(SpoolError, match="a bug: ZeroDivisionError"):
            await store.append([record("a")])
        monkeypatch.undo()
        with pytest.raises(SpoolFull):
            await store.append([record("b")])


async def test_a_directory_that_is_not_there_for_a_while_is_a_state_that_heals(path: Path) -> None:
    aside = path.parent.with_name("aside")
    async with opened(path) as store:
        path.parent.rename(aside)
        with pytest.raises(SpoolUnavailable):
            await store.append([record("a")])
        aside.rename(path.parent)
        assert len(await store.append([record("b")])) == 1


async def test_a_state_directory_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "50% #1?" / "spool.db"
    async with opened(path) as store:
        await store.append([record("a")])
    async with opened(path) as store:
        assert names(await store.load()) == ["a"]


def test_a_record_as_it_is_counted() -> None:
    assert replace(record("a"), attempts=3).size == RECORD_BYTES + 4
