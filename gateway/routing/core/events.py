"""What happens to the router, and what it wants done. Made for every message, so msgspec structs.

The garbage collector need not look at those of which there is one for every message: nothing in them leads back to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from gateway.model.address import Address
from gateway.model.message import Delivery, Message, Outcome
from gateway.routing.core.table import RouteTable
from gateway.spool.core.record import Backlog, SpoolRecord

# -- events in ------------------------------------------------------------------------------------------------


class Delivered(msgspec.Struct, frozen=True):
    """A session received a message."""

    delivery: Delivery


class Stored(msgspec.Struct, frozen=True):
    """The records of one ``StoreRecords`` are committed; ``seqs`` in their order."""

    token: int
    seqs: Sequence[int]


class StoreRefused(msgspec.Struct, frozen=True):
    """The records of one ``StoreRecords`` were not taken. ``full``: the limit is reached; else the disk is in trouble.

    ``room`` is how many bytes (as records are counted) are left below the limit.
    """

    token: int
    reason: str
    full: bool
    room: int = 0


class Fetched(msgspec.Struct, frozen=True):
    """Records of a lane, in order. ``exhausted``: there are no more up to ``upto``; else there is at least one here."""

    lane_id: str
    upto: int
    records: Sequence[SpoolRecord]
    exhausted: bool


class FetchFailed(msgspec.Struct, frozen=True):
    """The disk could not give them now."""

    lane_id: str
    reason: str


class Confirmed(msgspec.Struct, frozen=True):
    """The far side has taken responsibility for a publication."""

    ref: int


class Deferred(msgspec.Struct, frozen=True):
    """Not now. ``counts``: it may be the message's own doing."""

    ref: int
    reason: str
    counts: bool


class Refused(msgspec.Struct, frozen=True):
    """The target refused this message. ``permanent``: no further attempt can succeed."""

    ref: int
    reason: str
    permanent: bool


class TargetUp(msgspec.Struct, frozen=True):
    """A broker or a board can be published to."""

    target: str


class TargetDown(msgspec.Struct, frozen=True):
    """It can't any more; what was in flight counts as not sent."""

    target: str


class TableInstalled(msgspec.Struct, frozen=True):
    """The edges from now on."""

    table: RouteTable


class Recovered(msgspec.Struct, frozen=True):
    """What the spool held at the start, by binding; what targets were given, oldest first; the time of day, for ages."""

    backlogs: Sequence[Backlog]
    seen: Sequence[tuple[str, str]]
    wall_ms: int


class Requeued(msgspec.Struct, frozen=True):
    """Dead letters that a person gave another try, as the new records that they are now."""

    records: Sequence[SpoolRecord]


class Removed(msgspec.Struct, frozen=True):
    """A person wants these records gone: (binding id, seq, bytes of the body)."""

    records: Sequence[tuple[str, int, int]]


Frequent: TypeAlias = Delivered | Confirmed
"""What every message brings."""

RouterEvent: TypeAlias = (
    Frequent
    | Stored
    | StoreRefused
    | Fetched
    | FetchFailed
    | Deferred
    | Refused
    | TargetUp
    | TargetDown
    | TableInstalled
    | Recovered
    | Requeued
    | Removed
)

# -- effects out ----------------------------------------------------------------------------------------------


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Send, and report ``Confirmed``, ``Deferred`` or ``Refused`` with this ``ref``."""

    ref: int
    target: Address
    message: Message


class StoreRecords(msgspec.Struct, frozen=True):
    """Commit these records, all or none, and report ``Stored`` or ``StoreRefused`` with this token."""

    token: int
    records: tuple[SpoolRecord, ...]


class Fetch(msgspec.Struct, frozen=True):
    """Bring the records of a lane with ``after < seq <= upto`` into memory: the first ``limit`` of them, or fewer."""

    lane_id: str
    after: int
    upto: int
    limit: int


class Settle(msgspec.Struct, frozen=True, gc=False):
    """Tell the source what became of its delivery."""

    delivery: Delivery
    outcome: Outcome


class Forget(msgspec.Struct, frozen=True):
    """These records are confirmed by their target, or dropped by policy. May be done late."""

    seqs: tuple[int, ...]


class Bury(msgspec.Struct, frozen=True):
    """Mark a record dead where it lies, with the reason and the attempts that were made."""

    seq: int
    reason: str
    attempts: int = 0


class RecordAttempts(msgspec.Struct, frozen=True):
    """A record was refused so often by now: what it may still be tried is the same after a restart. May be done late."""

    seq: int
    attempts: int
    reason: str


class AnnounceDead(msgspec.Struct, frozen=True):
    """Tell on the gateway's dead topic that a message came to rest in the spool."""

    binding_id: str
    message: Message
    reason: str


Effect: TypeAlias = Publish | StoreRecords | Fetch | Settle | Forget | Bury | RecordAttempts | AnnounceDead
