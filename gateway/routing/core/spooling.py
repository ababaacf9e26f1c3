"""The router and the disk: what was committed, what was refused, what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.model.binding import OverflowPolicy
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk
from gateway.routing.core.deadletter import is_dead_lane
from gateway.routing.core.outgoing import Outgoing
from gateway.routing.core.overflow import is_over, share_room
from gateway.spool.core.record import Backlog, SpoolRecord

FETCH_AGAIN_S = 1.0


class Spooling(Outgoing):
    """What the disk answers."""

    # -- writing ---------------------------------------------------------------------------------------------------

    def _stored(self, token: int, seqs: Sequence[int]) -> None:
        for item in self._shelf.written(token, seqs):
            if item.heir is not None:
                self._leave_to_heir(item)
            elif item.reason:
                self._rest(item)
            elif item.done:
                self._effects.append(ev.Forget((item.seq,)))
            else:
                self._safe(item)
        self._to_store.extend(self._shelf.released())

    def _safe(self, item: Item) -> None:
        """It is on disk: whoever waits for that is told, and what it replaces may go."""
        for key in item.keys:
            self._seen.add(key)
            self._underway.pop(key, None)
        self._take_all(item)
        if item.replaces:
            self._effects.append(ev.Forget(item.replaces))
            item.replaces = ()
        if item.attempts:  # some of them may have been made while it was being written
            self._effects.append(ev.RecordAttempts(item.seq, item.attempts, item.lane.last_error))
        item.lane.committed(item)
        self._touch(item.lane)

    def _leave_to_heir(self, item: Item) -> None:
        """Its record goes when the last of its heirs is safe."""
        heir = item
        while heir.heir is not None:
            heir = heir.heir
        if heir.done or heir.on_disk is OnDisk.YES:
            self._effects.append(ev.Forget((item.seq,)))
        else:
            heir.replaces += (item.seq,)

    def _store_refused(self, token: int, reason: str, full: bool, room: int) -> None:
        items = self._shelf.refused(token)
        for item in items:
            item.lane.last_error = reason
            self._touch(item.lane)  # a held message needs no disk where its target is up
        if not full:
            self._shelf.keep(items, self._now)
            return
        flying = [item for item in items if item.in_flight]  # they may need no room at all
        self._shelf.keep(flying, self._now)
        share = share_room(tuple(item for item in items if not item.in_flight), room)
        for victim in share.drop:
            victim.lane.take_out(victim)
            self._drop(victim)
        for item in share.bury:
            item.lane.take_out(item)
            self._bury(item, "overflow: the spool's limit is reached")
        for lane in share.hungry:
            self._fetch(lane, wanted=True)
        self._to_store.extend(share.write)
        self._shelf.keep(share.wait, self._now)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _fetched(self, lane_id: str, upto: int, records: Sequence[SpoolRecord], exhausted: bool) -> None:
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        lane.fetching = False
        for record in records:
            if record.seq in lane.strays:
                lane.strays.discard(record.seq)
                continue
            lane.behind = max(0, lane.behind - 1)
            self._line_up(lane, record)
        lane.cursor = upto if exhausted else records[-1].seq
        if not lane.has_behind:
            self._settle_count(lane)
        self._shelf.hurry(self._now)
        if lane.contract.latest:
            self._keep_newest(lane)
        if lane.contract.overflow is OverflowPolicy.DROP_OLDEST:
            while is_over(lane) and lane.waiting:
                self._drop_oldest(lane)
        self._touch(lane)

    def _line_up(self, lane: BindingQueue, record: SpoolRecord) -> None:
        """A record comes into memory. One that can't pass its edge, as the edge is now, is dead: it may have been requeued
        by hand, or the edge takes less than it did."""
        item = self._recalled(lane, record)
        problem = "" if is_dead_lane(lane.binding.id) else self._unfit(item)
        lane.bytes += item.size - len(record.message.body)  # it may have got another form
        if problem:
            lane.bytes -= item.size
            self._bury(item, problem)
        else:
            lane.line_up(item)

    def _recalled(self, lane: BindingQueue, record: SpoolRecord) -> Item:
        item = Item(lane, record.message, self._born(record))
        item.on_disk, item.seq, item.attempts = OnDisk.YES, record.seq, record.attempts
        item.keys = ((lane.dedupe_target, record.message.id),)
        return item

    def _born(self, record: SpoolRecord) -> float:
        """When it was accepted, on this run's clock. After a boot only a trusted time of measurement tells."""
        if record.born is not None:
            return min(record.born, self._now)
        message = record.message
        if not message.time_ms or not message.clock_trusted:
            return self._started
        return self._started - max(0.0, (self._started_wall_ms - message.time_ms) / 1000)

    def _settle_count(self, lane: BindingQueue) -> None:
        """All of the lane is in memory now. What was counted beyond that is not there: taken out behind our back."""
        lane.strays.clear()
        if lane.behind:
            lane.counters.dropped += lane.behind
            lane.behind = 0
        lane.bytes = sum(item.size for item in (*lane.flying.values(), *lane.waiting, *lane.tail))

    def _keep_newest(self, lane: BindingQueue) -> None:
        keep = 0 if lane.has_behind or lane.tail else 1
        while len(lane.waiting) > keep:
            self._drop_oldest(lane)

    def _drop_oldest(self, lane: BindingQueue) -> None:
        item = lane.waiting.popleft()
        lane.bytes -= item.size
        self._drop(item)

    def _fetch_failed(self, lane_id: str, reason: str) -> None:
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        lane.fetching, lane.fetch_at = False, self._now + FETCH_AGAIN_S
        lane.last_error = reason
        self._restless[lane_id] = lane

    # -- the start, and a person's hands ---------------------------------------------------------------------------

    def _recovered(self, backlogs: Iterable[Backlog], seen: Iterable[tuple[str, str]], wall_ms: int) -> None:
        self._started, self._started_wall_ms = self._now, wall_ms
        for key in seen:
            self._seen.add(key)
        self.orphans.add(backlogs)
        self._adopt()

    def _adopt(self) -> None:
        """Records find their edge by its id; those without one wait for a table that has it."""
        for binding, backlog in self.orphans.adopt(self._table):
            lane = self._lane(binding)
            lane.spooled = True
            lane.behind += backlog.records
            lane.bytes += backlog.bytes
            lane.upto = max(lane.upto, backlog.last_seq)
            lane.counters.opening += backlog.records
            self._touch(lane)

    def _requeued(self, records: Iterable[SpoolRecord]) -> None:
        """Dead letters that a person gave another try: as new records, behind what waits."""
        for record in records:
            lane = self._lanes.get(record.binding_id)
            if lane is None:
                self.orphans.join(record)
                continue
            lane.spooled = True
            lane.counters.accepted += 1
            lane.bytes += len(record.message.body)
            if lane.has_behind:
                lane.behind += 1
                lane.upto = max(lane.upto, record.seq)
            else:
                lane.cursor = lane.upto = max(lane.upto, record.seq)
                self._line_up(lane, record)
            self._touch(lane)

    def _removed(self, records: Iterable[tuple[str, int, int]]) -> None:
        """A person took out records: (binding id, seq, bytes of the body). What is in flight can't be called back."""
        in_memory: dict[str, dict[int, Item]] = {}
        for binding_id, seq, size in records:
            lane = self._lanes.get(binding_id)
            if lane is None:
                self.orphans.leave(binding_id, size)
                self._effects.append(ev.Forget((seq,)))
                continue
            if binding_id not in in_memory:
                in_memory[binding_id] = {one.seq: one for one in lane.in_memory()}
            item = in_memory[binding_id].get(seq)
            if item is not None:
                if lane.take_out(item):
                    self._drop(item)
            elif lane.cursor < seq <= lane.upto:
                lane.behind = max(0, lane.behind - 1)
                lane.bytes -= size
                lane.counters.dropped += 1
                self._effects.append(ev.Forget((seq,)))
            self._touch(lane)
