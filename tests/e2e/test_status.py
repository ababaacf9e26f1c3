"""``gateway status`` tells what holds messages up, by link and by edge."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import aio_pika

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.clients import MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import send_until_there

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
discover = "off"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""


def known(gateway: Gateway, name: str) -> None:
    """A meter on MQTT and a cloud on AMQP from before."""

    def port(direction: Direction, queue: str) -> tuple[PortDef, ...]:
        return (PortDef("value", direction, queue=queue),)

    meter = Participant("m", f"{name}-meter", "Elsewhere", "mqtt", outports=port(Direction.OUT, f"{name}/value"))
    cloud = Participant(
        "c", f"{name}-cloud", "Elsewhere", "amqp", port(Direction.IN, f"{name}.IN"), port(Direction.OUT, f"{name}.OUT")
    )
    lamp = Participant("l", f"{name}-lamp", "Elsewhere", "mqtt", port(Direction.IN, f"{name}/lamp"))
    save_participants(gateway.state / "participants.json", [meter, cloud, lamp])


def test_a_broker_that_takes_nothing_and_an_edge_that_waits_for_an_exchange_are_shown_with_the_reason(
    mosquitto: Mosquitto, rabbitmq_node: PrivateRabbitMQ, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    graph = tmp_path / "graph.fbp"
    graph.write_text(
        f"{name}-meter(Elsewhere) VALUE -> VALUE {name}-cloud(Elsewhere) VALUE -> VALUE {name}-lamp(Elsewhere)\n"
    )
    config = CONFIG.format(name=name, mqtt=mosquitto.url, amqp=rabbitmq_node.url, graph=graph)
    edge = f"{name}-cloud.value->{name}-lamp.value"
    meter = MqttParticipant(mosquitto.url, name, outports=("value",))
    with gateway_with(tmp_path / "gateway", config) as gateway:
        try:
            known(gateway, name)
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            until("the missing exchange is named", lambda: name in gateway.status()["waiting"].get(edge, ""))
            assert f"waiting: {edge}: exchange {name}.OUT is not there yet" in gateway.good("status")
            asyncio.run(declare(rabbitmq_node.url, name))
            until("the edge is wired", lambda: not gateway.status()["waiting"])

            send_until_there(meter, "value", b"1", "before", lambda: delivered(gateway, f"{name}-meter.value") > 0)
            until("nothing is under way", partial(pending, gateway, 0))
            rabbitmq_node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
            meter.send("value", b"2", "while")
            until("it is shown as blocked", lambda: blocked(gateway) == "low on memory")
            assert "takes no messages: low on memory" in gateway.good("status")
            until("a message waits", partial(pending, gateway, 1))
        finally:
            meter.close()
            rabbitmq_node.ctl("set_vm_memory_high_watermark", "0.4")
        until("it takes messages again", lambda: blocked(gateway) == "")
        until("nothing waits any more", partial(pending, gateway, 0))
        until("nothing is left on disk", lambda: not gateway.status()["spool"]["records"])


async def declare(url: str, name: str) -> None:
    """What the cloud would declare itself."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{name}.IN", durable=True)
        await channel.declare_exchange(f"{name}.OUT", aio_pika.ExchangeType.FANOUT, durable=True)


def blocked(gateway: Gateway) -> str:
    """Why the AMQP broker takes nothing."""
    return next(str(link["blocked"]) for link in gateway.status()["links"] if link["name"] == "amqp")


def delivered(gateway: Gateway, outport: str) -> int:
    """How many messages of an outport have reached their target."""
    return sum(int(edge["delivered"]) for edge in gateway.status()["edges"] if edge["label"].startswith(outport))


def pending(gateway: Gateway, count: int) -> bool:
    """Whether so many messages wait in all."""
    return sum(int(edge["pending"]) for edge in gateway.status()["edges"]) == count
