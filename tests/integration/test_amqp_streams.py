"""Edges whose queues are streams, on a real RabbitMQ: nothing is skipped, and what was settled does not come again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from tests.integration.test_amqp_topology import exists, gone, next_of, outside, participant, send, until

__all__ = ["outside"]


@dataclass
class Place:
    """One edge whose intake may be a stream, its source, and the gateway that takes from it: again and again, as it
    restarts. Messages are numbers.
    """

    url: str
    file: Path
    role: str
    outside: AbstractChannel

    @property
    def source(self) -> Address:
        return amqp_queue(f"gateway.test.{self.role}.out-lamp.on")

    @property
    def binding(self) -> Binding:
        return Binding("e", amqp_exchange(f"{self.role}.OUT"), mqtt("lamp/on"), intake=self.source)

    @asynccontextmanager
    async def run(self, queue_type: str = "stream", url: str = "") -> AsyncIterator[AmqpSession]:
        """A fresh run of the gateway: it knows what is in the file."""
        settings = AmqpSettings(
            hosts_of([url or self.url]), instance="test", queue_type=queue_type, streams_file=self.file, prefetch=20
        )
        async with AmqpConnector(settings).connect() as session:
            await session.declare([self.binding])
            yield session

    async def send(self, *numbers: int) -> None:
        for number in numbers:
            await send(self.outside, f"{self.role}.OUT", b"%d" % number)

    async def send_when_wired(self, number: int) -> None:
        """Once, as soon as there is a queue that takes it."""
        exchange = await self.outside.get_exchange(f"{self.role}.OUT")

        async def sent() -> bool:
            answer = await exchange.publish(aio_pika.Message(b"%d" % number), "", mandatory=True)
            return not isinstance(answer, DeliveredMessage)

        await until(sent)

    async def taken(self, *numbers: int, queue_type: str = "stream") -> None:
        """A run in which these are sent, taken, and all settled."""
        async with self.run(queue_type) as session:
            await self.send(*numbers)
            assert self.numbers(await self.take(session, len(numbers))) == list(numbers)

    async def take(
        self, session: AmqpSession, count: int, settled: Callable[[int], bool] = lambda number: True
    ) -> list[Delivery]:
        """So many deliveries; those whose number says so are settled."""
        await session.subscribe(self.source, 20)
        deliveries = session.deliveries()
        found = []
        for _ in range(count):
            found.append(await next_of(deliveries))
            if settled(int(found[-1].message.body)):
                await session.settle(found[-1], Outcome.ACCEPTED)
        return found

    @staticmethod
    def numbers(deliveries: list[Delivery]) -> list[int]:
        return [int(delivery.message.body) for delivery in deliveries]

    @property
    def noted(self) -> dict[str, int]:
        """What the file says."""
        return dict(json.loads(self.file.read_bytes())["next"])

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """What would be written aside, before it takes the file's place, can't be."""
        aside = self.file.with_name(f".{self.file.name}.new")
        aside.mkdir()
        try:
            yield
        finally:
            aside.rmdir()

    async def delete(self) -> None:
        """Somebody deletes the queue with all that is in it."""
        await self.outside.queue_delete(self.source.name)

    async def exists(self) -> bool:
        return await exists(self.outside, self.source.name)

    async def gone(self) -> bool:
        return await gone(self.outside, self.source.name)


@pytest.fixture
async def place(rabbitmq: str, outside: AbstractChannel, unique: str, tmp_path: Path) -> Place:
    role = f"{unique}cloud"
    await participant(outside, role)
    return Place(rabbitmq, tmp_path / "streams.json", role, outside)


async def test_what_comes_while_we_are_away_is_taken_later_and_nothing_twice(place: Place) -> None:
    async with place.run():
        pass
    await place.send(*range(50))
    async with place.run() as session:
        assert place.numbers(await place.take(session, 50)) == list(range(50))
    await place.send(50, 51)
    async with place.run() as session:
        assert place.numbers(await place.take(session, 2)) == [50, 51]


async def test_what_was_not_settled_comes_again_under_the_same_id_and_what_was_does_not(place: Place) -> None:
    async with place.run() as session:
        await place.send(*range(10))
        first = await place.take(session, 10, lambda number: number not in (3, 7))
    async with place.run() as session:
        again = await place.take(session, 7)
    assert place.numbers(again) == list(range(3, 10)), "it begins with the first that was not settled"
    ids = {int(one.message.body): one.message.id for one in first}
    assert all(one.message.id == ids[int(one.message.body)] for one in again)
    assert len(set(ids.values())) == 10


async def test_a_source_that_is_left_and_taken_from_again_goes_on_where_it_was(place: Place) -> None:
    """As an edge does that blocks while it is full; meanwhile what was under way is settled."""
    async with place.run() as session:
        await place.send(*range(10))
        held = await place.take(session, 5, lambda number: False)
        await session.unsubscribe(place.source)
        for delivery in held[1:]:
            await session.settle(delivery, Outcome.ACCEPTED)
        assert place.numbers(await place.take(session, 6)) == [0, *range(5, 10)]


async def test_taking_goes_on_over_more_messages_than_the_prefetch(place: Place) -> None:
    await place.taken(*range(300))


async def test_a_stream_that_was_deleted_and_made_anew_is_taken_from_its_beginning(place: Place) -> None:
    await place.taken(*range(10))
    await place.delete()
    await place.taken(100, 101)


async def test_messages_of_a_stream_that_was_made_anew_are_not_taken_for_those_of_the_one_before(place: Place) -> None:
    """They have no ids of their own, and a target port is given the same id once. So it is with an edge that comes back."""
    exchange = amqp_exchange(f"{place.role}.OUT")
    async with place.run() as session:
        for number in (0, 1):
            await session.publish(exchange, Message("", b"%d" % number))
        before = await place.take(session, 2)
    await place.delete()
    async with place.run() as session:
        for number in (100, 101):
            await session.publish(exchange, Message("", b"%d" % number))
        after = await place.take(session, 2, lambda number: False)
    async with place.run() as session:
        again = await place.take(session, 2)
    assert {one.message.id for one in before}.isdisjoint(one.message.id for one in after)
    assert [one.message.id for one in again] == [one.message.id for one in after]


async def test_how_far_a_deleted_stream_was_taken_is_struck_from_the_file_before_it_is_made_anew(place: Place) -> None:
    """A gateway that is killed then would skip as many of the new one."""
    await place.taken(*range(10))
    assert place.noted == {place.source.name: 10}
    await place.delete()
    async with place.run():
        assert place.noted == {}


async def test_a_deleted_stream_is_made_anew_as_a_queue_that_needs_no_file_while_that_cant_be_written(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Its old place is still in the file: every next run would skip what came before that."""
    await place.taken(*range(10))
    await place.delete()
    with place.unwritable():
        await place.taken(100, 101)
        await place.taken(102)
        assert place.noted == {place.source.name: 10}
        assert "is made anew as a classic one" in caplog.text
    await place.taken(103)
    assert place.noted == {}
    async with place.run() as session:
        await place.send(104)
        await place.take(session, 1)
        await place.delete()
        await place.send_when_wired(105)
        assert place.numbers(await place.take(session, 1)) == [105]
    assert place.noted == {place.source.name: 1}, "it is a stream again"


async def test_a_file_that_cant_be_written_stops_nothing_and_is_written_when_it_can(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.amqp.offsets_file.SAVE_S", 0.05)

    async def refused() -> bool:
        return "can't be written" in caplog.text

    async def noted() -> bool:
        return place.file.exists() and place.noted == {place.source.name: 5}

    async with place.run() as session:
        with place.unwritable():
            await place.send(*range(5))
            assert place.numbers(await place.take(session, 5)) == list(range(5))
            await until(refused)
        await until(noted)


async def test_a_queue_of_another_kind_is_used_as_it_is(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async with place.run("classic"):
        pass
    await place.taken(*range(3))
    assert "exists in another way" in caplog.text


async def test_a_stream_is_used_on_where_the_configuration_wants_none_any_more(place: Place) -> None:
    await place.taken(*range(5))
    await place.taken(*range(5, 8), queue_type="classic")
    place.file.unlink()
    async with place.run("classic") as session:  # what it was is not known any more, but the broker tells
        assert place.numbers(await place.take(session, 8)) == list(range(8))


async def test_an_edge_that_goes_takes_its_stream_with_it_but_not_while_it_is_taken_from(place: Place) -> None:
    async with place.run() as session:
        await place.send(*range(3))
        await place.take(session, 3)
        assert await session.retire([place.binding]) == [place.binding]
        assert await place.exists()
        await session.unsubscribe(place.source)
        await session.retire([place.binding])
        await until(place.gone)


async def test_a_stream_that_nobody_ever_took_from_is_not_deleted_with_what_is_in_it(place: Place) -> None:
    async with place.run() as session:
        await place.send(1)
        assert await session.retire([place.binding]) == [place.binding]
        assert await place.exists()


@pytest.mark.parametrize("before", [3, 0])
async def test_a_stream_that_the_broker_does_not_let_us_take_from_is_not_deleted_with_what_is_in_it(
    place: Place, rabbitmq_node: PrivateRabbitMQ, before: int
) -> None:
    await place.taken(*range(before))
    user = place.role

    async def ctl(*command: str) -> None:
        await asyncio.to_thread(rabbitmq_node.ctl, *command)  # it takes seconds, and the session's heart beats on

    await ctl("add_user", user, "secret")
    await ctl("set_permissions", user, ".*", ".*", rf"^(?!{place.source.name}$).*")
    try:
        async with place.run(url=place.url.replace("guest:guest@", f"{user}:secret@")) as session:
            await place.send(before)
            await session.subscribe(place.source, 20)
            assert "access" in session.not_taken[place.source]
            assert await session.retire([place.binding]) == [place.binding]
            assert await place.exists()
            await ctl("set_permissions", user, ".*", ".*", ".*")
            assert place.numbers([await next_of(session.deliveries())]) == [before]
    finally:
        await ctl("delete_user", user)


async def test_an_exchange_is_listened_to_also_where_the_queues_of_edges_are_streams(place: Place) -> None:
    exchange = amqp_exchange(f"{place.role}.OUT")
    async with place.run() as session:
        await session.subscribe(exchange, 20)
        assert not session.not_taken
        await place.send(7)
        assert place.numbers([await next_of(session.deliveries())]) == [7]


async def test_a_file_that_cant_be_read_costs_duplicates_and_no_message(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.taken(*range(4))
    place.file.write_bytes(b"")
    async with place.run() as session:
        assert place.numbers(await place.take(session, 4)) == [0, 1, 2, 3]
    assert "taken from their beginning" in caplog.text
