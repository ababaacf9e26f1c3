"""The embedded broker: Mosquitto as a child, over crashes of either side; amqtt where it is missing."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.private_rabbitmq import free_port
from gateway.config.schema import MqttSection, Secret
from gateway.errors import ConfigError, Conflict, GatewayError
from gateway.model.address import mqtt
from gateway.model.message import Message, Outcome
from gateway.mqtt.embedded import BrokerKind, EmbeddedBroker, embedded_broker
from gateway.mqtt.transport import MqttConnector, settings_of
from tests.support.gateway import embedded_on
from tests.support.mosquitto import mosquitto_binary
from tests.support.taker import taking

WAIT_S = 120.0

NAMELESS_SIGNAL = signal.SIGRTMIN + 6
"""One for real time: Python's ``signal.Signals`` has the first and the last of them."""


@pytest.fixture(autouse=True)
def _needs_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on MQTT's own port, which anybody on this machine may take while a test has its broker stopped."""
    mosquitto_binary()
    monkeypatch.setattr("gateway.mqtt.loopback_ports.PORT", free_port())
    monkeypatch.setattr("gateway.mqtt.embedded.START_S", WAIT_S)
    monkeypatch.setattr("gateway.mqtt.embedded.STOP_S", WAIT_S)


def connector_to(broker: EmbeddedBroker) -> MqttConnector:
    section = MqttSection(version=broker.version)
    return MqttConnector(settings_of(section, broker.url, instance="shed", client_id="shed", password=Secret("")))


def pid_in(state: Path) -> int:
    return int((state / "mosquitto" / "pid").read_text())


def is_running(pid: int) -> bool:
    """Whether a process lives; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def test_it_keeps_its_port_and_what_it_holds_over_a_restart(tmp_path: Path) -> None:
    source = mqtt("a")
    async with embedded_broker(tmp_path) as broker:
        assert broker.kind is BrokerKind.MOSQUITTO
        assert not broker.forgets_unsettled
        first = broker.url
        async with connector_to(broker).connect() as session:
            await session.subscribe(source, 10)
        async with connector_to(broker).connect() as session:
            await session.publish(source, Message("m", b"kept"))
        pid = pid_in(tmp_path)
    assert not is_running(pid)
    async with embedded_broker(tmp_path) as broker:
        assert broker.url == first
        async with connector_to(broker).connect() as session, taking(session) as taker:
            await session.subscribe(source, 10)
            await taker.until(1)
            assert taker.bodies == [b"kept"]
            await session.settle(taker.got[0], Outcome.ACCEPTED)


async def test_it_holds_more_for_a_slow_subscriber_than_mosquitto_does_by_itself(tmp_path: Path) -> None:
    source, count = mqtt("a"), 3000
    async with embedded_broker(tmp_path) as broker:
        async with connector_to(broker).connect() as session:
            await session.subscribe(source, 10)
        publisher = settings_of(MqttSection(), broker.url, instance="shed", client_id="other", password=Secret(""))
        async with MqttConnector(publisher).connect() as session:
            await asyncio.gather(*(session.publish(source, Message(f"{n}", b"%d" % n)) for n in range(count)))
        async with connector_to(broker).connect() as session, taking(session) as taker:
            await session.subscribe(source, 100)
            for at in range(count):
                await taker.until(at + 1)
                session.settle_soon(taker.got[at], Outcome.ACCEPTED)
            assert taker.bodies == [b"%d" % n for n in range(count)]


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (NAMELESS_SIGNAL, f"signal {NAMELESS_SIGNAL}")]
)
async def test_it_is_started_again_when_it_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int, name: str
) -> None:
    async with embedded_broker(tmp_path) as broker:
        first = pid_in(tmp_path)
        with caplog.at_level(logging.ERROR):
            os.kill(first, number)
            await until("there is another one", lambda: pid_in(tmp_path) != first)
        assert f"the embedded broker ended: killed by {name}; starting it again" in caplog.text

        async def works() -> None:
            async with connector_to(broker).connect() as session:
                await session.publish(mqtt("a"), Message("m", b"1"))

        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await works()
                    break
                except Exception:  # noqa: BLE001 (it may be not quite up)
                    await asyncio.sleep(0.05)


async def test_one_that_does_not_start_is_quoted_with_its_last_error_and_no_warning_of_before(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path):
        pass
    (tmp_path / "mosquitto" / "mosquitto.db").write_bytes(b"this is no database of Mosquitto")
    with pytest.raises(GatewayError, match="does not start: Error: ") as caught:
        async with embedded_broker(tmp_path):
            pass
    assert "Warning" not in str(caught.value)
    assert not re.search(r"\d{10}: ", str(caught.value)), "no time of its own"


PROGRAM = """\
import asyncio, sys
from pathlib import Path
from gateway.mqtt.embedded import embedded_broker

async def main():
    async with embedded_broker(Path(sys.argv[1])):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_it_ends_when_the_gateway_is_killed(tmp_path: Path) -> None:
    embedded_on(tmp_path, free_port())
    process = started([sys.executable, "-c", PROGRAM, str(tmp_path)])
    assert process.stdout is not None
    with process.stdout as output:
        assert await asyncio.to_thread(output.readline) == "up\n"
        pid = pid_in(tmp_path)
        assert is_running(pid)
        process.kill()
        process.wait()
    await until("the broker ended too", lambda: not is_running(pid))
    async with embedded_broker(tmp_path):
        pass


async def test_one_left_over_is_recognised_and_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with embedded_broker(tmp_path) as broker:
        port = broker.url.rpartition(":")[2]
    config = tmp_path / "mosquitto" / "mosquitto.conf"
    left = started([mosquitto_binary(), "-c", str(config)])
    try:
        (tmp_path / "mosquitto" / "pid").write_text(f"{left.pid}\n")
        await until("it listens", lambda: listens(int(port)))
        with caplog.at_level(logging.WARNING):
            async with embedded_broker(tmp_path) as broker:
                assert broker.url.endswith(f":{port}")
                assert pid_in(tmp_path) != left.pid
        assert "earlier run" in caplog.text
    finally:
        left.kill()
        left.communicate()


async def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    other = started(["sleep", "60"])
    try:
        (tmp_path / "mosquitto").mkdir()
        (tmp_path / "mosquitto" / "pid").write_text(f"{other.pid}\n")
        async with embedded_broker(tmp_path):
            assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


async def test_a_port_taken_by_another_program_is_a_conflict_that_names_it(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "mosquitto").mkdir()
    (tmp_path / "mosquitto" / "port").write_text(f"{port}\n")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict) as caught:
        async with embedded_broker(tmp_path):
            pass
    assert str(port) in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)
    assert "delete" in str(caught.value)


async def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"apt-get install.*microflo-gateway\[embedded\]"):
        async with embedded_broker(tmp_path):
            pass


async def test_without_mosquitto_it_is_amqtt_and_says_what_that_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    source = mqtt("a")
    with caplog.at_level(logging.WARNING):
        async with embedded_broker(tmp_path) as broker:
            assert broker.kind is BrokerKind.AMQTT
            assert broker.forgets_unsettled
            async with connector_to(broker).connect() as session, taking(session) as taker:
                await session.subscribe(source, 300)
                await asyncio.gather(*(session.publish(source, Message(f"{n}", b"%d" % n)) for n in range(200)))
                await taker.until(200)
                assert sorted(taker.bodies) == sorted(b"%d" % n for n in range(200))
                for delivery in taker.got:
                    await session.settle(delivery, Outcome.ACCEPTED)
    assert "amqtt" in caplog.text
