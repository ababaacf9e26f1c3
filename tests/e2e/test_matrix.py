"""Bad lines to either broker under traffic in both directions, one kind after the other: nothing lost, nothing left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.badline import BadLine
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import Sender, more_than, send_until_there

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "mqtt://127.0.0.1:{mqtt}"
version = "5"
keepalive_s = {keepalive_s}
[amqp]
url = "amqp://guest:guest@127.0.0.1:{amqp}/"
discover = "off"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""

GRAPH = "{name}-meter(Elsewhere) VALUE -> ARCHIVE {name}-cloud(Elsewhere) ORDER -> ORDER {name}-meter\n"

CONNECTIONS = 2
"""Of the gateway to each broker: one to take and one to publish."""

SILENCE_S = 120.0
"""Longer than the time after which a silent AMQP connection is given up."""


class Lines:
    """The gateway between two brokers that it reaches by bad lines only, with traffic both ways."""

    def __init__(self, gateway: Gateway, lines: dict[str, BadLine], cloud: AmqpParticipant, meter: MqttParticipant):
        self.gateway = gateway
        self.lines = lines
        self.cloud = cloud
        self.meter = meter
        send_until_there(meter, "value", b"probe", "probe", lambda: bool(cloud.on("archive")))
        send_until_there(cloud, "order", b"probe", "probe", lambda: bool(meter.ids))
        self.values = Sender(meter, "value", every_s=0.01)
        self.orders = Sender(cloud, "order", every_s=0.01)

    def connects(self, side: str) -> int:
        """How often a side has come up."""
        return next(int(link["connects"]) for link in self.gateway.status()["links"] if link["name"] == side)

    def is_back(self, side: str, before: int) -> bool:
        """Whether a side has come up again since, without a connection left over."""
        return self.connects(side) > before and self.gateway.link_is_up(side) and self.lines[side].open == CONNECTIONS

    def all_pass(self) -> None:
        """Whatever was sent until now is there, and more goes through."""
        values, orders = set(self.values.ids), set(self.orders.ids)
        until("every value is at the queue", lambda: values <= {i for i, _ in self.cloud.on("archive")})
        until("every order is at the topic", lambda: orders <= set(self.meter.ids))


@pytest.fixture
def plant(
    request: pytest.FixtureRequest, mosquitto: Mosquitto, rabbitmq: str, unique: str, tmp_path: Path
) -> Iterator[Lines]:
    """Its parameter is the keepalive on MQTT in seconds: a silence that shall be noticed should not last."""
    name = unique.rstrip(".")
    graph = tmp_path / "graph.fbp"
    graph.write_text(GRAPH.format(name=name))
    with ExitStack() as stack:
        lines = {
            "mqtt": stack.enter_context(BadLine(mosquitto.port)),
            "amqp": stack.enter_context(BadLine(urlsplit(rabbitmq).port or 0)),
        }
        ports = {side: line.port for side, line in lines.items()}
        config = CONFIG.format(name=name, graph=graph, keepalive_s=getattr(request, "param", 4), **ports)
        cloud = AmqpParticipant(rabbitmq, f"{name}-cloud", inports=("archive",), outports=("order",))
        stack.callback(cloud.close)
        meter = MqttParticipant(mosquitto.url, f"{name}-meter", inports=("order",), outports=("value",))
        stack.callback(meter.close)
        gateway = stack.enter_context(gateway_with(tmp_path / "gateway", config))
        know(gateway, name)
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        plant = Lines(gateway, lines, cloud, meter)
        stack.callback(plant.values.stop)
        stack.callback(plant.orders.stop)
        yield plant


def know(gateway: Gateway, name: str) -> None:
    """The gateway remembers both participants from before: discovery is not what is tried here."""

    def port(port_id: str, direction: Direction, queue: str) -> tuple[PortDef, ...]:
        return (PortDef(port_id, direction, queue=queue),)

    cloud, meter = f"{name}-cloud", f"{name}-meter"
    inport, outport = port("archive", Direction.IN, f"{cloud}.ARCHIVE"), port("order", Direction.OUT, f"{cloud}.ORDER")
    order, value = port("order", Direction.IN, f"{meter}/order"), port("value", Direction.OUT, f"{meter}/value")
    known = [
        Participant(f"{cloud}-1", cloud, "Elsewhere", "amqp", inport, outport),
        Participant(f"{meter}-1", meter, "Elsewhere", "mqtt", order, value),
    ]
    save_participants(gateway.state / "participants.json", known)


def cut(plant: Lines, side: str) -> None:
    """Every connection breaks."""
    plant.lines[side].cut()


def half_close(plant: Lines, side: str) -> None:
    """The broker's side says that it will send no more."""
    plant.lines[side].half_close()


def flap(plant: Lines, side: str) -> None:
    """Whoever connects is thrown out at once."""
    line = plant.lines[side]
    refused = line.refused
    line.flap(True)
    until("it was thrown out twice", lambda: line.refused >= refused + 2)
    line.flap(False)


def lose_answers(plant: Lines, side: str) -> None:
    """What the broker confirms is not heard of, then everything breaks."""
    line = plant.lines[side]
    line.withhold_answers()
    until("messages were under way", partial(more_than, plant.values, plant.values.count + 50))
    until("messages were under way", partial(more_than, plant.orders, plant.orders.count + 50))
    line.cut()
    line.release_answers()


def stall(plant: Lines, side: str) -> None:
    """Nothing goes through any more until the gateway gives the connection up."""
    line = plant.lines[side]
    line.stall()
    until("the silence was noticed", lambda: not plant.gateway.link_is_up(side), SILENCE_S)
    line.resume()


FAULTS: dict[str, Callable[[Lines, str], None]] = {
    fault.__name__: fault for fault in (cut, half_close, flap, lose_answers, stall)
}


@pytest.mark.parametrize(
    "faults",
    [
        [("mqtt", name) for name in FAULTS] + [("amqp", name) for name in FAULTS if name != "stall"],
        pytest.param(
            [(side, name) for _ in range(5) for side in ("mqtt", "amqp") for name in FAULTS], marks=pytest.mark.slow
        ),
    ],
    ids=["each once", "each five times"],
)
def test_a_bad_line_loses_nothing_and_leaves_nothing_over(plant: Lines, faults: list[tuple[str, str]]) -> None:
    for side, name in faults:
        before = plant.connects(side)
        FAULTS[name](plant, side)
        until(f"{side} is back after {name}", partial(plant.is_back, side, before))
    plant.all_pass()
    for sender in (plant.values, plant.orders):
        sender.stop()
    plant.all_pass()
    until("nothing waits", lambda: not any(edge["pending"] for edge in plant.gateway.status()["edges"]))
    until("nothing is left on disk", lambda: not plant.gateway.status()["spool"]["records"])
    assert plant.gateway.status()["spool"]["dead"] == 0
    assert all(entry["balanced"] for entry in plant.gateway.json("ledger")["ledger"])


@pytest.mark.parametrize("plant", [600], indirect=True)
def test_a_short_stall_is_waited_out_and_both_connections_stay(plant: Lines) -> None:
    before = {side: plant.connects(side) for side in plant.lines}
    for side, line in plant.lines.items():
        line.stall()
        until(f"messages came while {side} stood still", partial(more_than, plant.values, plant.values.count + 30))
        line.resume()
        plant.all_pass()
    assert {side: plant.connects(side) for side in plant.lines} == before
