"""Message <-> AMQP properties: ``message_id``, ``timestamp``, ``content_type``, headers ``origin``, ``hops``, ``time``.

``time`` is the time of measurement in milliseconds; the header ``clock`` = ``untrusted`` stands beside it when the
clock was not known to be right. ``timestamp`` is the same in whole seconds, for those who know only that. Passing
through this gateway is one more hop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from gateway.amqp.codec.frames import PROPERTIES_AT, read_short_text, short_text
from gateway.amqp.codec.tables import Field, decode_table, table_end, text_field
from gateway.model.message import Message

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY = 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11
CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID, TIMESTAMP = 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 6

PERSISTENT = b"\2"
CLOCK_UNTRUSTED = "untrusted"
MAX_ID_BYTES = 255
REASON_BYTES = 500
MAX_NUMBER = 1 << 62
"""What is more is no time and no count; one more hop still fits into the 64 bits of a header."""

_HOPS = b"\4hopsl"
_TIME = b"\4timel"
"""Name and type of a header field, as they stand before its value."""

_UNTRUSTED = text_field(b"\5clock", CLOCK_UNTRUSTED)
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")
_U64 = struct.Struct(">Q")


def encode_properties(message: Message) -> bytes:
    """Flags and values of a persistent publication. ``ValueError`` if id or content type is longer than 255 bytes."""
    flags = HEADERS | DELIVERY_MODE | MESSAGE_ID
    fields = [_same(message.origin, message.hops)]
    timestamp = b""
    if message.time_ms > 0:
        flags |= TIMESTAMP
        timestamp = _U64.pack(message.time_ms // 1000)
        fields.append(_TIME + _I64.pack(message.time_ms))
        if not message.clock_trusted:
            fields.append(_UNTRUSTED)
    if message.reason:
        fields.append(text_field(b"\6reason", message.reason[:REASON_BYTES]))
    table = b"".join(fields)
    content_type = b""
    if message.content_type:
        flags |= CONTENT_TYPE
        content_type = _known_short_text(message.content_type)
    head = _U16.pack(flags) + content_type + _U32.pack(len(table))
    return b"".join((head, table, PERSISTENT, short_text(message.id), timestamp))


@lru_cache(1024)
def _same(origin: str, hops: int) -> bytes:
    """The header fields that are the same for every message of a source."""
    return (text_field(b"\6origin", origin) if origin else b"") + _HOPS + _I64.pack(hops + 1)


_known_short_text = lru_cache(256)(short_text)
"""Content types are few."""


def decode_message(header: bytes, body: bytes, new_id: Callable[[], str]) -> Message:
    """The message of a header frame's payload and a body. One without an id gets ``new_id()``.

    Properties that can't be read count as absent: a strange header is no reason to lose a message.
    """
    content_type, message_id, timestamp_s = "", "", 0
    headers: dict[str, Field] = {}
    try:
        (flags,) = _U16.unpack_from(header, PROPERTIES_AT)
        at = PROPERTIES_AT + 2
        if flags & CONTENT_TYPE:
            content_type, at = read_short_text(header, at)
        if flags & CONTENT_ENCODING:
            at += 1 + header[at]
        if flags & HEADERS:
            headers, at = decode_table(header, at), table_end(header, at)
        at += bool(flags & DELIVERY_MODE) + bool(flags & PRIORITY)
        for flag in (CORRELATION_ID, REPLY_TO, EXPIRATION):
            if flags & flag:
                at += 1 + header[at]
        if flags & MESSAGE_ID:
            message_id, at = read_short_text(header, at)
        if flags & TIMESTAMP:
            (timestamp_s,) = _U64.unpack_from(header, at)
    except (struct.error, IndexError, ValueError):
        headers = {}
    return Message(
        id=message_id or new_id(),
        body=body,
        content_type=content_type,
        time_ms=_whole(headers.get("time")) or min(timestamp_s * 1000, MAX_NUMBER),
        clock_trusted=headers.get("clock") != CLOCK_UNTRUSTED,
        origin=_text(headers.get("origin")),
        hops=_whole(headers.get("hops")),
        reason=_text(headers.get("reason")),
    )


def message_id(header: bytes) -> str:
    """The message id in a header frame's payload; empty if there is none."""
    return decode_message(header, b"", str).id


def _whole(field: Field) -> int:
    """A number that is not negative and that we could send on, from whatever a foreign header holds."""
    if isinstance(field, str) and field.isascii() and field.isdigit() and len(field) < 20:
        field = int(field)
    return min(field, MAX_NUMBER) if isinstance(field, int) and not isinstance(field, bool) and field > 0 else 0


def _text(field: Field) -> str:
    return field if isinstance(field, str) else ""
