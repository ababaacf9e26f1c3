"""What a session delivers, taken and kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import TransportDown
from gateway.model.message import Delivery
from gateway.transport import Session

WAIT_S = 120.0
QUIET_S = 0.3
"""How long nothing more must come before it counts as withheld."""


class Taker:
    """Takes what a session delivers, as the pump does: one loop over ``deliveries``."""

    def __init__(self, session: Session) -> None:
        self.got: list[Delivery] = []
        self.down: TransportDown | None = None
        self._session = session
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until the connection is lost."""
        try:
            async for delivery in self._session.deliveries():
                self.got.append(delivery)
                self._news.set()
        except TransportDown as down:
            self.down = down
        self._news.set()

    @property
    def bodies(self) -> list[bytes]:
        """What came so far."""
        return [delivery.message.body for delivery in self.got]

    async def until(self, count: int) -> None:
        """Until so many have come."""
        async with asyncio.timeout(WAIT_S):
            while len(self.got) < count:
                assert self.down is None, f"{self.down} after {len(self.got)} of {count}"
                self._news.clear()
                await self._news.wait()

    async def stays_at(self, count: int) -> None:
        """So many come, and no more."""
        await self.until(count)
        await asyncio.sleep(QUIET_S)
        assert len(self.got) == count


@asynccontextmanager
async def taking(session: Session) -> AsyncIterator[Taker]:
    taker = Taker(session)
    task = asyncio.create_task(taker.run())
    try:
        yield taker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
