"""An outage of the target: how fast messages go to the disk while it lasts, how fast they leave it afterwards, and how long
those of another edge to the same broker are under way meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import quantiles

import aio_pika

from benchmarks.bridge import LIMIT_S, POLL_S, TO_AMQP, Brokers, Job, started_gateway
from benchmarks.latency import age_ms, body
from benchmarks.measure import Table, cpu_seconds
from gateway.model.address import mqtt
from gateway.model.message import Message
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttConnector
from tests.support.gateway import Gateway, until
from tests.support.proxy import Proxy

MESSAGES = 20_000
GUEST = "guest:guest@"
ARRIVAL = 20
"""Messages a second of an edge that brings 72,000 in an hour."""

PROBES = 100
"""Messages a second of the other edge."""


def stored(gateway: Gateway) -> bool:
    """Whether all are on the disk."""
    return bool(gateway.status()["spool"]["records"] >= MESSAGES)


@asynccontextmanager
async def other_edge(brokers: Brokers, topic: str, queue_name: str) -> AsyncIterator[list[float]]:
    """Messages over another edge by the clock while the block runs; milliseconds under way of those that arrived."""
    found: list[float] = []

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        found.append(age_ms(message.body))

    settings = MqttSettings(
        host="127.0.0.1", port=int(brokers.mqtt.rpartition(":")[2]), client_id="outage-probe", instance="probe"
    )
    queue = await brokers.channel.get_queue(queue_name)
    tag = await queue.consume(take, no_ack=True)
    async with MqttConnector(settings).connect() as session:

        async def send() -> None:
            began, n = time.monotonic(), 0
            while True:
                session.submit(mqtt(topic), Message(f"probe-{n}", body()), lambda problem: None)
                n += 1
                await asyncio.sleep(max(0.0, began + n / PROBES - time.monotonic()))

        sending = asyncio.create_task(send())
        try:
            yield found
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    await queue.cancel(tag)


async def outage(brokers: Brokers, directory: Path, table: Table) -> None:
    """Cut the way to AMQP, publish to MQTT, let it through again."""
    port = int(brokers.amqp.rstrip("/").rpartition(":")[2])
    job = Job(TO_AMQP, 1, MESSAGES, 64, "outage")
    both = Job(TO_AMQP, 2, MESSAGES, 64, "outage")
    await brokers.prepare(both)
    async with Proxy("127.0.0.1", port) as proxy:
        behind = Brokers(brokers.mqtt, f"amqp://{GUEST}127.0.0.1:{proxy.port}/", brokers.channel)
        context = started_gateway(behind, both, directory / "outage")
        gateway = await asyncio.to_thread(context.__enter__)
        try:
            pid = gateway.daemon.pid
            proxy.flapping = True
            proxy.cut()
            await asyncio.to_thread(until, "AMQP is away", lambda: not gateway.link_is_up("amqp"))
            spent, began = cpu_seconds(pid), time.monotonic()
            await brokers.fill(job)
            published = MESSAGES / (time.monotonic() - began)
            await asyncio.to_thread(until, "all are stored", lambda: stored(gateway))
            into = (cpu_seconds(pid) - spent) / MESSAGES * 1e6
            proxy.flapping = False
            async with asyncio.timeout(LIMIT_S):
                while not await brokers.depth(job.queue(0)):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
                spent, began = cpu_seconds(pid), time.monotonic()
                async with other_edge(brokers, both.topic(1), both.queue(1)) as ages:
                    await brokers.all_arrived(job)
            rate = MESSAGES / (time.monotonic() - began)
            out = (cpu_seconds(pid) - spent) / MESSAGES * 1e6
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
    table.row(
        "an outage: messages/s into the spool, as fast as they are published",
        f"{published:,.0f}",
        f"CPU {into:.0f} us/message",
    )
    times = f"{rate / ARRIVAL:,.0f} times {ARRIVAL}/s, at which an hour brings 72,000; >= 10"
    table.row("... messages/s out of it afterwards", f"{rate:,.0f}", f"CPU {out:.0f} us/message; {times}")
    name = f"... meanwhile {PROBES} messages/s over another edge to the same broker: p95, ms"
    table.row(name, f"{quantiles(ages, n=20)[18]:.0f}", f"< 1000; {len(ages)} messages")
