"""What a board's ports sent and nobody has settled yet. A board is never made to wait: what there is no room for is dropped.

Each subscribed port hands out up to its credit unsettled; what comes beyond that waits here, and when this is full the
oldest goes (or the newest does not come in, where an edge asks for that), and is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.model.address import Address
from gateway.model.message import Delivery, Message
from gateway.serial_link.records.board_status import BoardCounters

MOST_WAITING = 4096
"""Readings of one port that wait for credit: several seconds of a fast board, until the router spills to the disk."""


@dataclass(slots=True)
class _Source:
    credit: int
    keeps_oldest: bool = False
    unsettled: set[int] = field(default_factory=set)
    waiting: deque[Message] = field(default_factory=deque)


class ReceiveQueue:
    """The queue between a session's callbacks and whoever takes its deliveries."""

    def __init__(self, epoch: int, counters: BoardCounters, most_waiting: int = MOST_WAITING) -> None:
        self._epoch = epoch
        self._most_waiting = most_waiting
        self._sources: dict[Address, _Source] = {}
        self._ready: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._tag = 0
        self._problem: Exception | None = None
        self._counters = counters

    def subscribe(self, address: Address, credit: int, *, keeps_oldest: bool) -> None:
        """Take what this port sends."""
        source = self._sources.get(address)
        if source is None:
            self._sources[address] = _Source(max(1, credit), keeps_oldest)
        else:
            source.credit, source.keeps_oldest = max(1, credit), keeps_oldest
            self._hand_out(address, source)

    def unsubscribe(self, address: Address) -> None:
        """Take no more; what was handed out may still be settled."""
        source = self._sources.pop(address, None)
        if source is not None:
            self._ready = deque(delivery for delivery in self._ready if delivery.source != address)

    def add(self, address: Address, message: Message) -> bool:
        """A reading. False if its port is not subscribed to."""
        source = self._sources.get(address)
        if source is None:
            return False
        if not source.waiting and len(source.unsettled) < source.credit:
            tag = self._tag = self._tag + 1  # as ``_give``
            source.unsettled.add(tag)
            if not self._ready:
                self._news.set()
            self._ready.append(Delivery(message, address, self._epoch, tag))
        elif len(source.waiting) < self._most_waiting:
            source.waiting.append(message)
        else:
            self._counters.readings_dropped += 1
            if not source.keeps_oldest:
                source.waiting.popleft()
                source.waiting.append(message)
        return True

    def settle(self, delivery: Delivery) -> None:
        """This one is done."""
        source = self._sources.get(delivery.source)
        if source is not None and delivery.epoch == self._epoch:
            source.unsettled.discard(delivery.tag)
            if source.waiting:
                self._hand_out(delivery.source, source)

    def fail(self, problem: Exception) -> None:
        """No more will come; ``take`` raises this when nothing is left. What waited goes out now, beyond all credit."""
        self._problem = self._problem or problem
        for address, source in self._sources.items():
            source.credit += len(source.waiting)
            self._hand_out(address, source)
        self._news.set()

    async def take(self) -> Delivery:
        """The next delivery; raises what ``fail`` was told."""
        while not self._ready:
            if self._problem is not None:
                raise self._problem
            self._news.clear()
            await self._news.wait()
        return self._ready.popleft()

    def more(self) -> Sequence[Delivery]:
        """All that ``take`` would give at once."""
        taken = tuple(self._ready)
        self._ready.clear()
        return taken

    def _hand_out(self, address: Address, source: _Source) -> None:
        while source.waiting and len(source.unsettled) < source.credit:
            self._give(address, source, source.waiting.popleft())

    def _give(self, address: Address, source: _Source, message: Message) -> None:
        self._tag += 1
        source.unsettled.add(self._tag)
        if not self._ready:
            self._news.set()
        self._ready.append(Delivery(message, address, self._epoch, self._tag))
