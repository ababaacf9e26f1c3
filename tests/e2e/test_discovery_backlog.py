"""Announcements that a broker kept until the gateway came: their senders may be long gone."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import paho.mqtt.publish

from tests.support.clients import discovery
from tests.support.gateway import WAIT_S, Gateway, gateway_with, until
from tests.support.loopthread import LoopThread
from tests.support.mosquitto import Mosquitto

CONFIG = """\
[gateway]
instance = "{name}"
[amqp]
url = "{amqp}"
discover = "on"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""


async def announce(url: str, role: str, **properties: Any) -> None:
    """Once; its inport's queue is there."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("fbp", durable=True)
        await channel.declare_queue(f"{role}.IN", durable=True)
        message = aio_pika.Message(discovery(role, {"in": f"{role}.IN"}, {}), **properties)
        await channel.default_exchange.publish(message, "fbp")


async def listeners(url: str) -> int:
    """How many take announcements."""
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).declare_queue("fbp", durable=True)
        return queue.declaration_result.consumer_count or 0


async def take(url: str, queue: str, there: threading.Event) -> None:
    """Be there: take from an inport's queue, until cancelled."""
    async with await aio_pika.connect(url) as connection:
        found = await (await connection.channel()).get_queue(queue)
        async with found.iterator() as messages:
            there.set()
            async for _ in messages:
                pass


async def received(url: str, queue: str) -> bytes:
    """One message of a queue, which is deleted then."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        found = await channel.get_queue(queue)
        async with asyncio.timeout(WAIT_S), found.iterator(no_ack=True) as messages:
            body = (await anext(messages)).body
        await channel.queue_delete(queue)
        return body


def hears(gateway: Gateway, broker: Mosquitto, role: str) -> bool:
    """Whether somebody is known who announces himself again and again: the connection is up before it has subscribed."""
    body = discovery(role, {}, {})
    paho.mqtt.publish.single("fbp", body, qos=1, hostname="127.0.0.1", port=broker.port)
    return role in states(gateway)


def states(gateway: Gateway) -> dict[str, str]:
    return {one["role"]: one["state"] for one in gateway.json("participants")["participants"]["known"]}


def test_who_announced_itself_before_the_gateway_came_gets_data_only_when_it_is_heard_again(
    rabbitmq: str, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    ghost, young = f"{name}ghost", f"{name}young"
    graph = tmp_path / "graph.json"
    processes = {role: {"component": "Elsewhere"} for role in (ghost, young)}
    data = [{"data": 5, "tgt": {"process": role, "port": "in"}} for role in processes]
    graph.write_text(json.dumps({"processes": processes, "connections": data}))
    until("the gateway of another test takes no announcements any more", lambda: not asyncio.run(listeners(rabbitmq)))
    asyncio.run(announce(rabbitmq, ghost))
    asyncio.run(announce(rabbitmq, young, timestamp=datetime.now(UTC) + timedelta(seconds=45)))  # slow machines
    with gateway_with(tmp_path / "gateway", CONFIG.format(name=name, amqp=rabbitmq, graph=graph)) as gateway:
        gateway.start()
        gateway.wait_up("amqp")
        until("both are known", lambda: states(gateway).keys() >= {ghost, young})
        assert (states(gateway)[ghost], states(gateway)[young]) == ("unconfirmed", "alive")
        assert asyncio.run(received(rabbitmq, f"{young}.IN")) == b"5"
        assert f"data -> {ghost}.in" in gateway.status()["waiting"]
        asyncio.run(announce(rabbitmq, ghost))
        assert asyncio.run(received(rabbitmq, f"{ghost}.IN")) == b"5"
        until("it is alive", lambda: states(gateway)[ghost] == "alive")


def test_who_announced_itself_before_the_gateway_came_and_takes_from_its_inport_is_there(
    rabbitmq: str, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    worker = f"{name}worker"
    graph = tmp_path / "graph.fbp"
    graph.write_text("")
    until("the gateway of another test takes no announcements any more", lambda: not asyncio.run(listeners(rabbitmq)))
    asyncio.run(announce(rabbitmq, worker))
    loop = LoopThread()
    there = threading.Event()
    try:
        loop.begin(take(rabbitmq, f"{worker}.IN", there))
        assert there.wait(WAIT_S)
        with gateway_with(tmp_path / "gateway", CONFIG.format(name=name, amqp=rabbitmq, graph=graph)) as gateway:
            gateway.start()
            until("it is there", lambda: states(gateway).get(worker) == "alive")
    finally:
        loop.close()


def test_who_announced_itself_on_mqtt_while_the_gateway_was_away_is_there_when_it_is_heard_again(
    mosquitto: Mosquitto, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    ghost = f"{name}ghost"
    body = discovery(ghost, {"in": f"{ghost}/in"}, {})
    config = f'[gateway]\ninstance = "{name}"\n[mqtt]\nurl = "{mosquitto.url}"\n[http]\nlisten = ""\n'
    with gateway_with(tmp_path / "gateway", config) as gateway:
        gateway.start()
        until("it hears announcements", partial(hears, gateway, mosquitto, f"{name}other"))
        assert gateway.daemon.stop() == 0
        paho.mqtt.publish.single("fbp", body, qos=1, hostname="127.0.0.1", port=mosquitto.port)
        gateway.start()
        until("it is known", lambda: ghost in states(gateway))
        assert states(gateway)[ghost] == "unconfirmed"
        paho.mqtt.publish.single("fbp", body, qos=1, hostname="127.0.0.1", port=mosquitto.port)
        until("it is there", lambda: states(gateway)[ghost] == "alive")


def test_an_announcement_that_the_broker_retains_does_not_say_that_its_sender_is_there(
    mosquitto_own: Mosquitto, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    ghost = f"{name}ghost"
    body = discovery(ghost, {"in": f"{ghost}/in"}, {})
    config = f'[gateway]\ninstance = "{name}"\n[mqtt]\nurl = "{mosquitto_own.url}"\n[http]\nlisten = ""\n'
    paho.mqtt.publish.single("fbp", body, qos=1, retain=True, hostname="127.0.0.1", port=mosquitto_own.port)
    with gateway_with(tmp_path / "gateway", config) as gateway:
        gateway.start()
        until("it is known", lambda: ghost in states(gateway))
        assert states(gateway)[ghost] == "unconfirmed"
        paho.mqtt.publish.single("fbp", body, qos=1, retain=True, hostname="127.0.0.1", port=mosquitto_own.port)
        until("it is there", lambda: states(gateway)[ghost] == "alive")
