"""MQTT sessions on a real Mosquitto: what travels, what is refused, and what becomes of messages on bad lines."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.config.schema import Secret
from gateway.errors import (
    AccessRefused,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    DeliveryRefused,
    TransportDown,
    TwinConnected,
)
from gateway.model.address import mqtt
from gateway.model.message import Message, Outcome
from gateway.mqtt import catchup_marker as mqtt_mark
from gateway.mqtt import connect
from gateway.mqtt import transport as mqtt_transport
from gateway.mqtt.transport import MqttConnector, MqttSession, MqttSettings
from tests.support.mosquitto import CONFIG, Mosquitto
from tests.support.proxy import Proxy
from tests.support.taker import Taker, taking
from tests.support.wait import soon

WAIT_S = 120.0


@pytest.fixture(autouse=True)
def _one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that stands still for a while is not taken for an old one."""
    monkeypatch.setattr(connect, "SILENCE_S", WAIT_S)


def settings_for(port: int, unique: str, **more: object) -> MqttSettings:
    settings = MqttSettings("127.0.0.1", port, client_id=f"{unique}gateway", instance=unique)
    return replace(settings, **more)  # type: ignore[arg-type]


class Outside:
    """Somebody else's MQTT client: keeps what comes to one filter, publishes at QoS 1."""

    def __init__(self, port: int, topic_filter: str = "", *, five: bool = False) -> None:
        version = MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self.got: list[bytes] = []
        subscribed = threading.Event()
        self.client.on_message = lambda _client, _data, message: self.got.append(bytes(message.payload))
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if topic_filter:
            self.client.subscribe(topic_filter, qos=1)
            assert subscribed.wait(WAIT_S)

    async def publish(self, topic: str, *bodies: bytes, retain: bool = False) -> None:
        sent = [self.client.publish(topic, body, qos=1, retain=retain) for body in bodies]
        for info in sent:
            await asyncio.to_thread(info.wait_for_publish, WAIT_S)
            assert info.is_published()

    async def until(self, count: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while len(self.got) < count:
            assert time.monotonic() < deadline, f"{len(self.got)} of {count}"
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def outside(port: int, topic_filter: str = "") -> Iterator[Outside]:
    client = Outside(port, topic_filter)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def session_on(settings: MqttSettings) -> AsyncIterator[MqttSession]:
    async with MqttConnector(settings).connect() as session:
        yield session


def message(name: str, body: bytes = b"1") -> Message:
    return Message(name, body)


async def outcome(session: MqttSession, topic: str, name: str) -> bool:
    """Whether a publication was confirmed; it may fail only by the loss of the connection."""
    try:
        await session.publish(mqtt(topic), message(name, name.encode()))
    except TransportDown:
        return False
    return True


# -- what travels --------------------------------------------------------------------------------------------------


async def test_a_message_arrives_with_all_it_carries(mosquitto: Mosquitto, unique: str) -> None:
    topic = mqtt(f"{unique}/a")
    sent = Message("m-1", b"\x00\xff" * 600_000, "application/cbor", 1_700_000_000_123, False, "shed mqtt:x", 2)
    async with session_on(settings_for(mosquitto.port, unique)) as session, taking(session) as taker:
        await session.subscribe(topic, 10)
        await session.publish(topic, sent)
        await taker.until(1)
    assert taker.got[0].message == msgspec.structs.replace(sent, hops=3)


async def test_on_3_1_1_a_message_gets_a_new_id(mosquitto: Mosquitto, unique: str) -> None:
    topic = mqtt(f"{unique}/a")
    async with session_on(settings_for(mosquitto.port, unique, version="3.1.1")) as session, taking(session) as taker:
        await session.subscribe(topic, 10)
        await session.publish(topic, message("m-1"))
        await taker.until(1)
    arrived = taker.got[0].message
    assert arrived.id not in ("", "m-1")
    assert arrived.origin == f"{unique} mqtt:{topic.name}"
    assert arrived.hops == 0


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_retained_messages_are_told_from_live_ones(
    mosquitto: Mosquitto, unique: str, version: Literal["5", "3.1.1"]
) -> None:
    topic = mqtt(f"{unique}/a")
    async with session_on(settings_for(mosquitto.port, unique, version=version)) as session, taking(session) as taker:
        await session.publish(topic, Message("kept", b"kept", retain=True))
        await session.subscribe(topic, 10)
        await taker.until(1)
        await session.publish(topic, Message("live", b"live", retain=True))
        await taker.until(2)
        await session.publish(topic, Message("none", b"", retain=True))
    assert [(one.message.body, one.message.retain) for one in taker.got[:2]] == [(b"kept", True), (b"live", False)]


async def test_overlapping_filters_give_each_source_one_copy(mosquitto: Mosquitto, unique: str) -> None:
    sources = [mqtt(f"{unique}/a/b"), mqtt(f"{unique}/a/+"), mqtt(f"{unique}/#")]
    async with session_on(settings_for(mosquitto.port, unique)) as session, taking(session) as taker:
        for source in sources:
            await session.subscribe(source, 10)
        for number in range(5):
            await session.publish(sources[0], message(f"m{number}", b"%d" % number))
        await taker.stays_at(15)
        for source in sources:
            assert [one.message.body for one in taker.got if one.source == source] == [b"%d" % n for n in range(5)]
        for delivery in taker.got:
            await session.settle(delivery, Outcome.ACCEPTED)
        await session.subscribe(mqtt(f"{unique}/fence"), 10)  # answered behind it: the broker has heard it
    async with session_on(settings_for(mosquitto.port, unique)) as session, taking(session) as taker:
        for source in sources:
            await session.subscribe(source, 10)
        await taker.stays_at(0)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_what_we_send_to_ourselves_is_nothing_for_an_edge_however_wide_its_filter(
    mosquitto: Mosquitto, unique: str, version: Literal["3.1.1", "5"]
) -> None:
    """A broker may give a copy for each filter that matches. To a session that it has kept we send more than the canary."""
    everything, fence = mqtt(f"gateway/{unique}/#"), mqtt(f"gateway/{unique}/fence")
    connector = MqttConnector(settings_for(mosquitto.port, unique, version=version))
    bodies = [b"1", b"2", b"3"]
    for body in bodies:
        async with connector.connect() as session, taking(session) as taker:
            await session.subscribe(everything, 10)
            await session.publish(fence, message("m", body))  # behind what we sent to ourselves
            while body not in taker.bodies:
                await taker.until(len(taker.got) + 1)
            assert set(taker.bodies) <= set(bodies)
            for delivery in taker.got:
                session.settle_soon(delivery, Outcome.ACCEPTED)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b"])
async def test_an_impossible_topic_is_the_message_s_own_fault(mosquitto: Mosquitto, unique: str, topic: str) -> None:
    async with session_on(settings_for(mosquitto.port, unique)) as session:
        with pytest.raises(DeliveryRefused, match="topic") as caught:
            await session.publish(mqtt(topic), message("m"))
        assert caught.value.permanent
        await session.publish(mqtt(f"{unique}/a"), message("m"))


# -- flow control --------------------------------------------------------------------------------------------------


async def test_no_more_than_the_window_is_under_way(mosquitto: Mosquitto, unique: str) -> None:
    async with Proxy("127.0.0.1", mosquitto.port) as proxy:
        with outside(mosquitto.port, f"{unique}/a") as other:
            async with session_on(settings_for(proxy.port, unique, window=7)) as session:
                proxy.withhold_answers()
                tasks = [asyncio.create_task(outcome(session, f"{unique}/a", f"{n}")) for n in range(30)]
                await other.until(7)
                await asyncio.sleep(0.3)
                assert len(other.got) == 7
                for task in tasks[:10]:
                    task.cancel()
                await asyncio.gather(*tasks[:10], return_exceptions=True)
                proxy.release_answers()
                assert await asyncio.gather(*tasks[10:]) == [True] * 20
                await other.until(27)
                assert await outcome(session, f"{unique}/a", "after")


async def test_a_broker_with_a_smaller_window_is_respected(tmp_path: Path, unique: str) -> None:
    broker = Mosquitto(tmp_path, "max_inflight_messages 3\n")
    broker.start()
    try:
        async with session_on(settings_for(broker.port, unique)) as session:
            results = await asyncio.gather(*(outcome(session, f"{unique}/a", f"{n}") for n in range(100)))
            assert results == [True] * 100
    finally:
        broker.stop()


async def test_one_blocked_source_does_not_delay_another(mosquitto: Mosquitto, unique: str) -> None:
    blocked, free = mqtt(f"{unique}/blocked"), mqtt(f"{unique}/free")
    async with session_on(settings_for(mosquitto.port, unique)) as session, taking(session) as taker:
        await session.subscribe(blocked, 16)
        await session.subscribe(free, 16)
        with outside(mosquitto.port) as other:
            await other.publish(blocked.name, *(b"%d" % n for n in range(200)))
            await taker.until(16)
            for number in range(20):
                before = len(taker.got)
                await other.publish(free.name, b"%d" % number)
                await taker.until(before + 1)
                assert taker.got[-1].source == free
                await session.settle(taker.got[-1], Outcome.ACCEPTED)


async def test_a_session_with_too_much_on_its_hands_still_publishes(mosquitto: Mosquitto, unique: str) -> None:
    source = mqtt(f"{unique}/many")
    async with session_on(settings_for(mosquitto.port, unique)) as session, taking(session) as taker:
        await session.subscribe(source, 10)
        with outside(mosquitto.port) as other:
            await other.publish(source.name, *(b"%d" % n for n in range(3000)))
        await taker.until(10)
        for number in range(5):
            assert await outcome(session, f"{unique}/a", f"{number}")
        for at in range(3000):
            await taker.until(at + 1)
            session.settle_soon(taker.got[at], Outcome.ACCEPTED)
        assert taker.bodies == [b"%d" % n for n in range(3000)]


class PatientLine(Proxy):
    """Tells the broker of a keepalive of ten minutes: only our own side minds that a line is silent."""

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._faces_program(writer) and (connect := await reader.read(4096)):
            at = connect.index(b"MQTT") + 6  # behind the protocol level and the flags
            writer.write(connect[:at] + (600).to_bytes(2, "big") + connect[at + 2 :])
        await super()._copy(reader, writer)


# -- bad lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_cut_in_the_middle_leaves_every_publication_confirmed_or_failed(
    mosquitto: Mosquitto, unique: str, version: Literal["5", "3.1.1"]
) -> None:
    topic = f"{unique}/a"
    async with Proxy("127.0.0.1", mosquitto.port) as proxy:
        with outside(mosquitto.port, topic) as other:
            async with session_on(settings_for(proxy.port, unique, version=version, window=20)) as session:
                tasks = [asyncio.create_task(outcome(session, topic, f"{n}")) for n in range(1000)]
                await tasks[100]
                proxy.withhold_answers()
                await other.until(101)
                proxy.cut()
                results = await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)
                assert results[:101] == [True] * 101
                assert False in results
            confirmed = {b"%d" % n for n in range(1000) if results[n]}
            await other.until(len(confirmed))
            assert confirmed <= set(other.got)


async def test_what_others_publish_while_the_broker_restarts_and_we_are_away_comes_once_each(
    mosquitto_own: Mosquitto, unique: str
) -> None:
    source = mqtt(f"{unique}/a")
    connector = MqttConnector(settings_for(mosquitto_own.port, unique))
    async with connector.connect() as session, taking(session) as taker:
        await session.subscribe(source, 10)
        with outside(mosquitto_own.port) as other:
            await other.publish(source.name, b"1", b"2", b"3")
        await taker.until(3)
        await session.settle(taker.got[0], Outcome.ACCEPTED)
        await session.publish(mqtt(f"{unique}/fence"), message("fence"))
        await asyncio.to_thread(mosquitto_own.stop)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(session.publish(source, message("late")), WAIT_S)
    with pytest.raises(ConnectFailed, match="does the broker run there"):
        async with connector.connect():
            pass
    await asyncio.to_thread(mosquitto_own.start)
    with outside(mosquitto_own.port) as other:
        await other.publish(source.name, b"4", b"5")
    async with connector.connect() as session, taking(session) as taker:
        await session.subscribe(source, 10)
        await taker.until(4)
        assert taker.bodies == [b"2", b"3", b"4", b"5"]
        assert taker.got[0].redelivered
        for delivery in taker.got:
            await session.settle(delivery, Outcome.ACCEPTED)


async def test_a_backlog_larger_than_any_window_does_not_keep_the_canary_away(
    mosquitto_own: Mosquitto, unique: str
) -> None:
    source = mqtt(f"{unique}/a")
    connector = MqttConnector(settings_for(mosquitto_own.port, unique))
    async with connector.connect() as session:
        await session.subscribe(source, 10)
    with outside(mosquitto_own.port) as other:
        await other.publish(source.name, *(b"%d" % n for n in range(5000)))
    async with connector.connect() as session, taking(session) as taker:
        await session.subscribe(source, 50)
        for at in range(5000):
            await taker.until(at + 1)
            session.settle_soon(taker.got[at], Outcome.ACCEPTED)
        assert taker.bodies == [b"%d" % n for n in range(5000)]


@pytest.mark.parametrize("most", [0, 50], ids=["all of it kept", "its row full, our mark lost"])
async def test_all_that_the_broker_kept_is_known_for_that_and_what_comes_later_is_new(
    tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """It gives 20 at a time, as Mosquitto does by itself to who speaks 3.1.1."""
    monkeypatch.setattr(mqtt_mark, "MARK_AGAIN_S", 0.2)
    source = mqtt(f"{unique}/a")
    config = CONFIG.replace("inflight_messages 1000", "inflight_messages 20")
    broker = Mosquitto(tmp_path, config=config.replace("queued_messages 0", f"queued_messages {most}"))
    broker.start()
    connector = MqttConnector(settings_for(broker.port, unique, version="3.1.1"))
    try:
        with outside(broker.port) as other:
            async with connector.connect() as session, taking(session) as taker:
                await session.subscribe(source, 10)
                await other.publish(source.name, b"before")
                await taker.until(1)
                assert not taker.got[0].redelivered
                session.settle_soon(taker.got[0], Outcome.ACCEPTED)
            await other.publish(source.name, *(b"%d" % n for n in range(100)))
            async with connector.connect() as session, taking(session) as taker:
                await session.subscribe(source, 10)
                settled = 0
                while not (taker.got and not taker.got[-1].redelivered):
                    await other.publish(source.name, b"new")
                    await taker.until(settled + 1)
                    for delivery in taker.got[settled:]:
                        session.settle_soon(delivery, Outcome.ACCEPTED)
                    settled = len(taker.got)
            kept = [one for one in taker.got if one.message.body != b"new"]
            assert all(one.redelivered for one in kept)
            assert len(kept) >= most if most else len(kept) == 100
            assert [one.message.body for one in kept] == [b"%d" % n for n in range(len(kept))]
    finally:
        broker.stop()


async def test_a_source_that_no_edge_wants_any_more_is_dropped_at_the_broker(
    mosquitto: Mosquitto, unique: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt_transport, "UNCLAIMED_S", 0.1)
    caplog.set_level(logging.INFO)
    gone, kept = mqtt(f"{unique}/gone"), mqtt(f"{unique}/kept")
    may_still_come = True
    connector = MqttConnector(settings_for(mosquitto.port, unique), lambda: may_still_come)
    async with connector.connect() as session:
        await session.subscribe(gone, 10)
        await session.subscribe(kept, 10)
    with outside(mosquitto.port) as other:
        await other.publish(gone.name, b"1")
        await other.publish(kept.name, b"2")
        async with connector.connect() as session, taking(session) as taker:
            await session.subscribe(kept, 10)
            await taker.until(1)
            await session.settle(taker.got[0], Outcome.ACCEPTED)
            may_still_come = False
            await soon(lambda: f"no edge wants {gone.name} any more" in caplog.text, WAIT_S)
            await session.subscribe(mqtt(f"{unique}/fence"), 10)  # answered behind it: the broker has heard it
        await other.publish(gone.name, b"3")
        async with connector.connect() as session, taking(session) as taker:
            await session.subscribe(gone, 10)
            await other.publish(gone.name, b"4")
            await taker.until(1)
            assert taker.bodies == [b"4"]


async def test_what_somebody_may_still_want_is_not_dropped(
    mosquitto: Mosquitto, unique: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt_transport, "UNCLAIMED_S", 0.1)
    caplog.set_level(logging.INFO)
    late = mqtt(f"{unique}/late")
    unknown = True
    connector = MqttConnector(settings_for(mosquitto.port, unique), lambda: unknown)
    async with connector.connect() as session:
        await session.subscribe(late, 10)
    with outside(mosquitto.port) as other:
        await other.publish(late.name, b"1")
    async with connector.connect() as session, taking(session) as taker:
        await asyncio.sleep(0.5)
        await session.subscribe(late, 10)
        await taker.until(1)
        unknown = False
    async with connector.connect() as session:
        await soon(lambda: f"no edge wants {late.name} any more" in caplog.text, WAIT_S)
        await session.subscribe(mqtt(f"{unique}/fence"), 10)  # answered behind it: the broker has heard it
    async with connector.connect() as session, taking(session) as taker:
        await session.subscribe(late, 10)
        with outside(mosquitto.port) as other:
            await other.publish(late.name, b"2")
        await taker.until(1)
        assert taker.bodies == [b"2"]


async def test_a_stalled_line_is_noticed_by_the_keepalive(mosquitto: Mosquitto, unique: str) -> None:
    async with PatientLine("127.0.0.1", mosquitto.port) as proxy:
        async with session_on(settings_for(proxy.port, unique, keepalive_s=6)) as session:
            taker = Taker(session)
            task = asyncio.create_task(taker.run())
            proxy.stall()
            await asyncio.wait_for(task, WAIT_S)
            assert "nothing heard" in str(taker.down)
        proxy.resume()


async def test_a_half_closed_line_is_a_lost_one(mosquitto: Mosquitto, unique: str) -> None:
    async with (
        Proxy("127.0.0.1", mosquitto.port) as proxy,
        session_on(settings_for(proxy.port, unique)) as session,
    ):
        taker = Taker(session)
        task = asyncio.create_task(taker.run())
        proxy.half_close()
        await asyncio.wait_for(task, WAIT_S)
        assert isinstance(taker.down, ConnectionLost)


async def test_a_flapping_line_is_survived(mosquitto: Mosquitto, unique: str) -> None:
    source = mqtt(f"{unique}/a")
    async with Proxy("127.0.0.1", mosquitto.port) as proxy:
        connector = MqttConnector(settings_for(proxy.port, unique))
        seen: set[bytes] = set()
        with outside(mosquitto.port) as other:
            for turn in range(6):
                proxy.flapping = turn % 2 == 1
                try:
                    async with connector.connect() as session, taking(session) as taker:
                        await session.subscribe(source, 10)
                        await other.publish(source.name, b"%d" % turn)
                        await taker.until(1)
                        while b"%d" % turn not in taker.bodies:
                            await taker.until(len(taker.got) + 1)
                        seen |= set(taker.bodies)
                        proxy.cut()
                except TransportDown:
                    assert proxy.flapping
                    await other.publish(source.name, b"%d" % turn)
        assert proxy.refused
        proxy.flapping = False
        async with connector.connect() as session, taking(session) as taker:
            await session.subscribe(source, 10)
            await taker.until(6)
            assert set(taker.bodies) == {b"%d" % turn for turn in range(6)}
            for delivery in taker.got:
                await session.settle(delivery, Outcome.ACCEPTED)


async def test_a_canary_that_does_not_come_back_means_no_session(
    mosquitto: Mosquitto, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_transport, "CANARY_S", 0.5)

    class Deaf(MqttSession):
        def _until_canary(self, topic: bytes, token: bytes):  # type: ignore[no-untyped-def]
            return super()._until_canary(topic, b"another")

    monkeypatch.setattr(mqtt_transport, "MqttSession", Deaf)
    with pytest.raises(ConnectFailed, match="does not give back"):
        async with session_on(settings_for(mosquitto.port, unique)):
            pass


async def test_the_last_will_is_sent_when_the_line_is_cut_and_not_after_a_good_bye(
    mosquitto: Mosquitto, unique: str
) -> None:
    state = f"{unique}/state"
    async with Proxy("127.0.0.1", mosquitto.port) as proxy:
        with outside(mosquitto.port, state) as other:
            settings = settings_for(proxy.port, unique, will=lambda epoch: (state, b"gone %d" % epoch))
            connector = MqttConnector(settings)
            async with connector.connect() as session:
                await session.publish(mqtt(f"{unique}/x"), message("m"))
            async with connector.connect() as session:
                proxy.cut()
            await other.until(1)
            assert other.got == [b"gone 2"]
            await other.publish(state, b"", retain=True)


# -- refusals ------------------------------------------------------------------------------------------------------


def password_broker(directory: Path, extra: str = "") -> Mosquitto:
    directory.mkdir(parents=True, exist_ok=True)
    passwords = directory / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "me@home", "right"], check=True)
    passwords.chmod(0o600)
    broker = Mosquitto(directory, f"password_file {passwords}\n{extra}")
    config = directory / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    return broker


@pytest.mark.parametrize("version", ["auto", "3.1.1"])
async def test_a_wrong_password_is_refused_access(tmp_path: Path, unique: str, version: str) -> None:
    broker = password_broker(tmp_path)
    broker.start()
    try:
        settings = settings_for(
            broker.port, unique, username="me@home", password=Secret("wrong-secret"), version=version
        )
        with pytest.raises(AccessRefused, match="password_file") as caught:
            async with session_on(settings):
                pass
        assert "wrong-secret" not in str(caught.value)
        async with session_on(replace(settings, password=Secret("right"))) as session:
            assert await outcome(session, f"{unique}/a", "1")
    finally:
        broker.stop()


async def test_an_access_list_that_forbids_the_canary_or_a_topic_is_told(tmp_path: Path, unique: str) -> None:
    access = tmp_path / "access"
    access.write_text(f"topic readwrite gateway/#\ntopic write {unique}/in\n")
    broker = Mosquitto(tmp_path, f"acl_file {access}\n")
    broker.start()
    try:
        async with session_on(settings_for(broker.port, unique)) as session:
            await session.publish(mqtt(f"{unique}/in"), message("m"))
            with pytest.raises(DeliveryRefused, match="does not let us publish") as caught:
                await session.publish(mqtt(f"{unique}/other"), message("m"))
            assert caught.value.permanent
        access.write_text(f"topic readwrite {unique}/in\n")
        broker.stop()
        broker.start()
        with pytest.raises(AccessRefused, match="gateway/#"):
            async with session_on(settings_for(broker.port, unique)):
                pass
    finally:
        broker.stop()


async def test_a_twin_is_named_where_the_broker_says_so(mosquitto: Mosquitto, unique: str) -> None:
    async with Proxy("127.0.0.1", mosquitto.port) as proxy:
        settings = settings_for(proxy.port, unique)
        async with session_on(settings) as session:
            taker = Taker(session)
            task = asyncio.create_task(taker.run())
            proxy.say(b"\xe0\x02\x8e\x00")  # DISCONNECT: session taken over
            await asyncio.wait_for(task, WAIT_S)
    assert isinstance(taker.down, TwinConnected)
    assert settings.client_id in str(taker.down)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_three_short_lives_in_a_row_are_reported_as_a_probable_twin(
    mosquitto: Mosquitto, unique: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_transport, "TWIN_WITHIN_S", WAIT_S)
    settings = settings_for(mosquitto.port, unique, version=version)
    connector = MqttConnector(settings)
    downs = []
    for _ in range(3):
        async with connector.connect() as session:
            taker = Taker(session)
            task = asyncio.create_task(taker.run())
            async with session_on(settings) as twin:
                await asyncio.wait_for(task, WAIT_S)
                assert await outcome(twin, f"{unique}/a", "1")
            downs.append(taker.down)
    assert [isinstance(down, TwinConnected) for down in downs] == [False, False, True]
    assert "probably" in str(downs[-1])


# -- versions ------------------------------------------------------------------------------------------------------


class OldBroker:
    """In front of a broker: knows no MQTT 5. ``manner`` is how it says so: ``close``, ``tell`` or ``silence``."""

    def __init__(self, port: int, manner: str) -> None:
        self._port = port
        self._manner = manner
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> OldBroker:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            head = await reader.readexactly(9)  # type, length, "MQTT" behind its length, and the protocol level
            if head[8] == 5:
                if self._manner == "tell":
                    writer.write(b"\x20\x02\x00\x01")
                    await writer.drain()
                if self._manner == "silence":
                    await reader.read()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            writers.append(far_writer)
            far_writer.write(head)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for one in writers:
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.transport.abort()


@pytest.mark.parametrize("manner", ["close", "tell", "silence"])
async def test_an_older_broker_is_spoken_to_in_3_1_1(
    mosquitto: Mosquitto, unique: str, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if manner == "silence":
        monkeypatch.setattr(connect, "SILENCE_S", 1.0)
    async with (
        OldBroker(mosquitto.port, manner) as old,
        session_on(settings_for(old.port, unique)) as session,
        taking(session) as taker,
    ):
        await session.subscribe(mqtt(f"{unique}/a"), 10)
        assert await outcome(session, f"{unique}/a", "1")
        await taker.until(1)
        assert taker.got[0].message.id != "1"


async def test_version_5_wanted_and_not_there_is_told(mosquitto: Mosquitto, unique: str) -> None:
    async with OldBroker(mosquitto.port, "tell") as old:
        with pytest.raises(ConnectFailed, match="does not speak MQTT 5"):
            async with session_on(settings_for(old.port, unique, version="5")):
                pass


async def test_something_that_is_no_broker_is_told(unique: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await reader.read(1)
        finally:  # also if the test ends first
            writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed):
            async with session_on(settings_for(port, unique)):
                pass


# -- TLS -----------------------------------------------------------------------------------------------------------


def certificates(directory: Path) -> Path:
    """A private authority, and a certificate for ``localhost`` that it signed."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "names").write_text("subjectAltName=DNS:localhost\n")
    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Workshop CA")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    return directory


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Path]]:
    directory = certificates(tmp_path_factory.mktemp("tls"))
    extra = f"certfile {directory}/server.crt\nkeyfile {directory}/server.key\n"
    broker = Mosquitto(directory / "broker", extra)
    broker.start()
    try:
        yield broker, directory
    finally:
        broker.stop()


async def test_tls_with_a_private_authority(tls_broker: tuple[Mosquitto, Path], unique: str) -> None:
    broker, directory = tls_broker
    settings = settings_for(broker.port, unique, host="localhost", tls=True, ca_file=str(directory / "ca.crt"))
    async with session_on(settings) as session, taking(session) as taker:
        await session.subscribe(mqtt(f"{unique}/a"), 50)
        await asyncio.gather(*(session.publish(mqtt(f"{unique}/a"), message(f"{n}", b"x" * 50_000)) for n in range(50)))
        await taker.until(50)
        assert [one.message.id for one in taker.got] == [f"{n}" for n in range(50)]


async def test_a_certificate_is_verified_by_default(tls_broker: tuple[Mosquitto, Path], unique: str) -> None:
    broker, directory = tls_broker
    unknown = settings_for(broker.port, unique, host="localhost", tls=True)
    with pytest.raises(ConnectFailed, match=r"not trusted.*mqtt\.ca_file"):
        async with session_on(unknown):
            pass
    other_name = replace(unknown, host="127.0.0.1", ca_file=str(directory / "ca.crt"))
    with pytest.raises(ConnectFailed, match="not trusted"):
        async with session_on(other_name):
            pass


async def test_tls_to_a_plain_port_is_told(mosquitto: Mosquitto, unique: str) -> None:
    with pytest.raises(ConnectFailed):
        async with session_on(settings_for(mosquitto.port, unique, tls=True, connect_timeout_s=3.0)):
            pass


def test_a_file_for_tls_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file"):
        MqttConnector(settings_for(1, "x", tls=True, ca_file=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"mqtt\.cert_file"):
        MqttConnector(settings_for(1, "x", tls=True, cert_file=str(tmp_path / "a"), key_file=str(tmp_path / "b")))
    assert ssl.create_default_context().check_hostname


def test_a_refused_connection_logs_nothing_by_itself(unique: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1"):
            async with session_on(settings_for(1, unique)):
                pass

    with caplog.at_level(logging.DEBUG, logger="gateway"):
        asyncio.run(fail())
    assert caplog.records == []
