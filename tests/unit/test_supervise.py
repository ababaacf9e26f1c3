"""The loop around a connection: what ends it, and what does not."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.errors import ConnectionLost, EndedOnPurpose
from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.supervise import Backoff, ConnectionReport, keep_connected, to_the_end
from gateway.transport import Session


async def lost_while_ending() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionLost("memory", "the broker ended too")


async def lost() -> None:
    raise ConnectionLost("memory", "the broker ended")


async def test_a_connection_that_is_lost_in_a_group_of_tasks_is_made_again() -> None:
    again = asyncio.Event()
    report = ConnectionReport("memory")

    async def serve(session: Session) -> None:
        if report.connects > 1:
            again.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(lost())

    connector = MemoryConnector(MemoryBroker())
    keeping = asyncio.create_task(keep_connected(connector, serve, Backoff(0.01, lambda: 0.0), report))
    async with asyncio.timeout(120):
        await again.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_an_end_that_meets_a_lost_connection_is_still_the_end() -> None:
    served = asyncio.Event()

    async def serve(session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lost_while_ending())
            await asyncio.sleep(0)
            served.set()

    connector = MemoryConnector(MemoryBroker())
    keeping = asyncio.create_task(keep_connected(connector, serve, Backoff(), ConnectionReport("memory")))
    await served.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(120):
            await keeping


async def test_a_library_that_cancels_itself_is_a_lost_connection() -> None:
    again = asyncio.Event()
    report = ConnectionReport("memory")

    async def serve(session: Session) -> None:
        if report.connects > 1:
            again.set()
        raise asyncio.CancelledError

    connector = MemoryConnector(MemoryBroker())
    keeping = asyncio.create_task(keep_connected(connector, serve, Backoff(0.01, lambda: 0.0), report))
    async with asyncio.timeout(120):
        await again.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_an_end_that_we_wanted_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.supervise")
    again = asyncio.Event()
    report = ConnectionReport("memory")

    async def serve(session: Session) -> None:
        if report.connects > 1:
            again.set()
            await asyncio.Event().wait()
        raise EndedOnPurpose("memory", "baud was changed")

    connector = MemoryConnector(MemoryBroker())
    keeping = asyncio.create_task(keep_connected(connector, serve, Backoff(), report))
    async with asyncio.timeout(120):
        await again.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "memory: connected"),
        ("INFO", "memory: baud was changed; connecting again"),
        ("INFO", "memory: connected"),
    ]


async def test_what_must_not_end_half_way_goes_on_to_its_end_however_often_it_is_given_up() -> None:
    half_way, on, done = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal done
        half_way.set()
        await on.wait()
        done = True

    waiting = asyncio.create_task(to_the_end(work(), "work"))
    await half_way.wait()
    for _ in range(3):
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
    on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done


async def test_what_goes_to_its_end_gives_its_result_or_its_problem() -> None:
    async def seven() -> int:
        return 7

    assert await to_the_end(seven(), "seven") == 7
    with pytest.raises(ConnectionLost):
        await to_the_end(lost(), "lost")
