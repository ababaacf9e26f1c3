"""An edge that is gone from the graph: its queue on RabbitMQ is unbound, emptied into its target, and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.abc import DeliveredMessage

from gateway.amqp.core.settings import hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSettings
from gateway.errors import TransportDown
from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.model.address import Address, amqp_exchange, amqp_queue
from gateway.model.binding import Binding
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import Pump
from gateway.spool.sqlite import SqliteStore
from gateway.transport import Connector

LIMIT_S = 120.0
PROBE = b"probe"


@asynccontextmanager
async def pumping(path: Path, *connectors: Connector) -> AsyncIterator[Pump]:
    store = SqliteStore(path / "spool.db", max_bytes=1 << 30, disk_reserve_bytes=0)
    pump = Pump(store)

    async def keep(connector: Connector) -> None:
        while True:
            try:
                async with connector.connect() as session:
                    await pump.serve(session, connector.name)
            except* TransportDown:
                await asyncio.sleep(0.1)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(pump.run()), *(group.create_task(keep(one)) for one in connectors)]
            yield pump
            for task in tasks:
                task.cancel()
    finally:
        await store.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that only shows from outside."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


async def has_no_queue(channel: AbstractChannel, name: str) -> bool:
    try:
        await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        await channel.reopen()
        return True
    return False


async def reaches(channel: AbstractChannel, exchange: AbstractExchange, queue: str) -> bool:
    """Whether the edge is wired: what is published to the exchange is confirmed as routed to a queue."""
    return not await has_no_queue(channel, queue) and not await leads_nowhere(exchange)


async def leads_nowhere(exchange: AbstractExchange) -> bool:
    """Whether what is published to the exchange comes back, for no queue is bound to it."""
    confirmed = await exchange.publish(aio_pika.Message(PROBE), "", mandatory=True)
    return isinstance(confirmed, DeliveredMessage)


async def test_what_the_queue_of_a_removed_edge_holds_still_reaches_its_target(
    tmp_path: Path, rabbitmq: str, unique: str
) -> None:
    shed = MemoryBroker("shed")
    amqp = AmqpConnector(AmqpSettings(hosts_of([rabbitmq]), instance="test"))
    queue = f"gateway.test.{unique}edge"
    binding = Binding("edge", amqp_exchange(f"{unique}out"), Address("shed", "in"), intake=amqp_queue(queue))
    async with await aio_pika.connect(rabbitmq) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(f"{unique}out", aio_pika.ExchangeType.FANOUT, durable=True)
        shed.confirming = False
        async with pumping(tmp_path, amqp, MemoryConnector(shed)) as pump:
            pump.install(RouteTable.of([binding]))
            await until(lambda: reaches(channel, exchange, queue))
            for number in range(600):
                await exchange.publish(aio_pika.Message(str(number).encode()), "")
            pump.install(RouteTable.of([]))
            await until(lambda: leads_nowhere(exchange))
            await exchange.publish(aio_pika.Message(b"too late"), "")
            shed.confirming = True
            shed.confirm()
            await until(lambda: has_no_queue(channel, queue))
    arrived = [message.body for message in shed.waiting("in") if message.body != PROBE]
    assert list(dict.fromkeys(arrived)) == [str(number).encode() for number in range(600)]
