"""RabbitMQ as the other side of the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel

from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector
from gateway.model.address import Address, amqp_queue
from tests.support.relay import Relay

TAKE_S = 120.0


class AmqpHarness:
    """Two queues on a real broker; the session reaches it through a relay, the harness directly."""

    redelivers = True

    def __init__(self, channel: AbstractChannel, relay: Relay, unique: str) -> None:
        self._channel = channel
        self._relay = relay
        self.connector = AmqpConnector(AmqpSettings(hosts_of([f"amqp://guest:guest@127.0.0.1:{relay.port}/"])))
        self.source: Address = amqp_queue(f"{unique}source")
        self.target: Address = amqp_queue(f"{unique}target")
        self._taken: list[bytes] = []

    async def prepare(self) -> None:
        """Make the two queues."""
        for address in (self.source, self.target):
            await self._channel.declare_queue(address.name, durable=True)

    async def offer(self, bodies: Sequence[bytes]) -> None:
        """Put messages into the source's queue."""
        for number, body in enumerate(bodies):
            message = aio_pika.Message(body, message_id=f"offered-{number}", delivery_mode=2)
            await self._channel.default_exchange.publish(message, self.source.name)

    async def taken(self, count: int) -> list[bytes]:
        """The first bodies in the target's queue."""
        queue = await self._channel.get_queue(self.target.name)
        async with asyncio.timeout(TAKE_S):
            while len(self._taken) < count:
                message = await queue.get(no_ack=True, fail=False)
                if message is None:
                    await asyncio.sleep(0.01)
                else:
                    self._taken.append(message.body)
        return self._taken[:count]

    async def cut(self) -> None:
        """Break the session's connections, not ours."""
        self._relay.cut()

    async def clean_up(self) -> None:
        """Leave nothing on the shared broker."""
        for address in (self.source, self.target):
            await self._channel.queue_delete(address.name)


@asynccontextmanager
async def amqp_harness(url: str, unique: str) -> AsyncIterator[AmqpHarness]:
    """A harness on the broker at ``url``; names begin with ``unique``."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    async with Relay(parts.hostname, parts.port) as relay, await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        harness = AmqpHarness(channel, relay, unique)
        yield harness
        await harness.clean_up()
