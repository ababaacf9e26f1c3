"""The cloud is away while messages come in: all arrive afterwards, in order, and other edges don't notice."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import Sender, send_until_there

CONFIG = """\
[gateway]
instance = "outage"
[mqtt]
url = "{mqtt}"
version = "5"
[amqp]
url = "{amqp}"
discover = "off"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""

GRAPH = """\
meter(Elsewhere) VALUE -> ARCHIVE cloud(Elsewhere)
meter OTHER -> ORDER lamp(Elsewhere)
"""

BURST_S = 600.0


def participants() -> list[Participant]:
    """Who is known from before: discovery is not what is tried here."""

    def ports(direction: Direction, queues: dict[str, str]) -> tuple[PortDef, ...]:
        return tuple(PortDef(name, direction, queue=queue) for name, queue in queues.items())

    meter = ports(Direction.OUT, {"value": "meter/value", "other": "meter/other"})
    return [
        Participant("meter-1", "meter", "Elsewhere", "mqtt", outports=meter),
        Participant("lamp-1", "lamp", "Elsewhere", "mqtt", ports(Direction.IN, {"order": "lamp/order"})),
        Participant("cloud-1", "cloud", "Elsewhere", "amqp", ports(Direction.IN, {"archive": "cloud.ARCHIVE"})),
    ]


def pending(gateway: Gateway) -> int:
    """Messages that wait for the cloud."""
    edges = gateway.status()["edges"]
    return int(next(edge["pending"] for edge in edges if edge["id"] == "meter.value->cloud.archive"))


@pytest.mark.parametrize("messages", [5_000, pytest.param(72_000, marks=pytest.mark.slow)])
def test_an_outage_of_the_cloud_costs_no_message_and_no_order(
    mosquitto_own: Mosquitto, restartable_rabbitmq: PrivateRabbitMQ, tmp_path: Path, messages: int
) -> None:
    graph = tmp_path / "graph.fbp"
    graph.write_text(GRAPH)
    config = CONFIG.format(mqtt=mosquitto_own.url, amqp=restartable_rabbitmq.url, graph=graph)
    cloud = AmqpParticipant(restartable_rabbitmq.url, "cloud", inports=("archive",))
    meter = MqttParticipant(mosquitto_own.url, "meter", outports=("value", "other"))
    lamp = MqttParticipant(mosquitto_own.url, "lamp", inports=("order",))
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            save_participants(gateway.state / "participants.json", participants())
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            send_until_there(meter, "value", b"0", "first", lambda: bool(cloud.on("archive")))
            restartable_rabbitmq.stop()
            until("the gateway noticed", lambda: not gateway.link_is_up("amqp"))
            flood(mosquitto_own, messages)
            until("all of them wait", lambda: pending(gateway) >= messages, BURST_S)
            other = Sender(meter, "other", every_s=0.02)
            restartable_rabbitmq.start()
            until("all of them are there", lambda: len({body for _, body in cloud.on("archive")}) > messages, BURST_S)
            orders = other.stop()
            until("the other edge went on", partial(has_all, lamp, orders))
            bodies = [int(body) for _, body in cloud.on("archive")]
            assert list(dict.fromkeys(bodies)) == list(range(messages + 1))
            until("the books are closed", lambda: pending(gateway) == 0)
            until("nothing is left on disk", lambda: gateway.status()["spool"]["records"] == 0)
    finally:
        for participant in (cloud, meter, lamp):
            participant.close()


PIECE = 2_000
"""Lines for one call of ``mosquitto_pub -l``: of many more it leaves some out when its input ends."""


def flood(broker: Mosquitto, messages: int) -> None:
    """Numbers from 1, as fast as Mosquitto's own tool publishes them; without ids, as most devices do."""
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", "meter/value", "-l"]
    for start in range(1, messages + 1, PIECE):
        lines = "".join(f"{number}\n" for number in range(start, min(start + PIECE, messages + 1)))
        subprocess.run(command, input=lines, text=True, check=True, timeout=BURST_S)


def has_all(lamp: MqttParticipant, orders: set[str]) -> bool:
    """Whether every message of the other edge arrived."""
    return orders <= set(lamp.ids)


def test_messages_wait_for_the_local_broker_too(
    mosquitto_own: Mosquitto, restartable_rabbitmq: PrivateRabbitMQ, tmp_path: Path
) -> None:
    graph = tmp_path / "graph.fbp"
    graph.write_text("cloud(Elsewhere) ORDER -> ORDER lamp(Elsewhere)\n")
    config = CONFIG.format(mqtt=mosquitto_own.url, amqp=restartable_rabbitmq.url, graph=graph)
    cloud = AmqpParticipant(restartable_rabbitmq.url, "cloud", inports=("archive",), outports=("order",))
    lamp = MqttParticipant(mosquitto_own.url, "lamp", inports=("order",))
    order = (PortDef("order", Direction.OUT, queue="cloud.ORDER"),)
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            known = [participants()[1], Participant("cloud-1", "cloud", "Elsewhere", "amqp", outports=order)]
            save_participants(gateway.state / "participants.json", known)
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            send_until_there(cloud, "order", b"0", "cloud-order-000000", lambda: bool(lamp.ids))
            mosquitto_own.stop()
            sent = Sender(cloud, "order", every_s=0, most=2_000)
            until("all are accepted", lambda: sent.done, BURST_S)
            until("the gateway noticed", lambda: not gateway.link_is_up("mqtt"))
            mosquitto_own.start()
            until("every order is there", lambda: sent.ids <= set(lamp.ids), BURST_S)
            assert sorted(set(lamp.ids)) == list(dict.fromkeys(lamp.ids)), "in order"
    finally:
        cloud.close()
        lamp.close()
