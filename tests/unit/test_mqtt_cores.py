"""The cores of the MQTT side: topics, packets, properties, intake, outbox, settings."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from itertools import count

import paho.mqtt.client as paho
import pytest

from gateway.config.schema import MqttSection, Secret
from gateway.errors import (
    ConfigError,
    ConnectionLost,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    RemoteProtocolError,
    TransportDown,
)
from gateway.model.address import mqtt
from gateway.model.message import Delivery, Message, Outcome
from gateway.model.topic import topic_problem
from gateway.mqtt.core.inbound import MOST_UNSETTLED, PARKED, MqttInbound, subscription_id
from gateway.mqtt.core.outbound import MqttOutbound, PublishLimits
from gateway.mqtt.core.packets import (
    IncomingPublish,
    PacketReader,
    decode_length,
    decode_puback,
    decode_publish,
    encode_length,
    encode_puback,
    encode_publish,
)
from gateway.mqtt.core.properties import decode_message, encode_properties, subscription_ids
from gateway.mqtt.core.settings import settings_of
from gateway.mqtt.core.topics import filter_problem, matches

# -- topics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["a", "a/b", "/", "a//b", "$SYS/x", "grün/°C", "a b"])
def test_a_topic_may_be_published_on(topic: str) -> None:
    assert topic_problem(topic) == ""


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a#", "a\0b", "x" * 65_536, "\ud800"])
def test_a_topic_that_no_broker_takes_is_refused_with_a_reason(topic: str) -> None:
    assert topic_problem(topic)


@pytest.mark.parametrize("text", ["a", "+", "#", "a/#", "+/b/+", "/+"])
def test_a_filter_is_one(text: str) -> None:
    assert filter_problem(text) == ""


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/+b", "a/#/b"])
def test_a_misplaced_wildcard_is_told(text: str) -> None:
    assert filter_problem(text)


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+", "/a", False),
        ("+/a", "/a", True),
        ("a/b", "a/B", False),
    ],
)
def test_a_filter_matches_as_the_specification_says(text: str, topic: str, expected: bool) -> None:
    assert matches(text, topic) is expected


# -- packets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
def test_a_length_survives_its_encoding(number: int) -> None:
    encoded = encode_length(number)
    assert decode_length(b"x" + encoded, 1) == (number, 1 + len(encoded))


def test_a_length_that_does_not_end_is_no_mqtt() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_length(b"\xff\xff\xff\xff\x01", 0)
    with pytest.raises(RemoteProtocolError):
        decode_length(b"\xff", 0)
    with pytest.raises(RemoteProtocolError):
        PacketReader().feed(b"\x30\xff\xff\xff\xff\xff")


def test_acks_that_come_together_are_taken_together() -> None:
    reader = PacketReader()
    assert reader.good_acks(encode_puback(1) + encode_puback(0x4002) + encode_puback(65_535)) == (1, 0x4002, 65_535)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_puback(1) + b"\x40\x03\x00\x02\x87" + b"\xd0\x02\x00",  # one that refuses; three packets of 12 bytes
        encode_puback(1) + b"\xd0\x00\xd0\x00",
        b"\xd0\x00\x40\x02" + b"\x00\x01\xd0\x00",
        encode_puback(1) + encode_puback(2)[:3],
        b"\x32\x02\x00\x01",
    ],
)
def test_acks_among_other_packets_are_left_to_the_general_way(data: bytes) -> None:
    assert PacketReader().good_acks(data) == ()


def test_acks_behind_half_a_packet_are_left_to_the_general_way() -> None:
    reader = PacketReader()
    assert reader.feed(b"\x32\x04\x00") == []
    assert reader.good_acks(encode_puback(7)) == ()
    assert reader.feed(encode_puback(7))[0] == (0x32, b"\x00\x40\x02\x00")


def test_any_chunking_gives_the_same_packets() -> None:
    draw = random.Random(7)
    bodies = [b"", b"x", b"y" * 127, b"z" * 128, b"w" * 20_000, *(bytes([n]) * n for n in range(40))]
    stream = b"".join(b"\x32" + encode_length(len(body)) + body for body in bodies)
    for longest in (1, 2, 3, 100, 5000, len(stream)):
        reader, at = PacketReader(), 0
        got: list[tuple[int, bytes]] = []
        while at < len(stream):
            size = draw.randint(1, longest)
            got += reader.feed(stream[at : at + size])
            at += size
        assert got == [(0x32, body) for body in bodies]


@pytest.mark.parametrize("five", [True, False])
def test_a_publish_survives_its_encoding(five: bool) -> None:
    properties = encode_properties(Message("id", b"")) if five else b""
    packet = encode_publish(b"a/b", 77, True, properties, b"body")
    ((first, body),) = PacketReader().feed(packet)
    incoming = decode_publish(first, body, with_properties=five)
    assert (incoming.topic, incoming.mid, incoming.retain, incoming.again) == (b"a/b", 77, True, False)
    assert incoming.payload == b"body"
    assert incoming.properties == properties[1:]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\x05ab", b"\0\x01a", b"\0\x01a\0", b"\0\x01a\0\x01\x05abc"])
def test_a_publish_cut_short_is_no_mqtt(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_publish(0x32, body, with_properties=True)


def test_a_puback_without_a_code_is_success() -> None:
    assert decode_puback(encode_puback(300)[2:]) == (300, 0)
    assert decode_puback(b"\x01\x02\x87") == (258, 0x87)
    with pytest.raises(RemoteProtocolError):
        decode_puback(b"\x01")


# -- properties -----------------------------------------------------------------------------------------------------


def test_what_a_message_carries_survives_the_way_and_counts_one_hop() -> None:
    message = Message("m-1", b"", "text/plain", 1_700_000_000_123, False, "shed mqtt:a", 2, reason="too big")
    block = encode_properties(message)
    known = decode_properties(block[1 if block[0] < 0x80 else 2 :])
    assert (known.id, known.content_type, known.origin) == ("m-1", "text/plain", "shed mqtt:a")
    assert (known.hops, known.time_ms, known.clock_trusted, known.reason) == (3, 1_700_000_000_123, False, "too big")


def decode_properties(block: bytes) -> Message:
    """What a block says, and nothing that was made up here."""
    return decode_message(block, b"", False, "", str, int)


def user(key: str, value: bytes) -> bytes:
    return b"\x26" + len(key).to_bytes(2, "big") + key.encode() + len(value).to_bytes(2, "big") + value


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x7f",
        b"\x26",
        b"\x26\0\x05abc",
        b"\x03\xff\xff",
        b"\x0b\xff\xff\xff\xff\xff",
        user("hops", b"-1") + user("time", b"soon"),
        user("hops", b"9" * 40),
    ],
)
def test_strange_properties_are_no_reason_to_lose_a_message(block: bytes) -> None:
    known = decode_properties(block)
    assert (known.id, known.hops, known.time_ms) == ("", 0, 0)


def test_what_stands_before_a_strange_property_is_still_read() -> None:
    block = b"\x01\x01\x02\0\0\0\x09" + user("message-id", b"m") + b"\x7f\x7f"
    assert decode_properties(block).id == "m"
    assert decode_properties(b"\x01\x01").id == ""


def test_an_id_that_amqp_could_not_carry_becomes_its_digest() -> None:
    long = decode_properties(user("message-id", b"x" * 256)).id
    assert len(long) == 64
    assert decode_properties(user("message-id", b"x" * 256)).id == long
    assert len(decode_properties(user("message-id", b"\xff\xfe")).id) == 64


def test_subscription_ids_are_found() -> None:
    assert subscription_ids(b"\x0b\x05" + user("k", b"v") + b"\x0b\x80\x01") == [5, 128]
    assert 0 < subscription_id("a/b") <= 0x0FFF_FFFF


# -- intake ---------------------------------------------------------------------------------------------------------


def intake() -> MqttInbound:
    numbers = count(1)
    return MqttInbound(1, "shed", lambda: f"made-{next(numbers)}", lambda: 1000)


def incoming(topic: str, mid: int, body: bytes = b"", *, numbers: tuple[int, ...] = ()) -> IncomingPublish:
    properties = b"".join(b"\x0b" + encode_length(number) for number in numbers)
    return IncomingPublish(topic.encode(), mid, False, False, properties, body)


def ready(core: MqttInbound) -> list[Delivery]:
    taken = list(core.ready)
    core.ready.clear()
    return taken


def test_a_foreign_message_gets_an_id_an_origin_and_a_time() -> None:
    core = intake()
    core.subscribe(mqtt("a"), 10)
    core.arrived(incoming("a", 1, b"x"))
    (delivery,) = ready(core)
    message = delivery.message
    assert (message.id, message.origin, message.time_ms, message.body) == ("made-1", "shed mqtt:a", 1000, b"x")
    assert delivery.source == mqtt("a")


def test_acknowledgements_go_out_in_the_order_of_completion() -> None:
    core = intake()
    core.subscribe(mqtt("a"), 10)
    for mid in (1, 2, 3):
        core.arrived(incoming("a", mid))
    first, second, third = ready(core)
    core.settle(third, Outcome.ACCEPTED)
    core.settle(first, Outcome.REJECTED)
    core.settle(second, Outcome.RELEASED)
    core.settle(third, Outcome.ACCEPTED)
    assert core.acks == [3, 1]


def test_a_slow_source_does_not_hold_up_the_others() -> None:
    core = intake()
    core.subscribe(mqtt("slow"), 1)
    core.subscribe(mqtt("fast"), 10)
    for mid in range(1, 6):
        core.arrived(incoming("slow", mid))
    core.arrived(incoming("fast", 6))
    assert [delivery.source.name for delivery in ready(core)] == ["slow", "fast"]
    assert not core.crowded


def test_too_much_beyond_the_credit_stops_the_reading_until_there_is_room() -> None:
    core = intake()
    core.subscribe(mqtt("slow"), 1)
    for mid in range(1, PARKED + 3):
        core.arrived(incoming("slow", mid))
    assert core.crowded
    while not core.has_room:
        (delivery,) = ready(core)
        core.settle(delivery, Outcome.ACCEPTED)
    assert not core.crowded
    assert len(core.acks) >= PARKED // 2


def test_a_broker_that_sends_more_than_it_was_told_is_not_read_until_enough_is_settled() -> None:
    core = intake()
    for n in range(10):
        core.subscribe(mqtt(f"t{n}"), MOST_UNSETTLED)
    mids = iter(range(1, 2 * MOST_UNSETTLED))
    while not core.crowded:
        mid = next(mids)
        core.arrived(incoming(f"t{mid % 10}", mid))
    taken = ready(core)
    assert len(taken) == MOST_UNSETTLED + 1
    while not core.has_room:
        core.settle(taken.pop(), Outcome.ACCEPTED)
    assert not core.crowded
    assert len(taken) > MOST_UNSETTLED // 2


def test_until_it_has_caught_up_all_that_comes_was_kept() -> None:
    core = intake()
    core.catching_up = True
    core.subscribe(mqtt("a"), 1)
    for mid in (1, 2):
        core.arrived(incoming("a", mid))
    core.catching_up = False
    core.arrived(incoming("a", 3))
    kept = []
    for _ in range(3):
        (delivery,) = ready(core)
        kept.append(delivery.redelivered)
        core.settle(delivery, Outcome.ACCEPTED)
    assert kept == [True, True, False]


def test_what_the_broker_kept_waits_for_its_subscription() -> None:
    core = intake()
    core.arrived(incoming("a", 1))
    core.arrived(incoming("b", 2))
    core.subscribe(mqtt("a"), 10)
    assert [delivery.source.name for delivery in ready(core)] == ["a"]
    assert core.acks == []
    core.give_up_unclaimed()
    assert core.acks == [2]
    assert core.strangers == {"b"}
    core.arrived(incoming("b", 3))
    assert core.acks == [2, 3]


def test_a_message_for_several_filters_is_acknowledged_when_all_are_done() -> None:
    core = intake()
    core.subscribe(mqtt("a/b"), 10)
    core.subscribe(mqtt("a/#"), 10)
    core.arrived(incoming("a/b", 1, numbers=(subscription_id("a/b"), subscription_id("a/#"))))
    first, second = ready(core)
    core.settle(first, Outcome.ACCEPTED)
    assert core.acks == []
    core.settle(second, Outcome.ACCEPTED)
    assert core.acks == [1]


def test_copies_for_several_filters_come_once_each() -> None:
    core = intake()
    core.subscribe(mqtt("a/b"), 10)
    core.subscribe(mqtt("a/#"), 10)
    core.arrived(incoming("a/b", 1, numbers=(subscription_id("a/b"),)))
    core.arrived(incoming("a/b", 2, numbers=(subscription_id("a/#"),)))
    assert [delivery.source.name for delivery in ready(core)] == ["a/b", "a/#"]


def test_a_broker_that_makes_dots_slashes_gives_dotted_sources_their_messages_all_the_same() -> None:
    core = intake()
    core.dots_are_slashes = True
    for name in ("a.b", "c.d/+", "a/b"):
        core.subscribe(mqtt(name), 10)
    core.arrived(incoming("a/b", 1))
    core.arrived(incoming("c/d/e", 2))
    assert [delivery.source.name for delivery in ready(core)] == ["a/b", "a.b", "c.d/+"]


def test_what_is_parked_when_nobody_wants_it_any_more_is_acknowledged() -> None:
    core = intake()
    core.subscribe(mqtt("a"), 1)
    for mid in (1, 2, 3):
        core.arrived(incoming("a", mid))
    (delivery,) = ready(core)
    core.unsubscribe(mqtt("a"))
    assert core.acks == [2, 3]
    core.settle(delivery, Outcome.ACCEPTED)
    assert core.acks == [2, 3, 1]


# -- outbox ---------------------------------------------------------------------------------------------------------


class Results:
    """What became of each publication, by its id."""

    def __init__(self) -> None:
        self.of: dict[str, DeliveryError | TransportDown | None] = {}

    def at(self, name: str) -> Callable[[DeliveryError | TransportDown | None], None]:
        def done(problem: DeliveryError | TransportDown | None) -> None:
            assert name not in self.of
            self.of[name] = problem

        return done


def outbox(limits: PublishLimits) -> tuple[MqttOutbound, list[bytes], Results]:
    packets: list[bytes] = []
    core = MqttOutbound(packets.append)
    core.limits = limits
    return core, packets, Results()


def test_no_more_than_the_window_is_unconfirmed_and_order_is_kept() -> None:
    core, packets, results = outbox(PublishLimits(2, properties=False))
    for name in "abcd":
        core.submit(mqtt("t"), Message(name, name.encode()), results.at(name))
    assert [packet[-1:] for packet in packets] == [b"a", b"b"]
    core.acknowledged(2, 0)
    core.acknowledged(2, 0)
    assert [packet[-1:] for packet in packets] == [b"a", b"b", b"c"]
    core.acknowledged(1, 0)
    core.acknowledged(3, 0)
    core.acknowledged(4, 0)
    assert results.of == dict.fromkeys("abcd")
    assert core.unconfirmed == 0


def test_acks_that_come_together_free_their_slots_together() -> None:
    core, packets, results = outbox(PublishLimits(2, properties=False))
    for name in "abcde":
        core.submit(mqtt("t"), Message(name, name.encode()), results.at(name))
    core.confirmed((2, 1, 2, 9))
    assert results.of == {"a": None, "b": None}
    assert [packet[-1:] for packet in packets] == [b"a", b"b", b"c", b"d"]
    core.confirmed((3, 4))
    core.confirmed((5,))
    assert results.of == dict.fromkeys("abcde")
    assert core.unconfirmed == 0


def test_an_abandoned_publication_that_waits_is_not_sent() -> None:
    core, packets, results = outbox(PublishLimits(1))
    core.submit(mqtt("t"), Message("a", b""), results.at("a"))
    core.submit(mqtt("t"), Message("b", b""), results.at("b")).abandoned = True
    core.submit(mqtt("t"), Message("c", b""), results.at("c"))
    core.acknowledged(1, 0)
    assert len(packets) == 2
    core.acknowledged(2, 0)
    assert results.of == {"a": None, "c": None}


@pytest.mark.parametrize(
    ("code", "kind", "final"),
    [
        (0x80, DeliveryDeferred, True),
        (0x83, DeliveryDeferred, True),
        (0x97, DeliveryDeferred, False),
        (0x87, DeliveryRefused, True),
        (0x90, DeliveryRefused, True),
        (0x99, DeliveryRefused, True),
    ],
)
def test_a_reason_code_says_whether_another_attempt_helps(code: int, kind: type, final: bool) -> None:
    core, _, results = outbox(PublishLimits(1))
    core.submit(mqtt("t"), Message("a", b""), results.at("a"))
    core.acknowledged(1, code)
    problem = results.of["a"]
    assert isinstance(problem, kind)
    assert getattr(problem, "permanent", None) is final or getattr(problem, "counts", None) is final


def test_no_matching_subscriber_is_success() -> None:
    core, _, results = outbox(PublishLimits(1))
    core.submit(mqtt("t"), Message("a", b""), results.at("a"))
    core.acknowledged(1, 0x10)
    assert results.of == {"a": None}


def test_a_message_no_broker_takes_is_refused_without_a_slot() -> None:
    core, packets, results = outbox(PublishLimits(1, max_packet_bytes=100))
    core.submit(mqtt("a/+"), Message("topic", b""), results.at("topic"))
    core.submit(mqtt("a"), Message("size", b"x" * 100), results.at("size"))
    assert all(isinstance(problem, DeliveryRefused) and problem.permanent for problem in results.of.values())
    assert "100" in str(results.of["size"])
    assert (packets, core.unconfirmed) == ([], 0)


def test_a_lost_connection_fails_all_and_takes_no_more() -> None:
    core, _, results = outbox(PublishLimits(1))
    down = ConnectionLost("mqtt", "gone")
    core.submit(mqtt("t"), Message("a", b""), results.at("a"))
    core.submit(mqtt("t"), Message("b", b""), results.at("b"))
    core.lost(down)
    core.submit(mqtt("t"), Message("c", b""), results.at("c"))
    core.acknowledged(1, 0)
    assert results.of == {"a": down, "b": down, "c": down}


def test_a_packet_id_in_use_is_passed_over() -> None:
    core, packets, results = outbox(PublishLimits(70_000, properties=False))
    core.submit(mqtt("t"), Message("stuck", b""), results.at("stuck"))
    for number in range(2, 65_536):
        core.submit(mqtt("t"), Message(str(number), b""), results.at(str(number)))
        core.acknowledged(number, 0)
    core.submit(mqtt("t"), Message("next", b""), results.at("next"))
    assert packets[-1][-2:] == (2).to_bytes(2, "big")


def test_retain_is_asked_for_only_where_the_broker_retains() -> None:
    core, packets, results = outbox(PublishLimits(2, retain=False))
    core.submit(mqtt("t"), Message("a", b"", retain=True), results.at("a"))
    core.limits = PublishLimits(2)
    core.submit(mqtt("t"), Message("b", b"", retain=True), results.at("b"))
    assert [packet[0] for packet in packets] == [0x32, 0x33]


# -- settings, and what we rely on in paho -------------------------------------------------------------------------


def of(url: str, section: MqttSection | None = None, password: str = "") -> object:
    return settings_of(section or MqttSection(), url, instance="shed", client_id="c", password=Secret(password))


def test_user_and_password_of_a_url_are_percent_decoded() -> None:
    settings = settings_of(
        MqttSection(), "mqtts://me%40home:p%2Fw@host", instance="shed", client_id="c", password=Secret("other")
    )
    assert (settings.username, settings.password.reveal()) == ("me@home", "p/w")
    assert (settings.tls, settings.port) == (True, 8883)


def test_the_password_of_its_own_key_is_used_where_the_url_has_none() -> None:
    settings = settings_of(
        MqttSection(), "mqtt://me@host:1999", instance="shed", client_id="c", password=Secret("other")
    )
    assert (settings.password.reveal(), settings.port, settings.tls) == ("other", 1999, False)
    assert "other" not in repr(settings)


@pytest.mark.parametrize("url", ["http://host", "mqtt://", "mqtt://host:99999", "host:1883"])
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.url"):
        of(url)


def test_a_certificate_without_its_key_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="key_file"):
        of("mqtts://host", MqttSection(cert_file="x"))


def test_the_private_names_of_paho_that_we_rely_on_are_there() -> None:
    assert "self._sock = self._create_socket()" in inspect.getsource(paho.Client.reconnect)
    source = inspect.getsource(paho.Client._packet_queue)
    assert "self.loop_write()" in source  # without a thread and a register-write callback it writes at once
    assert "_on_socket_register_write is None" in source
