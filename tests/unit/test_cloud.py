"""Who announced himself on AMQP before the gateway came: when that is over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest

from gateway.amqp.transport import AmqpSession
from gateway.daemon.amqp_discovery import AmqpDiscovery
from gateway.model.address import Address, amqp_queue
from gateway.model.message import Delivery, Message
from gateway.routing.pump import Pump, Tap

LIMIT_S = 60.0
FBP = amqp_queue("fbp")


class House:
    """A broker's queue ``fbp``, a pump that hands out what is in it, and what the cloud side tells of it."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.taps: list[Tap] = []
        self.heard: list[bool] = []
        self.tapped, self.looked = asyncio.Event(), asyncio.Event()
        self.cloud = AmqpDiscovery(
            cast(Pump, self),
            "on",
            60.0,
            lambda body, alive: self.heard.append(alive),
            tuple,
            lambda: ("ghost.IN",),
            lambda queue, takers: self.looked.set(),
        )

    def give(self) -> None:
        for tap in self.taps:
            tap(Delivery(Message("m", b"{}"), FBP, 1, 1, False))

    async def until_looked(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.looked.wait()

    # -- as a pump --------------------------------------------------------------------------------------------------

    def tap(self, address: Address, tap: Tap) -> None:
        self.taps.append(tap)
        self.tapped.set()

    def untap(self, address: Address, tap: Tap) -> None:
        self.taps.remove(tap)

    async def serve(self, session: object, target: str) -> None:
        await asyncio.Event().wait()

    # -- as a session -----------------------------------------------------------------------------------------------

    async def declare_discovery(self) -> None:
        pass

    async def queue_counts(self, queue: str) -> tuple[int, int]:
        return 0, self.waiting

    async def consumer_count(self, queue: str) -> int:
        return 1


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.daemon.amqp_discovery.LOOK_S", 0.01)


async def served(house: House) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(house.cloud.serve(cast(AmqpSession, house)))
    async with asyncio.timeout(LIMIT_S):
        await house.tapped.wait()
    return task


async def ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_lay_in_the_queue_says_nothing_of_its_sender_and_what_comes_after_it_does() -> None:
    house = House(waiting=2)
    serving = await served(house)
    house.give()
    house.give()
    await house.until_looked()
    house.give()
    assert house.heard == [False, False, True]
    await ended(serving)


async def test_what_lay_there_and_never_comes_is_not_waited_for() -> None:
    """Others took it, or it expired."""
    house = House(waiting=3)
    serving = await served(house)
    house.give()
    house.waiting = 0
    await house.until_looked()
    house.give()
    assert house.heard == [False, True]
    await ended(serving)


async def test_while_there_is_something_left_of_it_it_is_waited_for() -> None:
    house = House(waiting=3)
    serving = await served(house)
    house.give()
    asked = asyncio.Event()

    async def queue_counts(queue: str) -> tuple[int, int]:
        if asked.is_set():
            again.set()
        asked.set()
        return 0, 2

    again = asyncio.Event()
    house.queue_counts = queue_counts  # type: ignore[method-assign]
    async with asyncio.timeout(LIMIT_S):
        await again.wait()
    assert not house.looked.is_set()
    house.give()
    assert house.heard == [False, False]
    await ended(serving)


async def test_where_nothing_lies_there_those_of_the_session_before_are_looked_for_at_once() -> None:
    house = House(waiting=0)
    serving = await served(house)
    await house.until_looked()
    await ended(serving)
