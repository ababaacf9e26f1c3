"""What the gateway says of itself on MQTT, and that it is said until the broker has it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.daemon.mqtt_announcer import MqttAnnouncer, RetainedTopics
from gateway.errors import DeliveryDeferred
from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.model.address import Address
from gateway.model.message import Message
from gateway.transport import Session
from tests.support.wait import soon


class Unwilling:
    """A session whose broker has no room for the first message to each topic."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def publish(self, target: Address, message: Message) -> None:
        if target.name not in self._asked:
            self._asked.add(target.name)
            raise DeliveryDeferred(str(target), message.id, "quota exceeded")
        await self._session.publish(target, message)


async def test_a_state_that_the_broker_did_not_take_is_said_again(tmp_path: Path) -> None:
    board = {"id": "attic", "state": "running", "reason": "", "since": 1.0}
    broker = MemoryBroker()
    announcer = MqttAnnouncer(
        "den", "1", 0.0, 0.05, lambda states: (), lambda: [board], RetainedTopics(tmp_path / "retained.json")
    )
    async with MemoryConnector(broker).connect() as session:
        serving = asyncio.create_task(announcer.serve(cast(Session, Unwilling(session))))
        await soon(lambda: bool(broker.waiting("gateway/den/state")))
        await soon(lambda: bool(broker.waiting("gateway/den/device/attic/availability")))
        serving.cancel()
        await asyncio.wait([serving])
    assert json.loads(broker.waiting("gateway/den/state")[0].body)["state"] == "online"


async def said(
    announcer: MqttAnnouncer, broker: MemoryBroker, topic: str, body: bytes, also: Callable[[], bool] = lambda: True
) -> None:
    """Serve one connection until this was said on that topic, and something else is so too."""
    async with MemoryConnector(broker).connect() as session:
        serving = asyncio.create_task(announcer.serve(session))
        await soon(lambda: any(message.body == body for message in broker.waiting(topic)) and also())
        serving.cancel()
        await asyncio.wait([serving])


async def test_a_board_that_was_unpaired_while_the_gateway_was_stopped_leaves_nothing_retained(tmp_path: Path) -> None:
    board = {"id": "attic", "state": "running", "reason": "", "since": 1.0}
    retained, broker = tmp_path / "retained.json", MemoryBroker()
    before = MqttAnnouncer("den", "1", 0.0, 60, lambda states: (), lambda: [board], RetainedTopics(retained))
    await said(before, broker, "gateway/den/device/attic/availability", b"online")
    after = MqttAnnouncer("den", "1", 0.0, 60, lambda states: (), lambda: [], RetainedTopics(retained))
    after.ports_retain(frozenset())
    only_its_own = {"gateway/den/state"}
    topic = "gateway/den/device/attic/availability"
    await said(after, broker, topic, b"", lambda: RetainedTopics(retained).known == only_its_own)
    taken_back = broker.waiting("gateway/den/device/attic/state")[-1]
    assert (taken_back.body, taken_back.retain) == (b"", True)


async def test_another_name_takes_back_what_was_retained_under_the_old_one(tmp_path: Path) -> None:
    retained, broker = tmp_path / "retained.json", MemoryBroker()
    RetainedTopics(retained).remember(frozenset({"gateway/old/state"}))
    announcer = MqttAnnouncer("den", "1", 0.0, 60, lambda states: (), lambda: [], RetainedTopics(retained))
    announcer.ports_retain(frozenset())
    await said(announcer, broker, "gateway/old/state", b"")


async def test_after_the_good_bye_nobody_says_that_a_board_runs(tmp_path: Path) -> None:
    board = {"id": "attic", "state": "running", "reason": "", "since": 1.0}
    broker = MemoryBroker()
    announcer = MqttAnnouncer(
        "den", "1", 0.0, 60, lambda states: (), lambda: [board], RetainedTopics(tmp_path / "retained.json")
    )
    await said(announcer, broker, "gateway/den/device/attic/availability", b"online")
    async with MemoryConnector(broker).connect() as session:
        await announcer.say_goodbye(session)
    state = json.loads(broker.waiting("gateway/den/device/attic/state")[-1].body)
    assert (state["state"], state["reason"]) == ("unknown", "the gateway was stopped")
    assert broker.waiting("gateway/den/device/attic/availability")[-1].body == b"offline"


@pytest.mark.parametrize("damaged", [b"{", b"[]", b'{"version":1,"topics":["\xff"]}'])
def test_a_damaged_record_of_what_is_retained_is_made_anew(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "retained.json").write_bytes(damaged)
    retained = RetainedTopics(tmp_path / "retained.json")
    retained.remember(frozenset({"a"}))
    assert RetainedTopics(tmp_path / "retained.json").known == {"a"}


def test_a_record_that_two_write_at_once_is_whole_and_as_the_last_one_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on, sync = threading.Event(), threading.Event(), os.fsync

    def slowly(descriptor: int) -> None:
        begun.set()
        go_on.wait(60)
        sync(descriptor)

    monkeypatch.setattr("gateway.files.os.fsync", slowly)
    retained = RetainedTopics(tmp_path / "retained.json")
    writers = [threading.Thread(target=retained.remember, args=(frozenset({name}),)) for name in ("a" * 50, "b")]
    writers[0].start()
    assert begun.wait(60)
    writers[1].start()
    go_on.set()
    for writer in writers:
        writer.join(60)
    assert RetainedTopics(tmp_path / "retained.json").known == retained.known == {"b"}
    assert not caplog.records


def silent(retained: Path) -> MqttAnnouncer:
    """One without boards."""
    return MqttAnnouncer("den", "1", 0.0, 60, lambda states: (), lambda: [], RetainedTopics(retained))


async def test_what_a_port_does_not_retain_any_more_is_taken_back(tmp_path: Path) -> None:
    retained, broker = tmp_path / "retained.json", MemoryBroker()
    announcer = silent(retained)
    announcer.ports_retain(frozenset({"attic/temp", "attic/light"}))
    async with MemoryConnector(broker).connect() as session:
        serving = asyncio.create_task(announcer.serve(session))
        await soon(lambda: "attic/temp" in RetainedTopics(retained).known)
        announcer.ports_retain(frozenset({"attic/light"}))
        await soon(lambda: RetainedTopics(retained).known == {"gateway/den/state", "attic/light"})
        serving.cancel()
        await asyncio.wait([serving])
    assert [(message.body, message.retain) for message in broker.waiting("attic/temp")] == [(b"", True)]
    assert broker.waiting("attic/light") == []


async def test_before_the_first_plan_no_port_loses_what_it_retained_and_then_only_those_that_are_gone(
    tmp_path: Path,
) -> None:
    retained, broker = tmp_path / "retained.json", MemoryBroker()
    RetainedTopics(retained).remember(frozenset({"attic/temp", "cellar/temp"}))
    announcer = silent(retained)
    await said(announcer, broker, "gateway/den/state", announcer.own_state("online", 1))
    assert broker.waiting("attic/temp") == broker.waiting("cellar/temp") == []
    announcer.ports_retain(frozenset({"attic/temp"}))
    await said(announcer, broker, "cellar/temp", b"")
    assert broker.waiting("attic/temp") == []


async def test_what_was_retained_for_a_moment_only_is_taken_back_too(tmp_path: Path) -> None:
    broker, announcer = MemoryBroker(), silent(tmp_path / "retained.json")
    announcer.ports_retain(frozenset({"attic/temp"}))
    announcer.ports_retain(frozenset())
    await said(announcer, broker, "attic/temp", b"")
