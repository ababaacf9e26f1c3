"""Between brokers: the gateway beside a Node bridge (npm mqtt and amqplib), in the same run, on the same brokers.

A backlog is made while the bridge stands still (SIGSTOP), then it goes on: what is measured is how fast it drains, what CPU
a message costs, and how much memory that takes. The Node bridge acknowledges to MQTT before AMQP has confirmed, which is
the usual way to write one and promises less; ``confirming_bridge`` is the same with our promise.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aio_pika

from benchmarks.measure import Figures, as_installed, cpu_seconds, peak_rss_mib
from gateway.coordinator.participants_file import save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from tests.support.gateway import Gateway, gateway_with, until

ROOT = Path(__file__).parents[1]
TO_AMQP, TO_MQTT, MQTT_ONLY = "to-amqp", "to-mqtt", "mqtt-only"
LIMIT_S = 120.0
POLL_S = 0.02

CONFIG = """\
[gateway]
instance = "bench"
log_level = "warning"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
[coordinator]
graph = "{graph}"
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What a run carries: a direction, so many bindings, so many messages of so many bytes. ``mark`` tells runs apart."""

    direction: str
    bindings: int
    messages: int
    size: int
    mark: str

    def topic(self, n: int) -> str:
        """The MQTT end of one binding; where both ends are MQTT, the source."""
        return f"bench/{self.mark}/{n}"

    def second_topic(self, n: int) -> str:
        """The target where both ends are MQTT."""
        return f"benched/{self.mark}/{n}"

    def queue(self, n: int) -> str:
        """The AMQP end: a queue, or an exchange."""
        return f"bench.{self.mark}.{n}"

    @property
    def body(self) -> str:
        """One JSON text of the job's size."""
        return '"' + "x" * (self.size - 2) + '"'

    def ends(self, n: int) -> tuple[str, str]:
        """Source and target of one binding."""
        if self.direction == MQTT_ONLY:
            return self.topic(n), self.second_topic(n)
        return (self.topic(n), self.queue(n)) if self.direction == TO_AMQP else (self.queue(n), self.topic(n))

    @property
    def brokers(self) -> tuple[str, str]:
        """On which side source and target are."""
        return {TO_AMQP: ("mqtt", "amqp"), TO_MQTT: ("amqp", "mqtt"), MQTT_ONLY: ("mqtt", "mqtt")}[self.direction]

    @property
    def pairs(self) -> list[str]:
        """Source and target of each binding, as the Node bridge takes them."""
        return list(itertools.chain.from_iterable(self.ends(n) for n in range(self.bindings)))


class Brokers:
    """The two brokers of a run, and one AMQP channel to fill queues and look at them."""

    def __init__(self, mqtt: str, amqp: str, channel: aio_pika.abc.AbstractChannel) -> None:
        self.mqtt = mqtt
        self.amqp = amqp
        self.channel = channel

    async def prepare(self, job: Job) -> None:
        """What an AMQP participant would have declared."""
        for n in range(job.bindings):
            if job.direction == TO_AMQP:
                await self.channel.declare_queue(job.queue(n), durable=True)
            elif job.direction == TO_MQTT:
                await self.channel.declare_exchange(job.queue(n), aio_pika.ExchangeType.FANOUT, durable=True)

    async def lead_to_the_bridge(self, job: Job) -> None:
        """Until what is published at the sources does not come back: an edge is up as soon as its target is."""
        if job.direction != TO_MQTT:
            return
        async with await aio_pika.connect(self.amqp) as connection:
            channel = await connection.channel(on_return_raises=True)
            for n in range(job.bindings):
                exchange = await channel.get_exchange(job.queue(n), ensure=False)
                while True:
                    try:
                        await exchange.publish(aio_pika.Message(job.body.encode()), "")
                        break
                    except aio_pika.exceptions.PublishError:
                        await asyncio.sleep(POLL_S)  # neither has a binding an event

    async def depth(self, queue: str) -> int:
        """Messages that lie in a queue."""
        found = await self.channel.declare_queue(queue, passive=True)
        return int(found.declaration_result.message_count or 0)

    def mosquitto(self, tool: str, topic: str, *options: str) -> list[str]:
        """A command line of Mosquitto's own tools."""
        return [tool, "-p", self.mqtt.rpartition(":")[2], "-V", "mqttv5", "-q", "1", "-t", topic, *options]

    async def fill(self, job: Job) -> None:
        """Put the messages at the sources, evenly."""
        share = job.messages // job.bindings
        for n in range(job.bindings):
            if job.direction != TO_MQTT:
                text = (job.body + "\n") * share
                command = self.mosquitto("mosquitto_pub", job.topic(n), "-l")
                await asyncio.to_thread(subprocess.run, command, input=text.encode(), check=True, timeout=LIMIT_S)
            else:
                exchange = await self.channel.get_exchange(job.queue(n), ensure=False)
                message = aio_pika.Message(job.body.encode(), delivery_mode=2, content_type="application/json")
                for _ in range(share):
                    await exchange.publish(message, "")

    async def all_arrived(self, job: Job) -> None:
        """Until every message is at its target queue: one queue is looked at after the other, to disturb the broker little."""
        for n in range(job.bindings):
            while await self.depth(job.queue(n)) < job.messages // job.bindings:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)  # a queue has no event for its depth


@contextmanager
def started_gateway(brokers: Brokers, job: Job, directory: Path) -> Iterator[Gateway]:
    """The gateway with the job's edges, once all are wired."""
    directory.mkdir(parents=True)
    graph = directory / "bench.fbp"
    graph.write_text("".join(f"s{n}(Bench) OUT -> IN t{n}(Bench)\n" for n in range(job.bindings)))
    with gateway_with(directory, CONFIG.format(mqtt=brokers.mqtt, amqp=brokers.amqp, graph=graph)) as gateway:
        gateway.environment = as_installed()
        gateway.environment["GATEWAY_HTTP_LISTEN"] = ""  # the peer has no server for editors and metrics either
        save_participants(gateway.state / "participants.json", participants(job))
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        until("all edges are wired", lambda: wired(gateway, job.bindings))
        yield gateway
        gateway.daemon.stop()


@contextmanager
def gateway_bridge(brokers: Brokers, job: Job, directory: Path) -> Iterator[int]:
    """The same; its pid."""
    with started_gateway(brokers, job, directory) as gateway:
        yield gateway.daemon.pid


def participants(job: Job) -> Iterator[Participant]:
    """Who the gateway remembers from before."""
    source, target = job.brokers
    for n in range(job.bindings):
        first, second = job.ends(n)
        out = PortDef("out", Direction.OUT, queue=first)
        into = PortDef("in", Direction.IN, queue=second)
        yield Participant(f"s{n}-1", f"s{n}", "Bench", source, outports=(out,))
        yield Participant(f"t{n}-1", f"t{n}", "Bench", target, inports=(into,))


def wired(gateway: Gateway, bindings: int) -> bool:
    """Whether this many edges can deliver."""
    return sum(bool(edge["up"]) for edge in gateway.status()["edges"]) >= bindings


@contextmanager
def node_bridge(brokers: Brokers, job: Job, directory: Path) -> Iterator[int]:
    """The peer; its pid once it has subscribed."""
    with _node(brokers, job, job.direction) as pid:
        yield pid


@contextmanager
def confirming_bridge(brokers: Brokers, job: Job, directory: Path) -> Iterator[int]:
    """The peer with our promise: it acknowledges to MQTT when AMQP has confirmed."""
    with _node(brokers, job, "to-amqp-confirmed") as pid:
        yield pid


@contextmanager
def _node(brokers: Brokers, job: Job, way: str) -> Iterator[int]:
    folder = subprocess.run(
        [ROOT / "tools/npm_install.sh", ROOT / "benchmarks/peers/node_bridge"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    command = ["node", str(ROOT / folder / "bridge.js"), brokers.mqtt, brokers.amqp, way, *job.pairs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if "ready" not in process.stdout.readline():
            raise RuntimeError("the Node bridge did not start")
        try:
            yield process.pid
        finally:
            process.terminate()


async def drain(brokers: Brokers, job: Job, bridge: Callable[..., object], directory: Path) -> Figures:
    """One run: a backlog is made while the bridge stands still, then measured until all of it has arrived."""
    await brokers.prepare(job)
    context = bridge(brokers, job, directory)
    pid: int = await asyncio.to_thread(context.__enter__)  # type: ignore[attr-defined]
    try:
        await brokers.lead_to_the_bridge(job)
        os.kill(pid, signal.SIGSTOP)
        await brokers.fill(job)
        arrived = await sink(brokers, job)
        spent, began = cpu_seconds(pid), time.monotonic()
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(LIMIT_S):
            await arrived()
        took, used = time.monotonic() - began, cpu_seconds(pid) - spent
        return Figures(job.messages / took, used / job.messages * 1e6, peak_rss_mib(pid))
    finally:
        os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(context.__exit__, None, None, None)  # type: ignore[attr-defined]


async def sink(brokers: Brokers, job: Job) -> Callable[[], Awaitable[object]]:
    """Something that returns when all messages are at their targets."""
    if job.direction == TO_AMQP:
        return lambda: brokers.all_arrived(job)
    topics = job.second_topic if job.direction == MQTT_ONLY else job.topic
    command = brokers.mosquitto("mosquitto_sub", topics(0).rpartition("/")[0] + "/+", "-C", str(job.messages))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    await asyncio.sleep(0.5)  # mosquitto_sub says nothing when it has subscribed
    return process.wait
