"""AMQP 0-9-1 frames and the few methods of the hot paths, as bytes (numbers: the protocol's XML specification).

Connecting is aio-pika's. A message is one publish or one deliver, a header and its body; those, their
acknowledgements, and what opens and closes their channels are encoded here, because a general library needs ten times
as long for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_KINDS = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
FRAME_END = 0xCE
FRAME_OVERHEAD = 8
MAX_SHORT_BYTES = 255
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

Method = tuple[int, int]
"""A method's class and number."""

CONNECTION_CLOSE: Method = (10, 50)
CONNECTION_BLOCKED: Method = (10, 60)
CONNECTION_UNBLOCKED: Method = (10, 61)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
CHANNEL_FLOW, CHANNEL_FLOW_OK = (20, 20), (20, 21)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
BASIC_QOS, BASIC_QOS_OK = (60, 10), (60, 11)
BASIC_CONSUME, BASIC_CONSUME_OK = (60, 20), (60, 21)
BASIC_CANCEL, BASIC_CANCEL_OK = (60, 30), (60, 31)
BASIC_PUBLISH: Method = (60, 40)
BASIC_RETURN: Method = (60, 50)
BASIC_DELIVER: Method = (60, 60)
BASIC_ACK: Method = (60, 80)
BASIC_NACK: Method = (60, 120)
CONFIRM_SELECT, CONFIRM_SELECT_OK = (85, 10), (85, 11)

BASIC_CLASS = 60
MULTIPLE = 1
REQUEUE = 2

_FRAME = struct.Struct(">BHI")
_METHOD = struct.Struct(">HH")
_TAG = struct.Struct(">QB")
_HEADER = struct.Struct(">HHQ")
_ACK = struct.Struct(">BHIHHQBB")
_U16 = struct.Struct(">H")


def short_text(text: str) -> bytes:
    """A short string of the protocol. ``ValueError`` above 255 bytes."""
    data = text.encode()
    if len(data) > MAX_SHORT_BYTES:
        raise ValueError(f"{text[:40]}… is longer than {MAX_SHORT_BYTES} bytes")
    return bytes((len(data),)) + data


def read_short_text(data: bytes, at: int) -> tuple[str, int]:
    """The short string at an offset, and the offset behind it."""
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(errors="replace"), end


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return _FRAME.pack(kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, name: Method, arguments: bytes = b"") -> bytes:
    """A method frame."""
    return frame(METHOD, channel, _METHOD.pack(*name) + arguments)


def method_name(payload: bytes) -> Method:
    """Which method a method frame carries."""
    return _METHOD.unpack_from(payload)


def split(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The whole frames in ``data``: kind, channel, and where the frame starts and ends. A rest stays for later.

    ``ValueError`` where no frame can begin or end.
    """
    at, size = 0, len(data)
    while size - at >= FRAME_OVERHEAD:
        kind, channel, length = _FRAME.unpack_from(data, at)
        end = at + length + FRAME_OVERHEAD
        if end > size:
            return
        if data[end - 1] != FRAME_END:
            raise ValueError("a frame without its end")
        yield kind, channel, at, end
        at = end


# -- publishing ---------------------------------------------------------------------------------------------------


def publish_method(channel: int, exchange: str, key: str, *, mandatory: bool) -> bytes:
    """The first frame of a publication. The same for every message to one target, so worth keeping."""
    arguments = b"\0\0" + short_text(exchange) + short_text(key) + (b"\1" if mandatory else b"\0")
    return method(channel, BASIC_PUBLISH, arguments)


def content(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Header and body frames. ``properties`` are flags and values; ``frame_max`` is in bytes, 0 for no limit."""
    size = len(body)
    head = frame(HEADER, channel, _HEADER.pack(BASIC_CLASS, 0, size) + properties)
    room = frame_max - FRAME_OVERHEAD if frame_max else size
    if size <= room:
        return head + frame(BODY, channel, body) if size else head
    parts = [head]
    parts.extend(frame(BODY, channel, body[at : at + room]) for at in range(0, size, room))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory publication that no queue took."""

    code: int
    text: str
    exchange: str
    key: str


def read_return(payload: bytes) -> Returned:
    """The arguments of ``basic.return``."""
    (code,) = _U16.unpack_from(payload, 4)
    text, at = read_short_text(payload, 6)
    exchange, at = read_short_text(payload, at)
    key, _ = read_short_text(payload, at)
    return Returned(code, text, exchange, key)


# -- acknowledging ------------------------------------------------------------------------------------------------


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """``basic.ack`` of a delivery, or of all up to it."""
    return _ACK.pack(METHOD, channel, 13, *BASIC_ACK, tag, multiple, FRAME_END)


def nack(channel: int, tag: int, *, requeue: bool = True) -> bytes:
    """``basic.nack`` of one delivery: back to its queue, or to the queue's dead letters."""
    return _ACK.pack(METHOD, channel, 13, *BASIC_NACK, tag, REQUEUE if requeue else 0, FRAME_END)


def read_tag(payload: bytes) -> tuple[int, bool]:
    """Tag and ``multiple`` of an ack or nack."""
    tag, bits = _TAG.unpack_from(payload, 4)
    return tag, bool(bits & MULTIPLE)


# -- consuming ----------------------------------------------------------------------------------------------------


def consume_arguments(queue: str, consumer_tag: str, table: bytes = b"\0\0\0\0") -> bytes:
    """``basic.consume`` with acknowledgements, shared with other consumers. ``table``: further arguments, encoded."""
    return b"\0\0" + short_text(queue) + short_text(consumer_tag) + b"\0" + table


def cancel_arguments(consumer_tag: str) -> bytes:
    """``basic.cancel`` that wants an answer."""
    return short_text(consumer_tag) + b"\0"


def qos_arguments(prefetch: int) -> bytes:
    """``basic.qos`` for each consumer that starts later on this channel. 0 is no limit."""
    return b"\0\0\0\0" + _U16.pack(prefetch) + b"\0"


def read_deliver(payload: bytes) -> tuple[int, bool]:
    """Delivery tag and the broker's ``redelivered`` mark."""
    tag, redelivered = _TAG.unpack_from(payload, 5 + payload[4])
    return tag, bool(redelivered & 1)


def read_body_size(payload: bytes) -> int:
    """How many bytes of body follow a header frame."""
    size: int = _HEADER.unpack_from(payload)[2]
    return size


PROPERTIES_AT = _HEADER.size
"""Where the properties begin in a header frame's payload."""


# -- closing ------------------------------------------------------------------------------------------------------


def close_arguments(code: int = 200, text: str = "done") -> bytes:
    """``channel.close`` in order."""
    return _U16.pack(code) + short_text(text) + b"\0\0\0\0"


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and text of ``channel.close`` or ``connection.close``."""
    (code,) = _U16.unpack_from(payload, 4)
    return code, read_short_text(payload, 6)[0]
