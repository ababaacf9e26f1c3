"""Edges on streams: a gateway that is killed loses nothing, and each message of a round robin goes to one."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import aio_pika
import pytest

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


@pytest.mark.parametrize("resting", [True, False], ids=["in the spool", "in a queue"])
def test_what_a_stream_gives_that_cant_be_delivered_is_a_dead_letter_once_over_every_restart(
    mosquitto: Mosquitto, rabbitmq_node: PrivateRabbitMQ, unique: str, tmp_path: Path, resting: bool
) -> None:
    name = unique.rstrip(".")
    letters = f"{name}-letters"
    edge = f"{name}-cloud.order->{name}-lamp.order"
    graph = tmp_path / "graph.fbp"
    graph.write_text(f"{name}-cloud(Elsewhere) ORDER -> ORDER {name}-lamp(X)\n")
    config = CONFIG.format(name=name, mqtt=mosquitto.url, amqp=rabbitmq_node.url, graph=graph)
    config += f'[delivery.edge."{edge}"]\nmax_message_bytes = 100\n'
    if not resting:
        config += f'dead_letter = "amqp:{letters}"\n'
        asyncio.run(declared(rabbitmq_node.url, letters))
    cloud = AmqpParticipant(rabbitmq_node.url, f"{name}-cloud", outports=("order",))
    lamp = MqttParticipant(mosquitto.url, f"{name}-lamp", inports=("order",))

    def send(gateway: Gateway, good: str) -> list[str]:
        """What arrives on the lamp by when it has this one, and nothing waits."""
        before = len(lamp.ids)
        cloud.send("order", b"1", good)
        until(f"{good} is there", lambda: good in lamp.ids)
        until("nothing waits", partial(settled, gateway))
        return lamp.ids[before:]

    def dead(gateway: Gateway) -> list[tuple[str, str]]:
        if not resting:
            return [(one, "") for one in asyncio.run(lying_in(rabbitmq_node.url, letters))]
        found = gateway.json("spool", "list", "--dead")["records"]
        assert all(one["edge"] == edge for one in found)
        return [(one["id"], one["reason"].partition(":")[0]) for one in found]

    def counted(gateway: Gateway) -> int:
        (entry,) = (one for one in gateway.json("bindings")["bindings"] if one["label"] == edge)
        return int(entry["dead"])

    lying = [("large", "too large" if resting else "")]
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            gateway.state.mkdir()
            save_participants(gateway.state / "participants.json", known(name)[:2])
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            send_until_there(cloud, "order", b"0", "probe", lambda: bool(lamp.ids))
            send(gateway, "first")
            cloud.send("order", b"x" * 101, "large")
            assert send(gateway, "second") == ["second"]
            until("it lies there", lambda: dead(gateway) == lying)
            until("it is counted", lambda: counted(gateway) == 1)
            assert all(entry["balanced"] for entry in gateway.json("ledger")["ledger"])

            assert gateway.daemon.stop() == 0
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            assert send(gateway, "third") == ["third"]
            assert counted(gateway) == 0, "it is not taken again"
            until("it lies there as before", lambda: dead(gateway) == lying)

            cloud.send("order", b"x" * 101, "larger")
            send(gateway, "fourth")
            os.kill(gateway.daemon.pid, signal.SIGKILL)
            gateway.close()
            gateway.start()
            send(gateway, "fifth")
            lying.append(("larger", lying[0][1]))
            until("both lie there", lambda: list(dict.fromkeys(dead(gateway))) == lying)
            if resting:  # what went to the disk is known there, in the same commit
                assert dead(gateway) == lying
    finally:
        lamp.close()
        cloud.close()


async def declared(url: str, queue: str) -> None:
    """Have somebody's queue."""
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue(queue, durable=True)


async def lying_in(url: str, queue: str) -> list[str]:
    """The ids of the messages in a queue, which stay there."""
    async with await aio_pika.connect(url) as connection:
        found = await (await connection.channel()).get_queue(queue)
        ids = []
        while (message := await found.get(fail=False)) is not None:
            ids.append(str(message.message_id))
        return ids
