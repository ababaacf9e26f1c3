"""Bytes and bookkeeping of the AMQP side, without a broker. Expected bytes come from the protocol's specification."""

from __future__ import annotations

import asyncio
import inspect

import aio_pika
import aiormq.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.amqp.codec import frames
from gateway.amqp.codec.properties import decode_message, encode_properties, message_id
from gateway.amqp.codec.tables import decode_table, encode_table
from gateway.amqp.connection import AmqpConnection
from gateway.amqp.core.confirms import Confirms
from gateway.amqp.core.settings import hosts_of, settings_of
from gateway.amqp.core.unsettled import Unsettled
from gateway.amqp.inbound import credit_of
from gateway.config.schema import AmqpSection, Secret
from gateway.errors import ConfigError
from gateway.model.message import Message

NO_FRAME_LIMIT = 0


def header_of(message: Message) -> bytes:
    """The payload of a message's header frame. The message has no body."""
    return frames.content(1, encode_properties(message), b"", NO_FRAME_LIMIT)[7:-1]


# -- frames -------------------------------------------------------------------------------------------------------


def test_a_publication_is_three_frames() -> None:
    method = frames.publish_method(5, "", "q", mandatory=True)
    assert method == bytes.fromhex("01 0005 0000000a 003c 0028 0000 00 0171 01 ce")
    assert frames.content(5, b"\0\0", b"hi", 4096) == bytes.fromhex(
        "02 0005 0000000e 003c 0000 0000000000000002 0000 ce  03 0005 00000002 6869 ce"
    )


def test_a_message_without_a_body_has_no_body_frame() -> None:
    assert [kind for kind, *_ in frames.split(frames.content(1, b"\0\0", b"", 4096))] == [frames.HEADER]


def test_acknowledgements_as_bytes() -> None:
    assert frames.ack(5, 7, multiple=True) == bytes.fromhex("01 0005 0000000d 003c 0050 0000000000000007 01 ce")
    assert frames.nack(5, 7) == bytes.fromhex("01 0005 0000000d 003c 0078 0000000000000007 02 ce")
    assert frames.read_tag(frames.ack(5, 7, multiple=True)[7:-1]) == (7, True)


@given(st.binary(max_size=200), st.integers(frames.FRAME_OVERHEAD + 1, 64))
def test_a_body_is_cut_to_the_frame_limit_and_nothing_is_lost(body: bytes, frame_max: int) -> None:
    data = frames.content(1, b"\0\0", body, frame_max)
    parts = [(kind, data[start + 7 : end - 1], end - start) for kind, _, start, end in frames.split(data)]
    assert b"".join(payload for kind, payload, _ in parts if kind == frames.BODY) == body
    assert all(size <= frame_max for kind, _, size in parts if kind == frames.BODY)


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(0, 60))
def test_frames_are_found_in_any_pieces(payloads: list[bytes], cut: int) -> None:
    stream = b"".join(frames.frame(frames.BODY, 3, payload) for payload in payloads)
    found, rest = [], b""
    for piece in (stream[:cut], stream[cut:]):
        data, done = rest + piece, 0
        for _, channel, start, done in frames.split(data):
            assert channel == 3
            found.append(data[start + 7 : done - 1])
        rest = data[done:]
    assert found == payloads
    assert rest == b""


def test_a_frame_without_its_end_is_no_frame() -> None:
    with pytest.raises(ValueError, match="without its end"):
        list(frames.split(b"\x01\0\1\0\0\0\1x\0"))


# -- properties ---------------------------------------------------------------------------------------------------

MESSAGES = st.builds(
    Message,
    id=st.text(min_size=1, max_size=40),
    body=st.just(b""),
    content_type=st.text(max_size=40),
    time_ms=st.integers(0, 1 << 50),
    origin=st.text(max_size=300),
    hops=st.integers(0, 100),
)


@given(MESSAGES)
def test_a_message_comes_back_as_it_went_with_one_more_hop(message: Message) -> None:
    back = decode_message(header_of(message), message.body, lambda: "new")
    assert (back.id, back.content_type, back.time_ms, back.origin) == (
        message.id,
        message.content_type,
        message.time_ms,
        message.origin,
    )
    assert back.hops == message.hops + 1


def test_an_untrusted_clock_stays_untrusted() -> None:
    message = Message("id", b"", time_ms=5, clock_trusted=False)
    assert not decode_message(header_of(message), b"", lambda: "new").clock_trusted


@pytest.mark.parametrize("field", [b"S\x00\x00\x00\x13" + b"9" * 19, b"T" + b"\xff" * 8])
@pytest.mark.parametrize("name", [b"\x04time", b"\x04hops"])
def test_a_number_that_is_too_large_to_send_on_is_cut(name: bytes, field: bytes) -> None:
    table = name + field
    header = bytes.fromhex("003c 0000 0000000000000000 2000") + len(table).to_bytes(4, "big") + table
    message = decode_message(header, b"", lambda: "new")
    assert max(message.time_ms, message.hops) == 1 << 62
    assert encode_properties(message)


def test_the_id_can_be_read_alone() -> None:
    assert message_id(header_of(Message("the-id", b"", "text/plain"))) == "the-id"


@given(st.binary(max_size=120))
def test_any_header_gives_a_message(data: bytes) -> None:
    header = b"\0\x3c\0\0" + bytes(8) + data
    message = decode_message(header, b"body", lambda: "new")
    assert message.id
    assert message.body == b"body"


def test_all_field_types_of_a_table_are_skipped_over() -> None:
    fields = (
        b"\x01bb\xff" + b"\x01BB\xff" + b"\x01ss\xff\xff" + b"\x01uu\xff\xff" + b"\x01II\xff\xff\xff\xff"
        b"\x01ii\xff\xff\xff\xff" + b"\x01ll" + b"\xff" * 8 + b"\x01TT" + b"\x01" * 8 + b"\x01ff\x3f\xc0\x00\x00"
        b"\x01dd\x3f\xf8" + b"\x00" * 6 + b"\x01DD\x02\x00\x00\x00\x7b" + b"\x01VV" + b"\x01tt\x01"
        b"\x01xx\x00\x00\x00\x01\xff" + b"\x01AA\x00\x00\x00\x03b\x01V" + b"\x01FF\x00\x00\x00\x00"
        b"\x04hopsI\x00\x00\x00\x03"
    )
    table = decode_table(len(fields).to_bytes(4, "big") + fields, 0)
    assert table["D"] == pytest.approx(1.23)
    assert (table["A"], table["F"], table["V"], table["x"]) == ([1, None], {}, None, b"\xff")
    assert [table[name] for name in "bBsuIilfdt"] == [-1, 255, -1, 65535, -1, (1 << 32) - 1, -1, 1.5, 1.5, True]
    assert table["hops"] == 3


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.booleans() | st.integers(-(1 << 63), 1 << 62)))
def test_our_own_tables_come_back(table: dict[str, str | int | bool]) -> None:
    assert decode_table(encode_table(table), 0) == table


# -- confirms -----------------------------------------------------------------------------------------------------


def always(_token: str) -> bool:
    return True


def test_the_window_bounds_what_is_unconfirmed() -> None:
    confirms: Confirms[str] = Confirms(2, always)
    for name in "abc":
        confirms.offer(name, name.encode(), ("q", name))
    assert confirms.data_to_send() == b"ab"
    assert confirms.data_to_send() == b""
    assert [verdict.token for verdict in confirms.confirmed(1, multiple=False, taken=True)] == ["a"]
    assert confirms.data_to_send() == b"c"


def test_multiple_confirms_all_up_to_the_tag_and_zero_confirms_all() -> None:
    confirms: Confirms[str] = Confirms(9, always)
    for name in "abcde":
        confirms.offer(name, b"", ("q", name))
    confirms.data_to_send()
    assert [verdict.token for verdict in confirms.confirmed(2, multiple=True, taken=True)] == ["a", "b"]
    assert confirms.confirmed(2, multiple=True, taken=True) == []
    assert [verdict.token for verdict in confirms.confirmed(4, multiple=False, taken=True)] == ["d"]
    assert [verdict.token for verdict in confirms.confirmed(0, multiple=True, taken=False)] == ["c", "e"]


def test_a_return_belongs_to_the_oldest_of_that_key() -> None:
    confirms: Confirms[str] = Confirms(9, always)
    for name, key in (("a", "x"), ("b", "y"), ("c", "x")):
        confirms.offer(name, b"", ("q", key))
    confirms.data_to_send()
    confirms.returned(("q", "x"), "NO_ROUTE")
    verdicts = confirms.confirmed(0, multiple=True, taken=True)
    assert [(verdict.token, verdict.returned) for verdict in verdicts] == [("a", "NO_ROUTE"), ("b", ""), ("c", "")]


def test_what_nobody_waits_for_is_not_sent_and_keeps_no_slot() -> None:
    forgotten: set[str] = set()
    confirms: Confirms[str] = Confirms(1, lambda token: token not in forgotten)
    confirms.offer("sent", b"s", ("q", "1"))
    assert confirms.data_to_send() == b"s"
    confirms.offer("waiting", b"w", ("q", "2"))
    confirms.offer("last", b"l", ("q", "3"))
    forgotten |= {"sent", "waiting"}
    assert confirms.data_to_send() == b""  # its slot is free only when the broker has answered
    assert confirms.confirmed(1, multiple=False, taken=True) == []
    assert confirms.data_to_send() == b"l"
    assert confirms.abandon() == ["last"]
    assert len(confirms) == 0


# -- acknowledgements ---------------------------------------------------------------------------------------------


def delivered(unsettled: Unsettled, *tags: int) -> None:
    for tag in tags:
        unsettled.deliver(b"\0\x3c\0\x3c\x01c" + tag.to_bytes(8, "big") + b"\0\0\0")
        assert unsettled.header(b"\0\x3c\0\0" + bytes(8)) is not None


def test_a_done_prefix_goes_out_as_one_and_overtakers_alone() -> None:
    unsettled = Unsettled(9)
    delivered(unsettled, 1, 2, 3, 4, 5)
    for tag in (2, 1, 4):
        assert unsettled.accept(tag)
    assert unsettled.data_to_send() == frames.ack(9, 2, multiple=True) + frames.ack(9, 4)
    assert len(unsettled) == 2
    assert unsettled.data_to_send() == b""


def test_what_was_given_back_is_not_covered_by_a_later_multiple() -> None:
    unsettled = Unsettled(9)
    delivered(unsettled, 1, 2, 3)
    assert unsettled.release(2)
    assert unsettled.accept(1)
    assert unsettled.accept(3)
    assert unsettled.data_to_send() == frames.nack(9, 2) + frames.ack(9, 3, multiple=True)
    assert not unsettled


def test_an_outcome_counts_once() -> None:
    unsettled = Unsettled(9)
    delivered(unsettled, 1)
    assert not unsettled.accept(2)
    assert unsettled.accept(1)
    assert not unsettled.accept(1)
    assert not unsettled.release(1)
    unsettled.data_to_send()
    assert not unsettled.accept(1)


def test_a_body_in_parts_is_put_together() -> None:
    unsettled = Unsettled(9)
    unsettled.deliver(b"\0\x3c\0\x3c\x01c" + (8).to_bytes(8, "big") + b"\1\0\0")
    assert unsettled.header(b"\0\x3c\0\0" + (5).to_bytes(8, "big")) is None
    assert unsettled.body(b"abc") is None
    content = unsettled.body(b"de")
    assert content is not None
    assert (content.tag, content.redelivered, content.body) == (8, True, b"abcde")


# -- settings -----------------------------------------------------------------------------------------------------


def test_urls_say_user_password_vhost_and_tls() -> None:
    one, two = hosts_of(["amqp://me:p%40ss@host/a%2Fb", "amqps://host:99"])
    assert (one.user, one.password.reveal(), one.vhost, one.port, one.tls) == ("me", "p@ss", "a/b", 5672, False)
    assert (two.user, two.password.reveal(), two.vhost, two.port, two.tls) == ("guest", "guest", "/", 99, True)


def test_the_password_of_a_file_is_used_where_the_url_has_none() -> None:
    section = AmqpSection(url=("amqp://me@a", "amqp://me:own@b"), queue_type="quorum", prefetch=7)
    settings = settings_of(section, instance="here", password=Secret("s3cret"))
    assert [host.password.reveal() for host in settings.hosts] == ["s3cret", "own"]
    assert (settings.queue_type, settings.prefetch, settings.instance) == ("quorum", 7, "here")
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("prefetch", "sources", "credit"),
    [(256, 0, 256), (256, 1, 256), (256, 16, 256), (256, 50, 81), (256, 1000, 16), (1000, 50, 320), (7, 1000, 7)],
)
def test_many_sources_share_what_sixteen_would_have(prefetch: int, sources: int, credit: int) -> None:
    assert credit_of(prefetch, sources) == credit


def test_another_scheme_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"amqp\.url"):
        hosts_of(["http://host"])


# -- the library --------------------------------------------------------------------------------------------------


def test_the_library_still_lets_us_make_the_transport() -> None:
    """What ``client`` relies on beside aio-pika's documented interface; its version range is pinned for the same."""
    assert "transport_factory" in inspect.signature(aiormq.connection.Connection.__init__).parameters
    assert list(inspect.signature(aiormq.connection.TransportFactory.create).parameters) == ["self", "url", "kwargs"]
    assert {parameter.name for parameter in aio_pika.Connection.PARAMETERS} >= {"interleave"}
    assert "kwargs" in inspect.getsource(aio_pika.Connection.connect)


async def test_while_the_sockets_buffer_is_full_nothing_is_published_and_when_it_has_room_that_is_told() -> None:
    """asyncio has an attribute for that too, and does not expect another hand in it."""
    wire = AmqpConnection(asyncio.get_running_loop())
    told: list[bool] = []
    wire.on_flow = lambda: told.append(wire.writable)
    wire.pause_writing()
    assert not wire.writable
    wire.resume_writing()
    assert told == [True]
