"""The coordinator and the daemon as a whole: planning, announcements, edits, idling, starting, catching up.

python -m benchmarks.coordinator
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

import aiohttp

from benchmarks.feeder import GRAPH
from benchmarks.measure import Table, as_installed, cpu_seconds, peak_rss_mib, rss_mib, runner
from benchmarks.serial import feeder
from gateway.config.schema import DeliverySection, SerialSection
from gateway.coordinator.core.delivery_contracts import EdgeSettings
from gateway.coordinator.core.planner import Planner
from gateway.coordinator.core.registry import Registry
from gateway.coordinator.participants_file import save_participants
from gateway.files import write_file_safely
from gateway.model.address import mqtt
from gateway.model.discovery import render_discovery
from gateway.model.graph import Edge, Graph, Node
from gateway.model.message import Message
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef, PortRef
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttConnector, MqttSession
from gateway.serial_link.paired.boards import Boards
from tests.support.boards import request
from tests.support.gateway import COMMAND, Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto
from tests.support.strange_frames import largest_frames, small_session, strange_frames

CONFIG = """\
[gateway]
instance = "bench"
log_level = "error"
[mqtt]
url = "{url}"
[coordinator]
graph = "{graph}"
"""
NODES, EDGES = 64, 105
PARTICIPANTS, PERIOD_S = 2000, 27.0
IDLE_S = 20.0
EDITS = 30
LIMIT_S = 60.0


def participant(name: str, ports: int = 4) -> Participant:
    """One on MQTT, with so many ports each way."""
    outs = tuple(PortDef(f"out{n}", Direction.OUT, queue=f"bench/{name}/out{n}") for n in range(ports))
    ins = tuple(PortDef(f"in{n}", Direction.IN, queue=f"bench/{name}/in{n}") for n in range(ports))
    return Participant(f"{name}-1", name, "Bench", "mqtt", inports=ins, outports=outs)


def wide_graph(edges: int, nodes: int = NODES) -> Graph:
    """Every node to one of those behind it."""
    ends = (
        (PortRef(f"n{n % nodes}", f"out{n // nodes}"), PortRef(f"n{(n + 1 + n // nodes) % nodes}", f"in{n // nodes}"))
        for n in range(edges)
    )
    return Graph(
        name="bench",
        nodes=tuple(Node(f"n{n}", "Bench") for n in range(nodes)),
        order=tuple(Edge(src, tgt) for src, tgt in ends),
    )


def planning() -> float:
    """Milliseconds to plan the graph: the best of twenty."""
    registry = Registry(600.0)
    for n in range(NODES):
        registry.heard(participant(f"n{n}"), 0.0)
    planner, graph = Planner("bench", EdgeSettings(DeliverySection())), wide_graph(EDGES)
    times = []
    for _ in range(20):
        began = time.process_time()
        plan = planner.plan(graph, registry, ())
        times.append(time.process_time() - began)
    assert len(plan.bindings) == EDGES
    return min(times) * 1000


def stalling() -> tuple[float, float]:
    """Milliseconds of CPU that the slowest of 100,000 strange FBP messages takes, and the slowest of the longest."""

    def slowest(frames: Iterable[str]) -> float:
        session, worst = small_session(), 0.0
        for text in frames:
            began = time.process_time()
            session.receive(text)
            worst = max(worst, time.process_time() - began)
        return worst * 1000

    return slowest(strange_frames(100_000)), slowest(largest_frames())


def fbp_text(edges: int, nodes: int = NODES) -> str:
    """The same graph as a file."""
    graph = wide_graph(edges, nodes)
    lines = [f"{node.id}(Bench)" for node in graph.nodes]
    lines += [f"{e.src.node} {e.src.port.upper()} -> {e.tgt.port.upper()} {e.tgt.node}" for e in graph.edges]
    return "\n".join(lines) + "\n"


@contextmanager
def daemon(directory: Path, url: str, graph: str = "", known: int = 0) -> Iterator[Gateway]:
    """A gateway that knows ``known`` participants from before and is connected."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bench.fbp").write_text(graph)
    with gateway_with(directory, CONFIG.format(url=url, graph=directory / "bench.fbp")) as gateway:
        gateway.environment = as_installed()
        if known:
            save_participants(gateway.state / "participants.json", [participant(f"n{n}") for n in range(known)])
        yield gateway


@asynccontextmanager
async def client(broker: Mosquitto) -> AsyncIterator[MqttSession]:
    """A connection of the benchmark's own."""
    settings = MqttSettings(host="127.0.0.1", port=broker.port, client_id="bench-client", instance="client")
    async with MqttConnector(settings).connect() as session:
        yield session


async def announcing(directory: Path, broker: Mosquitto) -> tuple[float, float]:
    """CPU microseconds of the daemon for an announcement of somebody it knows; its MiB with so many of them."""
    with daemon(directory, broker.url) as gateway:
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(gateway.wait_up, "mqtt")
        bodies = [render_discovery(participant(f"p{n}", 2)) for n in range(PARTICIPANTS)]

        def heard(count: int) -> bool:
            return bool(gateway.status()["discovery"]["heard"] >= count)

        async with client(broker) as session:

            async def announce(pause_s: float) -> None:
                for n, body in enumerate(bodies):
                    await session.publish(mqtt("fbp"), Message(f"d{time.monotonic_ns()}", body))
                    if n % 20 == 19:
                        await asyncio.sleep(pause_s)

            await announce(0)
            await asyncio.to_thread(until, "all were heard", lambda: heard(PARTICIPANTS))
            await asyncio.sleep(1.0)
            pid = gateway.daemon.pid
            before = cpu_seconds(pid)
            await announce(0.05)
            spent = cpu_seconds(pid) - before
            await asyncio.to_thread(until, "all were heard again", lambda: heard(2 * PARTICIPANTS))
            return spent / PARTICIPANTS * 1e6, rss_mib(pid)


async def editing(directory: Path, broker: Mosquitto) -> tuple[float, float, float]:
    """Milliseconds from an edit to its reply, to the first message over the new edge; and to sync such a file alone."""
    with daemon(directory, broker.url, fbp_text(EDGES), NODES) as gateway:
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(gateway.wait_up, "mqtt")
        line = gateway.daemon.wait_line("gateway ready")
        url = next(part for part in line.split(", ") if part.startswith("ws://"))
        replies, firsts = [], []
        async with client(broker) as session, aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
            for n in range(EDITS):
                reply, first = await edit(session, socket, n)
                replies.append(reply)
                firsts.append(first)
    data = fbp_text(EDGES).encode()
    times = []
    for _ in range(EDITS):
        began = time.monotonic()
        write_file_safely(directory / "alone.fbp", data, keep_previous=".1")
        times.append(time.monotonic() - began)
    return median(replies) * 1000, median(firsts) * 1000, median(times) * 1000


async def edit(session: MqttSession, socket: aiohttp.ClientWebSocketResponse, n: int) -> tuple[float, float]:
    """One new edge; somebody publishes at its source every 5 ms until something arrives at its target."""
    src, tgt = {"node": f"n{n}", "port": "out3"}, {"node": f"n{n + 20}", "port": "in3"}
    arrived = mqtt(f"bench/n{n + 20}/in3")
    await session.subscribe(arrived, 100)

    async def first() -> float:
        async for delivery in session.deliveries():
            await session.settle(delivery, "accepted")  # type: ignore[arg-type]
            if delivery.source == arrived:
                return time.monotonic()
        raise RuntimeError("the deliveries ended")

    waiting = asyncio.create_task(first())
    began = time.monotonic()
    await socket.send_json(
        {
            "protocol": "graph",
            "command": "addedge",
            "payload": {"graph": "default/main", "src": src, "tgt": tgt},
        }
    )
    replied: list[float] = []

    async def reply() -> None:
        while (answer := await socket.receive_json(timeout=LIMIT_S))["command"] != "addedge":
            if answer["command"] == "error":
                raise RuntimeError(str(answer))
        replied.append(time.monotonic())

    answered = asyncio.create_task(reply())
    async with asyncio.timeout(LIMIT_S):
        while not waiting.done():
            await session.publish(mqtt(f"bench/n{n}/out3"), Message(f"e{time.monotonic_ns()}", b"1"))
            await asyncio.sleep(0.005)
        await answered
    await session.unsubscribe(arrived)
    return replied[0] - began, waiting.result() - began


async def pair_boards(gateway: Gateway, links: list[Path]) -> None:
    """Into the state directory of a gateway that does not run yet."""
    gateway.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    section = SerialSection(boot_wait_s=0.0)
    boards = Boards(gateway.state, section, on_change=lambda: None, on_running=lambda board_id: None)
    boards.load()
    for n, link in enumerate(links):
        await boards.pair(request(link, GRAPH, role=f"board{n}"))


async def idling(directory: Path, broker: Mosquitto) -> tuple[float, float]:
    """Share of a core and MiB with ten silent boards and a hundred edges."""
    with (
        feeder(directory / "boards", 10) as boards,
        daemon(directory / "gateway", broker.url, fbp_text(100), NODES) as gateway,
    ):
        await pair_boards(gateway, boards.links)
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(until, "the boards run", lambda: boards_running(gateway) == 10)
        await asyncio.sleep(3.0)
        pid = gateway.daemon.pid
        before, began = cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(IDLE_S)
        return (cpu_seconds(pid) - before) / (time.monotonic() - began), peak_rss_mib(pid)


def boards_running(gateway: Gateway) -> int:
    """How many boards run."""
    return sum(board["state"] == "running" for board in gateway.status()["boards"])


async def starting(directory: Path) -> tuple[float, float]:
    """Seconds from the start to ready, and of CPU; a hundred boards stored (none plugged in), no broker there."""
    with daemon(directory / "gateway", "mqtt://127.0.0.1:9") as gateway:
        with feeder(directory / "boards", 100) as boards:
            await pair_boards(gateway, boards.links)
        times, spent = [], []
        for _ in range(3):
            began = time.monotonic()
            await asyncio.to_thread(gateway.start)
            times.append(time.monotonic() - began)
            spent.append(cpu_seconds(gateway.daemon.pid))
            await asyncio.to_thread(gateway.daemon.stop)
        return median(times), median(spent)


def command_seconds(*command: str) -> float:
    """CPU seconds of a command: the best of five, for a start is all system calls and page faults."""
    environment = os.environ | as_installed()
    times = []
    for _ in range(5):
        before = getrusage(RUSAGE_CHILDREN)  # in microseconds; os.times has ticks of ten milliseconds
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S, env=environment)
        after = getrusage(RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def helping(directory: Path) -> tuple[float, float]:
    """CPU milliseconds of ``gateway --help``, and of a bare click program."""
    bare = directory / "bare.py"
    bare.write_text("import click\n@click.group()\ndef main(): 'Nothing.'\nmain()\n")
    ours, peer = command_seconds(str(COMMAND), "--help"), command_seconds(sys.executable, str(bare), "--help")
    return ours * 1000, peer * 1000


async def run(directory: Path, broker: Mosquitto, table: Table) -> None:
    """All of it."""
    table.row(f"a graph of {NODES} nodes and {EDGES} edges planned, ms", f"{planning():.1f}", "< 100")
    strange, longest = stalling()
    table.row(
        "the slowest of 100,000 strange FBP messages, ms",
        f"{strange:.1f}",
        f"< 100; of a frame of 1 MiB: {longest:.0f}",
    )
    cost, rss = await announcing(directory / "announcing", broker)
    share = cost * PARTICIPANTS / PERIOD_S / 1e6
    note = f"< 10 %; {cost:.0f} us each, {rss:.0f} MiB"
    table.row(f"{PARTICIPANTS} participants announcing every {PERIOD_S:.0f} s: share of a core", f"{share:.1%}", note)
    reply, first, sync = await editing(directory / "editing", broker)
    table.row("edit to its reply, ms", f"{reply:.0f}", f"writing and syncing such a file alone: {sync:.0f}")
    table.row("edit to the first message over the new edge, ms", f"{first:.0f}", "< 200")
    share, rss = await idling(directory / "idling", broker)
    table.row("idle, 10 boards and 100 edges: share of a core", f"{share:.2%}", "<= 0.5 %, wanted 0.2 %")
    table.row("... memory at most, MiB", f"{rss:.0f}", "<= 80, wanted 45")
    ours, peer = helping(directory)
    table.row(
        "`gateway --help`, CPU ms", f"{ours:.0f}", f"a bare click program: {peer:.0f}, ratio {ours / peer:.2f}, <= 3"
    )
    ready, cpu = await starting(directory / "starting")
    table.row(
        "start to ready, 100 boards stored, no broker, s", f"{ready:.2f}", f"<= 3, wanted 1; {cpu:.2f} of them CPU"
    )


def main() -> None:
    """Alone."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        broker = Mosquitto(Path(name) / "mosquitto")
        broker.start()
        try:
            with runner() as loop:
                loop.run(run(Path(name), broker, Table("coordinator and daemon", "wanted")))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
