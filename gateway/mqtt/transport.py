"""MQTT as a transport: two connections to one broker, one to publish and one to consume, and the session over both.

They are two, so that a session with too much on its hands can stop reading without holding up its own confirmations.
The consuming one is a persistent session of the broker: what is not acknowledged comes again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count

from gateway.errors import AccessRefused, ConnectFailed, ConnectionLost, DeliveryError, TransportDown, TwinConnected
from gateway.model.address import Address, mqtt
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from gateway.mqtt.catchup_marker import CatchupMarker
from gateway.mqtt.client import FAILED_FROM, NAME, Handlers, MqttConnection, VersionRefused
from gateway.mqtt.connect import connected, tls_context
from gateway.mqtt.core.inbound import MqttInbound, subscription_id
from gateway.mqtt.core.outbound import MqttOutbound, PublishLimits
from gateway.mqtt.core.packets import IncomingPublish, encode_puback
from gateway.mqtt.core.settings import MqttSettings, settings_of
from gateway.mqtt.core.topics import filter_problem
from gateway.transport import Done

__all__ = ["MqttConnector", "MqttSession", "MqttSettings", "settings_of"]

log = logging.getLogger(__name__)

CANARY_S = 10.0
CANARY_AGAIN_S = 1.0
UNCLAIMED_S = 15.0
"""How long messages that the broker kept for us wait for somebody to subscribe to their topic again."""

UNCLAIMED_LONGEST_S = 150.0
"""The same where somebody may still come: everybody who is alive has announced himself by then."""

TWIN_WITHIN_S = 5.0
TWIN_AFTER = 3
"""Closed so soon after coming up, so often in a row, means a twin: MQTT 3.1.1 can't say it, Mosquitto 2.0 does not."""

PUBLISHING_SUFFIX = "-out"


class MqttSession:
    """One epoch of both connections. ``submit`` and ``settle_soon`` are the ways without a task a message."""

    def __init__(
        self,
        epoch: int,
        settings: MqttSettings,
        judge: Callable[[TransportDown], TransportDown],
        may_still_come: Callable[[], bool],
    ) -> None:
        self._epoch = epoch
        self._settings = settings
        self._judge = judge
        self._may_still_come = may_still_come
        self._loop = asyncio.get_running_loop()
        self._down: TransportDown | None = None
        self._news: asyncio.Future[None] | None = None
        self._give_up: asyncio.TimerHandle | None = None
        self._canary_back = asyncio.Event()
        self._not_taken: dict[Address, str] = {}
        self._outgoing: MqttConnection | None = None
        self._consuming: MqttConnection | None = None
        prefix, numbers = secrets.token_hex(12), count(1)
        self._intake = MqttInbound(
            epoch, settings.instance, lambda: f"{prefix}-{next(numbers):x}", lambda: int(time.time() * 1000)
        )
        self._outbox = MqttOutbound(lambda packet: None)
        self.out_handlers = Handlers(
            lambda incoming: None, self._outbox.acknowledged, self._lost, lambda: None, self._outbox.confirmed
        )
        self.in_handlers = Handlers(self._intake.arrived, lambda mid, code: None, self._lost, self._look)
        self._canary_topic = f"gateway/{settings.instance}/canary/{_level(settings.client_id)}.1"
        topic = self._canary_topic.encode()
        self._intake.ours = frozenset((topic, topic.replace(b".", b"/")))
        self._mark = CatchupMarker(
            self._canary_topic, settings.instance, self._intake, self.in_handlers, self._outbox.submit
        )

    # -- what a session is -----------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The number of this connection."""
        return self._epoch

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Nothing: an MQTT topic is there when it is used."""

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Nothing, for the same reason."""
        return ()

    async def subscribe(self, source: Address, credit: int) -> None:
        """Take messages from a topic or a filter at QoS 1. A refusal is logged and shown; the other sources go on."""
        problem = filter_problem(source.name)
        if not problem:
            self._intake.subscribe(source, credit)
            self._look()
            code = await self._incoming.subscribe(source.name, 1, subscription_id(source.name))
            problem = "" if code < FAILED_FROM else f"the broker refuses the subscription (reason code 0x{code:02x})"
        if problem and self._not_taken.get(source) != problem:
            log.error("mqtt: can't subscribe to %s: %s; trying again", source.name, problem)
        elif not problem and source in self._not_taken:
            log.info("mqtt: the broker allows the subscription to %s now", source.name)
        self._not_taken.pop(source, None)
        if problem:
            self._not_taken[source] = problem

    @property
    def not_taken(self) -> Mapping[Address, str]:
        """Topics that were asked for and are not given, and why."""
        return self._not_taken

    async def unsubscribe(self, source: Address) -> None:
        """Take no more, and have the broker keep no more for us."""
        self._not_taken.pop(source, None)
        self._intake.unsubscribe(source)
        self._look()
        await self._incoming.unsubscribe(source.name)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives. Of those that were not handed out when the connection is lost, nobody hears."""
        ready = self._intake.ready
        while True:
            while ready and self._down is None:
                yield ready.popleft()
            self._check()
            self._news = self._loop.create_future()
            await self._news

    def more(self) -> Sequence[Delivery]:
        """What else has arrived."""
        return self._intake.take()

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Acknowledge (or not) to the broker. One of an older epoch is ignored."""
        self.settle_soon(delivery, outcome)

    def settle_soon(self, delivery: Delivery, outcome: Outcome) -> None:
        """As ``settle``."""
        self._intake.settle(delivery, outcome)
        self._look()

    async def publish(self, target: Address, message: Message) -> None:
        """Send at QoS 1, and return when the broker has confirmed."""
        confirmed: asyncio.Future[DeliveryError | TransportDown | None] = self._loop.create_future()

        def done(problem: DeliveryError | TransportDown | None) -> None:
            if not confirmed.done():
                confirmed.set_result(problem)

        entry = self._outbox.submit(target, message, done)
        try:
            problem = await confirmed
        except asyncio.CancelledError:
            entry.abandoned = True
            raise
        if isinstance(problem, TransportDown):
            self._check()
        if problem is not None:
            raise problem

    def submit(self, target: Address, message: Message, done: Done) -> None:
        """As ``publish``; ``done`` hears of the end."""
        self._outbox.submit(target, message, done)

    # -- coming up -------------------------------------------------------------------------------------------------

    def use(self, outgoing: MqttConnection, incoming: MqttConnection) -> None:
        """These are the connections; what the broker allows on them is known now."""
        self._outgoing, self._consuming = outgoing, incoming
        self._outbox.write = outgoing.write
        granted = outgoing.granted
        self._outbox.limits = PublishLimits(
            window=max(1, min(self._settings.window, granted.receive_maximum)),
            max_packet_bytes=granted.maximum_packet_size,
            retain=granted.retain_available,
            properties=outgoing.five,
        )
        self._give_up_later(self._loop.time() + UNCLAIMED_LONGEST_S)
        self._look()
        self._check()

    async def send_canary(self) -> None:
        """Publish to ourselves, and return when it has come back; ``ConnectFailed`` if it does not.

        The topic has a dot, to learn whether this broker keeps dots: RabbitMQ's plugin makes slashes of them.
        """
        topic = self._canary_topic
        code = await self._incoming.subscribe(topic, 0, 0)
        if code >= FAILED_FROM:
            raise AccessRefused(NAME, f"{self._settings.place} does not let us subscribe to {topic}; allow gateway/#")
        token = secrets.token_hex(8).encode()
        self.in_handlers.published = self._until_canary(topic.encode(), token)
        try:
            async with asyncio.timeout(CANARY_S):
                back = False
                while not back:
                    await self.publish(mqtt(topic), Message(token.decode(), token, origin=self._settings.instance))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CANARY_AGAIN_S):
                            back = await self._canary_back.wait()
        except TimeoutError:
            place = self._settings.place
            raise ConnectFailed(
                NAME, f"{place} does not give back what is published on {topic}; does it allow gateway/#?"
            ) from None
        except DeliveryError as exc:
            raise AccessRefused(NAME, f"{self._settings.place}: {topic}: {exc.reason}; allow gateway/#") from None
        self._check()
        self.in_handlers.published = self._intake.arrived
        self._incoming.forget(topic)
        await self._mark.put(self._incoming)

    def _until_canary(self, topic: bytes, token: bytes) -> Callable[[IncomingPublish], None]:
        without_dots = topic.replace(b".", b"/")

        def arrived(incoming: IncomingPublish) -> None:
            if incoming.topic in (topic, without_dots):
                if incoming.payload == token:
                    self._intake.dots_are_slashes = incoming.topic == without_dots
                    self._canary_back.set()
                if incoming.mid:  # a copy for a wider filter of ours
                    self._intake.acks.append(incoming.mid)
                return
            self._intake.arrived(incoming)

        return arrived

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _incoming(self) -> MqttConnection:
        self._check()
        assert self._consuming is not None
        return self._consuming

    def _look(self) -> None:
        """Do what the intake wants done."""
        intake, connection = self._intake, self._consuming
        if connection is None or self._down is not None:
            return
        if intake.acks:
            for mid in intake.acks:
                connection.write(encode_puback(mid))
            intake.acks.clear()
        if intake.ready and self._news is not None and not self._news.done():
            self._news.set_result(None)
        if intake.crowded:
            connection.pause()
            self._canary_back.set()  # so much came that way: it works, and is not read on until somebody subscribes
        elif intake.has_room:
            connection.resume()
        while intake.strangers:
            topic = intake.strangers.pop()
            log.info("mqtt: no edge wants %s any more; what the broker had kept of it is dropped", topic)
            connection.forget(topic)

    def _give_up_later(self, latest: float) -> None:
        self._give_up = self._loop.call_later(UNCLAIMED_S, self._give_up_unclaimed, latest)

    def _give_up_unclaimed(self, latest: float) -> None:
        if self._intake.unclaimed and self._may_still_come() and self._loop.time() < latest:
            self._give_up_later(latest)
            return
        self._intake.give_up_unclaimed()
        self._look()

    def _check(self) -> None:
        if self._down is not None:
            raise type(self._down)(self._down.transport, self._down.reason)

    # -- going down ------------------------------------------------------------------------------------------------

    def _lost(self, down: TransportDown) -> None:
        """Either connection is gone: so is the session."""
        if self._down is None:
            judged = self._judge(down)
            self.end(judged)
            for connection in (self._outgoing, self._consuming):
                if connection is not None:
                    connection.fail(judged)  # who waits for an answer on the other one hears of it

    def end(self, down: TransportDown) -> None:
        """Nothing more comes or goes, for this reason."""
        if self._down is not None:
            return
        self._down = down
        if self._give_up is not None:
            self._give_up.cancel()
        self._mark.end()
        self._canary_back.set()
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._outbox.lost(down)


def _level(text: str) -> str:
    """A text as one level of a topic."""
    return "".join("_" if character in "/+#" else character for character in text)


class MqttConnector:
    """How to reach one broker. ``ConfigError`` if a TLS file is wrong.

    ``may_still_come`` says whether somebody may want to subscribe who has not yet: while it is so, what the broker kept
    for a topic that nobody subscribed to is not given up so soon.
    """

    name = NAME

    def __init__(self, settings: MqttSettings, may_still_come: Callable[[], bool] = lambda: False) -> None:
        self._settings = settings
        self._may_still_come = may_still_come
        self._context = tls_context(settings)
        self._epoch = 0
        self._spoke_five = False
        self._short_lives = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttSession]:
        """A session whose canary has come back, or ``TransportDown``."""
        self._epoch += 1
        started = time.monotonic()

        def judge(down: TransportDown) -> TransportDown:
            """Why the session ended; most brokers leave us to guess that a twin took it over."""
            soon = time.monotonic() - started < TWIN_WITHIN_S
            self._short_lives = self._short_lives + 1 if soon and type(down) is ConnectionLost else 0
            if self._short_lives < TWIN_AFTER:
                return down
            return TwinConnected(
                NAME,
                f"closed again and again right after coming up: probably another client has the client id "
                f"{self._settings.client_id} too; give one of them another mqtt.client_id",
            )

        session = MqttSession(self._epoch, self._settings, judge, self._may_still_come)
        async with AsyncExitStack() as stack:
            # The consuming one first: it is the one that a broker takes from an older twin with an explanation, and a
            # twin that only loses its publishing connection would not learn why.
            incoming = await self._open_incoming(stack, session)
            outgoing = await self._open(
                stack,
                "5" if incoming.five else "3.1.1",
                self._settings.client_id + PUBLISHING_SUFFIX,
                session.out_handlers,
                clean=True,
                will=self._settings.will(self._epoch) if self._settings.will is not None else None,
            )
            session.use(outgoing, incoming)
            try:
                await session.send_canary()
                started = time.monotonic()
                yield session
            finally:
                session.end(ConnectionLost(NAME, "the session is closed"))

    async def _open_incoming(self, stack: AsyncExitStack, session: MqttSession) -> MqttConnection:
        """The consuming connection, by the newest version that the broker speaks."""
        wanted = self._settings.version
        client_id, handlers = self._settings.client_id, session.in_handlers
        try:
            connection = await self._open(stack, "5" if wanted == "auto" else wanted, client_id, handlers, clean=False)
        except VersionRefused as exc:
            # A broker that only closes the connection may be one that is just ending: believed only of one that
            # never spoke 5 to us. RabbitMQ's MQTT plugin before 3.13 says nothing.
            if wanted != "auto" or not (exc.said or not self._spoke_five):
                raise
            return await self._open(stack, "3.1.1", client_id, handlers, clean=False)
        self._spoke_five = self._spoke_five or connection.five
        return connection

    async def _open(
        self,
        stack: AsyncExitStack,
        version: str,
        client_id: str,
        handlers: Handlers,
        *,
        clean: bool,
        will: tuple[str, bytes] | None = None,
    ) -> MqttConnection:
        return await stack.enter_async_context(
            connected(self._settings, self._context, version, client_id, handlers, clean=clean, will=will)
        )
