"""How long one message is under way at a quiet rate: the gateway beside the Node bridge, on the same brokers.

Sender and receiver are one process with one clock, so the figures hold their own time too, for both sides the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from statistics import median, quantiles

import aio_pika

from benchmarks.bridge import TO_AMQP, Brokers, Job, gateway_bridge, node_bridge
from benchmarks.measure import Table
from gateway.model.address import mqtt
from gateway.model.message import Message, Outcome
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttConnector, MqttSession

RATE = 500
SECONDS = 4
WARM_UP = RATE
PAD = "x" * 40
DIRECTIONS = {"to-amqp": "MQTT -> AMQP", "to-mqtt": "AMQP -> MQTT"}

BridgeContext = Callable[[Brokers, Job, Path], AbstractContextManager[int]]


def body() -> bytes:
    """A JSON text that tells when it was made."""
    return f'"{time.monotonic_ns()} {PAD}"'.encode()


def age_ms(data: bytes) -> float:
    """How long ago that was."""
    return (time.monotonic_ns() - int(data[1:].split()[0])) / 1e6


async def by_the_clock(send: Callable[[], object]) -> None:
    """So many a second, one by one."""
    began = time.monotonic()
    for n in range(WARM_UP + RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + n / RATE - time.monotonic()))
        result = send()
        if asyncio.iscoroutine(result):
            await result


async def ages(brokers: Brokers, job: Job, bridge: BridgeContext, directory: Path) -> list[float]:
    """Milliseconds under way of every message after the warm-up."""
    await brokers.prepare(job)
    context = bridge(brokers, job, directory)
    await asyncio.to_thread(context.__enter__)
    settings = MqttSettings(
        host="127.0.0.1", port=int(brokers.mqtt.rpartition(":")[2]), client_id=f"latency-{job.mark}", instance="latency"
    )
    try:
        async with MqttConnector(settings).connect() as session:
            found = await (_to_amqp if job.direction == TO_AMQP else _to_mqtt)(brokers, job, session)
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
    return found[WARM_UP:]


async def _to_amqp(brokers: Brokers, job: Job, session: MqttSession) -> list[float]:
    found: list[float] = []

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        found.append(age_ms(message.body))

    queue = await brokers.channel.get_queue(job.queue(0))
    tag = await queue.consume(take, no_ack=True)
    topic = mqtt(job.topic(0))
    await by_the_clock(lambda: session.submit(topic, Message(f"l{time.monotonic_ns()}", body()), lambda problem: None))
    await _all(found)
    await queue.cancel(tag)
    return found


async def _to_mqtt(brokers: Brokers, job: Job, session: MqttSession) -> list[float]:
    found: list[float] = []
    await session.subscribe(mqtt(job.topic(0)), 1000)

    async def take() -> None:
        async for delivery in session.deliveries():
            found.append(age_ms(delivery.message.body))
            session.settle_soon(delivery, Outcome.ACCEPTED)

    taking = asyncio.create_task(take())
    exchange = await brokers.channel.get_exchange(job.queue(0), ensure=False)
    await by_the_clock(
        lambda: exchange.publish(aio_pika.Message(body(), delivery_mode=2, content_type="application/json"), "")
    )
    await _all(found)
    taking.cancel()
    with suppress(asyncio.CancelledError):
        await taking
    return found


async def _all(found: list[float]) -> None:
    async with asyncio.timeout(30):
        while len(found) < WARM_UP + RATE * SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def latencies(brokers: Brokers, directory: Path, runs: int, table: Table) -> None:
    """Both directions; the median of the runs."""
    for direction, name in DIRECTIONS.items():
        halves: dict[str, list[float]] = {"ours": [], "node": []}
        tails: dict[str, list[float]] = {"ours": [], "node": []}
        for run in range(runs):
            for who, bridge in (("ours", gateway_bridge), ("node", node_bridge)):
                job = Job(direction, 1, 0, 64, f"latency-{direction}-{run}-{who}")
                found = quantiles(await ages(brokers, job, bridge, directory / job.mark), n=100)
                halves[who].append(found[49])
                tails[who].append(found[98])
        ours, node = median(halves["ours"]), median(halves["node"])
        table.row(
            f"{name} at {RATE} messages/s: p50, ms",
            f"{ours:.2f}",
            f"Node: {node:.2f}, ratio {ours / node:.2f}; <= 1.25, wanted 1",
        )
        table.row("... p99, ms", f"{median(tails['ours']):.1f}", f"Node: {median(tails['node']):.1f}")
