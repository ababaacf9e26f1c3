"""Where taking from a stream begins again: nothing that was not settled is skipped, and little comes twice."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.amqp.codec import frames
from gateway.amqp.codec.tables import encode_table
from gateway.amqp.connection import AmqpConnection, ChannelRefused
from gateway.amqp.consumer import Consumer
from gateway.amqp.core.stream_offsets import StreamOffset, StreamOffsets, stream_offset
from gateway.amqp.core.topology import intake_arguments
from gateway.amqp.core.unsettled import Content
from gateway.model.address import amqp_queue
from gateway.model.message import Outcome


def delivered(place: StreamOffset, *offsets: int) -> list[int]:
    return [offset for offset in offsets if place.delivered(offset)]


def test_it_begins_with_the_first_there_is_and_goes_on_behind_what_is_settled() -> None:
    place = StreamOffset()
    assert place.begin() == "first"
    assert delivered(place, 7, 8, 9) == [7, 8, 9], "older ones are not kept any more"
    place.accept(7)
    place.accept(8)
    assert place.begin() == 9


def test_one_that_is_not_settled_is_where_it_begins_again_and_those_behind_it_do_not_come_twice() -> None:
    place = StreamOffset(0)
    delivered(place, 0, 1, 2, 3)
    for offset in (1, 3):
        place.accept(offset)
    assert place.begin() == 0
    assert delivered(place, 0, 1, 2, 3, 4) == [0, 2, 4]


def test_what_is_settled_after_taking_began_again_counts() -> None:
    place = StreamOffset(5)
    delivered(place, 5, 6)
    assert place.begin() == 5
    place.accept(5)
    assert place.next == 5, "it has not come again yet"
    assert delivered(place, 5, 6) == [6]
    assert place.next == 6


def test_offsets_may_leave_gaps() -> None:
    place = StreamOffset(0)
    delivered(place, 0, 10, 20)
    for offset in (0, 10, 20):
        place.accept(offset)
    assert place.begin() == 21


def test_of_a_thousand_in_any_order_none_is_skipped_and_none_is_forgotten() -> None:
    rng = random.Random(5)
    place, accepted, begins = StreamOffset(0), set[int](), 0
    while len(accepted) < 1000:
        start = place.begin()
        assert isinstance(start, int)
        assert set(range(start)) <= accepted
        begins += 1
        window = delivered(place, *range(start, min(1000, start + 50)))
        assert accepted.isdisjoint(window)
        for offset in rng.sample(window, max(1, len(window) // 2)):
            place.accept(offset)
            accepted.add(offset)
    assert (place.begin(), begins < 1000) == (1000, True)


def test_places_are_the_same_for_the_next_run_and_written_when_they_changed() -> None:
    places = StreamOffsets()
    assert places.news() is None
    place = places.of("gateway.x.e")
    assert places.news() is None, "nothing was taken yet"
    place.delivered(0)
    place.accept(0)
    data = places.news()
    assert data is not None
    places.written(data)
    assert places.news() is None
    later = StreamOffsets()
    later.read(data)
    assert later.of("gateway.x.e").begin() == 1
    later.forget("gateway.x.e")
    assert "gateway.x.e" not in later
    assert later.news() == b'{"next": {}}'


def test_a_stream_that_was_made_anew_has_other_ids_and_keeps_them() -> None:
    places = StreamOffsets()
    places.anew("q", "a1")
    first = places.message_id("q", 0)
    places.forget("q")
    places.anew("q", "b2")
    data = places.news()
    assert data is not None
    later = StreamOffsets()
    later.read(data)
    assert first != places.message_id("q", 0) == later.message_id("q", 0)
    assert "q" not in later, "nothing was taken yet"
    later.written(data)
    later.untaken("q")
    assert later.news() is None
    assert later.message_id("q", 1) != later.message_id("q", 0) != StreamOffsets().message_id("q", 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"next": {"q": "x"}}',
        b"\xff",
        b'{"next": [1]}',
        b'{"next": {}, "made": {"q": 1}}',
        b'{"next": {}, "made": 1}',
    ],
)
def test_what_is_no_list_of_places_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        StreamOffsets().read(data)


def test_the_offset_of_a_delivery_is_in_its_header() -> None:
    assert stream_offset(b"\0" * 12 + encode_table({"x-stream-offset": 2**40 + 3, "a": "b"})) == 2**40 + 3
    assert stream_offset(encode_table({"origin": "x-stream-offset"})) is None
    assert stream_offset(b"\x0fx-stream-offsetl\0") is None


async def test_what_comes_without_an_offset_is_handed_out_and_can_be_given_back() -> None:
    """A broker that knows no streams may not mind ``x-stream-offset``: its queue is a plain one."""
    found: list[Content] = []
    wire = AmqpConnection(asyncio.get_running_loop())
    consumer = Consumer(
        wire,
        1,
        amqp_queue("gateway.q"),
        "gateway.q",
        lambda consumer, content: found.append(content),
        lambda consumer, reason: None,
        StreamOffset(),
    )
    for tag in (1, 2):
        deliver = b"\0\x3c\0\x3c\x01c" + tag.to_bytes(8, "big") + b"\0\0\0"
        consumer.receive(frames.METHOD, deliver)
        consumer.receive(frames.HEADER, b"\0\x3c\0\0" + bytes(8))
    assert [content.tag for content in found] == [1, 2]
    consumer.settle(1, Outcome.RELEASED)
    consumer.settle(2, Outcome.ACCEPTED)
    assert consumer.unsettled == 1, "the first is given back at once, the second told with the next flush"


@pytest.mark.parametrize("began", [False, True])
async def test_a_consumer_that_could_not_begin_has_not_ended_its_caller_is_told(began: bool) -> None:
    """Else it would be begun again at once, and refused again at once."""
    ended: list[str] = []
    consumer = Consumer(
        AmqpConnection(asyncio.get_running_loop()),
        1,
        amqp_queue("gateway.q"),
        "gateway.q",
        lambda consumer, content: None,
        lambda consumer, reason: ended.append(reason),
    )
    taking = asyncio.ensure_future(consumer.take(5))
    for name in (frames.CHANNEL_OPEN_OK, frames.BASIC_QOS_OK, *((frames.BASIC_CONSUME_OK,) if began else ())):
        await asyncio.sleep(0)
        consumer.receive(frames.METHOD, method_payload(name))
    if began:
        await taking
    await asyncio.sleep(0)
    consumer.receive(frames.METHOD, method_payload(frames.CHANNEL_CLOSE, (403).to_bytes(2, "big") + b"\2no\0\0\0\0"))
    if began:
        assert ended == ["no"]
    else:
        with pytest.raises(ChannelRefused, match="no"):
            await taking
        assert ended == []


async def test_a_consumer_that_the_broker_ends_while_it_leaves_has_left() -> None:
    """As for what it kept too long: whoever wants nothing from there any more has what he wants."""
    consumer = Consumer(
        AmqpConnection(asyncio.get_running_loop()),
        1,
        amqp_queue("gateway.q"),
        "gateway.q",
        lambda consumer, content: None,
        lambda consumer, reason: None,
    )
    taking = asyncio.ensure_future(consumer.take(5))
    for name in (frames.CHANNEL_OPEN_OK, frames.BASIC_QOS_OK, frames.BASIC_CONSUME_OK):
        await asyncio.sleep(0)
        consumer.receive(frames.METHOD, method_payload(name))
    await taking
    leaving = asyncio.ensure_future(consumer.leave())
    await asyncio.sleep(0)
    consumer.receive(frames.METHOD, method_payload(frames.CHANNEL_CLOSE, (406).to_bytes(2, "big") + b"\2no\0\0\0\0"))
    await leaving
    assert not consumer.open


def method_payload(name: frames.Method, arguments: bytes = b"") -> bytes:
    """A method as the broker sends it, without its frame."""
    return frames.method(1, name, arguments)[7:-1]


def test_a_stream_has_a_limit_so_that_it_does_not_grow_for_ever() -> None:
    arguments = dict(intake_arguments("stream", "3.10.8"))
    assert arguments["x-queue-type"] == "stream"
    assert int(arguments["x-max-length-bytes"]) > int(arguments["x-stream-max-segment-size-bytes"]) > 0
