"""The mark behind what a broker had kept for us: when it is put, and what ends the wait for it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.errors import DeliveryDeferred
from gateway.model.address import Address, mqtt
from gateway.model.message import Message
from gateway.mqtt import catchup_marker as mqtt_mark
from gateway.mqtt.catchup_marker import CatchupMarker
from gateway.mqtt.client import Handlers, MqttConnection
from gateway.mqtt.core.inbound import MqttInbound
from gateway.mqtt.core.packets import IncomingPublish
from gateway.mqtt.core.settings import Granted
from gateway.transport import Done

LIMIT_S = 60.0
TOPIC = "gateway/shed/canary/me.1"


class House:
    """The consuming connection of a session, and what is published in it."""

    def __init__(self, *, session_present: bool = True, code: int = 1) -> None:
        self.granted = Granted(session_present=session_present)
        self.code = code
        self.sent: list[bytes] = []
        self.told: list[Done] = []
        self.forgotten, self.sent_again = asyncio.Event(), asyncio.Event()
        self.intake = MqttInbound(1, "shed", lambda: "id", lambda: 0)
        self.intake.ours = frozenset((TOPIC.encode(), TOPIC.replace(".", "/").encode()))
        self.handlers = Handlers(self.intake.arrived, lambda mid, code: None, lambda down: None, lambda: None)
        self.mark = CatchupMarker(TOPIC, "shed", self.intake, self.handlers, self._submit)

    def _submit(self, target: Address, message: Message, done: Done) -> None:
        assert target.name == TOPIC
        self.sent.append(message.body)
        self.told.append(done)
        if len(self.sent) > 1:
            self.sent_again.set()

    async def put(self) -> None:
        await self.mark.put(cast(MqttConnection, self))

    def arrives(self, body: bytes, topic: str = TOPIC, mid: int = 1) -> None:
        self.handlers.published(
            IncomingPublish(topic.encode(), mid, retain=False, again=False, properties=b"", payload=body)
        )

    # -- as a connection --------------------------------------------------------------------------------------------

    async def subscribe(self, topic_filter: str, qos: int, number: int) -> int:
        return self.code

    def forget(self, topic_filter: str) -> None:
        self.forgotten.set()


@pytest.mark.parametrize("topic", [TOPIC, TOPIC.replace(".", "/")])
async def test_what_comes_is_old_until_the_mark_is_back(topic: str) -> None:
    house = House()
    await house.put()
    house.arrives(b"one of an earlier session")
    house.arrives(b"a late canary", mid=0)
    assert house.intake.catching_up
    house.arrives(house.sent[0], topic)
    assert not house.intake.catching_up
    assert house.intake.acks == [1, 1]
    assert house.forgotten.is_set()


async def test_there_is_no_mark_where_nothing_was_kept_or_its_topic_is_forbidden() -> None:
    for house in (House(session_present=False), House(code=0x87)):
        await house.put()
        assert not house.intake.catching_up
        assert house.sent == []


async def test_a_mark_that_gets_lost_is_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is newest is dropped where there is no room, so that something before it is still to come."""
    monkeypatch.setattr(mqtt_mark, "MARK_AGAIN_S", 0.0)
    house = House()
    await house.put()
    house.arrives(b"one that was kept", "hall/temp")
    async with asyncio.timeout(LIMIT_S):
        await house.sent_again.wait()
    assert house.intake.catching_up
    house.mark.end()


async def test_a_mark_that_is_refused_is_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_mark, "MARK_AGAIN_S", 0.0)
    house = House()
    await house.put()
    house.told[0](DeliveryDeferred(TOPIC, "1", "no room"))
    async with asyncio.timeout(LIMIT_S):
        await house.sent_again.wait()
    house.mark.end()


async def test_marks_do_not_pile_up_at_a_broker_that_gives_us_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when nothing of what came can be settled, for hours: what it keeps for us is not to be filled with them."""
    monkeypatch.setattr(mqtt_mark, "MARK_AGAIN_S", 0.0)
    house = House()
    await house.put()
    house.told[0](None)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(house.sent) == 1
    house.mark.end()


async def test_a_mark_that_comes_twice_is_nothing_for_an_edge() -> None:
    """It was put again, or the broker gives a copy for each filter that matches."""
    house = House()
    house.intake.subscribe(mqtt("#"), 100)
    await house.put()
    house.arrives(b"one that was kept", "hall/temp")
    for mid in (2, 3):
        house.arrives(house.sent[0], mid=mid)
    house.arrives(b"a new one", "hall/temp")
    assert [(one.message.body, one.redelivered) for one in house.intake.take()] == [
        (b"one that was kept", True),
        (b"a new one", False),
    ]
    assert house.intake.acks == [2, 3]
    assert (house.intake.unclaimed, house.intake.strangers) == (0, set())
