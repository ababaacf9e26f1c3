"""How far RabbitMQ's streams were taken. A stream keeps what was acknowledged, and tells nobody where he was.

So the offset of the first message that is not settled is kept here, and taking begins there again. A core: ``AmqpConnector``
reads and writes the file. (https://www.rabbitmq.com/docs/3.10/streams: consumers need a prefetch and acknowledge to get
more; ``x-stream-offset`` says where to begin; there is no reject, and no message count.)
"""

from __future__ import annotations

import json

OFFSET_HEADER = b"\x0fx-stream-offset"
"""As it stands in the headers of a delivery from a stream: the name behind its length; a 64-bit integer follows."""

_LONG = ord("l")


def stream_offset(header: bytes) -> int | None:
    """The offset of a delivery, from its header frame; None where it does not come from a stream."""
    at = header.find(OFFSET_HEADER) + len(OFFSET_HEADER)
    if at < len(OFFSET_HEADER) or len(header) < at + 9 or header[at] != _LONG:
        return None
    return int.from_bytes(header[at + 1 : at + 9], "big")


class StreamOffset:
    """One stream. Everything below ``next`` is settled; None: nothing was taken yet, so it begins with the first there is."""

    def __init__(self, start: int | None = None) -> None:
        self.next = start
        self._end = start or 0
        self._open: dict[int, None] = {}
        self._accepted: set[int] = set()

    def begin(self) -> int | str:
        """Taking begins (again): where. What was delivered and is not settled comes again."""
        self._open.clear()
        self._end = self.next or 0
        return "first" if self.next is None else self.next

    def delivered(self, offset: int) -> bool:
        """A message came. False: it was settled before, and came again with one that was not."""
        if self.next is None:
            self.next = offset
        self._end = max(self._end, offset + 1)
        if offset < self.next or offset in self._accepted:
            self._advance()
            return False
        self._open[offset] = None
        return True

    def accept(self, offset: int) -> None:
        """Somebody has it."""
        if self.next is not None and offset >= self.next:
            self._open.pop(offset, None)
            self._accepted.add(offset)
            self._advance()

    def _advance(self) -> None:
        """Offsets may leave gaps, so what counts is the oldest one that is open: they come in rising order."""
        self.next = max(self.next or 0, next(iter(self._open), self._end))
        if self._accepted:
            self._accepted = {offset for offset in self._accepted if offset >= self.next}


class StreamOffsets:
    """All streams of one broker, by the names of their queues."""

    def __init__(self) -> None:
        self._places: dict[str, StreamOffset] = {}
        self._made: dict[str, str] = {}
        self._written = b""
        self._written_queues: frozenset[str] = frozenset()

    def __contains__(self, queue: str) -> bool:
        return queue in self._places

    def of(self, queue: str) -> StreamOffset:
        """The place in a stream, known or new."""
        return self._places.setdefault(queue, StreamOffset())

    def is_written(self, queue: str) -> bool:
        """Whether the next run would find a place in this queue."""
        return queue in self._written_queues

    def forget(self, queue: str) -> None:
        """The queue is gone, or is no stream."""
        self._places.pop(queue, None)
        self._made.pop(queue, None)

    def untaken(self, queue: str) -> None:
        """Nothing was ever taken from it."""
        self._places.pop(queue, None)

    def anew(self, queue: str, mark: str) -> None:
        """A stream is made, which counts from 0. ``mark`` tells it from every other that had its name before."""
        self.forget(queue)
        self._made[queue] = mark

    def message_id(self, queue: str, offset: int) -> str:
        """For a message without an id: the same when it comes again, and no other's in a stream that was made anew."""
        mark = self._made.get(queue, "")
        return f"{queue}@{mark}.{offset}" if mark else f"{queue}@{offset}"

    def read(self, data: bytes) -> None:
        """What ``news`` gave an earlier run. ``ValueError`` if it is anything else."""
        document = json.loads(data)
        known, made = document["next"], document.get("made", {})
        if not all(isinstance(offset, int) for offset in known.values()):
            raise ValueError("an offset is no number")
        if not all(isinstance(mark, str) for mark in made.values()):
            raise ValueError("a mark is no text")
        self._places.update((queue, StreamOffset(offset)) for queue, offset in known.items())
        self._made.update(made)
        self.written(data)

    def news(self) -> bytes | None:
        """What to write down; None if that is what was written last."""
        known = {queue: place.next for queue, place in sorted(self._places.items()) if place.next is not None}
        made = {"made": dict(sorted(self._made.items()))} if self._made else {}
        data = json.dumps({"next": known, **made}).encode()
        return data if data != self._written and (known or made or self._written) else None

    def written(self, data: bytes) -> None:
        """It is safe now."""
        self._written = data
        self._written_queues = frozenset(json.loads(data)["next"])
