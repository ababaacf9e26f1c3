"""The whole product as its user runs it: the installed command, real brokers, a simulated board, messages counted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from examples.private_rabbitmq import PrivateRabbitMQ
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import EXAMPLES, Gateway, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import Sender, more_than, send_until_there

CONFIG = """\
[gateway]
instance = "e2e"
log_level = "debug"
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
[delivery.edge."attic.temp->cloud.reading"]
mode = "stored"
"""

GRAPH = """\
attic(thermometer) TEMP -> READING cloud(Elsewhere) FAN -> FAN attic
meter(Elsewhere) VALUE -> ARCHIVE cloud
cloud ORDER -> ORDER meter
"""


class Plant:
    """The gateway with both brokers, a board and two participants elsewhere."""

    def __init__(self, gateway: Gateway, mqtt: Mosquitto, amqp: PrivateRabbitMQ) -> None:
        self.gateway = gateway
        self.mqtt = mqtt
        self.amqp = amqp
        self.cloud = AmqpParticipant(amqp.url, "cloud", inports=("reading", "archive"), outports=("fan", "order"))
        self.meter = MqttParticipant(mqtt.url, "meter", inports=("order",), outports=("value",))

    def close(self) -> None:
        """End the participants."""
        self.cloud.close()
        self.meter.close()


@pytest.fixture
def plant(tmp_path: Path, mosquitto_own: Mosquitto, restartable_rabbitmq: PrivateRabbitMQ) -> Iterator[Plant]:
    graph = tmp_path / "plant.fbp"
    graph.write_text(GRAPH)
    config = CONFIG.format(mqtt=mosquitto_own.url, amqp=restartable_rabbitmq.url, graph=graph)
    with gateway_with(tmp_path / "gateway", config) as gateway:
        plant = Plant(gateway, mosquitto_own, restartable_rabbitmq)
        try:
            yield plant
        finally:
            plant.close()


def wired(gateway: Gateway, edges: int) -> bool:
    """Whether this many graph edges have both their ends."""
    status = gateway.status()
    return not status["waiting"] and sum("->" in edge["label"] and edge["up"] for edge in status["edges"]) >= edges


def test_nothing_accepted_is_lost_through_restarts_of_both_brokers_and_a_kill(plant: Plant, tmp_path: Path) -> None:
    gateway, cloud, meter = plant.gateway, plant.cloud, plant.meter
    with simulated_board(tmp_path) as board:
        pair_thermometer(gateway, board)
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        until("all edges are wired", partial(wired, gateway, 4))
        until("a reading is at the queue", lambda: len(cloud.on("reading")) >= 2)

        send_until_there(meter, "value", b"0", "probe", lambda: bool(cloud.on("archive")))
        send_until_there(cloud, "order", b"0", "probe", lambda: bool(meter.ids))
        values, orders = Sender(meter, "value"), Sender(cloud, "order")
        until("some went both ways", lambda: values.count > 20 and orders.count > 20)
        plant.amqp.stop()
        until("messages came while the cloud was away", partial(more_than, values, values.count + 100))
        plant.amqp.start()
        until("it goes on", partial(more_than, orders, orders.count + 20))
        plant.mqtt.stop()
        until("the gateway noticed", lambda: not gateway.link_is_up("mqtt"))
        plant.mqtt.start()
        until("it goes on", partial(more_than, values, values.count + 50))
        os.kill(gateway.daemon.pid, signal.SIGKILL)
        gateway.close()
        gateway.start()
        until("it goes on", partial(more_than, values, values.count + 50))
        values.stop()
        orders.stop()
        cloud.send("fan", b"true", "fan-on")

        until("every value is at the queue", lambda: values.ids <= {i for i, _ in cloud.on("archive")})
        until("every order is at the topic", lambda: orders.ids <= set(meter.ids))
        until("the fan runs", lambda: board.ask("get 7")["value"] == 1)
        board.ask("pause")
        committed = gateway.status
        until("nothing waits any more", lambda: not any(edge["pending"] for edge in committed()["edges"]))
        assert not gateway.status()["spool"]["dead"]
        readings = [json.loads(body) for _, body in cloud.on("reading")]
        assert readings
        assert all(isinstance(reading, float | int) and -50 < reading < 100 for reading in readings)


def test_a_stored_edge_brings_every_reading_of_the_board_through_an_outage(plant: Plant, tmp_path: Path) -> None:
    gateway, cloud = plant.gateway, plant.cloud
    with simulated_board(tmp_path) as board:
        pair_thermometer(gateway, board)
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        until("a reading is at the queue", lambda: len(cloud.on("reading")) >= 1)
        plant.amqp.stop()
        waiting = partial(waiting_for, gateway, "attic.temp->cloud.reading")
        until("readings wait in the spool", lambda: waiting() >= 3)
        plant.amqp.start()
        until("the spool is empty again", lambda: waiting() == 0)
        board.ask("pause")
        gateway.good("send", "attic", "fan", "true")  # what the board said before it answered this has arrived
        until("nothing waits any more", lambda: waiting() == 0)
        last = gateway.json("devices")["devices"][0]["counters"]["readings"]
        until("the last reading is at the queue", lambda: last in numbers(cloud))
        assert numbers(cloud) == list(range(numbers(cloud)[0], last + 1)), "none of them is missing"


def numbers(cloud: AmqpParticipant) -> list[int]:
    """The numbers of the readings that are at the queue: an id ends with it."""
    return sorted({int(message_id.rpartition("-")[2]) for message_id, _ in cloud.on("reading")})


def waiting_for(gateway: Gateway, edge: str) -> int:
    """Messages that wait for one edge."""
    return int(next(entry["pending"] for entry in gateway.status()["edges"] if entry["id"] == edge))


def test_the_daemon_says_what_it_is_doing_and_ends_in_order(plant: Plant, tmp_path: Path) -> None:
    gateway = plant.gateway
    with simulated_board(tmp_path) as board:
        pair_thermometer(gateway, board)
        assert [device["role"] for device in gateway.json("devices")["devices"]] == ["attic"]
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        until("all edges are wired", partial(wired, gateway, 4))
        assert "confirmed" in gateway.good("send", "attic", "fan", "true")
        until("the fan runs", lambda: board.ask("get 7")["value"] == 1)
        refused = gateway.run("send", "attic.fan", "warm")
        assert refused.returncode == 1
        assert "takes true or false" in refused.stderr
        assert "attic.temp" in gateway.good("watch", "--count", "1", "attic")
        seen = json.loads(gateway.good("watch", "--count", "1", "--json", "attic"))
        assert (seen["version"], seen["source"]) == (1, "attic.temp")
        assert {p["role"] for p in gateway.json("participants")["participants"]["known"]} >= {"attic", "cloud", "meter"}
        assert gateway.daemon.stop() == 0


def test_a_second_daemon_on_the_same_state_is_told_who_holds_it(plant: Plant) -> None:
    plant.gateway.start()
    second = plant.gateway.run("run")
    assert second.returncode == 5
    assert f"process {plant.gateway.daemon.pid}" in second.stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[mqtt]\nurl = 'mqtt://h'\nkeepalive = 3\n", "mqtt.keepalive: unknown key; did you mean mqtt.keepalive_s?"),
        ("[coordinator]\ngraph = 'missing.fbp'\n", "missing.fbp: no such graph file"),
        ("[coordinator]\ngraph = 'bad.fbp'\n", "bad.fbp:1:"),
        ("[mqtt\n", "no valid TOML"),
    ],
)
def test_bad_configuration_is_one_line_with_the_place(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "bad.fbp").write_text("a OUT ->")
    with gateway_with(tmp_path, config.replace("bad.fbp", str(tmp_path / "bad.fbp"))) as gateway:
        for command in ("check", "run"):
            done = gateway.run(command)
            assert done.returncode == 78  # a service manager must not try that again
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_check_prints_what_would_be_opened_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    config = f"""
[mqtt]
url = "mqtt://me:s3cret@127.0.0.1:1"
[amqp]
url = "amqp://me@127.0.0.1"
password_file = "{tmp_path / "password"}"
[coordinator]
graph = "{EXAMPLES / "demo.fbp"}"
"""
    with gateway_with(tmp_path / "g", config) as gateway:
        output = gateway.good("check")
    assert "s3cret" not in output
    assert "hush" not in output
    assert "would open: mqtt mqtt://me:***@127.0.0.1:1" in output
