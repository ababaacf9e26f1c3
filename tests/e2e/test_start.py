"""The gateway is ready at once, whoever is away, and finds everybody when they come."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from gateway.serial_link.records.devices_json import DevicesFile
from tests.support.badline import BadLine
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import send_until_there

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "mqtt://127.0.0.1:{mqtt}"
[amqp]
url = "amqp://guest:guest@127.0.0.1:{amqp}/"
discover = "on"
[coordinator]
graph = "{graph}"
"""


@pytest.mark.parametrize("away", [("mqtt",), ("amqp",), ("mqtt", "amqp")], ids=" and ".join)
def test_a_broker_that_is_away_at_the_start_is_found_when_it_comes(
    mosquitto: Mosquitto, rabbitmq: str, unique: str, tmp_path: Path, away: tuple[str, ...]
) -> None:
    name = unique.rstrip(".")
    graph = tmp_path / "graph.fbp"
    graph.write_text(f"{name}-meter(Elsewhere) VALUE -> ARCHIVE {name}-cloud(Elsewhere) ORDER -> ORDER {name}-meter\n")
    with BadLine(mosquitto.port) as mqtt, BadLine(urlsplit(rabbitmq).port or 0) as amqp:
        lines = {"mqtt": mqtt, "amqp": amqp}
        for side in away:
            lines[side].flap(True)
        config = CONFIG.format(name=name, mqtt=mqtt.port, amqp=amqp.port, graph=graph)
        meter = MqttParticipant(mosquitto.url, f"{name}-meter", inports=("order",), outports=("value",))
        cloud = AmqpParticipant(rabbitmq, f"{name}-cloud", inports=("archive",), outports=("order",))
        try:
            with gateway_with(tmp_path / "gateway", config) as gateway:
                gateway.start()
                gateway.wait_up(*(lines.keys() - set(away)))
                assert not any(gateway.link_is_up(side) for side in away)
                for side in away:
                    lines[side].flap(False)
                gateway.wait_up(*away)
                until("the graph is wired", lambda: not gateway.status()["waiting"])
                until("both edges are up", partial(both_up, gateway))
                send_until_there(meter, "value", b"1", "value", lambda: bool(cloud.on("archive")))
                send_until_there(cloud, "order", b"1", "order", lambda: bool(meter.on("order")))
        finally:
            meter.close()
            cloud.close()


def both_up(gateway: Gateway) -> bool:
    """Whether the edges of the graph are up."""
    return sum(bool("->" in edge["label"] and edge["up"]) for edge in gateway.status()["edges"]) == 2


def test_a_hundred_boards_that_are_not_plugged_in_are_no_reason_to_start_later(tmp_path: Path) -> None:
    with gateway_with(tmp_path / "gateway", '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n') as gateway:
        with simulated_board(tmp_path) as board:
            pair_thermometer(gateway, board)
        registry = DevicesFile(gateway.state / "devices.json")
        (record,) = registry.load()
        many = [
            msgspec.structs.replace(record, id=f"b{n}", role=f"attic{n}", path=f"{record.path}{n}") for n in range(100)
        ]
        registry.save(many)
        gateway.start()
        assert "100 boards" in gateway.daemon.wait_line("gateway ready")
        assert len(gateway.status()["boards"]) == 100
        assert gateway.daemon.stop() == 0
