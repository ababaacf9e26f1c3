"""Publications on their way: the window of unconfirmed ones, what waits for room in it, and what a PUBACK means.

A slot is taken by a packet id and given back by its PUBACK, whoever still waits for it: nothing that a caller does,
cancelling included, can lose one. Order is that of the calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from gateway.errors import DeliveryDeferred, DeliveryError, DeliveryRefused, TransportDown
from gateway.model.address import Address
from gateway.model.message import Message
from gateway.model.topic import topic_problem
from gateway.mqtt.core.packets import MAX_BODY_BYTES, encode_publish
from gateway.mqtt.core.properties import encode_properties
from gateway.transport import Done

LAST_MID = 65_535
TOPICS_KEPT = 4096
FAILED_FROM = 0x80

NOT_AUTHORIZED, TOPIC_INVALID, MID_IN_USE, QUOTA, FORMAT_INVALID = 0x87, 0x90, 0x91, 0x97, 0x99
REASONS = {
    0x80: "the broker could not take it",
    0x83: "the broker could not take it",
    NOT_AUTHORIZED: "the broker does not let us publish there",
    TOPIC_INVALID: "the broker does not accept this topic",
    MID_IN_USE: "the broker still knows an older message with this number",
    QUOTA: "the broker has no room for it (quota exceeded)",
    FORMAT_INVALID: "the broker does not accept this payload",
}
"""Reason codes of a PUBACK (MQTT 5.0, section 3.4.2.1). 3.1.1 has none: there a PUBACK always means success."""


@dataclass(frozen=True, slots=True)
class PublishLimits:
    """What the broker granted: bytes of a packet (0: no limit), whether it retains, whether properties travel."""

    window: int
    max_packet_bytes: int = 0
    retain: bool = True
    properties: bool = True


class PublishEntry(msgspec.Struct, eq=False, gc=False):
    """One publication until its end. ``abandoned``: nobody waits for it, so it need not be sent any more."""

    target: Address
    message: Message
    done: Done
    abandoned: bool = False


class MqttOutbound:
    """The publications of one connection. ``write`` takes packets."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.limits = PublishLimits(1)
        self._mid = 0
        self._unconfirmed: dict[int, PublishEntry] = {}
        self._waiting: deque[PublishEntry] = deque()
        self._topics: dict[str, bytes] = {}
        self._down: TransportDown | None = None

    def submit(self, target: Address, message: Message, done: Done) -> PublishEntry:
        """Send as soon as there is room; ``done`` is called once, at the earliest with what comes from the broker."""
        entry = PublishEntry(target, message, done)
        if self._down is not None:
            done(self._down)
        elif self._waiting or len(self._unconfirmed) >= self.limits.window:
            self._waiting.append(entry)
        else:
            self._send(entry)
        return entry

    def acknowledged(self, mid: int, code: int) -> None:
        """A PUBACK came. One that nobody waits for is ignored."""
        if code < FAILED_FROM:
            self.confirmed((mid,))
            return
        entry = self._unconfirmed.pop(mid, None)
        if entry is not None:
            self._refill()
            entry.done(_error(entry, code))

    def confirmed(self, mids: Iterable[int]) -> None:
        """PUBACKs came that say success."""
        entries = [entry for mid in mids if (entry := self._unconfirmed.pop(mid, None)) is not None]
        self._refill()
        for entry in entries:
            entry.done(None)

    def _refill(self) -> None:
        while self._waiting and len(self._unconfirmed) < self.limits.window:
            waiting = self._waiting.popleft()
            if not waiting.abandoned:
                self._send(waiting)

    def lost(self, down: TransportDown) -> None:
        """The connection is gone: nothing more will be confirmed."""
        self._down = down
        entries = [*self._unconfirmed.values(), *self._waiting]
        self._unconfirmed.clear()
        self._waiting.clear()
        for entry in entries:
            entry.done(down)

    @property
    def unconfirmed(self) -> int:
        """Slots in use."""
        return len(self._unconfirmed)

    def _send(self, entry: PublishEntry) -> None:
        message, limits = entry.message, self.limits
        topic = self._topics.get(entry.target.name) or self._topic(entry)
        if topic is None:
            return
        mid = self._mid % LAST_MID + 1
        while mid in self._unconfirmed:
            mid = mid % LAST_MID + 1
        properties = encode_properties(message) if limits.properties else b""
        packet = encode_publish(topic, mid, message.retain and limits.retain, properties, message.body)
        largest = limits.max_packet_bytes or MAX_BODY_BYTES
        if len(packet) > largest:
            reason = f"too large: {len(packet)} bytes, the broker takes up to {largest}"
            entry.done(DeliveryRefused(str(entry.target), message.id, reason))
            return
        self._mid = mid
        self._unconfirmed[mid] = entry
        self.write(packet)

    def _topic(self, entry: PublishEntry) -> bytes | None:
        """Its topic as bytes. One that can't be is told, and None."""
        name = entry.target.name
        problem = topic_problem(name)
        if problem:
            entry.done(DeliveryRefused(str(entry.target), entry.message.id, problem))
            return None
        if len(self._topics) >= TOPICS_KEPT:
            self._topics.clear()
        topic = self._topics[name] = name.encode()
        return topic


def _error(entry: PublishEntry, code: int) -> DeliveryError:
    address, message_id = str(entry.target), entry.message.id
    reason = REASONS.get(code, f"the broker refused it with reason code 0x{code:02x}")
    # Mosquitto 2.0.11 closes the connection after a publication that is not authorized: trying that again would
    # disturb everybody else.
    if code in (NOT_AUTHORIZED, TOPIC_INVALID, FORMAT_INVALID):
        return DeliveryRefused(address, message_id, reason)
    return DeliveryDeferred(address, message_id, reason, counts=code not in (QUOTA, MID_IN_USE))
