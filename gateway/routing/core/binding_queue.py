"""One binding's messages, in order: in flight, waiting in memory, on disk only, and behind those not yet on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from gateway.model.address import Address
from gateway.model.binding import Binding, DeliveryMode
from gateway.model.message import Delivery, Message
from gateway.routing.core.payload import wanted_type

FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 30.0

IN_MEMORY = 512
"""Spooled messages of one lane that are also kept in memory while its target is up; the others are on disk alone.

While it is down a sixteenth of that: nobody needs them soon, and many lanes may be down at once.
"""


class OnDisk(Enum):
    """Whether an item is in the spool."""

    NO = auto()
    WRITING = auto()
    YES = auto()


class Ticket(msgspec.Struct, eq=False, gc=False):
    """One delivery, until every binding has taken it."""

    delivery: Delivery
    remaining: int


Key = tuple[str, str]
"""Target port and message id: what makes a duplicate."""


class Item(msgspec.Struct, eq=False, gc=False):
    """One message for one binding. ``tickets`` are the deliveries that wait for it: its own, and duplicates of it.

    ``heir`` has taken its place (a newer value, or the dead letter made of it); ``replaces`` are the records of those
    whose heir it is, forgotten when it is on disk itself, or done.

    A struct that the garbage collector need not look at: there is one for every message, and a lane outlives its items.
    """

    lane: BindingQueue
    message: Message
    born: float
    tickets: tuple[Ticket, ...] = ()
    keys: tuple[Key, ...] = ()
    on_disk: OnDisk = OnDisk.NO
    seq: int = 0
    ordinal: int = 0
    attempts: int = 0
    reason: str = ""
    done: bool = False
    volatile: bool = False
    in_flight: bool = False
    heir: Item | None = None
    replaces: tuple[int, ...] = ()
    target: Address | None = None
    tried: tuple[Address, ...] = ()

    @property
    def size(self) -> int:
        """Bytes, as an edge's limits count them."""
        return len(self.message.body)


@dataclass(slots=True)
class BindingCounters:
    """The books of one binding for this run of the daemon.

    ``opening`` + ``accepted`` = ``delivered`` + pending + ``expired`` + ``dead`` + ``dropped``, at any moment. The others
    are not part of the balance. ``dropped`` are those that a limit, a policy or a person took out.
    """

    opening: int = 0
    accepted: int = 0
    delivered: int = 0
    expired: int = 0
    dead: int = 0
    dropped: int = 0
    duplicates: int = 0
    deferred: int = 0
    refused: int = 0
    spilled: int = 0

    @property
    def balance(self) -> int:
        """What has to be pending."""
        return self.opening + self.accepted - self.delivered - self.expired - self.dead - self.dropped


class BindingQueue:
    """The state of one binding.

    In order of age: ``flying``, ``waiting``, the ``behind`` records that are on disk alone (those of this binding with
    a number above ``cursor`` and up to ``upto``), and ``tail``: newer ones that are on their way to the disk.
    """

    __slots__ = (
        "_ordinal",
        "behind",
        "binding",
        "blocked_until",
        "bytes",
        "contract",
        "counters",
        "cursor",
        "dedupe_target",
        "fetch_at",
        "fetching",
        "flying",
        "in_memory_most",
        "last_error",
        "last_progress",
        "load",
        "next_target",
        "retain",
        "retry_s",
        "shared",
        "size_limit",
        "spooled",
        "stored_first",
        "straight",
        "strays",
        "tail",
        "targets",
        "up",
        "upto",
        "volatile",
        "waiting",
        "wanted_type",
    )

    def __init__(self, binding: Binding, now: float, in_memory: int = IN_MEMORY) -> None:
        self.use(binding)
        self.in_memory_most = in_memory
        self.waiting: deque[Item] = deque()
        self.flying: dict[int, Item] = {}
        self.tail: deque[Item] = deque()
        self._ordinal = 0
        self.behind = 0
        self.cursor = 0
        self.upto = 0
        self.strays: set[int] = set()
        self.fetching = False
        self.fetch_at = 0.0
        self.bytes = 0
        self.up = False
        self.spooled = False
        self.blocked_until = 0.0
        self.retry_s = FIRST_RETRY_S
        self.last_progress = now
        self.last_error = ""
        self.next_target = 0
        self.load: dict[Address, int] = {}
        self.counters = BindingCounters()

    @property
    def pending(self) -> int:
        """Messages that the target has not taken."""
        return len(self.waiting) + len(self.flying) + self.behind + len(self.tail)

    @property
    def has_behind(self) -> bool:
        """Whether the disk holds messages of this lane that memory does not."""
        return self.cursor < self.upto

    def use(self, binding: Binding) -> None:
        """The binding as it is now, and what of it is asked for with every message."""
        self.binding = binding
        self.contract = binding.contract
        self.targets = binding.ends
        self.shared = bool(binding.targets)  # a round robin
        self.size_limit = min(binding.contract.max_message_bytes, binding.contract.max_pending_bytes)
        self.volatile = binding.contract.mode is DeliveryMode.VOLATILE
        self.stored_first = binding.contract.mode is DeliveryMode.STORED
        self.wanted_type = wanted_type(binding)
        self.retain = binding.retain
        self.straight = (
            binding.contract.mode is DeliveryMode.HELD
            and not binding.contract.latest
            and not binding.targets
            and not self.wanted_type
        )
        self.dedupe_target = str(binding.tgt or binding.id)  # what "the same target port" means for duplicates

    def in_memory(self) -> Iterator[Item]:
        """What memory holds, in order."""
        yield from sorted(self.flying.values(), key=lambda item: item.ordinal)
        yield from self.waiting
        yield from self.tail

    # -- coming in -------------------------------------------------------------------------------------------------

    def add(self, item: Item) -> None:
        """One more at the end; ``spooled`` says whether it goes to the disk."""
        self.bytes += item.size
        if self.has_behind or self.tail or (self.spooled and len(self.waiting) >= self._room):
            self.tail.append(item)
        else:
            self.line_up(item)

    def line_up(self, item: Item) -> None:
        """It comes into ``waiting``, after all that ever were there: that is what order in a lane is."""
        self.number(item)
        self.waiting.append(item)

    def number(self, item: Item) -> None:
        """Its place in the order."""
        self._ordinal += 1
        item.ordinal = self._ordinal

    def is_clear(self, size: int, window: int, now: float) -> bool:
        """Whether a message of so many bytes that arrives now would leave at once, just as it is, with none before it."""
        flying = len(self.flying)
        return (
            self.straight
            and self.up
            and not self.spooled
            and not self.waiting
            and not self.tail
            and self.blocked_until <= now
            and size <= self.size_limit
            and flying < window
            and flying < self.contract.max_pending
            and self.bytes + size <= self.contract.max_pending_bytes
        )

    @property
    def _room(self) -> int:
        return self.in_memory_most if self.up else max(1, self.in_memory_most // 16)

    def committed(self, item: Item) -> None:
        """An item of this lane got its number ``seq``: it may leave memory if there is enough before it."""
        if self.tail and self.tail[0] is item:
            self.tail.popleft()
            if self.has_behind or len(self.waiting) >= self._room:
                self.behind += 1
                self.upto = item.seq
                return
            self.line_up(item)
        if self.has_behind:
            self.strays.add(item.seq)  # it is in memory, and must not come from the disk a second time
        else:
            self.cursor = self.upto = max(self.upto, item.seq)

    def fill_from_tail(self) -> bool:
        """Where nothing is on disk between them, the tail moves up; whether there is anything in ``waiting`` now."""
        if not self.has_behind:
            while self.tail and len(self.waiting) < self.in_memory_most:
                self.line_up(self.tail.popleft())
        return bool(self.waiting)

    def take_out(self, item: Item) -> bool:
        """Remove an item that waits; whether it was waiting."""
        for queue in (self.waiting, self.tail):
            if item in queue:
                queue.remove(item)
                self.bytes -= item.size
                return True
        return False

    # -- in flight -------------------------------------------------------------------------------------------------

    def land(self, ref: int) -> Item:
        """It is no more, for better or worse."""
        item = self.flying.pop(ref)
        item.in_flight = False
        if self.shared and item.target in self.load:
            self.load[item.target] -= 1
        return item

    def fall_back(self, target: str = "") -> list[int]:
        """Nothing (that went to ``target``) is in flight any more: it waits again, in its old order. Their refs."""
        back = {
            ref: item
            for ref, item in self.flying.items()
            if not target or (item.target is not None and item.target.target == target)
        }
        if back:
            self.waiting = deque(sorted((*back.values(), *self.waiting), key=lambda item: item.ordinal))
            for ref in back:
                self.land(ref)
        return list(back)

    def put_back(self, item: Item) -> None:
        """One that was in flight waits again, in its old place."""
        place = 0
        while place < len(self.waiting) and self.waiting[place].ordinal < item.ordinal:
            place += 1
        self.waiting.insert(place, item)

    def progressed(self, now: float) -> None:
        """The target took something."""
        self.last_progress = now
        self.retry_s = FIRST_RETRY_S
        self.blocked_until = 0.0

    def back_off(self, now: float, reason: str) -> None:
        """Wait before the next publication: longer each time, until the target takes something again."""
        self.last_error = reason
        if self.blocked_until > now:
            return  # one of many that were in flight together: one failure, not many
        self.blocked_until = now + self.retry_s
        self.retry_s = min(self.retry_s * 2, LONGEST_RETRY_S)

    # -- time ------------------------------------------------------------------------------------------------------

    def spill_due(self, spill_after_s: float) -> float | None:
        """When what is in memory alone goes to the disk: no progress for so long, or one has waited for so long."""
        if self.spooled or not (self.waiting or self.flying) or self.volatile:
            return None
        stuck = self.last_progress + spill_after_s
        return min(stuck, self.waiting[0].born + spill_after_s) if self.waiting else stuck

    def deadline(self, spill_after_s: float) -> float | None:
        """When this lane wants to be looked at; None: it waits for events alone."""
        times = []
        if (spill := self.spill_due(spill_after_s)) is not None:
            times.append(spill)
        if self.waiting and self.blocked_until:
            times.append(self.blocked_until)
        if self.fetch_at:
            times.append(self.fetch_at)
        if self.contract.ttl_s and self.waiting:
            times.append(self.waiting[0].born + self.contract.ttl_s)
        return min(times, default=None)
