"""The broker in memory as the other side of the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.model.address import Address
from gateway.model.message import Message

TAKE_S = 120.0


class MemoryHarness:
    """Two queues in memory."""

    redelivers = True

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.connector = MemoryConnector(self.broker)
        self.source = Address("memory", "source")
        self.target = Address("memory", "target")

    async def prepare(self) -> None:
        """Nothing: queues are there when they are named."""

    async def offer(self, bodies: Sequence[bytes]) -> None:
        """Put messages into the source's queue."""
        for number, body in enumerate(bodies):
            self.broker.offer(self.source.name, Message(f"offered-{number}", body))

    async def taken(self, count: int) -> list[bytes]:
        """The first bodies in the target's queue."""
        async with asyncio.timeout(TAKE_S):
            while len(self.broker.waiting(self.target.name)) < count:  # noqa: ASYNC110 (seen from outside, which tells nobody)
                await asyncio.sleep(0.01)
        return [message.body for message in self.broker.waiting(self.target.name)[:count]]

    async def cut(self) -> None:
        """Break the session."""
        self.broker.cut()


@asynccontextmanager
async def memory_harness() -> AsyncIterator[MemoryHarness]:
    """A harness on a broker of its own."""
    yield MemoryHarness()
