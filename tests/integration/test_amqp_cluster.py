"""A RabbitMQ cluster of three nodes that loses its leaders under load: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import aio_pika
import pytest

from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.errors import DeliveryDeferred, TransportDown
from gateway.model.address import amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding
from gateway.model.message import Message, Outcome
from gateway.supervise import Backoff, ConnectionReport, keep_connected
from tests.support.rabbitmq import RabbitMQCluster

log = logging.getLogger(__name__)

PER_SECOND = 100
WAIT_S = 120.0


@dataclass
class Bridge:
    """Publishes numbered messages through one edge and takes them back by another, over whatever hosts are up."""

    connector: AmqpConnector
    binding: Binding
    to_publish: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    confirmed: set[str] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    async def serve(self, session: AmqpSession) -> None:
        """One connection."""
        self.epochs.append(session.epoch)
        await session.declare([self.binding])
        assert self.binding.intake is not None
        await session.subscribe(self.binding.intake, 256)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(session), name="take")
            for _ in range(16):
                group.create_task(self._publish(session), name="publish")

    async def _take(self, session: AmqpSession) -> None:
        async for delivery in session.deliveries():
            self.taken.append(delivery.message.id)
            await session.settle(delivery, Outcome.ACCEPTED)

    async def _publish(self, session: AmqpSession) -> None:
        while True:
            number = await self.to_publish.get()
            try:
                await session.publish(self.binding.src, Message(f"id-{number}", b"x" * 64))
            except (TransportDown, DeliveryDeferred, asyncio.CancelledError) as exc:
                self.to_publish.put_nowait(number)
                if not isinstance(exc, DeliveryDeferred):
                    raise
                await asyncio.sleep(0.2)
            else:
                self.confirmed.add(f"id-{number}")


async def load(bridge: Bridge, stop: asyncio.Event) -> None:
    """So many messages a second, whatever happens."""
    for number in count():
        if stop.is_set():
            return
        bridge.to_publish.put_nowait(number)
        await asyncio.sleep(1 / PER_SECOND)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


async def run_under_load(cluster: RabbitMQCluster, name: str, fault: Callable[[Bridge], Awaitable[None]]) -> Bridge:
    """A bridge under load through a fault, until everything that was confirmed has come out again."""
    async with await aio_pika.connect(cluster.urls[0]) as connection:
        await (await connection.channel()).declare_exchange(f"{name}OUT", "fanout", durable=True)
    intake = amqp_queue(f"gateway.cluster.{name}e")
    settings = AmqpSettings(hosts_of(cluster.urls), instance="cluster", queue_type="quorum", connect_timeout_s=5)
    bridge = Bridge(AmqpConnector(settings), Binding("e", amqp_exchange(f"{name}OUT"), mqtt("x"), intake=intake))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(
            keep_connected(bridge.connector, bridge.serve, Backoff(2.0), ConnectionReport("amqp"))  # type: ignore[arg-type]
        )
        group.create_task(load(bridge, stop))
        await until(lambda: len(bridge.taken) > PER_SECOND)
        await fault(bridge)
        before = len(bridge.taken)
        await until(lambda: len(bridge.taken) > before + PER_SECOND)
        stop.set()
        await until(lambda: bridge.to_publish.empty() and bridge.confirmed <= set(bridge.taken))
        serving.cancel()
    return bridge


@pytest.mark.slow
async def test_three_leaders_killed_under_load_lose_nothing(rabbitmq_cluster: RabbitMQCluster, unique: str) -> None:
    cluster = rabbitmq_cluster

    async def kill_leaders(bridge: Bridge) -> None:
        assert bridge.binding.intake is not None
        for _ in range(3):
            leader = await asyncio.to_thread(cluster.leader, bridge.binding.intake.name)
            leader.kill()
            before = len(bridge.taken)
            await until(lambda: len(bridge.taken) > before + PER_SECOND)  # noqa: B023
            await asyncio.to_thread(leader.start)
            before = len(bridge.taken)
            await until(lambda: len(bridge.taken) > before + PER_SECOND)  # noqa: B023

    bridge = await run_under_load(cluster, unique, kill_leaders)
    numbers = {int(name.removeprefix("id-")) for name in bridge.taken}
    log.info("%d messages, %d taken, %d connections", len(numbers), len(bridge.taken), len(bridge.epochs))
    assert numbers == set(range(len(numbers)))
    assert len(bridge.epochs) > 1


@pytest.mark.slow
async def test_a_rolling_restart_loses_nothing(rabbitmq_cluster: RabbitMQCluster, unique: str) -> None:
    cluster = rabbitmq_cluster

    async def roll(bridge: Bridge) -> None:
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.start)
            before = len(bridge.taken)
            await until(lambda: len(bridge.taken) > before + PER_SECOND)  # noqa: B023

    bridge = await run_under_load(cluster, unique, roll)
    numbers = {int(name.removeprefix("id-")) for name in bridge.taken}
    assert numbers == set(range(len(numbers)))
