"""A private RabbitMQ for tests.

``rabbitmq`` is one node for the whole run, shared by all tests: names of queues and exchanges start with ``unique``.
``restartable_rabbitmq`` is a node of its own for the tests of a module that stop, kill or starve it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.private_rabbitmq import Epmd, PrivateRabbitMQ, RabbitMQMissing, free_port


def _started(broker: PrivateRabbitMQ) -> Iterator[PrivateRabbitMQ]:
    try:
        broker.__enter__()
    except RabbitMQMissing as exc:
        pytest.fail(str(exc), pytrace=False)
    with broker:
        yield broker


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """The shared node itself, for what only ``rabbitmqctl`` can do. Nobody stops it."""
    yield from _started(PrivateRabbitMQ(tmp_path_factory.mktemp("rabbitmq")))


@pytest.fixture
def rabbitmq(rabbitmq_node: PrivateRabbitMQ) -> str:
    """The url of the shared node."""
    return rabbitmq_node.url


@pytest.fixture(scope="module")
def _module_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    yield from _started(PrivateRabbitMQ(tmp_path_factory.mktemp("restartable-rabbitmq")))


@pytest.fixture
def restartable_rabbitmq(_module_rabbitmq: PrivateRabbitMQ) -> PrivateRabbitMQ:
    """A running node that this test may stop, kill and start again."""
    if not _module_rabbitmq.running:
        _module_rabbitmq.start()
    return _module_rabbitmq


def takers(node: PrivateRabbitMQ, exchange: str) -> set[str]:
    """The queues that an exchange gives its messages to: what comes before one is bound, nobody gets."""
    lines = node.ctl("list_bindings", "source_name", "destination_name", "--no-table-headers", "--silent").splitlines()
    found = (line.split("\t", 1) for line in lines if "\t" in line)
    return {queue for source, queue in found if source == exchange}


@dataclass(frozen=True)
class BothSides:
    """One RabbitMQ that speaks AMQP and, by its plugin, MQTT 3.1.1."""

    amqp_url: str
    mqtt_url: str


@pytest.fixture(scope="module")
def rabbitmq_with_mqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothSides]:
    """A node whose MQTT plugin is the MQTT broker as well."""
    port = free_port()
    settings = (f"mqtt.listeners.tcp.1 = 127.0.0.1:{port}", "mqtt.allow_anonymous = true")
    directory = tmp_path_factory.mktemp("rabbitmq-mqtt")
    for broker in _started(PrivateRabbitMQ(directory, settings=settings, plugins=("rabbitmq_mqtt",))):
        yield BothSides(broker.url, f"mqtt://127.0.0.1:{port}")


class RabbitMQCluster:
    """Three nodes on loopback that find each other by a shared epmd."""

    def __init__(self, directory: Path) -> None:
        self._epmd = Epmd()
        self.nodes = [
            PrivateRabbitMQ(directory / f"r{number}", node=f"r{number}@localhost", epmd=self._epmd)
            for number in (1, 2, 3)
        ]

    @property
    def urls(self) -> list[str]:
        """One for each node."""
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start the nodes and join them (about a minute on two cores)."""
        self._epmd.start()
        with ThreadPoolExecutor(len(self.nodes)) as starting:
            list(starting.map(PrivateRabbitMQ.start, self.nodes))
        first, *others = self.nodes
        for node in others:
            for command in (["stop_app"], ["reset"], ["join_cluster", first.node], ["start_app"]):
                node.ctl(*command)

    def leader(self, queue: str) -> PrivateRabbitMQ:
        """The node that leads a quorum queue, as the others see it."""
        asked = next(node for node in self.nodes if node.running)
        for line in asked.ctl("list_queues", "name", "leader", "--no-table-headers", "--silent").splitlines():
            name, _, leader = line.partition("\t")
            if name == queue:
                return next(node for node in self.nodes if node.node == leader.strip())
        raise LookupError(queue)

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.close()
        self._epmd.stop()


@pytest.fixture(scope="module")
def rabbitmq_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQCluster]:
    """Three nodes; tests leave all of them running."""
    cluster = RabbitMQCluster(tmp_path_factory.mktemp("rabbitmq-cluster"))
    try:
        cluster.start()
        yield cluster
    except RabbitMQMissing as exc:
        pytest.fail(str(exc), pytrace=False)
    finally:
        cluster.close()


@pytest.fixture
def unique() -> str:
    """A prefix for names on a shared broker that no other test has."""
    return f"t{secrets.token_hex(4)}."
