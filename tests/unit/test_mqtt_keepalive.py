"""When a quiet MQTT connection is pinged, and when it is given up: on a loop whose clock goes as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.errors import ConnectionLost, TransportDown
from gateway.model.address import mqtt
from gateway.mqtt.client import Handlers, MqttConnection
from gateway.mqtt.core.packets import PINGREQ
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttSession

KEEPALIVE_S = 8
ACCEPTED, PINGRESP = b"\x20\x02\x00\x00", b"\xd0\x00"


class Clock(asyncio.SelectorEventLoop):
    """A loop that waits for nothing: what it would sleep has gone by at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector: Any
        select = self._selector.select

        def at_once(timeout: float | None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = at_once

    def time(self) -> float:
        return self.now


class Broker(asyncio.Transport):
    """Keeps what it hears, and answers pings unless it has fallen silent."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: MqttConnection | None = None
        self.silent = self.unread = self.aborted = False
        self.pings = 0

    def write(self, data: Any) -> None:
        pings = bytes(data).count(PINGREQ)
        self.pings += pings
        if self.connection is not None and pings and not (self.silent or self.unread):
            asyncio.get_running_loop().call_soon(self.connection.data_received, PINGRESP * pings)

    def pause_reading(self) -> None:
        self.unread = True

    def resume_reading(self) -> None:
        self.unread = False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


SETTINGS = MqttSettings("127.0.0.1", 1883, client_id="den", instance="den", keepalive_s=KEEPALIVE_S)


class Talk:
    """An accepted connection, and why it was lost."""

    def __init__(self, handlers: Handlers | None = None) -> None:
        self.lost: list[TransportDown] = []
        own = Handlers(lambda incoming: None, lambda mid, code: None, self.lost.append, lambda: None)
        self.connection = MqttConnection(SETTINGS, "3.1.1", "den", handlers or own)
        self.broker = Broker()
        self.connection.connection_made(self.broker)
        self.accepted = self.connection.begin(clean=True, will=None)
        self.connection.data_received(ACCEPTED)
        self.broker.connection = self.connection


def talk(what: Callable[[Talk, Clock], Coroutine[Any, Any, None]]) -> None:
    clock = Clock()

    async def begin() -> None:
        one = Talk()
        await one.accepted
        await what(one, clock)
        one.connection.close(politely=False)

    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        runner.run(begin())


def test_a_quiet_connection_is_pinged_and_stays() -> None:
    async def quiet(it: Talk, clock: Clock) -> None:
        await asyncio.sleep(10 * KEEPALIVE_S)
        assert it.lost == []
        assert it.broker.pings >= 10

    talk(quiet)


def test_a_broker_that_fell_silent_is_given_up_after_one_keepalive_and_not_before() -> None:
    async def silent(it: Talk, clock: Clock) -> None:
        await asyncio.sleep(3 * KEEPALIVE_S)
        it.broker.silent = True
        await asyncio.sleep(KEEPALIVE_S / 3)
        assert it.lost == []
        await asyncio.sleep(KEEPALIVE_S * 1.5)
        assert [str(down).partition(" from")[0] for down in it.lost] == ["mqtt: nothing heard"]
        assert it.broker.aborted

    talk(silent)


def test_who_stood_still_himself_does_not_take_the_broker_for_a_silent_one() -> None:
    async def still(it: Talk, clock: Clock) -> None:
        for _ in range(5):
            await asyncio.sleep(KEEPALIVE_S / 3)
            clock.now += 1.4 * KEEPALIVE_S
            before = it.broker.pings
            await asyncio.sleep(KEEPALIVE_S / 3)
            assert it.broker.pings > before
        assert it.lost == []

    talk(still)


def test_who_does_not_read_pings_all_the_same_and_is_not_given_up_by_itself() -> None:
    async def full(it: Talk, clock: Clock) -> None:
        it.connection.pause()
        before = it.broker.pings
        await asyncio.sleep(5 * KEEPALIVE_S)
        assert it.broker.unread
        assert it.broker.pings >= before + 5
        it.connection.resume()
        await asyncio.sleep(5 * KEEPALIVE_S)
        assert it.lost == []

    talk(full)


def test_who_waits_for_a_subscription_hears_at_once_that_the_other_connection_of_the_session_is_lost() -> None:
    async def lost(it: Talk, clock: Clock) -> None:
        session = MqttSession(1, SETTINGS, lambda down: down, lambda: False)
        outgoing, incoming = Talk(session.out_handlers), Talk(session.in_handlers)
        session.use(outgoing.connection, incoming.connection)
        subscribing = asyncio.create_task(session.subscribe(mqtt("hall/temp"), 10))
        await asyncio.sleep(0)
        outgoing.connection.connection_lost(None)
        with pytest.raises(ConnectionLost, match="closed the connection"):
            await subscribing
        assert incoming.broker.aborted

    talk(lost)
