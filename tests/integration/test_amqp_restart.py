"""A RabbitMQ that stops, dies, starves and comes back, while a session is at work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import aio_pika
import pytest

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.errors import ConnectFailed, ConnectionLost, DeliveryDeferred, TransportDown
from gateway.model.address import amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from tests.support.wait import soon

WAIT_S = 120.0


def connector_to(broker: PrivateRabbitMQ) -> AmqpConnector:
    return AmqpConnector(AmqpSettings(hosts_of([broker.url]), instance="test"))


async def make_queue(broker: PrivateRabbitMQ, name: str) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        await (await connection.channel()).declare_queue(name, durable=True)


async def next_of(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(WAIT_S):
        return await anext(deliveries)


async def take_all(session: AmqpSession, queue: str, last: str) -> list[str]:
    """The ids in a queue, up to the one that was sent last."""
    await session.subscribe(amqp_queue(queue), 256)
    ids: list[str] = []
    deliveries = session.deliveries()
    while last not in ids:
        delivery = await next_of(deliveries)
        ids.append(delivery.message.id)
        await session.settle(delivery, Outcome.ACCEPTED)
    return ids


async def test_what_was_not_settled_at_a_restart_comes_again_in_order(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str
) -> None:
    broker = restartable_rabbitmq
    queue = amqp_queue(f"{unique}q")
    await make_queue(broker, queue.name)
    connector = connector_to(broker)
    async with connector.connect() as session:
        for number in range(10):
            await session.publish(queue, Message(f"id-{number}", b"x"))
        await session.subscribe(queue, 5)
        deliveries = session.deliveries()
        taken = [await next_of(deliveries) for _ in range(5)]
        await session.settle(taken[1], Outcome.ACCEPTED)
        assert (await next_of(deliveries)).message.id == "id-5"  # the broker has heard of it: there is credit again
        await asyncio.to_thread(broker.stop)
        with pytest.raises(ConnectionLost, match="the broker closed the connection"):
            await next_of(deliveries)
        await session.settle(taken[0], Outcome.ACCEPTED)  # of a connection that is gone: nothing happens
    with pytest.raises(ConnectFailed):
        async with connector.connect():
            pass
    await asyncio.to_thread(broker.start)
    async with connector.connect() as session:
        assert await take_all(session, queue.name, "id-9") == [f"id-{n}" for n in (0, 2, 3, 4, 5, 6, 7, 8, 9)]


async def test_what_was_confirmed_survives_a_kill_of_the_broker(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str
) -> None:
    broker = restartable_rabbitmq
    queue = amqp_queue(f"{unique}q")
    await make_queue(broker, queue.name)
    confirmed: set[str] = set()
    enough = asyncio.Event()

    async def publish(session: AmqpSession, number: int) -> None:
        with suppress(TransportDown):
            await session.publish(queue, Message(f"id-{number}", b"x" * 100))
            confirmed.add(f"id-{number}")
            if len(confirmed) > 300:
                enough.set()

    async with connector_to(broker).connect() as session, asyncio.TaskGroup() as group:
        for number in range(5000):
            group.create_task(publish(session, number))
        await enough.wait()
        broker.kill()
    await asyncio.to_thread(broker.start)
    async with connector_to(broker).connect() as session:
        await session.publish(queue, Message("last", b"x"))
        ids = await take_all(session, queue.name, "last")
    assert 300 < len(confirmed) < 5000
    assert confirmed <= set(ids)


async def test_a_starving_broker_makes_publications_wait_and_says_so_and_taking_goes_on(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker = restartable_rabbitmq
    queue = amqp_queue(f"{unique}q")
    await make_queue(broker, queue.name)
    async with connector_to(broker).connect() as session:
        await session.publish(queue, Message("before", b"x"))
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0")
        try:
            publishing = [asyncio.ensure_future(session.publish(queue, Message(f"id-{n}", b"x"))) for n in range(20)]
            await soon(lambda: bool(session.blocked), WAIT_S)
            assert not any(task.done() for task in publishing)
            await session.subscribe(queue, 10)
            deliveries = session.deliveries()
            assert (await next_of(deliveries)).message.id == "before"
            async with connector_to(broker).connect() as another:
                await soon(lambda: bool(another.blocked), WAIT_S)
                assert await another.consumer_count(queue.name) == 1
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*publishing)
        assert not session.blocked
        assert [(await next_of(deliveries)).message.id for _ in range(9)] == [f"id-{n}" for n in range(9)]
    text = caplog.text
    assert text.count("takes no messages at the moment (low on memory)") == 2  # each connection says it once
    assert "takes messages again" in text


async def test_edges_are_wired_again_on_a_broker_that_lost_everything(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str
) -> None:
    broker = restartable_rabbitmq
    out = amqp_exchange(f"{unique}OUT")
    binding = Binding("e", out, mqtt("x"), intake=amqp_queue(f"gateway.test.{unique}e"))
    target = Binding("t", mqtt("y"), amqp_queue(f"{unique}IN"))
    assert binding.intake is not None
    connector = connector_to(broker)
    async with connector.connect() as session:
        await session.declare_export([], [out.name])
        await session.declare([binding, target])
    await asyncio.to_thread(broker.ctl, "stop_app")
    await asyncio.to_thread(broker.ctl, "force_reset")
    await asyncio.to_thread(broker.ctl, "start_app")
    async with connector.connect() as session:
        await session.declare([binding, target])
        assert list(session.waiting) == ["e"]
        await session.subscribe(binding.intake, 10)
        with pytest.raises(DeliveryDeferred, match="there is no queue"):
            await session.publish(amqp_queue(f"{unique}IN"), Message("id", b"x"))
        coming = asyncio.ensure_future(next_of(session.deliveries()))
        await session.declare_export([f"{unique}IN"], [out.name])
        await session.declare([binding, target])
        assert session.waiting == {}
        await session.publish(out, Message("id", b"x"))
        assert (await coming).message.id == "id"
        await session.publish(amqp_queue(f"{unique}IN"), Message("id", b"x"))


async def test_the_rights_that_the_documentation_names_are_enough_and_less_is_said_in_one_line(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = restartable_rabbitmq
    user, worker = unique.strip("."), f"{unique}worker"
    await asyncio.to_thread(broker.ctl, "add_user", user, "secret")
    rights = (
        r"^(gateway\.test\.|dead-|fbp$)",
        rf"^(gateway\.test\.|dead-|fbp$|amq\.default$|{unique})",
        rf"^(gateway\.test\.|dead-|fbp$|{unique})",
    )
    await asyncio.to_thread(broker.ctl, "set_permissions", user, *rights)
    async with connector_to(broker).connect() as admin:
        await admin.declare_export([f"{worker}.IN"], [f"{worker}.OUT"])
    settings = AmqpSettings(hosts_of([broker.url.replace("guest:guest", f"{user}:secret")]), instance="test")
    intake = amqp_queue(f"gateway.test.{unique}e")
    edges = [
        Binding("e", amqp_exchange(f"{worker}.OUT"), mqtt("x"), intake=intake),
        Binding("i", mqtt("x"), amqp_queue(f"{worker}.IN")),
        Binding("b", amqp_exchange(f"{worker}.OUT"), amqp_queue(f"{worker}.IN")),
    ]
    async with AmqpConnector(settings).connect() as session:
        await session.declare_discovery()
        await session.declare(edges)
        assert session.waiting == {}
        await session.subscribe(intake, 10)
        await session.publish(amqp_exchange(f"{worker}.OUT"), Message("id", b"x"))
        assert (await next_of(session.deliveries())).message.body == b"x"
        await session.publish(amqp_queue(f"{worker}.IN"), Message("id", b"x"))
        with pytest.raises(DeliveryDeferred, match="ACCESS_REFUSED"):
            await session.publish(amqp_exchange("amq.fanout"), Message("id", b"x"))
        with pytest.raises(DeliveryDeferred, match="the broker refuses it: ACCESS_REFUSED"):
            await session.publish(amqp_exchange("amq.fanout"), Message("id", b"x"))
        await session.declare([*edges, Binding("f", amqp_exchange("amq.fanout"), mqtt("x"), intake=intake)])
        assert list(session.waiting) == ["f"]
        assert "ACCESS_REFUSED" in session.waiting["f"]
        await session.subscribe(amqp_queue("foreign"), 1)
        assert "can't take from amqp:foreign: " in caplog.text
