"""``python -m benchmarks.run``: every path beside its peer in the same run, as tables of ratios.

Runs alternate between ours and the peer's, and the median of each figure counts, so that a noisy machine is noisy for
both. What is printed is also written to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aio_pika

from benchmarks import coordinator, serial
from benchmarks.bridge import (
    MQTT_ONLY,
    TO_AMQP,
    TO_MQTT,
    Brokers,
    Job,
    confirming_bridge,
    drain,
    gateway_bridge,
    node_bridge,
)
from benchmarks.latency import latencies
from benchmarks.measure import HEAD, Figures, Table, median, row, runner
from benchmarks.outage import outage
from examples.private_rabbitmq import PrivateRabbitMQ
from tests.support.mosquitto import Mosquitto

RESULTS = Path(__file__).parent / "results"
SECTIONS = ("bridge", "latency", "outage", "serial", "coordinator")

JOBS = [
    ("MQTT -> AMQP, 1 binding, 64 B", TO_AMQP, 1, 64),
    ("MQTT -> AMQP, 50 bindings, 64 B", TO_AMQP, 50, 64),
    ("MQTT -> AMQP, 1 binding, 4 KiB", TO_AMQP, 1, 4096),
    ("AMQP -> MQTT, 1 binding, 64 B", TO_MQTT, 1, 64),
    ("AMQP -> MQTT, 50 bindings, 64 B", TO_MQTT, 50, 64),
    ("MQTT -> MQTT, 1 binding, 64 B", MQTT_ONLY, 1, 64),
]
EQUAL_PROMISE = "MQTT -> AMQP, 1 binding, 64 B, the peer acknowledges after the confirm too"
FEWER = 5
"""The confirming peer takes one message after the other: it gets a part of the messages."""


async def bridges(brokers: Brokers, directory: Path, runs: int, messages: int) -> list[str]:
    """The table of the bridge."""
    with gateway_bridge(brokers, Job(MQTT_ONLY, 1, 0, 2, "compiling"), directory / "compiling"):
        pass  # pip compiles when it installs; here the first start does, which would cost the first row 7 MiB
    lines = HEAD.splitlines()
    print(HEAD, flush=True)
    for number, (name, direction, bindings, size) in enumerate(JOBS):
        ours: list[Figures] = []
        peers: list[Figures] = []
        for run in range(runs):
            for who, figures in ((gateway_bridge, ours), (node_bridge, peers)):
                mark = f"{number}-{run}-{who.__name__}"
                figures.append(
                    await drain(brokers, Job(direction, bindings, messages, size, mark), who, directory / mark)
                )
        lines.append(row(name, median(ours), median(peers)))
        print(lines[-1], flush=True)
        if number == 0:
            job = Job(direction, bindings, messages // FEWER, size, "confirming")
            equal = await drain(brokers, job, confirming_bridge, directory / "confirming")
            lines.append(row(EQUAL_PROMISE, median(ours), equal))
            print(lines[-1], flush=True)
    return lines


async def sections(wanted: list[str], directory: Path, broker: Mosquitto, runs: int, messages: int) -> list[str]:
    """The tables that are wanted, one after the other."""
    lines: list[str] = []
    if {"bridge", "latency", "outage"}.intersection(wanted):
        with PrivateRabbitMQ(directory / "rabbitmq") as amqp:
            connection = await aio_pika.connect(amqp.url)
            async with connection:
                brokers = Brokers(broker.url, amqp.url, await connection.channel(publisher_confirms=False))
                if "bridge" in wanted:
                    lines += [*await bridges(brokers, directory, runs, messages), ""]
                if "latency" in wanted:
                    table = Table("latency", "beside")
                    await latencies(brokers, directory, runs, table)
                    lines += [*table.lines, ""]
                if "outage" in wanted:
                    table = Table("outage", "")
                    await outage(brokers, directory, table)
                    lines += [*table.lines, ""]
    if "serial" in wanted:
        table = Table("boards", "beside, or wanted")
        await serial.run(directory, broker, table)
        lines += [*table.lines, ""]
    if "coordinator" in wanted:
        table = Table("coordinator and daemon", "beside, or wanted")
        await coordinator.run(directory, broker, table)
        lines += [*table.lines, ""]
    return lines


def main() -> None:
    """Start the brokers, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each side; the median counts")
    parser.add_argument("--messages", type=int, default=10_000, help="messages of each run")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; several times: these")
    options = parser.parse_args()
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        broker = Mosquitto(directory / "mosquitto")
        broker.start()
        stack.callback(broker.stop)
        with runner() as loop:
            wanted = options.only or list(SECTIONS)
            lines = loop.run(sections(wanted, directory, broker, options.runs, options.messages))
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    lines.append(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load} at the end, "
        f"{options.runs} runs, {time.monotonic() - began:.0f} s"
    )
    print(lines[-1])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y-%m-%d-%H%M%S.md")
    path.write_text("\n".join(lines) + "\n")
    print(f"written to benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
