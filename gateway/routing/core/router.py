"""At least once: who lets go of a message, and when. Events in, effects out; no clock, no loop.

The rules, each a test: a source is told ACCEPTED only after every target confirmed (held) or after the commit (stored,
spilled); a record is forgotten only after its target confirmed; order holds within a binding, across held, spilled and
drained; a duplicate of what is under way is settled together with it; what can't be delivered is buried, never lost.

Credit needs no effect of its own: a session hands out at most its credit of unsettled deliveries, so a source is slowed
down by not being settled. After ``spill_after_s`` without progress the waiting ones go to the spool and are settled.

Four parts on one state: ``state`` (entering and leaving the books), ``outgoing`` (publishing, answers of targets),
``spooling`` (the disk), and here what comes in, tables and time.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.model.address import Address
from gateway.model.binding import OverflowPolicy
from gateway.model.message import MAX_HOPS, Delivery, Message
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk, Ticket
from gateway.routing.core.deadletter import dead_binding
from gateway.routing.core.overflow import fits_edge, has_room_again
from gateway.routing.core.spooling import Spooling
from gateway.routing.core.table import RouteTable

NO_SOURCES: frozenset[Address] = frozenset()


class Router(Spooling):
    """The one state machine that knows held, spilled and stored. ``window`` bounds what is unconfirmed per binding."""

    # -- what a caller does ----------------------------------------------------------------------------------------

    def handle(self, event: ev.RouterEvent, now: float) -> list[ev.Effect]:
        """What this event makes necessary. ``now`` is in monotonic seconds."""
        if isinstance(event, ev.Delivered):
            return self.handle_all((event.delivery,), (), now)
        if isinstance(event, ev.Confirmed):
            return self.handle_all((), (event.ref,), now)
        self._now = now
        self._rarer(event)
        return self._conclude()

    def handle_all(self, deliveries: Iterable[Delivery], confirmed: Iterable[int], now: float) -> list[ev.Effect]:
        """The same for all that was delivered and confirmed in one turn: what is done once for all costs each of them little.

        What was confirmed makes room for what was delivered. Only for these two kinds: what the disk answers may release
        messages that are older than those just delivered.
        """
        self._now = now
        for ref in confirmed:
            self._confirmed(ref)
        for delivery in deliveries:
            self._delivered(delivery)
        return self._conclude()

    def _rarer(self, event: ev.RouterEvent) -> None:
        match event:
            case ev.Stored(token, seqs):
                self._stored(token, seqs)
            case ev.Fetched(lane_id, upto, records, exhausted):
                self._fetched(lane_id, upto, records, exhausted)
            case ev.FetchFailed(lane_id, reason):
                self._fetch_failed(lane_id, reason)
            case ev.StoreRefused(token, reason, full, room):
                self._store_refused(token, reason, full, room)
            case ev.Deferred(ref, reason, counts):
                self._failed(ref, reason, counts=counts, permanent=False)
            case ev.Refused(ref, reason, permanent):
                self._failed(ref, reason, counts=True, permanent=permanent)
            case ev.TargetUp(target):
                self._target(target, up=True)
            case ev.TargetDown(target):
                self._target(target, up=False)
            case ev.TableInstalled(table):
                self._installed(table)
            case ev.Recovered(backlogs, seen, wall_ms):
                self._recovered(backlogs, seen, wall_ms)
            case ev.Requeued(records):
                self._requeued(records)
            case ev.Removed(records):
                self._removed(records)

    def tick(self, now: float) -> list[ev.Effect]:
        """Time has come to ``deadline``: spill what makes no progress, try again what was put off."""
        self._now = now
        for lane in list(self._restless.values()):
            spill = lane.spill_due(self._spill_after_s)
            if spill is not None and now >= spill:
                self._spill(lane)
            if lane.blocked_until <= now:
                lane.blocked_until = 0.0
            self._touch(lane)
        self._restless.clear()
        self._to_store.extend(self._shelf.due(now))
        return self._conclude()

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None: nothing waits for time to pass. Only lanes with something under way are looked at."""
        times = [lane.deadline(self._spill_after_s) for lane in self._restless.values()]
        times.append(self._shelf.deadline)
        return min((when for when in times if when is not None), default=None)

    @property
    def lanes(self) -> Iterable[BindingQueue]:
        """The bindings with their counters, for ``status``."""
        return self._lanes.values()

    @property
    def unsafe(self) -> int:
        """Messages under way that are not on disk."""
        lanes = sum(
            item.on_disk is not OnDisk.YES
            for lane in self._lanes.values()
            for item in (*lane.flying.values(), *lane.waiting, *lane.tail)
        )
        return lanes + self._shelf.homeless

    def holds_unsettled(self, binding_id: str) -> bool:
        """Whether a source still waits to be told about a message of this binding, or keeps some back as the edge is full."""
        lane = self._lanes.get(binding_id)
        return lane is not None and (binding_id in self._full or any(item.tickets for item in lane.in_memory()))

    def _conclude(self) -> list[ev.Effect]:
        """The end of every event: publish what may go now, store what has to be stored, all or none."""
        while self._touched:
            lanes, self._touched = self._touched, {}
            for lane_id, lane in lanes.items():
                self._advance(lane)
                if lane.waiting or lane.flying or lane.fetch_at:
                    self._restless[lane_id] = lane
        if self._to_store:
            items, self._to_store = self._to_store, []
            effect = self._shelf.write(items)
            if effect is not None:
                self._effects.append(effect)
        effects, self._effects = self._effects, []
        return effects

    # -- a message comes in ----------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        message = delivery.message
        lanes = self._routes.get(delivery.source, ())
        if message.retain:
            lanes = tuple(lane for lane in lanes if lane.contract.latest)
        ticket = Ticket(delivery, len(lanes) or 1)
        for lane in lanes:
            self._accept(lane, message, ticket)
        if not lanes:
            self._take(ticket)

    def _accept(self, lane: BindingQueue, message: Message, ticket: Ticket) -> None:
        key = (lane.dedupe_target, message.id)
        twin = self._underway.get(key)
        if twin is not None:
            lane.counters.duplicates += 1
            twin.tickets += (ticket,)
            return
        if key in self._seen:
            lane.counters.duplicates += 1
            self._take(ticket)
            return
        lane.counters.accepted += 1
        if lane.volatile:
            self._volatile(Item(lane, message, self._now))
            self._take(ticket)
            return
        item = self._underway[key] = Item(lane, message, self._now, (ticket,), (key,))
        size = len(message.body)
        if message.hops < MAX_HOPS and lane.is_clear(size, self._window, self._now):
            self._pass(lane, item, size)
            return
        problem = self._unfit(item)
        if problem:
            self._bury(item, problem)
            return
        if lane.contract.latest:
            self._supersede(lane, item)
            self._enqueue(item)
        elif fits_edge(lane, item.size) or self._overflow(lane, item):
            self._enqueue(item)

    def _pass(self, lane: BindingQueue, item: Item, size: int) -> None:
        """What ``_enqueue`` and ``_advance`` come to when nothing stands in the way: most messages go this way."""
        if not lane.flying:
            lane.last_progress = self._now
            self._restless[lane.binding.id] = lane
        lane.number(item)
        lane.bytes += size
        self._launch(lane, item, lane.targets[0])

    def _volatile(self, item: Item) -> None:
        """Nobody waits for it: sent now if that can be, else lost."""
        item.volatile = True
        lane = item.lane
        problem = self._unfit(item)
        target = self._choose(lane, item) if lane.up and not problem else None
        if target is None:
            lane.counters.dropped += 1
            lane.last_error = problem or lane.last_error
            return
        lane.bytes += item.size
        self._launch(lane, item, target)

    def _supersede(self, lane: BindingQueue, item: Item) -> None:
        """Only the newest value matters: it takes the place of those that wait."""
        for queue in (lane.waiting, lane.tail):
            while queue:
                old = queue.popleft()
                lane.bytes -= old.size
                lane.counters.dropped += 1
                self._hand_over(old, item)

    def _overflow(self, lane: BindingQueue, item: Item) -> bool:
        """The edge's own limits are reached; whether the new one is taken all the same."""
        match lane.contract.overflow:
            case OverflowPolicy.BLOCK:
                self._full.add(lane.binding.id)  # its source is not taken from until there is room again
                return True
            case OverflowPolicy.DEAD_LETTER:
                self._bury(item, "overflow: the edge's limit is reached")
                return False
            case OverflowPolicy.DROP_OLDEST:
                while lane.waiting and not fits_edge(lane, item.size):
                    self._drop_oldest(lane)
                if fits_edge(lane, item.size) or lane.has_behind:
                    return True  # what is too much then is dropped as soon as the oldest ones are in memory
        self._drop(item)
        return False

    def full_sources(self) -> frozenset[Address]:
        """Sources that keep their messages because their edge is full; one is taken from again with a tenth to spare."""
        if not self._full:
            return NO_SOURCES
        for binding_id in tuple(self._full):
            lane = self._lanes.get(binding_id)
            if lane is None or has_room_again(lane):
                self._full.discard(binding_id)
        return frozenset(self._lanes[binding_id].binding.source for binding_id in self._full)

    # -- tables ----------------------------------------------------------------------------------------------------

    def _installed(self, table: RouteTable) -> None:
        """The edges from now on. Lanes of edges that are gone stay until they are empty, and retain nothing any more."""
        self._table = table
        for binding in table.by_id.values():
            known = self._lanes.get(binding.id)
            if known is not None and known.binding.ends != binding.ends:
                self._ground(known)
                known.blocked_until = 0.0
            lane = self._lane(binding)
            letters = dead_binding(binding)
            if letters is not None and letters.id in self._lanes:
                self._lane(letters)
            if lane.waiting and (not lane.up or lane.stored_first):
                self._spill(lane)
            self._touch(lane)
        self._routes = {
            source: tuple(self._lanes[binding.id] for binding in bindings)
            for source, bindings in table.by_source.items()
        }
        self._adopt()
        for binding_id, lane in list(self._lanes.items()):
            if binding_id in table.by_id:
                continue
            lane.retain = False
            if not lane.pending and lane.counters == type(lane.counters)():
                del self._lanes[binding_id]
