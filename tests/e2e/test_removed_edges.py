"""Edges that are taken out of the graph file while the gateway is stopped: nothing of them is left on the brokers."""

from __future__ import annotations

from pathlib import Path

from examples.private_rabbitmq import PrivateRabbitMQ
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.rabbitmq import takers

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
discover = "on"
[coordinator]
graph = "{graph}"
"""


def messages(node: PrivateRabbitMQ, queue: str) -> int | None:
    """How many wait in a queue; None: there is no such queue."""
    lines = node.ctl("list_queues", "name", "messages", "--no-table-headers", "--silent").splitlines()
    found = dict(line.rsplit("\t", 1) for line in lines)
    return int(found[queue]) if queue in found else None


def bound(node: PrivateRabbitMQ, source: str, *queues: str) -> bool:
    """Whether a message of the source reaches all of these."""
    return takers(node, f"{source}.OUT") >= set(queues)


def why(gateway: Gateway, edge: str) -> str:
    """What an edge waits for."""
    return str(gateway.status()["waiting"].get(edge, ""))


def heard(gateway: Gateway, *roles: str) -> bool:
    shown = gateway.good("participants")
    return all(role in shown for role in roles)


def test_edges_removed_while_the_gateway_was_stopped_leave_nothing_behind(
    mosquitto: Mosquitto, rabbitmq_node: PrivateRabbitMQ, unique: str, tmp_path: Path
) -> None:
    name, rabbitmq = unique.rstrip("."), rabbitmq_node.url
    source, sink, worker, later = (f"{name}{role}" for role in ("source", "sink", "worker", "later"))
    graph = tmp_path / "graph.fbp"
    nodes = f"{source}(A), {sink}(B), {worker}(C), {later}(D)"
    graph.write_text(
        f"{nodes}\n{source} OUT -> IN {sink}\n{source} OUT -> IN {worker}\n{source} OUT -> IN {later}\n", "utf-8"
    )
    into_sink, into_later = (f"gateway.{name}.{source}.out->{role}.in" for role in (sink, later))
    config = CONFIG.format(name=name, mqtt=mosquitto.url, amqp=rabbitmq, graph=graph)
    parts = (
        MqttParticipant(mosquitto.url, sink, inports=("in",)),
        AmqpParticipant(rabbitmq, worker, inports=("in",)),
        AmqpParticipant(rabbitmq, source, outports=("out",)),
    )
    at_sink, at_worker, from_source = parts
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            until("all were heard", lambda: heard(gateway, source, sink, worker))
            until("every edge is bound", lambda: bound(rabbitmq_node, source, into_sink, into_later, f"{worker}.IN"))
            from_source.send("out", b"1", "m1")
            until("it is at both", lambda: bool(at_sink.on("in") and at_worker.on("in")))
            until("it waits for who was never seen", lambda: gateway.status()["spool"]["records"] == 1)
            assert gateway.daemon.stop() == 0

            from_source.send("out", b"2", "m2")
            graph.write_text(f"{nodes}\n", "utf-8")
            gateway.start()
            until("what was on its way arrives", lambda: b"2" in at_sink.on("in"))
            until("its queue is gone", lambda: messages(rabbitmq_node, into_sink) is None)
            stuck = f"{source}.out->{later}.in"
            until("the queue that nobody empties is told of", lambda: "without a target" in why(gateway, stuck))
            from_source.send("out", b"3", "m3")
            assert messages(rabbitmq_node, into_later) == 1
            rabbitmq_node.ctl("purge_queue", into_later)
            until("emptied, it goes", lambda: messages(rabbitmq_node, into_later) is None)
            until("what was sent before is at the worker", lambda: len(at_worker.on("in")) >= 2)
            assert [body for _, body in at_worker.on("in")] == [b"1", b"2"]

            assert "edge not in the graph" in gateway.good("spool", "list")
            assert f"{stuck}: 1 records: edge not in the graph" in gateway.good("status")
            gateway.good("spool", "purge", "--edge", stuck)
            until("nothing is left of it", lambda: gateway.status()["spool"]["without_edge"] == 0)
    finally:
        for part in parts:
            part.close()
