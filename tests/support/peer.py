"""The other side of participants on either broker, with client libraries alone: what goes in, what comes out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aio_pika
import paho.mqtt.client as paho
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.loopthread import LoopThread

WAIT_S = 120.0


class Heard:
    """Messages by queue, and somebody who waits for them."""

    def __init__(self) -> None:
        self._bodies: dict[str, list[bytes]] = {}
        self._news = threading.Condition()

    def add(self, queue: str, body: bytes) -> None:
        """One more."""
        with self._news:
            self._bodies.setdefault(queue, []).append(body)
            self._news.notify_all()

    def now(self, queue: str) -> list[bytes]:
        """What came so far."""
        with self._news:
            return list(self._bodies.get(queue, ()))

    def wait(self, queue: str, count: int) -> list[bytes]:
        """Once there are ``count``."""
        self.wait_for(f"{count} messages on {queue}", lambda: len(self._bodies.get(queue, ())) >= count)
        return self.now(queue)

    def definition(self, role: str) -> dict[str, Any]:
        """Of a role, once it is there."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            for body in self._bodies.get("fbp", ()):
                payload = json.loads(body)["payload"]
                if payload["role"] == role:
                    found.append(payload)
            return bool(found)

        self.wait_for(f"a discovery message of {role}", there)
        return found[0]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Until it is true; fails with ``what``."""
        with self._news:
            true = self._news.wait_for(condition, WAIT_S)
            counts = {queue: len(bodies) for queue, bodies in self._bodies.items()}
            assert true, f"after {WAIT_S:.0f} s still not: {what}; messages heard: {counts}"


class MqttPeer:
    """On MQTT 3.1.1."""

    def __init__(self, url: str) -> None:
        self.heard = Heard()
        self.wait, self.definition = self.heard.wait, self.heard.definition
        parts = urlsplit(url)
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self.heard.add(message.topic, bytes(message.payload))
        self._subscribed: dict[int, threading.Event] = {}
        self._client.on_subscribe = lambda _c, _d, mid, _r, _p: self._subscribed.setdefault(
            mid, threading.Event()
        ).set()
        self._client.connect(str(parts.hostname), parts.port or 1883)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self.listen("fbp")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def listen(self, outport: str) -> None:
        """Returns once the broker has said so."""
        _, mid = self._client.subscribe(outport, 1)
        assert mid is not None
        assert self._subscribed.setdefault(mid, threading.Event()).wait(WAIT_S)

    def send(self, inport: str, body: bytes) -> None:
        """Returns once the broker has it."""
        sent = self._client.publish(inport, body, qos=1)
        sent.wait_for_publish(WAIT_S)
        assert sent.is_published(), f"{inport}: not confirmed"


class AmqpPeer:
    """On AMQP, on a loop in a thread of its own. Whoever takes discovery messages takes them from all others."""

    def __init__(self, url: str, *, takes_discovery: bool = True) -> None:
        self.heard = Heard()
        self.wait, self.definition = self.heard.wait, self.heard.definition
        self._url = url
        self._takes_discovery = takes_discovery
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Something on the loop, to its end."""
        return self._loop.do(coroutine)

    def __enter__(self) -> Self:
        self._loop = LoopThread()
        try:
            self.do(self._connect())
        except BaseException:
            self._loop.close()
            raise
        return self

    async def _connect(self) -> None:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        if self._takes_discovery:
            await self._take(await self._channel.declare_queue("fbp", durable=True), "fbp")

    async def _take(self, queue: aio_pika.abc.AbstractQueue, name: str) -> None:
        async def arrived(message: AbstractIncomingMessage) -> None:
            self.heard.add(name, message.body)

        await queue.consume(arrived, no_ack=True)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        try:
            self.do(self._connection.close())
        finally:
            self._loop.close()

    @property
    def channel(self) -> AbstractChannel:
        """For what a test does on the broker itself."""
        assert self._channel is not None
        return self._channel

    def listen(self, outport: str) -> None:
        """By a queue of our own, bound to the outport's exchange."""
        self.do(self._listen(outport))

    async def _listen(self, outport: str) -> None:
        queue = await self.channel.declare_queue(exclusive=True)
        await queue.bind(outport, "")
        await self._take(queue, outport)

    def listen_queue(self, name: str) -> None:
        """Take from a queue that exists."""
        self.do(self._listen_queue(name))

    async def _listen_queue(self, name: str) -> None:
        await self._take(await self.channel.get_queue(name), name)

    def send(self, inport: str, body: bytes) -> None:
        """Through the default exchange."""
        message = aio_pika.Message(body)
        self.do(self.channel.default_exchange.publish(message, inport, mandatory=True))


def peer_on(url: str, *, takes_discovery: bool = True) -> MqttPeer | AmqpPeer:
    """The other side on the broker of this url."""
    return MqttPeer(url) if url.startswith("mqtt") else AmqpPeer(url, takes_discovery=takes_discovery)
