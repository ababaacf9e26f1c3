"""The installed ``gateway`` command as child processes: the daemon, a simulated board, and single commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from examples.private_rabbitmq import free_port
from examples.simulated_board import ask_board
from gateway.errors import EXIT_UNREACHABLE
from gateway.firmware.sources import component_map

COMMAND = Path(sys.executable).with_name("gateway")
EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT_S = 120.0
"""For what is expected to come: it takes seconds, and ten times that on a machine with other things to do."""

RUN = tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp")
"""Short: the path of a socket has 107 characters at most."""

PATIENT = {"GATEWAY_SERIAL_REQUEST_TIMEOUT_S": "10"}
"""A board is a process here: that it gets no time for a while is no fault on its line."""


def until(what: str, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something that only shows from outside; fails with ``what``."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # asked before: it may have come about while this process stood still
        if condition():
            return
        assert not late, f"after {timeout_s:.0f} s still not: {what}"
        time.sleep(0.05)


class Process:
    """A child process whose output is kept by line."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(COMMAND), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment() | (environment or {}),
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._all_read = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._all_read = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_line(self, words: str, timeout_s: float = WAIT_S) -> str:
        """The first line with these words."""

        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._all_read, timeout_s)
            line = found()
        assert line is not None, f"no line with {words!r} in:\n" + "\n".join(self.lines)
        return line

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.running:
            self._process.terminate()
        try:
            return self._process.wait(WAIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.running:
            self._process.kill()
            self._process.wait()
        self._reader.join()


def clean_environment() -> dict[str, str]:
    """Ours without what would configure a gateway by accident; root's control sockets are not left in the system's place."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "MSGFLO_", "XDG_"))
    } | {"PYTHONUNBUFFERED": "1", "GATEWAY_HTTP_LISTEN": "127.0.0.1:0", "RUNTIME_DIRECTORY": RUN.name}


def embedded_on(state: Path, port: int) -> None:
    """Where the embedded broker is to listen, unless that was chosen before: all gateways would like MQTT's own port, and
    while one is stopped another has it.
    """
    chosen = state / "mosquitto" / "port"
    if not chosen.exists():
        chosen.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen.write_text(f"{port}\n")


class Gateway:
    """One gateway: its directory, its configuration, and the daemon, which may be started again and again."""

    def __init__(self, directory: Path, config: str = "") -> None:
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "gateway.toml"
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config)
        self.environment: dict[str, str] = {}
        """What the daemon gets beside the clean environment."""
        self._daemon: Process | None = None

    @property
    def daemon(self) -> Process:
        """The daemon that runs now."""
        assert self._daemon is not None
        return self._daemon

    def arguments(self, *command: str) -> tuple[str, ...]:
        """A command line on this gateway's places."""
        return ("--config", str(self.config), "--state-dir", str(self.state), *command)

    def run(self, *command: str, timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [str(COMMAND), *self.arguments(*command)],
            capture_output=True,
            text=True,
            env=clean_environment() | PATIENT,
            timeout=timeout_s,
            check=False,
        )

    def good(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"gateway {' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *command: str) -> Any:
        """The JSON of a command that must succeed."""
        return json.loads(self.good(*command, "--json"))

    def status(self) -> dict[str, Any]:
        """The status document of the daemon."""
        document: dict[str, Any] = self.json("status")["status"]
        return document

    def start(self, *options: str) -> None:
        """Start the daemon and wait until it is ready."""
        if "[mqtt]" not in self.config.read_text():
            embedded_on(self.state, free_port())
        self._daemon = Process(*self.arguments("run", *options), environment=PATIENT | self.environment)
        self._daemon.wait_line("gateway ready")

    def link_is_up(self, name: str) -> bool:
        """Whether a broker or a board is connected."""
        return any(link["name"] == name and link["state"] == "up" for link in self.status()["links"])

    def wait_up(self, *names: str) -> None:
        """Until these links are up."""
        for name in names:
            until(f"{name} is up", partial(self.link_is_up, name))

    def close(self) -> None:
        """End what still runs."""
        if self._daemon is not None:
            self._daemon.kill()


class SimulatedBoard:
    """``gateway simulate`` as a child process."""

    def __init__(self, directory: Path, graph: Path | None = EXAMPLES / "thermometer.fbp", *options: str) -> None:
        self.link = directory / "ttySIM"
        built_in = () if graph is None else ("--graph", str(graph))
        self.process = Process("simulate", *built_in, "--link", str(self.link), *options)
        self.process.wait_line("board ready")

    def ask(self, request: str) -> Any:
        """Send a request to its control socket."""
        return ask_board(self.link, request)


@contextmanager
def simulated_board(directory: Path) -> Iterator[SimulatedBoard]:
    """A simulated thermometer while the block runs."""
    board = SimulatedBoard(directory)
    try:
        yield board
    finally:
        board.process.stop()


@contextmanager
def gateway_with(directory: Path, config: str = "") -> Iterator[Gateway]:
    """A gateway while the block runs; its daemon is not started yet."""
    gateway = Gateway(directory, config)
    try:
        yield gateway
    finally:
        gateway.close()


def pair_thermometer(gateway: Gateway, board: SimulatedBoard, role: str = "attic") -> None:
    """Pair the simulated thermometer under a role."""
    pair(
        gateway,
        board.link,
        "--role",
        role,
        "--graph",
        str(EXAMPLES / "thermometer.fbp"),
        "--components",
        str(component_map()),
        "--port",
        "temp:type=number,scale=0.01,unit=°C",
        "--port",
        "fan:type=boolean",
    )


def pair(gateway: Gateway, port: Path, *options: str) -> None:
    """Pair what is on a port; again, if it was silent: it may have stood still."""

    def paired() -> bool:
        done = gateway.run("pair", str(port), *options)
        assert done.returncode in (0, EXIT_UNREACHABLE), f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.returncode == 0

    until(f"the board on {port} is paired", paired)
