"""The router's way out: publishing in order while the window has room, and what targets answer."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.model.address import Address
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk
from gateway.routing.core.overflow import is_over
from gateway.routing.core.state import RouterState

BOARD_SHARE = 2
"""Unconfirmed messages of one round robin at one board: one on its wire, and one that follows without a pause."""


class Outgoing(RouterState):
    """What is published, and what becomes of it."""

    def _advance(self, lane: BindingQueue) -> None:
        """Publish in order while the window has room; have more brought from the disk where memory runs out."""
        now = self._now
        if lane.contract.ttl_s:
            self._expire(lane)
        if lane.up and lane.blocked_until <= now:
            while lane.waiting or lane.fill_from_tail():
                item = lane.waiting[0]
                if item.on_disk is OnDisk.WRITING or (lane.stored_first and item.on_disk is OnDisk.NO):
                    break
                target = self._choose(lane, item)
                if target is None:
                    break
                lane.waiting.popleft()
                self._launch(lane, item, target)
        self._fetch(lane)
        if lane.spooled and not lane.pending:
            lane.spooled = False

    def _launch(self, lane: BindingQueue, item: Item, target: Address) -> None:
        self._ref = ref = self._ref + 1
        item.target, item.in_flight = target, True
        lane.flying[ref] = self._flying[ref] = item
        if lane.shared:
            lane.load[target] = lane.load.get(target, 0) + 1
        message = replace(item.message, retain=True) if lane.retain else item.message
        self._effects.append(ev.Publish(ref, target, message))

    def _expire(self, lane: BindingQueue) -> None:
        ttl_s = lane.contract.ttl_s
        while (lane.waiting or lane.fill_from_tail()) and self._now - lane.waiting[0].born > ttl_s:
            item = lane.waiting.popleft()
            lane.bytes -= item.size
            lane.counters.expired += 1
            self._finish(item)

    def _fetch(self, lane: BindingQueue, *, wanted: bool = False) -> None:
        """Ask for the next records of a lane that is on disk alone: when it is needed in memory, and not before.

        The oldest alone is always there: its age is shown.
        """
        if not lane.has_behind or lane.fetching or lane.fetch_at > self._now:
            return
        needed = wanted or lane.up or lane.contract.ttl_s > 0 or is_over(lane)
        most = lane.in_memory_most
        if len(lane.waiting) < (max(1, most // 2) if lane.up else 1):
            lane.fetching, lane.fetch_at = True, 0.0
            self._effects.append(ev.Fetch(lane.binding.id, lane.cursor, lane.upto, most if needed else 1))

    # -- to whom ---------------------------------------------------------------------------------------------------

    def _choose(self, lane: BindingQueue, item: Item) -> Address | None:
        """The one target, or the next live one of a round robin that has free capacity and did not fail this message."""
        if not lane.binding.targets:
            return lane.binding.tgt if len(lane.flying) < self._window else None
        count = len(lane.targets)
        for step in range(count):
            target = lane.targets[(lane.next_target + step) % count]
            share = BOARD_SHARE if target.transport == "serial" else self._window
            if target.target in self._up and target not in item.tried and lane.load.get(target, 0) < share:
                lane.next_target = (lane.next_target + step + 1) % count
                return target
        return None

    def _next_ones(self, lane: BindingQueue, item: Item) -> bool:
        """Whether a round robin has a live target that has not failed this message yet."""
        return any(target.target in self._up and target not in item.tried for target in lane.binding.targets)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _confirmed(self, ref: int) -> None:
        item = self._flying.pop(ref, None)
        if item is None:
            return  # of a target that went down since: it was or will be sent again
        lane = item.lane
        lane.land(ref)
        lane.progressed(self._now)
        lane.bytes -= len(item.message.body)
        lane.counters.delivered += 1
        for key in item.keys:
            self._seen.add(key)
        self._finish(item)
        if lane.waiting or lane.spooled:
            self._touch(lane)

    def _failed(self, ref: int, reason: str, *, counts: bool, permanent: bool) -> None:
        item = self._flying.pop(ref, None)
        if item is None:
            return
        lane = item.lane
        lane.land(ref)
        self._touch(lane)
        if item.volatile:
            self._lost(lane, item, reason)
            return
        lane.last_error = reason
        item.attempts += counts
        if item.target is not None and lane.binding.targets and (counts or permanent):
            item.tried += (item.target,)
        elsewhere = self._next_ones(lane, item)
        if (permanent and not elsewhere) or item.attempts >= lane.contract.max_attempts:
            lane.counters.refused += 1
            lane.progressed(self._now)
            lane.bytes -= item.size
            self._bury(item, reason)
            return
        lane.counters.deferred += 1
        if counts and item.on_disk is OnDisk.YES:
            self._effects.append(ev.RecordAttempts(item.seq, item.attempts, reason))
        lane.put_back(item)
        if not elsewhere:
            item.tried = ()
            lane.back_off(self._now, reason)

    def _lost(self, lane: BindingQueue, item: Item, reason: str) -> None:
        """A volatile message that did not arrive."""
        lane.last_error = reason
        lane.bytes -= item.size
        lane.counters.dropped += 1
        item.done = True

    # -- targets come and go ---------------------------------------------------------------------------------------

    def _target(self, target: str, *, up: bool) -> None:
        (self._up.add if up else self._up.discard)(target)
        for lane in list(self._lanes.values()):
            if any(end.target == target for end in lane.targets):
                self._turn(lane, target, up=up)

    def _turn(self, lane: BindingQueue, target: str, *, up: bool) -> None:
        lane.up = any(end.target in self._up for end in lane.targets)
        self._touch(lane)
        if up:
            lane.progressed(self._now)
            return
        self._ground(lane, target)
        if not lane.up and lane.waiting:
            self._spill(lane)

    def _ground(self, lane: BindingQueue, target: str = "") -> None:
        """Nothing that was in flight (to ``target``) will be confirmed any more."""
        for ref in lane.fall_back(target):
            self._flying.pop(ref, None)
        for item in [item for item in lane.waiting if item.volatile]:
            lane.waiting.remove(item)
            self._lost(lane, item, "the target went down")
