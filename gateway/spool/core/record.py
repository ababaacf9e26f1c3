"""What the spool keeps of a message: one CBOR map a record."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.errors import SpoolCorrupt
from gateway.formats import cbor
from gateway.model.message import Message

RECORD_BYTES = 200
"""What a record is counted with beside its body."""


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """A message that waits for one binding. ``seq`` is 0 until the store has given it one, and rises with every append.

    "In flight" is not on disk: after a crash everything that was not forgotten is pending. ``born`` is when it was
    accepted, in monotonic seconds; None when it was before this boot of the machine. ``seen`` are the target ports and
    message ids that count as taken with it, kept so that a duplicate is known after a restart.
    """

    binding_id: str
    message: Message
    seq: int = 0
    attempts: int = 0
    last_error: str = ""
    dead: bool = False
    born: float | None = None
    seen: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Bytes it is counted with: the body and an allowance for the rest."""
        return len(self.message.body) + RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one binding: how many records, the bytes of their bodies, and the highest number among them."""

    binding_id: str
    records: int
    bytes: int
    last_seq: int


def encode_message(message: Message, *, reason: str | None = None) -> bytes:
    """The message as a CBOR array, without keys: it is written for every spilled reading. ``reason`` replaces its own."""
    return cbor.dumps(
        (
            message.id,
            message.body,
            message.content_type,
            message.time_ms,
            message.clock_trusted,
            message.origin,
            message.hops,
            message.retain,
            message.reason if reason is None else reason,
        )
    )


def decode_message(data: bytes) -> Message:
    """The message of a record. ``SpoolCorrupt`` if it is none."""
    try:
        return Message(*cbor.loads(data))
    except (ValueError, TypeError) as exc:
        raise SpoolCorrupt(f"a record can't be read: {exc}") from exc


def again(record: SpoolRecord) -> SpoolRecord:
    """A dead record as one that waits anew."""
    message = record.message
    if message.reason:
        message = decode_message(encode_message(message, reason=""))
    return replace(record, seq=0, message=message, attempts=0, last_error="", dead=False, born=None)
