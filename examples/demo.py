"""The demo: a simulated board, the gateway, MQTT, RabbitMQ and a cloud worker, live in this terminal.

``make demo`` runs it until Ctrl-C; ``make demo DEMO_SECONDS=20`` for so long, and then it prints a summary as one line
of JSON. ``DEMO_AMQP=URL`` uses a broker that runs already instead of a private RabbitMQ. Exit codes: 0 readings went
both ways and none was lost; 1 not so; 3 there is no RabbitMQ, and the readings wait in the spool, or none answers at
``DEMO_AMQP``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from examples.private_rabbitmq import PrivateRabbitMQ, RabbitMQMissing
from examples.simulated_board import ask_board
from gateway.firmware.sources import component_map

HERE = Path(__file__).parent
DRAIN_S = 5.0
START_S = 60.0
LONGEST_S = 1e6
STOP_S = 15.0
CONNECT_S = 10.0
USAGE = 2
ABSENT = 3

CONFIG = """\
[gateway]
instance = "demo"
[amqp]
url = "{amqp}"
[coordinator]
graph = "{graph}"
[delivery.edge."attic.temp->cloud.reading"]
mode = "stored"
"""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


def say(who: str, text: str) -> None:
    """One line in the terminal, with who says it."""
    colour = {"board": 33, "gateway": 36, "mqtt": 35, "worker": 32}.get(who, 1)
    name = f"\x1b[{colour}m{who:>8}\x1b[0m" if sys.stdout.isatty() else f"{who:>8}"
    sys.stdout.write(f"{name} | {text}\n")  # in one piece: several threads speak
    sys.stdout.flush()


@dataclass
class Child:
    """A process of the demo, whose lines appear under its name."""

    name: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    seen: threading.Condition = field(default_factory=threading.Condition)

    def relay(self) -> None:
        """Copy its output until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            say(self.name, line.rstrip("\n"))
            with self.seen:
                self.lines.append(line)
                self.seen.notify_all()
        with self.seen:
            self.seen.notify_all()

    def wait_line(self, words: str) -> None:
        """Until it has printed a line with these words; ``RuntimeError`` if it ends or takes too long."""
        with self.seen:
            self.seen.wait_for(
                lambda: any(words in line for line in self.lines) or self.process.poll() is not None, timeout=START_S
            )
        if not any(words in line for line in self.lines):
            raise RuntimeError(f"{self.name} did not come up")


@contextmanager
def child(name: str, *command: str, **environment: str) -> Iterator[Child]:
    """Run a command in the background; it is ended with the block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends everything in order
    )
    running = Child(name, process)
    thread = threading.Thread(target=running.relay, name=f"demo:{name}")
    thread.start()
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        thread.join()


@dataclass
class Demo:
    """The parts of one run."""

    directory: Path
    amqp: str
    board_link: Path = field(init=False)
    count_file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.board_link = self.directory / "ttyDEMO"
        self.count_file = self.directory / "readings-at-queue"
        config = CONFIG.format(amqp=self.amqp, graph=HERE / "demo.fbp")
        (self.directory / "gateway.toml").write_text(config)

    def gateway(self, *arguments: str) -> tuple[str, ...]:
        """A gateway command on this run's own state."""
        places = ("--config", str(self.directory / "gateway.toml"), "--state-dir", str(self.directory / "state"))
        return (sys.executable, "-m", "gateway", *places, *arguments)

    def start(self, stack: ExitStack) -> None:
        """Board, pairing, gateway, and the worker if there is a broker for it."""
        graph = str(HERE / "thermometer.fbp")
        board = stack.enter_context(
            child("board", *self.gateway("simulate", "--graph", graph, "--link", str(self.board_link)))
        )
        board.wait_line("board ready")
        components = str(component_map())
        pair = ("pair", str(self.board_link), "--role", "attic", "--graph", graph, "--components", components)
        values = ("--port", "temp:type=number,scale=0.01,unit=°C", "--port", "fan:type=boolean")
        with child("gateway", *self.gateway(*pair, *values)) as pairing:
            if pairing.process.wait(START_S) != 0:
                raise RuntimeError("the board could not be paired")
        if self.amqp:
            worker = (sys.executable, "-m", "examples.cloud_worker", "--url", self.amqp)
            stack.enter_context(child("worker", *worker, "--count-file", str(self.count_file)))
        stack.enter_context(child("gateway", *self.gateway("run"))).wait_line("gateway ready")
        stack.enter_context(child("mqtt", *self.gateway("watch")))

    def board(self) -> dict[str, Any]:
        """The board's own counters since its graph was uploaded last."""
        stats: dict[str, Any] = ask_board(self.board_link, "stats")
        return stats

    def readings_sent(self) -> int:
        """Readings that left the board's thermometer."""
        return int(self.board()["packets_sent"].get("sensor.out", 0))

    def readings_at_queue(self) -> int:
        """Different readings that the worker took from its queue (a repeated one counts once)."""
        if not self.count_file.exists():
            return 0
        return len({line.split()[0] for line in self.count_file.read_text().splitlines() if line})

    def in_spool(self) -> int:
        """Readings that wait on disk."""
        output = subprocess.run(
            self.gateway("spool", "list", "--json"), capture_output=True, text=True, check=True, timeout=START_S
        ).stdout
        return sum(record["edge"] == "attic.temp->cloud.reading" for record in json.loads(output)["records"])

    def drain(self) -> None:
        """Stop the board's clock, and give what is under way up to five seconds."""
        ask_board(self.board_link, "pause")
        expected: Callable[[], int] = self.readings_at_queue if self.amqp else self.in_spool
        deadline = time.monotonic() + DRAIN_S
        while expected() < self.readings_sent() and time.monotonic() < deadline:
            time.sleep(0.1)

    def summary(self) -> dict[str, Any]:
        """The line of JSON: what left the board and what arrived. Lost is what is neither at the queue nor on disk."""
        sent, arrived = self.readings_sent(), self.readings_at_queue()
        return {
            "readings_sent": sent,
            "readings_at_queue": arrived,
            "commands_at_pin": int(self.board()["pin_writes"].get("7", 0)),
            "lost": max(0, sent - arrived - self.in_spool()),
            "amqp": "up" if self.amqp else "absent",
        }


def broker(stack: ExitStack) -> str:
    """The AMQP url: the one that was asked for, or a private RabbitMQ's, or empty where there is none."""
    asked = os.environ.get("DEMO_AMQP", "")
    if asked:
        check_broker(asked)
        say("demo", f"using the AMQP broker at {urlsplit(asked).hostname}")
        return asked
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-demo-rabbitmq-")))
    try:
        say("demo", "starting a private RabbitMQ on loopback (about ten seconds)")
        return stack.enter_context(PrivateRabbitMQ(directory)).url
    except RabbitMQMissing as exc:
        say("demo", f"no RabbitMQ: {exc}; the MQTT part runs, and readings for the cloud wait in the spool")
        return ""


def check_broker(url: str) -> None:
    """End with one line where no broker can be at this URL, or nothing answers there."""
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        say("demo", "DEMO_AMQP: write amqp://user:password@host or amqps://…")
        sys.exit(USAGE)
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as exc:
        say("demo", f"DEMO_AMQP: no broker answers at {parts.hostname}:{port} ({exc.strerror or exc})")
        sys.exit(ABSENT)


def run(seconds: float) -> int:
    """The whole demo; returns the exit code."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-demo-")))
        demo = Demo(directory, broker(stack))
        try:
            with ExitStack() as parts:
                demo.start(parts)
                say("demo", f"running for {seconds:.0f} s" if seconds else "running; Ctrl-C ends it")
                pause(seconds)
                demo.drain()
                summary = demo.summary()
                if not demo.amqp:
                    say("demo", f"{demo.in_spool()} readings wait safely in the spool (gateway spool list)")
        except RuntimeError as exc:
            say("demo", f"failed: {exc}")
            return 1
    print(json.dumps(summary), flush=True)
    if summary["amqp"] == "absent":
        return ABSENT
    both_ways = summary["readings_at_queue"] > 0 and summary["commands_at_pin"] > 0
    return 0 if both_ways and summary["lost"] == 0 else 1


def pause(seconds: float) -> None:
    """Let it run: for so long, or until Ctrl-C."""
    stop = threading.Event()
    stop.wait(seconds or None)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A signal becomes an exception, so that every ``with`` ends what it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted


def main() -> None:
    """``python -m examples.demo``."""
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        seconds = float(os.environ.get("DEMO_SECONDS") or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < LONGEST_S:
        sys.exit("demo: DEMO_SECONDS is no number of seconds")
    try:
        code = run(seconds)
    except Interrupted:
        say("demo", "stopped")
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    main()
