"""kill -9 of the installed gateway at random moments, messages going both ways: none is lost, few come twice."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from examples.private_rabbitmq import PrivateRabbitMQ
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import Sender, repeated, send_until_there

CONFIG = """\
[gateway]
instance = "kills"
[mqtt]
url = "{mqtt}"
version = "5"
[amqp]
url = "{amqp}"
[http]
listen = ""
[coordinator]
graph = "{graph}"
discovery_period_s = 4
[delivery.edge."meter.value->cloud.stored"]
mode = "stored"
"""

GRAPH = """\
meter(Elsewhere) VALUE -> ARCHIVE cloud(Elsewhere)
meter VALUE -> STORED cloud
cloud ORDER -> ORDER meter
"""

SEED = 20
ALL_S = 300.0
WINDOW = 512
"""Messages of one edge that are unconfirmed at most: so many may come twice for each kill."""


def survive(place: Path, mqtt: Mosquitto, amqp: PrivateRabbitMQ, kills: int) -> None:
    graph = place / "kills.fbp"
    graph.write_text(GRAPH)
    config = CONFIG.format(mqtt=mqtt.url, amqp=amqp.url, graph=graph)
    cloud = AmqpParticipant(amqp.url, "cloud", inports=("archive", "stored"), outports=("order",))
    meter = MqttParticipant(mqtt.url, "meter", inports=("order",), outports=("value",))
    try:
        with gateway_with(place / "gateway", config) as gateway:
            values, orders = kill_again_and_again(gateway, cloud, meter, kills)
            for inport in ("archive", "stored"):
                got = partial(arrived, cloud, inport)
                until(f"every value is at {inport}", lambda got=got: values <= set(got()), ALL_S)  # type: ignore[misc]
                assert repeated(got()) <= kills * WINDOW
            until("every order is at the meter", lambda: orders <= set(meter.ids), ALL_S)
            assert repeated(meter.ids) <= kills * WINDOW
            until("nothing waits", lambda: not any(edge["pending"] for edge in gateway.status()["edges"]))
            assert all(entry["balanced"] for entry in gateway.json("ledger")["ledger"])
            assert gateway.daemon.stop() == 0
    finally:
        cloud.close()
        meter.close()


def kill_again_and_again(
    gateway: Gateway, cloud: AmqpParticipant, meter: MqttParticipant, kills: int
) -> tuple[set[str], set[str]]:
    """Traffic both ways while the gateway dies; the ids of what the brokers have confirmed."""
    rng = random.Random(SEED)
    gateway.start()
    gateway.wait_up("mqtt", "amqp")
    until("the edges are wired", lambda: not gateway.status()["waiting"])
    send_until_there(meter, "value", b"0", "probe", lambda: all(cloud.on(inport) for inport in ("archive", "stored")))
    send_until_there(cloud, "order", b"0", "probe", lambda: bool(meter.ids))
    values, orders = Sender(meter, "value"), Sender(cloud, "order")
    for _ in range(kills):
        time.sleep(rng.uniform(0.0, 1.0))  # any moment will do: while starting, draining, or in full swing
        os.kill(gateway.daemon.pid, signal.SIGKILL)
        gateway.close()
        gateway.start()
    return values.stop(), orders.stop()


def arrived(cloud: AmqpParticipant, inport: str) -> list[str]:
    return [message_id for message_id, _ in cloud.on(inport)]


def test_thirty_kills_lose_nothing(
    tmp_path: Path, mosquitto_own: Mosquitto, restartable_rabbitmq: PrivateRabbitMQ
) -> None:
    survive(tmp_path, mosquitto_own, restartable_rabbitmq, 30)


@pytest.mark.slow
def test_a_thousand_kills_lose_nothing(
    tmp_path: Path, mosquitto_own: Mosquitto, restartable_rabbitmq: PrivateRabbitMQ
) -> None:
    survive(tmp_path, mosquitto_own, restartable_rabbitmq, 1000)
