"""A broker of our own for ``embedded://``: Mosquitto as a child process, or amqtt in this process where it is missing.

Mosquitto gets our limits: its defaults drop messages of a slow subscriber from the thousandth on, and send small packets
up to 40 ms late. It ends when the gateway dies, however that happens, and is started again when it ends by itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from gateway.errors import ConfigError, Conflict, GatewayError
from gateway.files import write_file_safely
from gateway.mqtt.loopback_ports import choose_port, is_free, program_on
from gateway.supervise import dying_with, signal_name

log = logging.getLogger(__name__)

INSTALL = "apt-get install --no-install-recommends mosquitto"
START_S = 10.0
STOP_S = 10.0
LOOK_S = 0.05
RESTART_FIRST_S, RESTART_LONGEST_S = 1.0, 30.0
SYSTEM_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"

CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
{user}persistence true
persistence_location {directory}/
autosave_interval 300
persistent_client_expiration 7d
max_queued_messages 1000000
max_inflight_messages 1000
set_tcp_nodelay true
log_dest stderr
log_type error
"""


class BrokerKind(StrEnum):
    """Which program the embedded broker is."""

    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """Where it listens and what it is."""

    url: str
    kind: BrokerKind

    @property
    def forgets_unsettled(self) -> bool:
        """Whether it forgets a QoS 1 message that is not acknowledged in 5 s: then its sources are taken as stored."""
        return self.kind is BrokerKind.AMQTT

    @property
    def version(self) -> Literal["auto", "3.1.1"]:
        """What ``mqtt.version`` has to be with it."""
        return "3.1.1" if self.kind is BrokerKind.AMQTT else "auto"


@asynccontextmanager
async def embedded_broker(state: Path) -> AsyncIterator[EmbeddedBroker]:
    """A broker while the block runs. Its port is chosen once and kept in ``state``.

    ``Conflict`` if another program has taken that port, ``ConfigError`` if there is no broker to start.
    """
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path=SYSTEM_PLACES)
    directory = state / "mosquitto"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if binary is None:
        if importlib.util.find_spec("amqtt") is None:
            remedy = f"{INSTALL}, or pip install 'microflo-gateway[embedded]', or name a broker in mqtt.url"
            raise ConfigError("mqtt", "mqtt.url", f"embedded:// needs a broker to start: {remedy}")
        port = _port_of(directory)
        async with _amqtt(port):
            log.warning("mqtt: mosquitto is not installed; the embedded broker is amqtt, which keeps nothing on disk")
            yield EmbeddedBroker(_url(port), BrokerKind.AMQTT)
        return
    child = _Mosquitto(binary, directory)
    await child.end_left_over()
    port = _port_of(directory)
    await child.start(port)
    keeper = asyncio.create_task(child.keep_running(), name="mqtt:embedded")  # a TaskGroup would wrap the body's errors
    try:
        yield EmbeddedBroker(_url(port), BrokerKind.MOSQUITTO)
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await child.stop()


def _url(port: int) -> str:
    return f"mqtt://127.0.0.1:{port}"


def _port_of(directory: Path) -> int:
    """The port of this state directory; chosen if it has none."""
    path = directory / "port"
    with suppress(OSError, ValueError):
        port = int(path.read_text())
        if is_free(port):
            return port
        holder = program_on(port) or "another program"
        raise Conflict(
            f"mqtt: port {port} of the embedded broker is taken by {holder}; end that, "
            f"or delete {path} so that another port is chosen"
        )
    port = choose_port()
    write_file_safely(path, f"{port}\n".encode())
    return port


class _Mosquitto:
    """The child process, over all its restarts."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._config = directory / "mosquitto.conf"
        self._pid_file = directory / "pid"
        self._errors = directory / "errors.log"
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    async def end_left_over(self) -> None:
        """End one that outlived a gateway that was killed. It is recognised by its pid file, and looked at first."""
        with suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            if not self._is_ours(pid):
                return
            log.warning("mqtt: ending the embedded broker of an earlier run (process %d)", pid)
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_S
            while self._is_ours(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(LOOK_S)

    def _is_ours(self, pid: int) -> bool:
        """Whether this process is a Mosquitto that runs on our configuration file."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.path.basename(words[0]) == b"mosquitto" and os.fsencode(self._config) in words

    async def start(self, port: int) -> None:
        """Start it, and return when it takes connections."""
        self._port = port
        user = ""
        with suppress(KeyError):
            user = f"user {pwd.getpwuid(os.getuid()).pw_name}\n"  # root would become the user mosquitto, who can't save
        self._config.write_text(CONFIG.format(port=port, user=user, directory=self._directory))
        with self._errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "-c",
                str(self._config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the gateway, which still wants to say good-bye
                preexec_fn=dying_with(os.getpid()),
            )
        self._pid_file.write_text(f"{self._process.pid}\n")
        deadline = time.monotonic() + START_S
        while not await _listens(port):
            if self._process.returncode is not None or time.monotonic() > deadline:
                reason = self._last_words(self._process.returncode)
                await self.stop()
                raise GatewayError(f"mqtt: the embedded broker ({self._binary}) does not start: {reason}")
            await asyncio.sleep(LOOK_S)

    def _last_words(self, code: int | None) -> str:
        """Why it ended. A warning is no reason: as root it begins every run with one."""
        if code is not None and code < 0:
            return f"killed by {signal_name(-code)}"
        words = [words for line in self._errors.read_text("utf-8", "replace").splitlines() if (words := _told(line))]
        return words[-1] if words else f"it says nothing about why{'' if code is None else f' (code {code})'}"

    async def keep_running(self) -> None:
        """Start it again whenever it ends by itself."""
        delay_s = RESTART_FIRST_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = await self._process.wait()
            if time.monotonic() - started > RESTART_LONGEST_S:
                delay_s = RESTART_FIRST_S
            log.error("mqtt: the embedded broker ended: %s; starting it again", self._last_words(code))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RESTART_LONGEST_S)
            try:
                await self.start(self._port)
            except GatewayError as exc:
                log.error("%s; trying again in %.0f s", exc, delay_s)

    async def stop(self) -> None:
        """End it; what it holds is saved."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        with suppress(OSError):
            self._pid_file.unlink()


def _told(line: str) -> str:
    """What a line of Mosquitto's log tells, without its time in seconds; empty for a warning."""
    time_s, colon, words = line.strip().partition(": ")
    words = words if colon and time_s.isdigit() else line.strip()
    return "" if words.startswith("Warning:") else words


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _amqtt(port: int) -> AsyncIterator[None]:
    """The pure-Python broker on this loop: MQTT 3.1.1, everything in memory."""
    from amqtt.broker import Broker

    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    plugin = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {plugin: {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()
