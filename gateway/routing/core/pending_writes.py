"""What is on its way to the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk
from gateway.routing.core.events import StoreRecords
from gateway.spool.core.record import SpoolRecord

RETRY_S = 1.0


class PendingWrites:
    """Writes under way, by token, and what waits for its turn.

    A lane has one write under way at a time, so that its records are committed in order whatever the disk refuses;
    what comes meanwhile goes together into the next one. What was refused and is to be tried later stays NO, so that a
    held message may still reach a target that is up.
    """

    def __init__(self) -> None:
        self._token = 0
        self._writing: dict[int, tuple[Item, ...]] = {}
        self._busy: set[BindingQueue] = set()
        self._next: list[Item] = []
        self._refused: dict[Item, None] = {}
        self._retry_at = 0.0

    def write(self, items: Iterable[Item]) -> StoreRecords | None:
        """One write for those that are not on disk yet and whose lane is free; None if there are none."""
        fresh: list[Item] = []
        blocked = {item.lane for item in self._refused}
        for item in items:
            if item.on_disk is not OnDisk.NO or item.done:
                continue
            if item.lane in self._busy:
                item.on_disk = OnDisk.WRITING
                self._next.append(item)
            elif item.lane in blocked:
                self._refused[item] = None
            else:
                item.on_disk = OnDisk.WRITING
                fresh.append(item)
        if not fresh:
            return None
        self._busy.update(item.lane for item in fresh)
        self._token += 1
        self._writing[self._token] = tuple(fresh)
        return StoreRecords(self._token, tuple(_record(item) for item in fresh))

    def written(self, token: int, seqs: Sequence[int]) -> tuple[Item, ...]:
        """The items of a committed write, numbered."""
        items = self._writing.pop(token)
        for item, seq in zip(items, seqs, strict=True):
            item.on_disk, item.seq = OnDisk.YES, seq
            self._busy.discard(item.lane)
        return items

    def refused(self, token: int) -> tuple[Item, ...]:
        """The items of a write that was not taken, and those behind them."""
        items = self._writing.pop(token)
        lanes = {item.lane for item in items}
        self._busy -= lanes
        behind = tuple(item for item in self._next if item.lane in lanes)
        self._next = [item for item in self._next if item.lane not in lanes]
        for item in (*items, *behind):
            item.on_disk = OnDisk.NO
        return tuple(item for item in (*items, *behind) if not item.done)

    def released(self) -> list[Item]:
        """Those that waited for a write of their lane which has ended."""
        if not self._next:
            return []
        free = [item for item in self._next if item.lane not in self._busy]
        self._next = [item for item in self._next if item.lane in self._busy]
        for item in free:
            item.on_disk = OnDisk.NO
        return free

    def keep(self, items: Iterable[Item], now: float) -> None:
        """Try these again in a second."""
        for item in items:
            self._refused[item] = None
            self._retry_at = now + RETRY_S

    def hurry(self, now: float) -> None:
        """What stood in their way may be gone."""
        self._retry_at = min(self._retry_at, now)

    def due(self, now: float) -> list[Item]:
        """Those to try again now."""
        if not self._refused or now < self._retry_at:
            return []
        items, self._refused = list(self._refused), {}
        return items

    @property
    def deadline(self) -> float | None:
        """When something is due."""
        return self._retry_at if self._refused else None

    @property
    def homeless(self) -> int:
        """Dead letters on their way to rest on disk: in no lane any more, and not safe yet."""
        waiting = [*(item for items in self._writing.values() for item in items), *self._next, *self._refused]
        return sum(bool(item.reason) and not item.done for item in waiting)


def _record(item: Item) -> SpoolRecord:
    return SpoolRecord(
        item.lane.binding.id,
        item.message,
        attempts=item.attempts,
        last_error=item.reason,
        dead=bool(item.reason),
        born=item.born,
        seen=item.keys,
    )
