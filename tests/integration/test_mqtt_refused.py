"""A subscription that the broker refuses: shown where an edge waits for it, and asked for again until it is allowed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.model.address import mqtt
from gateway.model.binding import Binding
from gateway.model.message import Message
from gateway.mqtt.transport import MqttConnector, MqttSession, MqttSettings
from gateway.routing import sessions
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import Pump
from gateway.spool.memory import MemoryStore
from tests.support.mosquitto import Mosquitto

WAIT_S = 120.0


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


@asynccontextmanager
async def carrying(port: int, *bindings: Binding) -> AsyncIterator[tuple[Pump, MqttSession]]:
    pump = Pump(MemoryStore())
    pump.install(RouteTable.of(bindings))
    async with MqttConnector(MqttSettings("127.0.0.1", port, client_id="shed", instance="shed")).connect() as session:
        tasks = [asyncio.create_task(pump.run()), asyncio.create_task(pump.serve(session, "mqtt"))]
        try:
            yield pump, session
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


PLUGIN = "mosquitto_dynamic_security.so"
"""Mosquitto's own access list refuses no subscription; it only keeps the messages back. This one refuses."""

CONTROL = "$CONTROL/dynamic-security/v1"
ALLOWED = {
    "rolename": "anybody",
    "acls": [
        {"acltype": "subscribePattern", "topic": "gateway/#", "priority": 1, "allow": True},
        {"acltype": "publishClientSend", "topic": "$CONTROL/#", "priority": 1, "allow": True},
    ],
}
RULES = {
    "defaultACLAccess": {
        "publishClientSend": True,
        "publishClientReceive": True,
        "subscribe": False,
        "unsubscribe": True,
    },
    "roles": [ALLOWED],
    "groups": [{"groupname": "anybody", "roles": [{"rolename": "anybody"}]}],
    "anonymousGroup": "anybody",
    "clients": [],
}
PERMIT = {"commands": [{"command": "setDefaultACLAccess", "acls": [{"acltype": "subscribe", "allow": True}]}]}


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that refuses every subscription but those below ``gateway``."""
    plugin = next(Path("/usr/lib").rglob(PLUGIN))  # part of Debian's package mosquitto
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(RULES))
    broker = Mosquitto(tmp_path, f"plugin {plugin}\nplugin_opt_config_file {rules}\n")
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REFUSED_AGAIN_S", 0.05)


@pytest.mark.usefixtures("often")
async def test_an_edge_whose_topic_the_broker_refuses_says_so_until_it_is_allowed(
    strict_broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Binding("e", mqtt("out"), mqtt("in"), label="meter.out->lamp.in")
    async with carrying(strict_broker.port, edge) as (pump, session):
        await until("it is shown", lambda: bool(pump.stuck))
        reason = "the broker refuses the subscription (reason code 0x87)"
        assert pump.stuck == {"meter.out->lamp.in": f"gets nothing from mqtt:out: {reason}"}
        await session.publish(mqtt(CONTROL), Message("permit", json.dumps(PERMIT).encode()))
        await until("it is asked for again, and taken from", lambda: not pump.stuck)
        assert caplog.text.count("can't subscribe to out") == 1
        await session.publish(mqtt("out"), Message("m", b"1"))
        await until("a message passes", lambda: pump.status()[0]["delivered"] == 1)


async def test_a_source_that_nobody_wants_any_more_is_waited_for_by_nobody(strict_broker: Mosquitto) -> None:
    async with carrying(strict_broker.port, Binding("e", mqtt("out"), mqtt("in"))) as (pump, session):
        await until("it is shown", lambda: bool(pump.stuck))
        pump.install(RouteTable.of(()))
        await pump.caught_up()
        assert not pump.stuck
        assert not session.not_taken


async def test_a_refused_topic_that_no_edge_takes_from_is_shown_by_its_name(strict_broker: Mosquitto) -> None:
    """As the topic of the announcements: nobody would ever be heard of."""
    async with carrying(strict_broker.port) as (pump, _):
        pump.tap(mqtt("fbp"), lambda delivery: None)
        await until("it is shown", lambda: bool(pump.stuck))
        assert list(pump.stuck) == ["mqtt:fbp"]
        assert pump.stuck["mqtt:fbp"].startswith("gives nothing: the broker refuses the subscription")
