"""Dead letters at rest: what is known of them, and the share of the spool that they may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import SpoolFull
from gateway.model.message import Message
from gateway.spool import database
from gateway.spool.core.record import RECORD_BYTES, SpoolRecord
from gateway.spool.sqlite import SqliteStore, read_records

SIZE = 1_000
"""Bytes of every record, as it is counted."""


def record(name: str, binding: str = "edge", *, dead: bool = False, size: int = SIZE) -> SpoolRecord:
    return SpoolRecord(
        binding, Message(name, b"x" * (size - RECORD_BYTES)), dead=dead, last_error="poison" if dead else ""
    )


@asynccontextmanager
async def opened(path: Path, *, most: int = 20, dead: int = 0) -> AsyncIterator[SqliteStore]:
    """A spool that takes so many records, and so many dead letters among them."""
    store = SqliteStore(path, max_bytes=most * SIZE, max_dead_bytes=dead * SIZE, disk_reserve_bytes=0)
    try:
        yield store
    finally:
        await store.close()


def names(records: list[SpoolRecord]) -> list[str]:
    return [one.message.id for one in records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


async def test_what_was_tried_is_known_after_a_restart(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a"), record("b")])
        store.tried(1, 3, "busy")
        store.bury(2, "poison", 5)
    found = [(one.attempts, one.last_error, one.dead) for one in read_records(path)]
    assert found == [(3, "busy", False), (5, "poison", True)]


async def test_what_was_tried_of_a_record_that_is_gone_or_dead_changes_nothing(path: Path) -> None:
    async with opened(path) as store:
        await store.append([record("a"), record("b", dead=True)])
        store.forget([1])
        store.tried(1, 2, "late")
        store.tried(2, 2, "late")
    assert [(one.message.id, one.last_error) for one in read_records(path)] == [("b", "poison")]


async def test_dead_letters_never_take_the_room_of_what_waits(path: Path) -> None:
    async with opened(path, most=20, dead=5) as store:
        for number in range(30):
            await store.append([record(f"dead-{number}", dead=True)])
        assert await store.append([record(f"alive-{number}") for number in range(15)])
        with pytest.raises(SpoolFull):
            await store.append([record("one too many")])


async def test_the_newest_dead_letters_stay_and_the_oldest_are_counted(path: Path) -> None:
    async with opened(path, dead=3) as store:
        for number in range(7):
            await store.append([record(str(number), "ab"[number % 2], dead=True)])
        assert names(await store.load()) == ["4", "5", "6"]
        usage = store.usage()
        assert (usage.dead, usage.dead_bytes, usage.dead_dropped) == (3, 3 * SIZE, {"a": 2, "b": 2})


async def test_a_record_that_dies_where_it_lies_counts_as_any_other(path: Path) -> None:
    async with opened(path, dead=2) as store:
        seqs = await store.append([record(str(number)) for number in range(5)])
        for seq in seqs[:4]:
            store.bury(seq, "poison")
        assert names(await store.load()) == ["2", "3", "4"]
        assert (store.usage().records, store.usage().dead, store.usage().bytes) == (1, 2, 3 * SIZE)


async def test_without_a_word_about_it_dead_letters_have_a_quarter(path: Path) -> None:
    async with opened(path, most=20) as store:
        for number in range(9):
            await store.append([record(str(number), dead=True)])
        assert store.usage().dead == 5


async def test_a_dead_letter_that_comes_finds_room_in_a_full_spool_where_another_one_goes(path: Path) -> None:
    async with opened(path, most=4, dead=1) as store:
        await store.append([record("old", dead=True), *(record(str(number)) for number in range(3))])
        await store.append([record("new", dead=True)])
        assert names(await store.load()) == ["0", "1", "2", "new"]


async def test_a_single_one_that_is_larger_than_the_share_stays_until_the_next_comes(path: Path) -> None:
    async with opened(path, dead=2) as store:
        await store.append([record("small", dead=True)])
        await store.append([record("huge", dead=True, size=5 * SIZE)])
        assert names(await store.load()) == ["huge"]
        await store.append([record("next", dead=True)])
        assert names(await store.load()) == ["next"]


async def test_many_that_come_at_once_keep_to_the_share_too(path: Path) -> None:
    async with opened(path, dead=2) as store:
        await store.append([record(str(number), dead=True) for number in range(6)])
        assert names(await store.load()) == ["4", "5"]


async def test_dead_letters_of_before_are_brought_down_to_a_smaller_share(path: Path) -> None:
    async with opened(path, dead=6) as store:
        await store.append([record(str(number), dead=True) for number in range(6)])
    async with opened(path, dead=2) as store:
        await store.append([record("alive")])
        assert names(await store.load()) == ["4", "5", "alive"]
        assert store.usage().dead_dropped == {"edge": 4}


async def test_that_they_are_dropped_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with opened(path, dead=1) as store:
            for number in range(9):
                await store.append([record(str(number), dead=True)])
    told = [one.getMessage() for one in caplog.records if "max_dead_bytes" in one.getMessage()]
    assert len(told) == 1
    assert "gateway spool list --dead" in told[0]


async def test_one_that_is_requeued_is_dead_no_more_and_leaves_the_share(path: Path) -> None:
    async with opened(path, dead=2) as store:
        await store.append([record(str(number), dead=True) for number in range(2)])
        await store.requeue([1])
        assert (store.usage().dead_bytes, store.usage().records) == (SIZE, 1)
        await store.append([record("new", dead=True)])
        assert store.usage().dead_dropped == {}


async def test_a_look_is_bounded_in_bytes_and_goes_on_where_it_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "FETCH_BYTES", 3 * SIZE)
    async with opened(path) as store:
        await store.append([record(str(number)) for number in range(9)])
        some = await store.look(limit=500)
        assert names(some) == ["0", "1", "2", "3"]
        assert names(await store.look(after=some[-1].seq, limit=500)) == ["4", "5", "6", "7"]
        assert len(await store.load()) == 9
    assert len(await asyncio.to_thread(read_records, path, limit=500)) == 4
