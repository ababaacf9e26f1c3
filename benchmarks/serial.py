"""Boards on ptys: what reading a command costs, what its way to MQTT adds, and requests one at a time.

    python -m benchmarks.serial

Everything but boards and broker is in this one process, so that its CPU time is that of the gateway's own code. The
rate is the line's limit at 115200 baud: 1152 commands of ten bytes a second from each board.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.feeder import GRAPH
from benchmarks.measure import Table, runner
from gateway.config.schema import SerialSection
from gateway.model.address import mqtt, serial
from gateway.model.binding import Binding
from gateway.model.message import Message, Outcome
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttConnector
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import Pump
from gateway.serial_link.connected.board_session import BoardSession
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.records.board_status import BoardStatus
from gateway.spool.sqlite import SqliteStore
from tests.support.boards import request
from tests.support.gateway import Process
from tests.support.mosquitto import Mosquitto

RATE = 1152
"""Commands a second on a line at 115200 baud: ten bits a byte, ten bytes a command."""

LINE_LIMIT = RATE // 2
"""Requests a second, if each waits for the answer to the one before: ten bytes there and ten back."""

CHECKED_LIMIT = 11_520 // 22
"""The same with the checksum that our firmware agrees on: eleven bytes there and eleven back."""

STEP_S = 0.02
"""What a board has to say in this time comes together, as from an adapter on USB with its usual latency timer of 16 ms."""

SHORT_STEP_S = 0.001
"""The same of an adapter that keeps nothing back: every command comes by itself, or two."""

SECONDS = 5
MANY = 16
REQUESTS = 500
LIMIT_S = 120.0
LOOK_S = 0.002
POLL_S = 0.05
"""How often it is looked whether all has come, and whether the books say so, which costs more."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A run: seconds, CPU seconds of this process, commands."""

    seconds: float
    cpu_s: float
    commands: int

    @property
    def rate(self) -> float:
        """Commands a second."""
        return self.commands / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a command."""
        return self.cpu_s / self.commands * 1e6

    @property
    def core_share(self) -> float:
        """Share of one core while it ran."""
        return self.cpu_s / self.seconds


class Feeder:
    """The boards' process (``benchmarks.feeder``)."""

    def __init__(self, directory: Path, count: int) -> None:
        self.links = [directory / f"tty{n}" for n in range(count)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.feeder", str(directory), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def _line(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the boards' process has ended")

    def send(self, commands: int, rate: float, step_s: float = STEP_S) -> None:
        """Have each board send; returns when the last command is on its pty."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{commands} {rate} {step_s}\n")
        self._process.stdin.flush()
        self._line()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def feeder(directory: Path, count: int) -> Iterator[Feeder]:
    """Boards while the block runs."""
    directory.mkdir(parents=True)
    boards = Feeder(directory, count)
    try:
        yield boards
    finally:
        boards.close()


@dataclass(frozen=True, slots=True)
class Connected:
    """A board, paired and connected."""

    id: str
    session: BoardSession
    status: BoardStatus


@asynccontextmanager
async def sessions(state: Path, links: list[Path], graph: str = GRAPH) -> AsyncIterator[list[Connected]]:
    """Boards paired and connected."""
    boards = Boards(state, SerialSection(boot_wait_s=0.0), on_change=lambda: None, on_running=lambda board_id: None)
    boards.load()
    async with AsyncExitStack() as stack:
        found = []
        for n, link in enumerate(links):
            paired = await boards.pair(request(link, graph, role=f"board{n}"))
            board_id = paired["id"]
            session = await stack.enter_async_context(boards.connector(board_id).connect())
            found.append(Connected(board_id, session, boards.state(board_id)))
        yield found


async def measured(
    commands: int, begin: Callable[[], Awaitable[None]], is_over: Callable[[], bool], look_s: float = LOOK_S
) -> Spent:
    """From the start of ``begin`` until ``is_over``, which is asked after it: who asks meanwhile is measured too."""
    cpu, clock = time.process_time(), time.monotonic()
    await begin()
    async with asyncio.timeout(LIMIT_S):
        while not is_over():  # noqa: ASYNC110
            await asyncio.sleep(look_s)
    return Spent(time.monotonic() - clock, time.process_time() - cpu, commands)


async def reading(directory: Path, count: int, rate: float, seconds: float = SECONDS, step_s: float = STEP_S) -> Spent:
    """From the ptys to deliveries, settled at once; no target."""
    commands = int((rate or RATE * 4) * seconds)
    with feeder(directory / "boards", count) as boards:
        async with sessions(directory / "state", boards.links) as found:
            missing = commands * count

            async def take(board: Connected) -> None:
                nonlocal missing
                async for first in board.session.deliveries():
                    deliveries = (first, *board.session.more())
                    for delivery in deliveries:
                        board.session.settle_soon(delivery, Outcome.ACCEPTED)
                    missing -= len(deliveries)

            for one in found:
                await one.session.subscribe(serial(one.id, "out"), 256)
            tasks = [asyncio.create_task(take(one)) for one in found]
            spent = await measured(
                commands * count, lambda: asyncio.to_thread(boards.send, commands, rate, step_s), lambda: missing <= 0
            )
            await ended(tasks)
            return spent


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel, and wait."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, ExceptionGroup):
            await task


def settings(broker: Mosquitto) -> MqttSettings:
    """For the benchmark's broker."""
    return MqttSettings(host="127.0.0.1", port=broker.port, client_id="bench-serial", instance="bench")


async def to_mqtt(directory: Path, broker: Mosquitto, count: int, step_s: float = STEP_S) -> tuple[Spent, int]:
    """From the ptys through the router to a broker at QoS 1, at the lines' rate; how many of them had to go to the disk.

    None where the machine keeps up.
    """
    commands = RATE * SECONDS
    store = SqliteStore(directory / "spool.db", max_bytes=1 << 30, disk_reserve_bytes=0)
    pump = Pump(store)
    with feeder(directory / "boards", count) as boards:
        async with (
            sessions(directory / "state", boards.links) as found,
            MqttConnector(settings(broker)).connect() as broker_session,
        ):
            pump.install(
                RouteTable.of(Binding(f"b{n}", serial(one.id, "out"), mqtt(f"b/{n}")) for n, one in enumerate(found))
            )
            tasks = [asyncio.create_task(pump.run())]
            tasks.append(asyncio.create_task(pump.serve(broker_session, "mqtt")))
            tasks += [asyncio.create_task(pump.serve(one.session, f"serial:{one.id}")) for one in found]
            await asyncio.sleep(0.5)  # until all have subscribed

            def is_over() -> bool:
                dropped = sum(one.status.counters.readings_dropped for one in found)
                delivered = sum(int(entry["delivered"]) for entry in pump.status())
                return delivered + dropped >= commands * count

            try:
                spent = await measured(
                    commands * count, lambda: asyncio.to_thread(boards.send, commands, RATE, step_s), is_over, POLL_S
                )
                return spent, sum(entry["spilled"] for entry in pump.status())
            finally:
                await ended(tasks)
                await store.close()


async def publishing(broker: Mosquitto, count: int) -> Spent:
    """The same messages at the same pace from memory: what the publishing alone costs."""
    messages = RATE * SECONDS * count
    topics = [mqtt(f"b/{n}") for n in range(count)]
    bodies = [b"%d" % (2000 + n) for n in range(512)]
    now = int(time.time() * 1000)
    async with MqttConnector(settings(broker)).connect() as session:
        missing = messages

        def done(problem: object) -> None:
            nonlocal missing
            missing -= 1

        async def publish() -> None:
            began, sent = time.monotonic(), 0
            while sent < messages:
                due = min(messages, int((time.monotonic() - began + 0.02) * RATE * count))
                for n in range(sent, due):
                    message = Message(f"a-board-{n}", bodies[n % 512], "application/json", now, True, "serial:a.out")
                    session.submit(topics[n % count], message, done)
                sent = due
                await asyncio.sleep(0.02)

        return await measured(messages, publish, lambda: missing <= 0)


def mosquitto_pub(broker: Mosquitto) -> float:
    """CPU microseconds a message of Mosquitto's own tool, in C."""
    messages = RATE * SECONDS * MANY
    before = os.times()
    command = ["mosquitto_pub", "-p", str(broker.port), "-V", "mqttv5", "-q", "1", "-t", "b/0", "-l"]
    subprocess.run(command, input=b"2000\n" * messages, check=True, timeout=LIMIT_S)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent / messages * 1e6


async def one_at_a_time(directory: Path, link: Path) -> tuple[Spent, float]:
    """Sends to an inport, each answered by the board before the next: what they take and cost; seconds of the median one."""
    async with sessions(directory / "state", [link]) as found:
        session = found[0].session
        target = serial(found[0].id, "in")
        cpu, began = time.process_time(), time.monotonic()
        ends = [began]
        for n in range(REQUESTS):
            await session.publish(target, Message(f"r{n}", b"%d" % n))
            ends.append(time.monotonic())
        spent = Spent(ends[-1] - began, time.process_time() - cpu, REQUESTS)
        return spent, statistics.median(after - before for before, after in pairwise(ends))


async def on_an_uno(fresh: Callable[[], Path], table: Table) -> None:
    """The same with an emulated Uno. The median is shown too: on a busy machine single requests wait for milliseconds."""
    link = fresh() / "tty"
    uno = await asyncio.to_thread(lambda: Process("simulate", "--firmware", "uno", "--link", str(link)))
    try:
        await asyncio.to_thread(uno.wait_line, "board ready")
        runs = [await one_at_a_time(fresh(), link) for _ in range(3)]
    finally:
        uno.stop()
    spent, middle_s = max((run[0] for run in runs), key=lambda one: one.rate), min(run[1] for run in runs)
    note = (
        f"the line's limit with checksums: {CHECKED_LIMIT}, ratio {spent.rate / CHECKED_LIMIT:.2f}; >= 0.9, wanted 0.95"
    )
    note += f" (without: {LINE_LIMIT}, ratio {spent.rate / LINE_LIMIT:.2f}); the median request took "
    note += f"{middle_s * 1e3:.2f} ms, ratio {1 / middle_s / CHECKED_LIMIT:.2f}"
    table.row("... an emulated Uno at 115200 baud: requests/s, best of three", f"{spent.rate:,.0f}", note)


async def run(directory: Path, broker: Mosquitto, table: Table) -> None:
    """All of it."""

    def fresh() -> Path:
        path = Path(tempfile.mkdtemp(dir=directory))
        path.chmod(0o700)
        return path

    for count in (1, MANY):
        spent = await reading(fresh(), count, RATE)
        board = "1 board" if count == 1 else f"{count} boards"
        table.row(f"reading, {board} at {RATE}/s each: share of a core", f"{spent.core_share:.1%}", "")
        table.row(f"reading, {board}: CPU us/command", f"{spent.cpu_us:.1f}", "")
    spent = await reading(fresh(), MANY, RATE, step_s=SHORT_STEP_S)
    table.row(f"... {MANY} boards, in steps of 1 ms: CPU us/command", f"{spent.cpu_us:.1f}", "")
    spent = await reading(fresh(), 1, 0, 4)
    table.row("reading, 1 board as fast as it goes: commands/s", f"{spent.rate:,.0f}", f"line: {RATE:,}")
    (with_boards, spilled), alone = await to_mqtt(fresh(), broker, MANY), await publishing(broker, MANY)
    share = f"{with_boards.core_share:.0%} of a core at {with_boards.rate:,.0f}/s"
    share += (
        f"; {spilled:,} of {with_boards.commands:,} went over the disk, for the machine was busy" if spilled else ""
    )
    table.row(f"serial -> MQTT QoS 1, {MANY} boards: CPU us/command", f"{with_boards.cpu_us:.1f}", share)
    stepwise, _ = await to_mqtt(fresh(), broker, MANY, SHORT_STEP_S)
    table.row("... in steps of 1 ms: CPU us/command", f"{stepwise.cpu_us:.1f}", "")
    peer = await asyncio.to_thread(mosquitto_pub, broker)
    note = f"mosquitto_pub -l: {peer:.1f}, ratio {alone.cpu_us / peer:.2f}; <= 3, wanted 1.5"
    table.row("MQTT QoS 1 publish, CPU us/message", f"{alone.cpu_us:.1f}", note)
    table.row("... serial -> MQTT beside it", f"{with_boards.cpu_us / alone.cpu_us:.2f}", "<= 1.5, wanted 1.2")
    with feeder(directory / "one", 1) as boards:
        spent, _ = await one_at_a_time(fresh(), boards.links[0])
    table.row("requests one at a time, simulated board without a line: requests/s", f"{spent.rate:,.0f}", "")
    table.row("... CPU us/request", f"{spent.cpu_us:.0f}", "")
    await on_an_uno(fresh, table)


def main() -> None:
    """Alone."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        broker = Mosquitto(Path(name) / "mosquitto")
        broker.start()
        try:
            table = Table("boards", "wanted")
            with runner() as loop:
                loop.run(run(Path(name), broker, table))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
