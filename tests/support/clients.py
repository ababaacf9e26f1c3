"""Somebody else's participants: what an MQTT device and an AMQP worker look like from outside the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from yarl import URL

from tests.support.loopthread import LoopThread

ANNOUNCE_S = 2.0
logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # a broker that is stopped on purpose is no news
CONFIRM_S = 120.0
RESENT_S = 5.0


def discovery(role: str, inports: dict[str, str], outports: dict[str, str]) -> bytes:
    """A discovery message; ports by name with their queues."""

    def ports(named: dict[str, str]) -> list[dict[str, Any]]:
        return [{"id": name, "queue": queue, "type": "any", "hidden": False} for name, queue in named.items()]

    payload = {
        "id": f"{role}-1",
        "role": role,
        "component": "Elsewhere",
        "label": "",
        "icon": "cloud",
        "inports": ports(inports),
        "outports": ports(outports),
    }
    return json.dumps({"protocol": "discovery", "command": "participant", "payload": payload}).encode()


class MqttParticipant:
    """A participant on MQTT 5, on paho's own thread: reconnects by itself, keeps what arrives on its inports.

    It has its inports from the beginning: what is published before a broker has confirmed a subscription, nobody gets.
    """

    def __init__(self, url: str, role: str, *, inports: Sequence[str] = (), outports: Sequence[str] = ()) -> None:
        parts = urlsplit(url)
        self._topics = {name: f"{role}/{name}" for name in inports}
        self._message = discovery(role, self._topics, {name: f"{role}/{name}" for name in outports})
        self.role = role
        self.received: list[tuple[str, bytes]] = []
        self.ids: list[str] = []
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{role}", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_message = self._arrived
        self._client.on_subscribe = self._granted
        self._connects = 0
        self._subscribed = threading.Event()
        self._stop = threading.Event()
        self._announcer = threading.Thread(target=self._announce)
        self._client.connect(str(parts.hostname), parts.port or 1883, clean_start=False, properties=_session())
        self._client.loop_start()
        self._announcer.start()
        if not self._subscribed.wait(CONFIRM_S):
            self.close()
            raise AssertionError(f"{role} could not subscribe")

    def _connected(self, client: paho.Client, *_: object) -> None:
        self._connects += 1
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics.values()])
        else:
            self._subscribed.set()
        client.publish("fbp", self._message)

    def _granted(self, *_: object) -> None:
        self._subscribed.set()

    def _announce(self) -> None:
        while not self._stop.wait(ANNOUNCE_S):
            self._client.publish("fbp", self._message)

    def _arrived(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        properties = dict(getattr(message.properties, "UserProperty", []))
        with self._lock:
            self.received.append((message.topic, bytes(message.payload)))
            self.ids.append(properties.get("message-id", ""))

    def on(self, inport: str) -> list[bytes]:
        """The bodies that arrived on one inport."""
        with self._lock:
            return [body for topic, body in self.received if topic == self._topics[inport]]

    def send(self, outport: str, body: bytes, message_id: str) -> None:
        """Publish with QoS 1; returns when the broker has it. Once, as long as the connection lasts."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("message-id", message_id)]
        deadline = time.monotonic() + CONFIRM_S
        while not self._sent(f"{self.role}/{outport}", body, properties, deadline):
            assert time.monotonic() < deadline, f"{self.role}.{outport}: not confirmed"

    def _sent(self, topic: str, body: bytes, properties: Properties, deadline: float) -> bool:
        """Whether the broker has confirmed it; what was published while paho connects anew, it may forget."""
        connects = self._connects
        sent = self._client.publish(topic, body, qos=1, properties=properties)
        sent.rc = paho.MQTT_ERR_SUCCESS  # not connected at the moment: it is kept, and goes when there is a connection
        forgotten_at = deadline
        while not sent.is_published() and time.monotonic() < min(deadline, forgotten_at):
            sent.wait_for_publish(0.5)
            if self._connects > connects and forgotten_at == deadline:
                forgotten_at = time.monotonic() + RESENT_S
        return sent.is_published()

    def close(self) -> None:
        """Disconnect."""
        self._stop.set()
        self._announcer.join()
        self._client.disconnect()
        self._client.loop_stop()


def _session() -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    return properties


class AmqpParticipant:
    """A participant as MsgFlo's nodejs library makes them, on a loop of its own; reconnects by itself."""

    def __init__(self, url: str, role: str, *, inports: Sequence[str] = (), outports: Sequence[str] = ()) -> None:
        self._url = url
        self.role = role
        self._queues = {name: f"{role}.{name.upper()}" for name in inports}
        self._exchanges = {name: f"{role}.{name.upper()}" for name in outports}
        self.received: list[tuple[str, str, bytes]] = []
        self._lock = threading.Lock()
        self._loop = LoopThread()
        self._ready = threading.Event()
        self._done = asyncio.Event()
        self._to_send: asyncio.Queue[tuple[str, bytes, str, Callable[[], None]]] = asyncio.Queue()
        self._living = self._loop.begin(self._live())
        if not self._ready.wait(CONFIRM_S):
            self.close()
            raise AssertionError(f"{role} could not connect")

    async def _live(self) -> None:
        while not self._done.is_set():
            # RuntimeError is what aiormq says of a channel that the broker closed a moment ago.
            with suppress(
                aio_pika.exceptions.AMQPError, ConnectionError, TimeoutError, RuntimeError, asyncio.CancelledError
            ):
                connection = aio_pika.Connection(URL(self._url))
                try:
                    await connection.connect()
                    await self._work(connection)
                finally:  # also one that never came up: the library would close it by and by, on the loop of another test
                    await connection.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), 0.3)

    async def _work(self, connection: aio_pika.abc.AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(100)
        for name in self._exchanges.values():
            await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
        for inport, name in self._queues.items():
            arguments: dict[str, Any] = {"x-dead-letter-exchange": f"dead-{name}"}
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
            await queue.bind(exchange)
            await queue.consume(self._consumer(inport))
        await channel.declare_queue("fbp", durable=True)
        closed = asyncio.Event()
        connection.close_callbacks.add(lambda *_: closed.set())
        self._ready.set()
        announced = 0.0
        while not (self._done.is_set() or closed.is_set()):
            if time.monotonic() - announced > ANNOUNCE_S:
                announced = time.monotonic()
                body = discovery(self.role, self._queues, self._exchanges)
                await channel.default_exchange.publish(aio_pika.Message(body), "fbp")
            await self._send_next(channel)

    async def _send_next(self, channel: aio_pika.abc.AbstractChannel) -> None:
        try:
            item = await asyncio.wait_for(self._to_send.get(), 0.1)
        except TimeoutError:
            return
        outport, body, message_id, done = item
        message = aio_pika.Message(
            body, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, content_type="application/json"
        )
        try:
            exchange = await channel.get_exchange(self._exchanges[outport], ensure=False)
            await exchange.publish(message, "")
        except BaseException:
            self._to_send.put_nowait(item)
            raise
        done()

    def _consumer(self, inport: str) -> Callable[[aio_pika.abc.AbstractIncomingMessage], Any]:
        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            with self._lock:
                self.received.append((inport, message.message_id or "", message.body))
            await message.ack()

        return take

    def on(self, inport: str) -> list[tuple[str, bytes]]:
        """Message id and body of what arrived on one inport."""
        with self._lock:
            return [(message_id, body) for port, message_id, body in self.received if port == inport]

    def send(self, outport: str, body: bytes, message_id: str) -> None:
        """Publish persistent and confirmed; returns when the broker has it."""
        done = threading.Event()
        self._loop.call(self._to_send.put_nowait, (outport, body, message_id, done.set))
        assert done.wait(CONFIRM_S), f"{self.role}.{outport}: not confirmed"

    def close(self) -> None:
        """Disconnect."""
        self._loop.call(self._done.set)
        try:
            self._living.result(CONFIRM_S)
        finally:
            self._loop.close()
