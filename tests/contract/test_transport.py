"""What every transport keeps, whatever is behind it (``gateway/transport.py``). One suite, the real other side each time.

A new transport joins with a harness (``harness.py``) and a line in ``HARNESSES``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import DeliveryError, TransportDown
from gateway.model.message import Delivery, Message, Outcome
from gateway.transport import Session
from tests.contract.harness import Harness
from tests.contract.harness_amqp import amqp_harness
from tests.contract.harness_memory import memory_harness
from tests.contract.harness_mqtt import mqtt_harness
from tests.contract.harness_serial import serial_harness
from tests.support.taker import Taker, taking

WAIT_S = 120.0

MANY = 600
"""More than any transport's window of unconfirmed messages."""

Make = Callable[[pytest.FixtureRequest, Path, str], AbstractAsyncContextManager[Any]]

HARNESSES: dict[str, Make] = {
    "memory": lambda request, directory, unique: memory_harness(),
    "mqtt-5": lambda request, directory, unique: mqtt_harness(request.getfixturevalue("mosquitto").url, unique, "5"),
    "mqtt-3.1.1": lambda request, directory, unique: mqtt_harness(
        request.getfixturevalue("mosquitto").url, unique, "3.1.1"
    ),
    "mqtt-rabbitmq": lambda request, directory, unique: mqtt_harness(
        request.getfixturevalue("rabbitmq_with_mqtt").mqtt_url, unique, "auto"
    ),
    "amqp": lambda request, directory, unique: amqp_harness(request.getfixturevalue("rabbitmq"), unique),
    "serial": lambda request, directory, unique: serial_harness(directory),
}


@pytest.fixture(params=HARNESSES)
async def harness(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> AsyncIterator[Harness]:
    async with HARNESSES[request.param](request, tmp_path, unique) as made:
        await made.prepare()
        yield made


def numbers(count: int, first: int = 1) -> list[bytes]:
    """Bodies that every transport takes."""
    return [b"%d" % number for number in range(first, first + count)]


def messages(bodies: Sequence[bytes]) -> list[Message]:
    return [Message(f"id-{body.decode()}", body) for body in bodies]


async def test_publish_returns_when_the_far_side_has_it(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        await session.publish(harness.target, messages([b"7"])[0])
        assert await harness.taken(1) == [b"7"]


async def test_publications_arrive_in_the_order_of_the_calls(harness: Harness) -> None:
    bodies = numbers(20)
    async with harness.connector.connect() as session, asyncio.TaskGroup() as group:
        for message in messages(bodies):
            group.create_task(session.publish(harness.target, message))
    assert await harness.taken(20) == bodies


async def test_cancelled_publications_lose_no_slot(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        for _ in range(2):
            tasks = [asyncio.create_task(session.publish(harness.target, one)) for one in messages(numbers(MANY))]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(WAIT_S):
            for message in messages(numbers(5, first=9001)):
                await publish_until_taken(session, harness, message)


async def publish_until_taken(session: Session, harness: Harness, message: Message) -> None:
    """A transport may defer while it still works off what was cancelled."""
    while True:
        try:
            return await session.publish(harness.target, message)
        except DeliveryError:
            await asyncio.sleep(0.05)


async def test_messages_are_delivered_in_order_and_settled_ones_do_not_come_again(harness: Harness) -> None:
    bodies = numbers(10)
    async with harness.connector.connect() as session, taking(session) as taker:
        await session.subscribe(harness.source, 100)
        await harness.offer(bodies)
        await taker.until(10)
        assert taker.bodies == bodies
        for delivery in taker.got:
            assert delivery.source == harness.source
            assert delivery.epoch == session.epoch
            await session.settle(delivery, Outcome.ACCEPTED)
        await until_settled(session, harness)
    async with harness.connector.connect() as session, taking(session) as taker:
        await session.subscribe(harness.source, 100)
        await harness.offer([b"99"])
        await taker.until(1)
        assert taker.bodies == [b"99"]


async def until_settled(session: Session, harness: Harness) -> None:
    """The far side has heard of what was settled: it answers something that was said behind it."""
    await asyncio.sleep(0)  # what is settled in one turn of the loop goes out at its end
    await session.unsubscribe(harness.source)


async def test_no_more_than_the_credit_is_unsettled(harness: Harness) -> None:
    async with harness.connector.connect() as session, taking(session) as taker:
        await session.subscribe(harness.source, 3)
        await harness.offer(numbers(10))
        await taker.stays_at(3)
        await session.settle(taker.got[1], Outcome.ACCEPTED)
        await taker.stays_at(4)
        for at in range(10):
            await taker.until(at + 1)
            await session.settle(taker.got[at], Outcome.ACCEPTED)
        assert taker.bodies == numbers(10)


async def test_deliveries_end_with_transport_down_when_the_line_is_cut(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        await session.subscribe(harness.source, 10)
        taker = Taker(session)
        task = asyncio.create_task(taker.run())
        await harness.cut()
        async with asyncio.timeout(WAIT_S):
            await task
        assert isinstance(taker.down, TransportDown)
        assert taker.down.reason


async def test_a_publication_under_way_at_the_cut_is_confirmed_or_fails(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        tasks = [asyncio.create_task(session.publish(harness.target, one)) for one in messages(numbers(100))]
        await asyncio.sleep(0)
        await harness.cut()
        async with asyncio.timeout(WAIT_S):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, TransportDown | DeliveryError) for result in results)
        with pytest.raises((TransportDown, DeliveryError)):
            await session.publish(harness.target, messages([b"1"])[0])


async def test_an_epoch_is_higher_than_the_one_before(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        first = session.epoch
    async with harness.connector.connect() as session:
        assert session.epoch > first


async def test_what_was_not_settled_comes_again_and_is_settled_in_its_new_epoch_only(harness: Harness) -> None:
    if not harness.redelivers:
        pytest.skip("this source can't repeat a message")
    bodies = numbers(5)
    async with harness.connector.connect() as session, taking(session) as old:
        await session.subscribe(harness.source, 100)
        await harness.offer(bodies)
        await old.until(5)
        await session.settle(old.got[0], Outcome.ACCEPTED)
        await session.settle(old.got[1], Outcome.RELEASED)
        await until_settled(session, harness)
        await harness.cut()
    async with harness.connector.connect() as session, taking(session) as taker:
        await session.subscribe(harness.source, 100)
        await taker.until(4)
        for delivery in old.got:
            await session.settle(delivery, Outcome.ACCEPTED)
        await harness.cut()
    async with harness.connector.connect() as session, taking(session) as again:
        await session.subscribe(harness.source, 100)
        await again.until(4)
        assert sorted(set(again.bodies)) == bodies[1:]
        for delivery in again.got:
            await session.settle(delivery, Outcome.ACCEPTED)


async def test_nothing_more_comes_after_unsubscribing_and_what_came_may_be_settled(harness: Harness) -> None:
    async with harness.connector.connect() as session, taking(session) as taker:
        await session.subscribe(harness.source, 100)
        await harness.offer(numbers(3))
        await taker.until(3)
        await session.unsubscribe(harness.source)
        await harness.offer([b"50"])
        await taker.stays_at(3)
        for delivery in taker.got:
            await session.settle(delivery, Outcome.ACCEPTED)
        await session.unsubscribe(harness.source)


async def test_what_comes_as_more_comes_once_and_in_order(harness: Harness) -> None:
    bodies, got = numbers(10), list[Delivery]()
    async with harness.connector.connect() as session:
        await session.subscribe(harness.source, 100)
        await harness.offer(bodies)
        async with asyncio.timeout(WAIT_S):
            async for delivery in session.deliveries():
                got += [delivery, *session.more()]  # type: ignore[attr-defined]
                if len(got) >= len(bodies):
                    break
        assert [delivery.message.body for delivery in got] == bodies
        assert not session.more()  # type: ignore[attr-defined]
        for delivery in got:
            await session.settle(delivery, Outcome.ACCEPTED)


async def test_leaving_ends_everything(harness: Harness) -> None:
    async with harness.connector.connect() as session:
        await session.subscribe(harness.source, 10)
    with pytest.raises(TransportDown):
        await anext(aiter(session.deliveries()))
    with pytest.raises((TransportDown, DeliveryError)):
        await session.publish(harness.target, messages([b"1"])[0])
