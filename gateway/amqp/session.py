"""One AMQP session: two connections to one broker, for publishing and for taking."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import count

from gateway.amqp.client import Client
from gateway.amqp.connection import NAME, ChannelRefused
from gateway.amqp.consumer import Consumer
from gateway.amqp.core import topology
from gateway.amqp.core.settings import AmqpSettings
from gateway.amqp.core.unsettled import Content
from gateway.amqp.declarer import Declarer, NotThere
from gateway.amqp.inbound import AmqpInbound
from gateway.amqp.offsets_file import StreamOffsetsFile
from gateway.amqp.outbound import Publisher
from gateway.errors import ConnectFailed, ConnectionLost, DeliveryError, TransportDown
from gateway.model.address import Address, amqp_queue
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from gateway.transport import Done

log = logging.getLogger(__name__)

CANARY_S = 10.0
MEND_S = 3.0
SILENT_HEARTBEATS = 2.5
"""Heartbeats without a byte from the broker after which the connection is given up."""


class AmqpSession:
    """One connection to a broker while it lasts; see ``gateway.transport.Session``."""

    def __init__(
        self, settings: AmqpSettings, epoch: int, publishing: Client, consuming: Client, notes: StreamOffsetsFile
    ) -> None:
        self._settings = settings
        self._notes = notes
        self._epoch = epoch
        self._publishing, self._consuming = publishing, consuming
        self._declarer = Declarer(consuming, settings.queue_type, notes.places, notes.save)
        self._publisher = Publisher(publishing.wire, settings.window, settings.max_message_bytes, self._declarer)
        self._loop = asyncio.get_running_loop()
        self._to_drop: set[str] = set()
        self._waiting, self._to_mend = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._mending: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._problem: TransportDown | None = None
        self._shown_blocked = ""
        self._ids = (f"{secrets.token_hex(8)}-{number}" for number in count(1))
        self._taking = AmqpInbound(
            consuming, settings, epoch, self._ids, self._source_lost, notes.places, self._declarer
        )
        self._canary: asyncio.Future[None] | None = None

    @property
    def epoch(self) -> int:
        """The number of this connection."""
        return self._epoch

    @property
    def blocked(self) -> str:
        """Why the broker takes no messages at the moment (``low on memory``); empty while it does."""
        return self._publishing.wire.blocked

    @property
    def waiting(self) -> dict[str, str]:
        """Edges that are not wired yet because something on the broker is missing, and what."""
        return self._declarer.waiting

    @property
    def not_taken(self) -> Mapping[Address, str]:
        """Queues that were asked for and can't be taken from, and why; tried again."""
        return self._taking.not_taken

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Send a canary through broker and both connections, and believe in them when it is back."""
        for client in (self._publishing, self._consuming):
            client.wire.lost.add_done_callback(self._lost)
        self._publishing.wire.on_flow = self._flow
        self._publisher.on_waiting = self._waiting.set
        self._tasks = [  # no TaskGroup: it would wrap the errors of whoever uses the session
            asyncio.create_task(self._keep(self._waiting, self._publisher.prepare), name="amqp:prepare"),
            asyncio.create_task(self._keep(self._to_mend, self._mend), name="amqp:mend"),
            asyncio.create_task(self._notes.keep(), name="amqp:streams"),
        ]
        self._watch()
        queue = f"gateway.{self._settings.instance}.canary.{secrets.token_hex(6)}"
        await self._consuming.declare_passing_queue(queue)
        self._canary = self._loop.create_future()
        canary = amqp_queue(queue)
        consumer = self._taking.consumer(canary, queue, self._canary_back)
        await consumer.take(1)
        self._publisher.submit(canary, Message(next(self._ids), b"canary"), lambda problem: None)
        try:
            async with asyncio.timeout(CANARY_S):
                await self._canary
        except TimeoutError as exc:
            raise ConnectFailed(NAME, f"a test message did not come back within {CANARY_S:.0f} s") from exc
        self._canary = None
        await self._taking.dismiss(consumer)

    def _canary_back(self, consumer: Consumer, content: Content) -> None:
        if self._canary is not None and not self._canary.done():
            self._canary.set_result(None)
        consumer.settle(content.tag, Outcome.ACCEPTED)

    async def end(self) -> None:
        """The connections are about to be closed: what is settled goes out, nothing is mended any more."""
        self._taking.flush()
        self._give_up(ConnectionLost(NAME, "the session has ended"))
        for timer in (self._mending, self._watching):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._notes.save()

    def _lost(self, lost: asyncio.Future[TransportDown]) -> None:
        self._give_up(lost.result())

    def _give_up(self, problem: TransportDown) -> None:
        """Tell everybody who waits for something, once."""
        if self._problem is None:
            self._problem = problem
            if self._canary is not None and not self._canary.done():
                self._canary.set_exception(problem)
            self._publisher.end(problem)
            self._taking.news.set()

    async def _keep(self, wanted: asyncio.Event, errand: Callable[[], Awaitable[None]]) -> None:
        """Run an errand whenever it is wanted."""
        try:
            while True:
                await wanted.wait()
                wanted.clear()
                await errand()
        except TransportDown as down:
            self._give_up(down)
        except Exception as exc:  # a bug of ours: this session ends, the gateway goes on
            log.exception("amqp: an unexpected error")
            self._give_up(ConnectionLost(NAME, f"a bug: {exc!r}"))

    def _flow(self) -> None:
        """The broker or the socket takes messages again, or doesn't."""
        blocked = self.blocked
        if blocked and not self._shown_blocked:
            log.warning("amqp: the broker takes no messages at the moment (%s); they wait", blocked)
            if self._canary is not None and not self._canary.done():
                self._canary.set_result(None)  # it answers, and taking from it may be just what it needs
        elif self._shown_blocked and not blocked:
            log.info("amqp: the broker takes messages again")
        self._shown_blocked = blocked
        self._publisher.flush()

    def _watch(self) -> None:
        """aio-pika would notice a silent broker after more than three heartbeats."""
        limit_s = self._settings.heartbeat_s * SILENT_HEARTBEATS
        for client in (self._publishing, self._consuming):
            if self._loop.time() - client.wire.heard_at > limit_s:
                client.wire.fail(f"nothing heard of the broker for {limit_s:.0f} s")
        self._watching = self._loop.call_later(self._settings.heartbeat_s / 2, self._watch)

    # -- edges ---------------------------------------------------------------------------------------------------------

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Make what these bindings need. What waits for somebody else's queue or exchange is tried again."""
        self._check()
        self._to_drop.difference_update(binding.intake.name for binding in bindings if binding.intake is not None)
        self._taking.share_among(len({binding.source for binding in bindings if binding.source.transport == NAME}))
        await self._declarer.declare(bindings)
        if self._declarer.waiting:
            self._mend_later()
        if self._taking.missing:
            self._mend_now()

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Unbind what these bindings had, and delete their own queues.

        A queue is deleted only when it is empty, nobody takes from it and nothing of it is unsettled: unsubscribe
        first. One that isn't is looked at again every few seconds while this session lasts, and stays on the broker,
        unbound, if the session ends before.
        """
        self._check()
        kept = set(await self._declarer.retire(bindings, self._taking.unsettled))
        self._to_drop |= kept
        if self._to_drop:
            self._mend_later()
        return [binding for binding in bindings if binding.intake is not None and binding.intake.name in kept]

    async def declare_discovery(self) -> None:
        """The queue ``fbp``, as every MsgFlo participant asserts it: durable, without arguments."""
        self._check()
        await self._declarer.steps((topology.EnsureQueue(topology.DISCOVERY_QUEUE),))

    async def declare_export(self, inports: Iterable[str], outports: Iterable[str]) -> None:
        """What a board needs to be a participant here, by the queue names of its ports."""
        self._check()
        try:
            await self._declarer.steps(topology.export_steps(inports, outports))
        except (NotThere, ChannelRefused) as exc:
            log.warning("amqp: the ports of a board can't be declared: %s", exc)

    async def consumer_count(self, queue: str) -> int:
        """How many take from a queue, this session included; 0 if there is no such queue."""
        return (await self.queue_counts(queue))[0]

    async def queue_counts(self, queue: str) -> tuple[int, int]:
        """How many take from a queue, this session included, and how many messages wait in it; 0 if there is none."""
        self._check()
        state = await self._consuming.queue_state(queue)
        return (state.consumers, state.messages) if state is not None else (0, 0)

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    # -- taking --------------------------------------------------------------------------------------------------------

    async def subscribe(self, source: Address, credit: int) -> None:
        """Take from a queue, or from an exchange by a queue that lasts as long as this session."""
        self._check()
        await self._taking.subscribe(source, credit)

    async def unsubscribe(self, source: Address) -> None:
        """Take no more; what nobody has seen yet goes back to the queue at once."""
        await self._taking.unsubscribe(source, alive=self._problem is None)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives, from all sources."""
        taking = self._taking
        while True:
            self._check()
            while taking.inbox:
                yield taking.inbox.popleft()
                self._check()
            taking.news.clear()
            await taking.news.wait()

    def more(self) -> Sequence[Delivery]:
        """What else has arrived."""
        return self._taking.seen()

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Acknowledge, or give back."""
        self._taking.settle(delivery, outcome)

    def settle_soon(self, delivery: Delivery, outcome: Outcome) -> None:
        """The same, without waiting. Of one turn of the loop, all goes out together."""
        self._taking.settle(delivery, outcome)

    async def refuse(self, delivery: Delivery) -> None:
        """A participant's nack: the broker itself takes it to the dead letters of its queue. Then as ``settle``."""
        self._taking.refuse(delivery)

    # -- mending -------------------------------------------------------------------------------------------------------

    def _source_lost(self, now: bool) -> None:
        if now:
            self._mend_now()
        else:
            self._mend_later()

    def _mend_now(self) -> None:
        self._mending = None
        self._to_mend.set()

    def _mend_later(self) -> None:
        if self._mending is None:
            self._mending = self._loop.call_later(MEND_S, self._mend_now)

    async def _mend(self) -> None:
        """Take again from what was lost, wire what waited, delete what has run empty."""
        for source in self._taking.missing:
            await self._declarer.again(source.name)
            await self._taking.take(source)
        for queue in tuple(self._to_drop):
            if await self._declarer.drop(queue, self._taking.unsettled(queue)):
                self._to_drop.discard(queue)
        if await self._declarer.retry() or self._to_drop:
            self._mend_later()

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, target: Address, message: Message) -> None:
        """Persistent and confirmed; to a queue mandatory as well. While the broker takes nothing it waits."""
        self._check()
        told: asyncio.Future[DeliveryError | TransportDown | None] = self._loop.create_future()

        def done(problem: DeliveryError | TransportDown | None) -> None:
            if not told.done():
                told.set_result(problem)

        entry = self._publisher.submit(target, message, done)
        try:
            problem = await told
        except asyncio.CancelledError:
            entry.done = None
            raise
        if problem is not None:
            raise problem

    def submit(self, target: Address, message: Message, done: Done) -> None:
        """The same, without waiting."""
        if self._problem is not None:
            done(self._problem)
        else:
            self._publisher.submit(target, message, done)
