"""Edges whose queues are streams, on a real RabbitMQ: nothing is skipped, and what was settled does not come again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aio_pika.abc import AbstractChannel

from gateway.amqp.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Outcome
from tests.integration.test_amqp_topology import exists, gone, next_of, outside, participant, send, until

__all__ = ["outside"]


@dataclass
class Place:
    """One edge whose intake may be a stream, and the gateway that takes from it: again and again, as it restarts."""

    url: str
    file: Path
    role: str

    @property
    def source(self) -> Address:
        return amqp_queue(f"gateway.test.{self.role}.out-lamp.on")

    @property
    def binding(self) -> Binding:
        return Binding("e", amqp_exchange(f"{self.role}.OUT"), mqtt("lamp/on"), intake=self.source)

    @asynccontextmanager
    async def session(self, queue_type: str = "stream") -> AsyncIterator[AmqpSession]:
        """A fresh run of the gateway: it knows what is in the file."""
        settings = AmqpSettings(
            hosts_of([self.url]), instance="test", queue_type=queue_type, streams_file=self.file, prefetch=20
        )
        async with AmqpConnector(settings).connect() as session:
            await session.declare([self.binding])
            yield session


@pytest.fixture
async def place(rabbitmq: str, outside: AbstractChannel, unique: str, tmp_path: Path) -> Place:
    role = f"{unique}cloud"
    await participant(outside, role)
    return Place(rabbitmq, tmp_path / "streams.json", role)


async def take(session: AmqpSession, source: Address, count: int, settled: Callable[[int], bool]) -> list[Delivery]:
    """So many deliveries; those whose number says so are settled."""
    await session.subscribe(source, 20)
    deliveries = session.deliveries()
    found = []
    for _ in range(count):
        found.append(await next_of(deliveries))
        if settled(int(found[-1].message.body)):
            await session.settle(found[-1], Outcome.ACCEPTED)
    return found


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.message.body) for delivery in deliveries]


async def send_all(channel: AbstractChannel, place: Place, *wanted: int) -> None:
    for number in wanted:
        await send(channel, f"{place.role}.OUT", b"%d" % number)


async def test_what_comes_while_we_are_away_is_taken_later_and_nothing_twice(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session():
        pass
    await send_all(outside, place, *range(50))
    async with place.session() as session:
        assert numbers(await take(session, place.source, 50, lambda number: True)) == list(range(50))
    await send_all(outside, place, 50, 51)
    async with place.session() as session:
        assert numbers(await take(session, place.source, 2, lambda number: True)) == [50, 51]


async def test_what_was_not_settled_comes_again_under_the_same_id_and_what_was_does_not(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(10))
        first = await take(session, place.source, 10, lambda number: number not in (3, 7))
    async with place.session() as session:
        again = await take(session, place.source, 7, lambda number: True)
    assert numbers(again) == list(range(3, 10)), "it begins with the first that was not settled"
    ids = {int(one.message.body): one.message.id for one in first}
    assert all(one.message.id == ids[int(one.message.body)] for one in again)
    assert len(set(ids.values())) == 10


async def test_a_source_that_is_left_and_taken_from_again_goes_on_where_it_was(
    place: Place,
    outside: AbstractChannel,
) -> None:
    """As an edge does that blocks while it is full; meanwhile what was under way is settled."""
    async with place.session() as session:
        await send_all(outside, place, *range(10))
        held = await take(session, place.source, 5, lambda number: False)
        await session.unsubscribe(place.source)
        for delivery in held[1:]:
            await session.settle(delivery, Outcome.ACCEPTED)
        found = await take(session, place.source, 6, lambda number: True)
        assert numbers(found) == [0, *range(5, 10)]


async def test_taking_goes_on_over_more_messages_than_the_prefetch(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(300))
        assert numbers(await take(session, place.source, 300, lambda number: True)) == list(range(300))


async def test_a_stream_that_was_deleted_and_made_anew_is_taken_from_its_beginning(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(10))
        await take(session, place.source, 10, lambda number: True)
    await outside.queue_delete(place.source.name)
    async with place.session() as session:
        await send_all(outside, place, 100, 101)
        assert numbers(await take(session, place.source, 2, lambda number: True)) == [100, 101]


async def test_how_far_a_deleted_stream_was_taken_is_struck_from_the_file_before_it_is_made_anew(
    place: Place,
    outside: AbstractChannel,
) -> None:
    """A gateway that is killed then would skip as many of the new one."""
    async with place.session() as session:
        await send_all(outside, place, *range(10))
        await take(session, place.source, 10, lambda number: True)
    assert json.loads(place.file.read_bytes())["next"] == {place.source.name: 10}
    await outside.queue_delete(place.source.name)
    async with place.session():
        assert json.loads(place.file.read_bytes())["next"] == {}


async def test_a_queue_of_another_kind_is_used_as_it_is(
    place: Place,
    outside: AbstractChannel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with place.session("classic"):
        pass
    await send_all(outside, place, *range(3))
    async with place.session() as session:
        assert numbers(await take(session, place.source, 3, lambda number: True)) == [0, 1, 2]
    assert "exists in another way" in caplog.text


async def test_a_stream_is_used_on_where_the_configuration_wants_none_any_more(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(5))
        await take(session, place.source, 5, lambda number: True)
    await send_all(outside, place, *range(5, 8))
    async with place.session("classic") as session:
        assert numbers(await take(session, place.source, 3, lambda number: True)) == [5, 6, 7]
    place.file.unlink()
    async with place.session("classic") as session:  # what it was is not known any more, but the broker tells
        assert numbers(await take(session, place.source, 8, lambda number: True)) == list(range(8))


async def test_an_edge_that_goes_takes_its_stream_with_it_but_not_while_it_is_taken_from(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(3))
        await take(session, place.source, 3, lambda number: True)
        assert await session.retire([place.binding]) == [place.binding]
        assert await exists(outside, place.source.name)
        await session.unsubscribe(place.source)
        await asyncio.sleep(0)
        await session.retire([place.binding])
        await until(lambda: gone(outside, place.source.name))


async def test_a_stream_that_nobody_ever_took_from_is_not_deleted_with_what_is_in_it(
    place: Place,
    outside: AbstractChannel,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, 1)
        assert await session.retire([place.binding]) == [place.binding]
        assert await exists(outside, place.source.name)


async def test_an_exchange_is_listened_to_also_where_the_queues_of_edges_are_streams(
    place: Place,
    outside: AbstractChannel,
) -> None:
    exchange = amqp_exchange(f"{place.role}.OUT")
    async with place.session() as session:
        await session.subscribe(exchange, 20)
        assert not session.not_taken
        await send_all(outside, place, 7)
        assert numbers([await next_of(session.deliveries())]) == [7]


async def test_a_file_that_cant_be_read_costs_duplicates_and_no_message(
    place: Place,
    outside: AbstractChannel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with place.session() as session:
        await send_all(outside, place, *range(4))
        await take(session, place.source, 4, lambda number: True)
    place.file.write_bytes(b"")
    async with place.session() as session:
        assert numbers(await take(session, place.source, 4, lambda number: True)) == [0, 1, 2, 3]
    assert "taken from their beginning" in caplog.text
