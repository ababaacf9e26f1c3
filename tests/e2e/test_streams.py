"""Edges on streams: a gateway that is killed loses nothing, and each message of a round robin goes to one."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import Sender, more_than, send_until_there

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{mqtt}"
version = "5"
[amqp]
url = "{amqp}"
discover = "off"
queue_type = "stream"
[http]
listen = ""
[coordinator]
graph = "{graph}"
"""

GRAPH = """\
{name}-cloud(Elsewhere) ORDER -> ORDER {name}-lamp(X)
{name}-cloud SHARED -> IN share(msgflo/RoundRobin)
share OUT1 -> WORK {name}-one(X)
share OUT2 -> WORK {name}-two(X)
"""


FIRST = "first"


def known(name: str) -> list[Participant]:
    """Who is known from before: discovery is not what is tried here."""

    def ports(direction: Direction, queues: dict[str, str]) -> tuple[PortDef, ...]:
        return tuple(PortDef(port, direction, queue=queue) for port, queue in queues.items())

    def taker(role: str, port: str) -> Participant:
        role = f"{name}-{role}"
        return Participant(f"{role}-1", role, "X", "mqtt", ports(Direction.IN, {port: f"{role}/{port}"}))

    cloud = f"{name}-cloud"
    outports = ports(Direction.OUT, {"order": f"{cloud}.ORDER", "shared": f"{cloud}.SHARED"})
    return [
        Participant(f"{cloud}-1", cloud, "Elsewhere", "amqp", outports=outports),
        taker("lamp", "order"),
        taker("one", "work"),
        taker("two", "work"),
    ]


def settled(gateway: Gateway) -> bool:
    return not any(edge["pending"] for edge in gateway.status()["edges"])


def test_a_gateway_on_streams_that_is_killed_loses_nothing_and_shares_the_work(
    mosquitto: Mosquitto, rabbitmq_node: PrivateRabbitMQ, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    graph = tmp_path / "graph.fbp"
    graph.write_text(GRAPH.format(name=name))
    config = CONFIG.format(name=name, mqtt=mosquitto.url, amqp=rabbitmq_node.url, graph=graph)
    cloud = AmqpParticipant(rabbitmq_node.url, f"{name}-cloud", outports=("order", "shared"))
    lamp = MqttParticipant(mosquitto.url, f"{name}-lamp", inports=("order",))
    workers = [MqttParticipant(mosquitto.url, f"{name}-{role}", inports=("work",)) for role in ("one", "two")]
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            gateway.state.mkdir()
            save_participants(gateway.state / "participants.json", known(name))
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            send_until_there(cloud, "order", b"0", FIRST, lambda: bool(lamp.ids))
            kinds = rabbitmq_node.ctl("list_queues", "name", "type", "--no-table-headers", "--silent").splitlines()
            ours = [line for line in kinds if line.startswith(f"gateway.{name}.")]
            assert ours
            assert all(line.endswith("\tstream") for line in ours)

            orders = Sender(cloud, "order")
            until("some went through", lambda: len(set(lamp.ids)) > 100)
            os.kill(gateway.daemon.pid, signal.SIGKILL)
            gateway.close()
            until("more came meanwhile", partial(more_than, orders, orders.count + 100))
            gateway.start()
            until("it goes on", partial(more_than, orders, orders.count + 100))
            wanted = sorted(orders.stop())
            until("every order is there", lambda: set(wanted) <= set(lamp.ids))
            assert list(dict.fromkeys(lamp.ids)) == [FIRST, *wanted], "in order, by their first arrival"
            until("nothing waits", partial(settled, gateway))

            shared = sorted(Sender(cloud, "shared", most=40).stop_when_done())
            until("all the work is done", lambda: set(shared) <= {one for worker in workers for one in worker.ids})
            assert sorted(one for worker in workers for one in worker.ids) == shared, "each by one of them"
            assert all(worker.ids for worker in workers)
            assert gateway.daemon.stop() == 0

            before = len(lamp.ids)
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            cloud.send("order", b"last", "last")
            until("the last is there", lambda: "last" in lamp.ids)
            assert lamp.ids[before:] == ["last"], "what a gateway that ended in order had taken does not come again"
    finally:
        for participant in (lamp, *workers):
            participant.close()
        cloud.close()
