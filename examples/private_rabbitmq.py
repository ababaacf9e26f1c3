"""A private RabbitMQ: one node on free loopback ports, with its own data directory and its own epmd.

    with PrivateRabbitMQ(directory) as broker:
        print(broker.url)

It touches no RabbitMQ that runs on this machine already, listens on loopback only, and leaves no process behind, also
when the block is left by an exception or Ctrl-C. The node's files stay in ``directory``: give it a temporary one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

START_S = 180.0
STOP_S = 60.0
CTL_S = 120.0
LAST_LINES = 5
SERVER_PORTS = (15_000, 32_000)

PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where the plain programs are. The wrappers in ``/usr/sbin`` change the user and refuse root's environment."""

INSTALL = "apt-get install --no-install-recommends rabbitmq-server"
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"


class RabbitMQMissing(Exception):
    """RabbitMQ is not installed; the text is the line that installs it."""

    def __init__(self) -> None:
        super().__init__(f"RabbitMQ is not installed; install it with: {INSTALL}")


def program(name: str) -> str:
    """The path of one of RabbitMQ's programs. ``RabbitMQMissing`` if there is none."""
    for place in PLACES:
        path = Path(place, name)
        if path.exists() and shutil.which("erl"):
            return str(path)
    raise RabbitMQMissing


def free_port() -> int:
    """A TCP port on loopback that nobody uses, and that nobody else who asks is given while this process lives.

    It stays bound, without listening: whoever connects is refused, and a server that sets ``SO_REUSEADDR``, as all of them
    do, may listen there again and again. Below the range the kernel takes the ports of outgoing connections from: a client
    that keeps trying to reach a broker that is away would else be given the broker's own port some day.
    """
    while True:
        port = random.randrange(*SERVER_PORTS)
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: two that ask would get the same
            held.detach()
            return port


class Epmd:
    """Erlang's port mapper on a loopback port of its own, which nodes that share it can find each other by."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until_listening(self.port, self._process, b"")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_until_listening(port: int, process: subprocess.Popen[bytes], greeting: bytes) -> None:
    """Until the port accepts, and answers ``greeting`` if there is one. ``RuntimeError`` if not in time."""
    deadline = time.monotonic() + START_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            if not greeting:
                return
            connection.sendall(greeting)
            if connection.recv(1):
                return
        if process.poll() is not None:
            raise RuntimeError(f"it ended with code {process.returncode} before it was up")
        if time.monotonic() > deadline:
            raise RuntimeError(f"it was not up after {START_S:.0f} s")
        time.sleep(0.1)


class PrivateRabbitMQ:
    """One node. ``stop`` or ``kill`` and ``start`` it again: port and data stay the same.

    Nodes of one cluster have different names and share ``epmd`` (ended by whoever made it) and the cookie.
    ``settings`` are further lines for ``rabbitmq.conf``, ``plugins`` are enabled before the start.
    """

    def __init__(
        self,
        directory: Path,
        *,
        node: str = "r1@localhost",
        epmd: Epmd | None = None,
        cookie: str = "private",
        settings: tuple[str, ...] = (),
        plugins: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.node = node
        self.port = free_port()
        self._dist_port = free_port()
        self._epmd = epmd or Epmd()
        self._owns_epmd = epmd is None
        self._cookie = cookie
        self._settings = settings
        self._plugins = plugins
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to connect to, as the user that RabbitMQ allows from loopback."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> PrivateRabbitMQ:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the node and wait until it takes connections (about eight seconds). ``RuntimeError`` if it doesn't."""
        if self.running:
            return
        server = program("rabbitmq-server")
        self._write_files()
        self._epmd.start()
        with self._console().open("wb") as console:
            self._process = self._run(server, console)
        try:
            wait_until_listening(self.port, self._process, AMQP_0_9_1)
        except RuntimeError as exc:
            lines = self._console().read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise RuntimeError(f"RabbitMQ {self.node}: {exc}: " + " | ".join(lines)) from exc

    def stop(self) -> None:
        """End the node in order: what is durable and persistent is kept."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End everything, quickly: nobody needs the data any more."""
        self.kill()
        if self._owns_epmd:
            self._epmd.stop()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this node (about two seconds); its output. ``RuntimeError`` with what it says."""
        done = subprocess.run(
            [program("rabbitmqctl"), "-n", self.node, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=CTL_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _run(self, server: str, console: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [server],
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that all of it can be ended
        )

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what outlives the node: its name resolver, its shell
            process.wait()

    def _console(self) -> Path:
        return self.directory / "console.log"

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self._cookie)
            cookie.chmod(0o400)
        lines = (f"listeners.tcp.1 = 127.0.0.1:{self.port}", "disk_free_limit.absolute = 50MB", *self._settings)
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.directory / "environment.conf").write_text("")

    def _environment(self) -> dict[str, str]:
        """Everything by variables, so that neither a system-wide configuration nor the caller's own gets in."""
        foreign = ("RABBITMQ_", "ERL_", "ERLANG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        here = self.directory
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return kept | {
            "HOME": str(here),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "environment.conf"),
            "RABBITMQ_MNESIA_BASE": str(here / "data"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd.port),
        }
