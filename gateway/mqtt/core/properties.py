"""Message <-> MQTT 5 properties: content type, and the user properties message-id, origin, hops, time and clock.

``time`` is the time of measurement in milliseconds since 1970; ``clock`` = ``untrusted`` stands beside it when the clock
was not known to be right. Passing through this gateway is one more hop. On 3.1.1 none of this travels.
Layout of the property block: MQTT 5.0, section 2.2.2.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache

from gateway.errors import RemoteProtocolError
from gateway.model.message import Message
from gateway.mqtt.core.packets import decode_length, encode_length

CONTENT_TYPE = 0x03
SUBSCRIPTION_ID = 0x0B
USER_PROPERTY = 0x26

FIXED_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}
"""Property -> bytes of its value: payload format, expiry interval, topic alias."""
LENGTH_PREFIXED = frozenset({CONTENT_TYPE, 0x08, 0x09})
"""Content type, response topic, correlation data."""

MAX_ID_BYTES = 255
"""AMQP takes no longer id; a longer one is replaced by its digest, so that copies still have equal ids."""
MAX_TEXT_BYTES = 65_535
REASON_BYTES = 500
MAX_NUMBER_DIGITS = 18

CLOCK_UNTRUSTED = b"untrusted"


_U16 = struct.Struct(">H").pack


def _text(text: str | bytes, limit: int = MAX_TEXT_BYTES) -> bytes:
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    encoded = encoded[:limit]
    return len(encoded).to_bytes(2, "big") + encoded


def _user_key(name: bytes) -> bytes:
    return bytes((USER_PROPERTY,)) + _text(name)


_MESSAGE_ID, _ORIGIN, _HOPS, _TIME = (_user_key(name) for name in (b"message-id", b"origin", b"hops", b"time"))
_UNTRUSTED = _user_key(b"clock") + _text(CLOCK_UNTRUSTED)
_REASON = _user_key(b"reason")
_ID_BYTES = len(_MESSAGE_ID) + 2


def encode_properties(message: Message) -> bytes:
    """The property block of a PUBLISH, with its length in front."""
    name = message.id.encode("utf-8", "replace")[:MAX_TEXT_BYTES]
    same = _same(message.hops, message.content_type, message.origin)
    time = _time(message.time_ms, message.clock_trusted) if message.time_ms else b""
    reason = _REASON + _text(message.reason, REASON_BYTES) if message.reason else b""
    length = _ID_BYTES + len(name) + len(same) + len(time) + len(reason)
    return b"".join((encode_length(length), _MESSAGE_ID, _U16(len(name)), name, same, time, reason))


@lru_cache(64)
def _time(time_ms: int, clock_trusted: bool) -> bytes:
    """What is the same for what is measured in one millisecond: readings come many together."""
    return _TIME + _text(b"%d" % time_ms) + (b"" if clock_trusted else _UNTRUSTED)


@lru_cache(1024)
def _same(hops: int, content_type: str, origin: str) -> bytes:
    """What is the same for every message of a source."""
    parts = [_HOPS, _text(b"%d" % (hops + 1))]
    if content_type:
        parts += (b"\x03", _text(content_type))
    if origin:
        parts += (_ORIGIN, _text(origin))
    return b"".join(parts)


def decode_message(
    block: bytes, body: bytes, retain: bool, origin: str, new_id: Callable[[], str], wall_ms: Callable[[], int]
) -> Message:
    """The message of a property block (without its length) and a body.

    One without an id, an origin or a time gets ``new_id()``, ``origin`` and ``wall_ms()``. A strange property is no
    reason to lose a message: the texts and numbers that can't be read count as absent.
    """
    if not block:
        return Message(new_id(), body, "", wall_ms(), True, origin, 0, retain)
    content_type, user = _walk(block)
    said = user.get
    name, born = said(b"message-id"), said(b"origin")
    return Message(
        (_identity(name) if name else "") or new_id(),
        body,
        content_type.decode("utf-8", "replace"),
        _number(said(b"time", b"")) or wall_ms(),
        said(b"clock") != CLOCK_UNTRUSTED,
        born.decode("utf-8", "replace") if born else origin,
        _number(said(b"hops", b"")),
        retain,
        said(b"reason", b"").decode("utf-8", "replace"),
    )


def _walk(block: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Content type and user properties; ends at the first thing that can't be read."""
    content_type = b""
    user: dict[bytes, bytes] = {}
    at, end = 0, len(block)
    try:
        while at < end:
            kind = block[at]
            if kind == USER_PROPERTY:
                middle = at + 3 + (block[at + 1] << 8 | block[at + 2])
                stop = middle + 2 + (block[middle] << 8 | block[middle + 1])
                user.setdefault(block[at + 3 : middle], block[middle + 2 : stop])
                at = stop
            elif kind == CONTENT_TYPE:
                stop = _end(block, at)
                content_type = block[at + 3 : stop]
                at = stop
            else:
                at = _end(block, at)
    except (IndexError, KeyError, RemoteProtocolError):
        pass
    return content_type, user


def subscription_ids(block: bytes) -> list[int]:
    """The subscriptions for which the broker sent this message."""
    ids = []
    at, end = 0, len(block)
    try:
        while at < end:
            if block[at] == SUBSCRIPTION_ID:
                ids.append(decode_length(block, at + 1)[0])
            at = _end(block, at)
    except (IndexError, KeyError, RemoteProtocolError):
        pass
    return ids


def _end(block: bytes, at: int) -> int:
    """Where the property that begins at ``at`` ends."""
    kind = block[at]
    if kind == SUBSCRIPTION_ID:
        at += 1
        while block[at] >= 0x80:
            at += 1
        return at + 1
    if kind == USER_PROPERTY:
        at += 2 + (block[at + 1] << 8 | block[at + 2])
        return at + 3 + (block[at + 1] << 8 | block[at + 2])
    if kind in LENGTH_PREFIXED:
        return at + 3 + (block[at + 1] << 8 | block[at + 2])
    return at + 1 + FIXED_SIZES[kind]


def _number(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= MAX_NUMBER_DIGITS else 0


def _identity(value: bytes) -> str:
    if len(value) <= MAX_ID_BYTES:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return hashlib.sha256(value).hexdigest()
