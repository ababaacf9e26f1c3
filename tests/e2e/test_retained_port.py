"""A port whose newest reading the broker keeps: who subscribes later gets it, and it goes with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.clients import MqttParticipant
from tests.support.gateway import Gateway, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{url}"
version = "{version}"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""


@contextmanager
def subscribed(url: str, *topics: str) -> Iterator[list[tuple[str, bytes, bool]]]:
    """Topic, payload and retain flag of what a subscriber gets that comes now; the list is complete up to its own mark."""
    parts, mark = urlsplit(url), f"mark/{topics[0]}"
    found: list[tuple[str, bytes, bool]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def connected(client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic, 1) for topic in (*topics, mark)])

    def granted(client: paho.Client, *_: Any) -> None:
        client.publish(mark, b"", qos=1)  # what is retained was queued before this

    def arrived(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        found.append((message.topic, bytes(message.payload), message.retain))

    client.on_connect, client.on_subscribe, client.on_message = connected, granted, arrived
    client.connect(parts.hostname or "", parts.port or 0)
    client.loop_start()
    try:
        until("the subscriber has what is retained", lambda: any(topic == mark for topic, *_ in found))
        yield found
    finally:
        client.disconnect()
        client.loop_stop()


def retained(url: str, *topics: str) -> dict[str, bytes]:
    """What the broker keeps on these."""
    with subscribed(url, *topics) as found:
        return {topic: body for topic, body, kept in found if kept}


def keep(url: str, topic: str, body: bytes) -> None:
    """Have the broker keep this."""
    parts = urlsplit(url)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect(parts.hostname or "", parts.port or 0)
    client.loop_start()
    client.publish(topic, body, qos=1, retain=True).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def option(gateway: Gateway, port: str) -> bool:
    (device,) = gateway.json("devices")["devices"]
    return bool(next(entry["retained"] for entry in device["ports"] if entry["name"] == port))


@pytest.mark.parametrize("version", ["auto", "3.1.1"])
def test_the_newest_reading_of_a_port_is_kept_on_its_own_topic_until_there_is_no_more_reason(
    mosquitto: Mosquitto, unique: str, tmp_path: Path, version: str
) -> None:
    role = unique.rstrip(".")
    shown, own, moved = f"{role}-shown", f"{role}/temp", f"{role}/moved"
    graph = tmp_path / "graph.fbp"
    graph.write_text(f"{role}(Thermometer) TEMP -> IN {shown}(Elsewhere)\n")
    config = CONFIG.format(name=role, url=mosquitto.url, version=version, graph=graph)
    screen = MqttParticipant(mosquitto.url, shown, inports=("in",))
    try:
        with simulated_board(tmp_path) as board, gateway_with(tmp_path / "gateway", config) as gateway:
            pair_thermometer(gateway, board, role)
            gateway.good("set", role, "temp.retained=true")
            refused = gateway.run("set", role, "fan.retained=true")
            assert refused.returncode != 0
            assert (
                refused.stderr.strip()
                .splitlines()[-1]
                .endswith("port fan: is an inport: retained=true is for outports, whose topic we publish on")
            )
            assert (option(gateway, "temp"), option(gateway, "fan")) == (True, False)
            gateway.start()
            until("a reading is kept", lambda: own in retained(mosquitto.url, own))
            until("the other edge has one too", lambda: bool(screen.on("in")))
            assert isinstance(json.loads(retained(mosquitto.url, own)[own]), float)
            assert retained(mosquitto.url, f"{shown}/in") == {}

            gateway.good("set", role, f"temp.topic={moved}")
            until("the new topic is kept, the old one not", lambda: [*retained(mosquitto.url, own, moved)] == [moved])
            gateway.good("set", role, "temp.retained=false")
            until("nothing is kept", lambda: retained(mosquitto.url, own, moved) == {})
            gateway.good("set", role, "temp.retained=true")
            until("a reading is kept again", lambda: moved in retained(mosquitto.url, moved))

            assert gateway.daemon.stop() == 0
            assert moved in retained(mosquitto.url, moved)
            gateway.good("unpair", role)
            gateway.start()
            until("the board has left nothing behind", lambda: retained(mosquitto.url, moved) == {})
            assert gateway.daemon.stop() == 0
    finally:
        screen.close()


def test_a_damaged_file_of_a_board_takes_back_nothing_that_its_ports_retained(
    mosquitto: Mosquitto, unique: str, tmp_path: Path
) -> None:
    role = unique.rstrip(".")
    own, forgotten = f"{role}/temp", f"{role}/zone"  # what is taken back is so in the order of the names
    config = CONFIG.format(name=role, url=mosquitto.url, version="auto", graph="")
    with simulated_board(tmp_path) as board, gateway_with(tmp_path / "gateway", config) as gateway:
        pair_thermometer(gateway, board, role)
        gateway.good("set", role, "temp.retained=true")
        gateway.start()
        until("a reading is kept", lambda: own in retained(mosquitto.url, own))
        assert gateway.daemon.stop() == 0

        (graph,) = gateway.state.glob("boards/*/graph.fbp")
        good = graph.read_bytes()
        graph.write_bytes(b"\xff\x00")
        keep(mosquitto.url, forgotten, b"of a board that was unpaired")
        record = json.loads((gateway.state / "retained.json").read_bytes())
        record["topics"].append(forgotten)
        (gateway.state / "retained.json").write_text(json.dumps(record))
        gateway.start()
        until("what nobody wants any more is taken back", lambda: retained(mosquitto.url, forgotten) == {})
        assert own in retained(mosquitto.url, own)
        assert gateway.json("devices")["devices"][0]["state"] == "refused"
        assert gateway.daemon.stop() == 0

        graph.write_bytes(good)
        gateway.start()
        until("the board runs again", lambda: gateway.json("devices")["devices"][0]["state"] == "running")
        assert own in retained(mosquitto.url, own)
        gateway.good("unpair", role)
        until("it has left nothing behind", lambda: retained(mosquitto.url, own) == {})
        assert gateway.daemon.stop() == 0
