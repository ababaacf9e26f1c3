"""A private Mosquitto for tests, on a free loopback port with persistence and raised limits.

``mosquitto`` is one broker for the whole run, shared by all tests: topics start with ``unique``. ``mosquitto_own`` is a
broker of one test, which may stop it (SIGTERM, so that it saves what it holds) and start it again on the same port.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.private_rabbitmq import free_port

INSTALL = "mosquitto is missing: apt-get install -y --no-install-recommends mosquitto mosquitto-clients"
START_S = 60.0
STOP_S = 60.0

# Mosquitto's defaults drop messages of a slow subscriber from the thousandth on, and delay small packets by up to 40 ms.
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {directory}/
persistent_client_expiration 1d
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
log_dest file {directory}/mosquitto.log
log_type error
log_type warning
log_type notice
user root
"""


def mosquitto_binary() -> str:
    """The path of the program; the test fails with the line that installs it."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail(INSTALL, pytrace=False)
    return found


class Mosquitto:
    """One broker with its own data directory. ``extra`` are further lines of its configuration."""

    def __init__(self, directory: Path, extra: str = "", *, config: str = CONFIG) -> None:
        self.port = free_port()
        self.directory = directory
        self._binary = mosquitto_binary()
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "mosquitto.conf"
        self._config.write_text(config.format(port=self.port, directory=directory) + extra)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        path = self.directory / "mosquitto.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        self._process = subprocess.Popen([self._binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while True:
            assert self.running, f"mosquitto ended at once:\n{self.log}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, f"mosquitto does not listen after {START_S:.0f} s:\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone; what persistent sessions hold is saved."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: it saves nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _started(directory: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(directory)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """The shared broker. Nobody stops it."""
    yield from _started(tmp_path_factory.mktemp("mosquitto"))


@pytest.fixture
def mosquitto_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A running broker that this test may stop, kill and start again."""
    yield from _started(tmp_path_factory.mktemp("mosquitto-own"))
