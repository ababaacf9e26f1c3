"""A broker that gives us nothing of a topic: every view of the edge says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gateway.coordinator.participants_file import save_participants
from tests.e2e.test_disk import known
from tests.integration.test_mqtt_refused import strict_broker
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto

__all__ = ["strict_broker"]

CONFIG = """\
[mqtt]
url = "{url}"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""

SAID = "gets nothing from mqtt:y-meter/other: the broker refuses the subscription"


def is_told(gateway: Gateway) -> bool:
    return SAID in gateway.good("status")


def test_an_edge_whose_topic_is_refused_is_shown_wherever_edges_are_shown(
    strict_broker: Mosquitto,
    tmp_path: Path,
) -> None:
    graph = tmp_path / "graph.fbp"
    graph.write_text("y-meter(Elsewhere) OTHER -> ORDER y-lamp(X)\n")
    config = CONFIG.format(url=strict_broker.url, graph=graph)
    with gateway_with(tmp_path / "gateway", config) as gateway:
        gateway.state.mkdir()
        save_participants(gateway.state / "participants.json", known("y"))
        gateway.start()
        until("status shows it", partial(is_told, gateway))
        assert SAID in gateway.good("bindings")
        assert f"y-meter.other->y-lamp.order {SAID}" in gateway.good("graph", "show")
        (edge,) = gateway.json("bindings")["bindings"]
        assert edge["waiting"].startswith(SAID)
