"""A broker in memory under the contract of every transport: for tests, and whoever wants to see the rules at work.

Queues are made by being named. What is not settled when a session ends goes back to the head of its queue.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.errors import ConnectFailed, ConnectionLost, DeliveryDeferred, DeliveryError, TransportDown
from gateway.model.address import Address
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from gateway.transport import Done

NAME = "memory"


@dataclass(slots=True)
class _Queue:
    waiting: deque[tuple[Message, bool]] = field(default_factory=deque)
    """Messages, and whether each was delivered before."""


@dataclass(slots=True)
class _Subscription:
    source: Address
    credit: int
    unsettled: int = 0
    active: bool = True


class MemoryBroker:
    """The far side. ``confirming`` False keeps confirmations back until it is True again and ``confirm`` is called."""

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.reachable = True
        self.confirming = True
        self.dead: dict[str, list[Message]] = defaultdict(list)
        self._queues: dict[str, _Queue] = defaultdict(_Queue)
        self._sessions: list[MemorySession] = []
        self._unconfirmed: deque[tuple[Address, Message, Done]] = deque()

    def offer(self, queue: str, message: Message) -> None:
        """Somebody publishes to a queue."""
        self._queues[queue].waiting.append((message, False))
        for session in tuple(self._sessions):
            session.look()

    def waiting(self, queue: str) -> list[Message]:
        """What lies in a queue and is with nobody."""
        return [message for message, _ in self._queues[queue].waiting]

    def unsettled(self, queue: str) -> int:
        """Messages of a queue that were delivered and are not settled."""
        return sum(session.unsettled(queue) for session in self._sessions)

    def cut(self) -> None:
        """Break every session."""
        for session in tuple(self._sessions):
            session.end(ConnectionLost(self.name, "the broker closed the connection"))

    def confirm(self) -> None:
        """Take what was published while confirmations were kept back."""
        while self._unconfirmed:
            target, message, done = self._unconfirmed.popleft()
            self.offer(target.name, message)
            done(None)

    def submit(self, target: Address, message: Message, done: Done) -> None:
        """A session publishes."""
        self._unconfirmed.append((target, message, done))
        if self.confirming:
            self.confirm()

    def join(self, session: MemorySession) -> None:
        """A session begins."""
        self._sessions.append(session)

    def leave(self, session: MemorySession, returned: list[tuple[str, Message]]) -> None:
        """A session ended; these go back to the heads of their queues, in their order. What it published is forgotten."""
        if session in self._sessions:
            self._sessions.remove(session)
        for queue, message in reversed(returned):
            self.give_back(queue, message)
        self._unconfirmed.clear()

    def give_back(self, queue: str, message: Message) -> None:
        """A message goes back to the head of its queue."""
        self._queues[queue].waiting.appendleft((message, True))

    def take(self, queue: str) -> tuple[Message, bool] | None:
        """The next message of a queue, and whether it was delivered before."""
        waiting = self._queues[queue].waiting
        return waiting.popleft() if waiting else None


class MemorySession:
    """One connection to the broker in memory."""

    def __init__(self, broker: MemoryBroker, epoch: int) -> None:
        self._broker = broker
        self._epoch = epoch
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[Address, _Subscription] = {}
        self._open: dict[int, tuple[_Subscription, Message]] = {}
        self._ready: deque[Delivery] = deque()
        self._pending: set[asyncio.Future[DeliveryError | TransportDown | None]] = set()
        self._news = asyncio.Event()
        self._tag = 0
        self._down: TransportDown | None = None

    @property
    def epoch(self) -> int:
        """The number of this connection."""
        return self._epoch

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Nothing: a queue is there when it is named."""

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Nothing, for the same reason."""
        return ()

    async def subscribe(self, source: Address, credit: int) -> None:
        """Take messages from a queue."""
        self._check()
        self._subscriptions[source] = _Subscription(source, credit)
        self.look()

    async def unsubscribe(self, source: Address) -> None:
        """Take no more. What was not handed out yet goes back."""
        gone = self._subscriptions.pop(source, None)
        if gone is None:
            return
        kept = [delivery for delivery in self._ready if delivery.source != source]
        back = [delivery for delivery in self._ready if delivery.source == source]
        self._ready = deque(kept)
        for delivery in reversed(back):
            del self._open[delivery.tag]
            self._broker.give_back(source.name, delivery.message)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives, until the connection is lost."""
        while True:
            while self._ready and self._down is None:
                yield self._ready.popleft()
            self._check()
            self._news.clear()
            await self._news.wait()

    def more(self) -> Sequence[Delivery]:
        """What else has arrived."""
        taken = tuple(self._ready)
        self._ready.clear()
        return taken

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Accepted: gone. Released: back to the head. Rejected: to the dead letters."""
        self.settle_soon(delivery, outcome)

    def settle_soon(self, delivery: Delivery, outcome: Outcome) -> None:
        """The same, without waiting."""
        if delivery.epoch != self._epoch or delivery.tag not in self._open:
            return
        subscription, message = self._open.pop(delivery.tag)
        subscription.unsettled -= 1
        queue = delivery.source.name
        if outcome is Outcome.RELEASED:
            self._broker.give_back(queue, message)
        elif outcome is Outcome.REJECTED:
            self._broker.dead[queue].append(message)
        self.look()

    async def publish(self, target: Address, message: Message) -> None:
        """Put a message into a queue, and return when the broker has confirmed."""
        self._check()
        confirmed: asyncio.Future[DeliveryError | TransportDown | None] = self._loop.create_future()

        def done(problem: DeliveryError | TransportDown | None) -> None:
            if not confirmed.done():
                confirmed.set_result(problem)

        self._pending.add(confirmed)
        try:
            if not target.name:
                raise DeliveryDeferred(str(target), message.id, "a queue without a name")
            self._broker.submit(target, replace(message, hops=message.hops + 1), done)
            problem = await confirmed
        finally:
            self._pending.discard(confirmed)
        if problem is not None:
            raise problem

    def submit(self, target: Address, message: Message, done: Done) -> None:
        """The same, without waiting."""
        if self._down is not None:
            done(self._down)
        else:
            self._broker.submit(target, replace(message, hops=message.hops + 1), done)

    def unsettled(self, queue: str) -> int:
        """How many of a queue's messages are with this session."""
        return sum(subscription.source.name == queue for subscription, _ in self._open.values())

    def look(self) -> None:
        """Take what the credit allows."""
        if self._down is not None:
            return
        for subscription in self._subscriptions.values():
            while subscription.unsettled < subscription.credit:
                taken = self._broker.take(subscription.source.name)
                if taken is None:
                    break
                message, again = taken
                self._tag += 1
                subscription.unsettled += 1
                self._open[self._tag] = (subscription, message)
                self._ready.append(Delivery(message, subscription.source, self._epoch, self._tag, again))
        self._news.set()

    def end(self, down: TransportDown) -> None:
        """The connection is gone."""
        if self._down is not None:
            return
        self._down = down
        returned = [(subscription.source.name, message) for subscription, message in self._open.values()]
        self._open.clear()
        self._ready.clear()
        self._broker.leave(self, returned)
        for confirmed in self._pending:
            if not confirmed.done():
                confirmed.set_result(down)
        self._news.set()

    def _check(self) -> None:
        if self._down is not None:
            raise type(self._down)(self._down.transport, self._down.reason)


class MemoryConnector:
    """How to reach a broker in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._epoch = 0

    @property
    def name(self) -> str:
        """The broker's name."""
        return self._broker.name

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[MemorySession]:
        """A session, unless the broker is not ``reachable``."""
        if not self._broker.reachable:
            raise ConnectFailed(self._broker.name, "the broker is not reachable")
        self._epoch += 1
        session = MemorySession(self._broker, self._epoch)
        self._broker.join(session)
        try:
            yield session
        finally:
            session.end(ConnectionLost(self._broker.name, "the session is closed"))
