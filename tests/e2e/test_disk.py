"""The disk gets full, or read-only, while the cloud is away: the gateway lives, says so, carries what needs no disk, heals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.badline import BadLine
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.smalldisk import SmallDisk, kinds, small_disk_at
from tests.support.traffic import Sender, send_until_there

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "mqtt://127.0.0.1:{mqtt}"
version = "5"
[amqp]
url = "amqp://guest:guest@127.0.0.1:{amqp}/"
discover = "off"
[http]
listen = ""
[coordinator]
graph = "{graph}"
[spool]
disk_reserve_bytes = 0
"""

OUTWARD = (
    "{name}-meter(Elsewhere) VALUE -> ARCHIVE {name}-cloud(Elsewhere)\n{name}-meter OTHER -> ORDER {name}-lamp(X)\n"
)
INWARD = "{name}-cloud(Elsewhere) ORDER -> ORDER {name}-lamp(X)\n"

BODY = b"x" * 20_000
MESSAGES = 400
"""Together more than what a disk has that is nearly full, and what the spool's journal may have taken before."""


@pytest.fixture(params=kinds())
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 24 megabytes (the spool's journal alone may take four), or a limit on file sizes."""
    with small_disk_at(tmp_path / "gateway" / "state", request.param, "24m") as disk:
        # The lock stays open for writing all the time: it has to lie elsewhere, or no kernel would make the disk read-only.
        (disk.place / "lock").symlink_to(tmp_path / "lock")
        yield disk


@dataclass(frozen=True)
class House:
    """Who takes part, a gateway that runs and has both brokers, and the line over which it has the one that gets lost."""

    cloud: AmqpParticipant
    meter: MqttParticipant
    lamp: MqttParticipant
    gateway: Gateway
    line: BadLine


@pytest.fixture
def house(
    request: pytest.FixtureRequest,
    mosquitto: Mosquitto,
    rabbitmq: str,
    unique: str,
    tmp_path: Path,
    small_disk: SmallDisk,
) -> Iterator[House]:
    """Its parameter: which broker gets lost, and the graph."""
    lost, text = request.param
    name, graph = unique.rstrip("."), tmp_path / "graph.fbp"
    graph.write_text(text.format(name=name))
    ports = {"mqtt": mosquitto.port, "amqp": urlsplit(rabbitmq).port or 0}
    with ExitStack() as stack:
        cloud = AmqpParticipant(rabbitmq, f"{name}-cloud", inports=("archive",), outports=("order",))
        stack.callback(cloud.close)
        meter = MqttParticipant(mosquitto.url, f"{name}-meter", outports=("value", "other"))
        stack.callback(meter.close)
        lamp = MqttParticipant(mosquitto.url, f"{name}-lamp", inports=("order",))
        stack.callback(lamp.close)
        line = stack.enter_context(BadLine(ports[lost]))
        config = CONFIG.format(name=name, graph=graph, **{**ports, lost: line.port})
        gateway = stack.enter_context(gateway_with(tmp_path / "gateway", config))
        save_participants(gateway.state / "participants.json", known(name))
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        yield House(cloud, meter, lamp, gateway, line)


OUT = pytest.mark.parametrize("house", [("amqp", OUTWARD)], indirect=True)
IN = pytest.mark.parametrize("house", [("mqtt", INWARD)], indirect=True)


@OUT
def test_a_full_disk_stops_nothing_that_needs_no_disk_and_every_message_is_accounted_for(
    house: House, small_disk: SmallDisk
) -> None:
    cloud, meter, lamp, gateway = house.cloud, house.meter, house.lamp, house.gateway
    send_until_there(meter, "value", b"probe", "probe", lambda: bool(cloud.on("archive")))
    meter.send("value", b"first", "value-000")
    until("the first is there", lambda: "value-000" in ids_at(cloud))
    until("and the gateway knows it", partial(nothing_waits, gateway))

    house.line.flap(True)
    until("the cloud is away", lambda: not gateway.link_is_up("amqp"))
    small_disk.watch(gateway.daemon.pid)
    small_disk.fill(leave=600_000)
    for number in range(1, MESSAGES):
        meter.send("value", BODY, f"value-{number:03}")
    until("the full disk is told of", lambda: was_logged(gateway) and is_shown(gateway))
    others = Sender(meter, "other", every_s=0.02, most=50)
    until("all others are sent", partial(is_done, others))
    until("the other edge goes on", lambda: others.ids <= set(lamp.ids))

    small_disk.relieve()
    until("it takes messages again", lambda: not problem(gateway))
    house.line.flap(False)
    until("nothing waits", partial(nothing_waits, gateway))
    until("all that was not dropped is there", partial(is_accounted_for, gateway, cloud))
    arrived = ids_at(cloud)
    assert list(dict.fromkeys(arrived)) == sorted(set(arrived)), "in order"
    books = books_of(gateway)
    assert (books["balanced"], books["dead"], books["expired"]) == (True, 0, 0)
    ends_well(gateway)


def nothing_waits(gateway: Gateway) -> bool:
    """Whether no edge has anything to do."""
    return not any(edge["pending"] for edge in gateway.status()["edges"])


def ids_at(cloud: AmqpParticipant) -> list[str]:
    """Those of the numbered values at the cloud, as they came."""
    return [message_id for message_id, _ in cloud.on("archive") if message_id.startswith("value-")]


def books_of(gateway: Gateway) -> dict[str, Any]:
    """What became of the messages of the edge to the cloud."""
    books: dict[str, Any] = next(one for one in gateway.json("ledger")["ledger"] if one["edge"].endswith("archive"))
    return books


def is_accounted_for(gateway: Gateway, cloud: AmqpParticipant) -> bool:
    """Whether the gateway has taken all messages, and all that it has not dropped are at the cloud."""
    books = books_of(gateway)
    return int(books["in"]) >= MESSAGES and len(set(ids_at(cloud))) == MESSAGES - int(books["dropped"])


@IN
def test_a_worker_whose_messages_find_no_room_keeps_them_until_there_is(house: House, small_disk: SmallDisk) -> None:
    cloud, lamp, gateway = house.cloud, house.lamp, house.gateway
    send_until_there(cloud, "order", b"probe", "probe", lambda: bool(lamp.ids))
    cloud.send("order", b"first", "order-000")
    until("the first is there", lambda: "order-000" in lamp.ids)
    house.line.flap(True)
    until("the local broker is away", lambda: not gateway.link_is_up("mqtt"))
    small_disk.watch(gateway.daemon.pid)
    small_disk.fill(leave=600_000)
    ids = [f"order-{number:03}" for number in range(1, MESSAGES)]
    for message_id in ids:
        cloud.send("order", BODY, message_id)
    until("the full disk is told of", lambda: bool(problem(gateway)))
    small_disk.relieve()
    house.line.flap(False)
    until("every order is there", lambda: set(ids) <= set(lamp.ids))
    assert list(dict.fromkeys(lamp.ids)) == ["probe", "order-000", *ids], "in order"
    until("nothing waits", partial(nothing_waits, gateway))
    until("all is well", lambda: not problem(gateway))


@OUT
def test_a_disk_that_becomes_read_only_stops_nothing_that_needs_no_disk_and_heals_without_a_restart(
    house: House, small_disk: SmallDisk, mosquitto: Mosquitto
) -> None:
    cloud, meter, lamp, gateway = house.cloud, house.meter, house.lamp, house.gateway
    small_disk.watch(gateway.daemon.pid)
    small_disk.read_only()
    send_until_there(meter, "value", b"probe", "probe", lambda: bool(cloud.on("archive")))
    meter.send("value", b"first", "value-000")
    until("the first is there", lambda: "value-000" in ids_at(cloud))
    status = gateway.status()
    spilled = any(edge["spilled"] for edge in status["edges"])  # by a broker that took longer than a second
    assert spilled or not status["spool"]["problem"], "nothing had to be written so far"

    house.line.flap(True)
    until("the cloud is away", lambda: not gateway.link_is_up("amqp"))
    ids = [f"value-{number:03}" for number in range(1, 100)]
    for message_id in ids:
        meter.send("value", BODY, message_id)
    until("the disk is told of", partial(problem_is_shown, gateway))
    others = Sender(meter, "other", every_s=0.02, most=50)
    until("all others are sent", partial(is_done, others))
    until("the other edge goes on", lambda: others.ids <= set(lamp.ids))
    guest = MqttParticipant(mosquitto.url, f"{meter.role}-guest", inports=("in",))
    try:
        until("one who can't be written down is known", lambda: guest.role in gateway.good("participants"))
    finally:
        guest.close()

    small_disk.writable()
    until("it takes messages again", lambda: not problem(gateway))
    until("they are on disk", lambda: gateway.status()["spool"]["records"] == len(ids))
    house.line.flap(False)
    until("all are there", lambda: set(ids) <= set(ids_at(cloud)))
    assert list(dict.fromkeys(ids_at(cloud))) == ["value-000", *ids], "in order"
    until("nothing waits", partial(nothing_waits, gateway))
    assert all(entry["balanced"] for entry in gateway.json("ledger")["ledger"])
    ends_well(gateway)


def ends_well(gateway: Gateway) -> None:
    """It ends in order, and nothing surprised it."""
    assert gateway.daemon.stop() == 0
    assert not any("Traceback" in one for one in gateway.daemon.lines), "\n".join(gateway.daemon.lines)


def known(name: str) -> list[Participant]:
    """Who is known from before: discovery is not what is tried here."""

    def ports(direction: Direction, queues: dict[str, str]) -> tuple[PortDef, ...]:
        return tuple(PortDef(port, direction, queue=queue) for port, queue in queues.items())

    meter, lamp, cloud = f"{name}-meter", f"{name}-lamp", f"{name}-cloud"
    outports = ports(Direction.OUT, {"value": f"{meter}/value", "other": f"{meter}/other"})
    archive, order = (
        ports(Direction.IN, {"archive": f"{cloud}.ARCHIVE"}),
        ports(Direction.OUT, {"order": f"{cloud}.ORDER"}),
    )
    return [
        Participant(f"{meter}-1", meter, "Elsewhere", "mqtt", outports=outports),
        Participant(f"{lamp}-1", lamp, "X", "mqtt", ports(Direction.IN, {"order": f"{lamp}/order"})),
        Participant(f"{cloud}-1", cloud, "Elsewhere", "amqp", archive, order),
    ]


def problem(gateway: Gateway) -> str:
    """What the spool complains about."""
    return str(gateway.status()["spool"]["problem"])


def problem_is_shown(gateway: Gateway) -> bool:
    """Whether it complains, and a person is told so too."""
    complaint = problem(gateway)
    return bool(complaint) and complaint in gateway.good("status")


def was_logged(gateway: Gateway) -> bool:
    """Whether the log tells of the disk."""
    return any(line.startswith("ERROR   spool: ") for line in gateway.daemon.lines)


def is_shown(gateway: Gateway) -> bool:
    """Whether the status tells of it: as a problem, or, where messages come so slowly that each finds the room of an older
    one, by what was dropped.
    """
    return problem_is_shown(gateway) or int(books_of(gateway)["dropped"]) > 0


def is_done(sender: Sender) -> bool:
    """Whether all are sent."""
    return sender.done
