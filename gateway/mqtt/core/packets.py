"""The two packets that make up the traffic, PUBLISH and PUBACK, and how a byte stream is cut into packets.

paho makes and reads all the others; these two are ours because each costs it ten times as much. Facts: MQTT 5.0 and
3.1.1, sections 2.1 (fixed header), 3.3 (PUBLISH) and 3.4 (PUBACK).
"""

from __future__ import annotations

import struct

import msgspec

from gateway.errors import RemoteProtocolError

PUBLISH, PUBACK, PINGRESP, DISCONNECT = 0x30, 0x40, 0xD0, 0xE0
PINGREQ = b"\xc0\x00"

MAX_BODY_BYTES = 268_435_455
"""What the four bytes of a packet's length can say."""

NO_PROPERTIES = b"\x00"

_U16 = struct.Struct(">H").pack
_SHORT = tuple(bytes((length,)) for length in range(0x80))
_GOOD_ACK = b"\x40\x02"
_ACK_BYTES = 4


class IncomingPublish(msgspec.Struct, frozen=True):
    """A PUBLISH as it arrived. ``mid`` is 0 at QoS 0; ``properties`` the undecoded block, empty on 3.1.1."""

    topic: bytes
    mid: int
    retain: bool
    again: bool
    properties: bytes
    payload: bytes


class PacketReader:
    """Cuts a byte stream into packets: their first byte, and what follows the length."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 2

    def good_acks(self, data: bytes) -> tuple[int, ...]:
        """The packet ids, where these are PUBACKs of success and nothing else; then they are not for ``feed``.

        A broker that is given much answers with many of them together: this takes a fifth of the time of ``feed``.
        """
        if self._rest or not data.startswith(_GOOD_ACK) or len(data) % _ACK_BYTES:
            return ()
        count = len(data) // _ACK_BYTES
        if data[::_ACK_BYTES].count(_GOOD_ACK[0]) < count or data[1::_ACK_BYTES].count(_GOOD_ACK[1]) < count:
            return ()
        ids: tuple[int, ...] = struct.unpack(f">{2 * count}H", data)[1::2]
        return ids

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that are complete now. ``RemoteProtocolError`` if this is no MQTT."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        packets: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= 2:
            length, start = data[at + 1], at + 2
            if length >= 0x80:
                known = _length(data, at + 1)
                if known is None:
                    break
                length, start = known
            stop = start + length
            if stop > end:
                self._needed = stop - at
                break
            packets.append((data[at], data[start:stop]))
            at = stop
        else:
            self._needed = 2
        if at < end:
            self._rest += data[at:]
            if self._needed <= len(self._rest):
                self._needed = len(self._rest) + 1
        return packets


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """The length that begins at ``at``, and where it ends; None if it is not all there."""
    value = 0
    for count in range(4):
        if at + count >= len(data):
            return None
        byte = data[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise RemoteProtocolError("the other side does not speak MQTT (a length of more than four bytes)")


def encode_length(length: int) -> bytes:
    """A number as MQTT writes lengths: seven bits a byte, the lowest first."""
    if length < 0x80:
        return _SHORT[length]
    if length < 0x4000:
        return _U16((length & 0x7F | 0x80) << 8 | length >> 7)
    encoded = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        encoded.append(low | 0x80 if length else low)
        if not length:
            return bytes(encoded)


def decode_length(data: bytes, at: int) -> tuple[int, int]:
    """Read such a number; also where it ends. ``RemoteProtocolError`` if it does not."""
    byte = data[at] if at < len(data) else 0x80
    if byte < 0x80:
        return byte, at + 1
    known = _length(data, at)
    if known is None:
        raise RemoteProtocolError("a packet ends within a length")
    return known


def encode_publish(topic: bytes, mid: int, retain: bool, properties: bytes, payload: bytes) -> bytes:
    """A PUBLISH at QoS 1. ``properties`` is the block with its length in front; empty on 3.1.1."""
    length = 4 + len(topic) + len(properties) + len(payload)
    return b"".join(
        (
            b"\x33" if retain else b"\x32",
            encode_length(length),
            _U16(len(topic)),
            topic,
            _U16(mid),
            properties,
            payload,
        )
    )


def decode_publish(first: int, body: bytes, *, with_properties: bool) -> IncomingPublish:
    """Read a PUBLISH of QoS 0 or 1; ``with_properties`` on MQTT 5."""
    quality = first & 0x06
    if quality > 2:
        raise RemoteProtocolError("a message came with a quality of service that was not asked for")
    try:
        at = 2 + (body[0] << 8 | body[1])
        topic = body[2:at]
        mid = 0
        if quality:
            mid = body[at] << 8 | body[at + 1]
            at += 2
    except IndexError:
        raise RemoteProtocolError("a message ends within its topic") from None
    properties = b""
    if with_properties:
        length, at = decode_length(body, at)
        if length:
            properties = body[at : at + length]
            at += length
    if at > len(body):
        raise RemoteProtocolError("a message ends within its header")
    return IncomingPublish(topic, mid, bool(first & 0x01), bool(first & 0x08), properties, body[at:])


def encode_puback(mid: int) -> bytes:
    """A PUBACK of success."""
    return _GOOD_ACK + _U16(mid)


def decode_puback(body: bytes) -> tuple[int, int]:
    """Packet id and reason code. The code is left out when it is 0."""
    if len(body) < 2:
        raise RemoteProtocolError("an acknowledgement without a packet id")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0
