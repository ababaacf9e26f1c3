"""Deliveries of one consumer's channel: put together from their frames, and acknowledged in as few frames as will do."""

from __future__ import annotations

import msgspec

from gateway.amqp.codec.frames import ack, nack, read_body_size, read_deliver


class Content(msgspec.Struct, frozen=True):
    """A whole delivery: its tag on this channel, and what its frames carried."""

    tag: int
    redelivered: bool
    header: bytes
    body: bytes


class Unsettled:
    """One channel's deliveries. A core: frames in, contents out; outcomes in, bytes out."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._open: dict[int, None] = {}
        self._accepted: set[int] = set()
        self._nacks: list[bytes] = []
        self._tag, self._redelivered = 0, False
        self._header = b""
        self._missing = 0
        self._parts: list[bytes] = []

    def __len__(self) -> int:
        return len(self._open)

    # -- frames in ---------------------------------------------------------------------------------------------------

    def deliver(self, payload: bytes) -> None:
        """A ``basic.deliver``: header and body follow."""
        self._tag, self._redelivered = read_deliver(payload)

    def header(self, payload: bytes) -> Content | None:
        """The header; the whole delivery if it has no body."""
        self._header = payload
        self._missing = read_body_size(payload)
        self._parts = []
        return None if self._missing else self._whole(b"")

    def body(self, payload: bytes) -> Content | None:
        """A part of the body; the whole delivery with the last one."""
        self._missing -= len(payload)
        if not self._parts and self._missing <= 0:
            return self._whole(payload)
        self._parts.append(payload)
        return None if self._missing > 0 else self._whole(b"".join(self._parts))

    def _whole(self, body: bytes) -> Content:
        self._open[self._tag] = None
        return Content(self._tag, self._redelivered, self._header, body)

    # -- outcomes in -------------------------------------------------------------------------------------------------

    def accept(self, tag: int) -> bool:
        """Somebody has it. False if this tag is not open (any more)."""
        if tag not in self._open or tag in self._accepted:
            return False
        self._accepted.add(tag)
        return True

    def release(self, tag: int, *, requeue: bool = True) -> bool:
        """Back to its queue, or to the queue's dead letters. False if this tag is not open (any more)."""
        if tag not in self._open or tag in self._accepted:
            return False
        del self._open[tag]
        self._nacks.append(nack(self._channel, tag, requeue=requeue))
        return True

    def data_to_send(self) -> bytes:
        """The acknowledgements: one for all where the oldest are done, and one for each that overtook an open one."""
        parts, self._nacks = self._nacks, []
        done = []
        for tag in self._open:
            if tag not in self._accepted:
                break
            done.append(tag)
        if done:
            parts.append(ack(self._channel, done[-1], multiple=len(done) > 1))
            self._close(done)
        if self._accepted:
            parts.extend(ack(self._channel, tag) for tag in sorted(self._accepted))
            self._close(list(self._accepted))
        return b"".join(parts)

    def _close(self, tags: list[int]) -> None:
        for tag in tags:
            del self._open[tag]
        self._accepted.difference_update(tags)
