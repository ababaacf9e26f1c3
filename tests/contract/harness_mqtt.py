"""An MQTT broker as the other side of the contract suite: Mosquitto by MQTT 5 and by 3.1.1, RabbitMQ's plugin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.model.address import Address, mqtt
from gateway.mqtt.transport import MqttConnector, MqttSettings
from tests.support.relay import Relay

TAKE_S = 120.0


class MqttHarness:
    """Two topics on a real broker; the session reaches it through a relay, the harness directly."""

    redelivers = True

    def __init__(self, client: paho.Client, relay: Relay, unique: str, version: Literal["auto", "5", "3.1.1"]) -> None:
        self._client = client
        self._relay = relay
        self.connector = MqttConnector(
            MqttSettings("127.0.0.1", relay.port, client_id=f"{unique}gateway", instance=unique, version=version)
        )
        self.source: Address = mqtt(f"{unique}/source")
        self.target: Address = mqtt(f"{unique}/target")
        self._taken: list[bytes] = []

    async def prepare(self) -> None:
        """Subscribe to the target."""
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._taken.append(bytes(message.payload))
        self._client.subscribe(self.target.name, qos=1)
        assert await asyncio.to_thread(subscribed.wait, TAKE_S)

    async def offer(self, bodies: Sequence[bytes]) -> None:
        """Publish to the source."""
        sent = [self._client.publish(self.source.name, body, qos=1) for body in bodies]
        for info in sent:
            await asyncio.to_thread(info.wait_for_publish, TAKE_S)

    async def taken(self, count: int) -> list[bytes]:
        """The first bodies that came to the target."""
        async with asyncio.timeout(TAKE_S):
            while len(self._taken) < count:  # noqa: ASYNC110 (seen from outside, which tells nobody)
                await asyncio.sleep(0.01)
        return self._taken[:count]

    async def cut(self) -> None:
        """Break the session's connections, not ours."""
        self._relay.cut()


@asynccontextmanager
async def mqtt_harness(url: str, unique: str, version: Literal["auto", "5", "3.1.1"]) -> AsyncIterator[MqttHarness]:
    """A harness on the broker at ``url``; topics begin with ``unique``."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(parts.hostname, parts.port)
    client.loop_start()
    try:
        async with Relay(parts.hostname, parts.port) as relay:
            yield MqttHarness(client, relay, unique, version)
    finally:
        client.disconnect()
        client.loop_stop()
