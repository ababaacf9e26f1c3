"""What the router keeps, and how a message enters a lane and leaves the books."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.model.address import Address
from gateway.model.binding import Binding
from gateway.model.message import MAX_HOPS, Outcome
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import IN_MEMORY, BindingQueue, Item, Key, OnDisk, Ticket
from gateway.routing.core.deadletter import dead_binding
from gateway.routing.core.dedupe import DedupeWindow
from gateway.routing.core.overflow import too_large
from gateway.routing.core.payload import Unfit, converted
from gateway.routing.core.pending_writes import PendingWrites
from gateway.routing.core.table import RouteTable
from gateway.routing.core.unbound_records import UnboundRecords

WINDOW = 512
SPILL_AFTER_S = 1.0


class RouterState:
    """The state that the parts of the router share. ``handle`` and ``tick`` of the router are the only ways in.

    Nothing is published or stored in the middle of an event: lanes that may have something to send are ``touched``, items
    for the disk are collected, and the router does both at the end of the event.
    """

    def __init__(
        self, *, window: int = WINDOW, spill_after_s: float = SPILL_AFTER_S, in_memory: int = IN_MEMORY
    ) -> None:
        self._window = window
        self._spill_after_s = spill_after_s
        self._in_memory = in_memory
        self._now = 0.0
        self._started = 0.0
        self._started_wall_ms = 0
        self._table = RouteTable()
        self._lanes: dict[str, BindingQueue] = {}
        self._routes: dict[Address, tuple[BindingQueue, ...]] = {}
        """The lanes of the table's bindings, by source."""
        self._full: set[str] = set()
        self._restless: dict[str, BindingQueue] = {}
        self._touched: dict[str, BindingQueue] = {}
        self._up: set[str] = set()
        self._flying: dict[int, Item] = {}
        self._underway: dict[Key, Item] = {}
        self._seen = DedupeWindow()
        self._shelf = PendingWrites()
        self._to_store: list[Item] = []
        self._ref = 0
        self._effects: list[ev.Effect] = []
        self.orphans = UnboundRecords()

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _lane(self, binding: Binding) -> BindingQueue:
        """The lane of a binding, which may have changed since."""
        lane = self._lanes.get(binding.id)
        if lane is None:
            lane = self._lanes[binding.id] = BindingQueue(binding, self._now, self._in_memory)
        else:
            lane.use(binding)
        lane.up = any(end.target in self._up for end in lane.targets)
        return lane

    def _touch(self, lane: BindingQueue) -> None:
        self._touched[lane.binding.id] = lane

    # -- in --------------------------------------------------------------------------------------------------------

    def _enqueue(self, item: Item) -> None:
        """At the end of its lane; to the disk where the lane's way leads over it."""
        lane = item.lane
        if not lane.waiting and not lane.flying:
            lane.last_progress = self._now
        if lane.stored_first or lane.spooled or not lane.up:
            lane.spooled = True
            self._to_store.append(item)
        lane.add(item)
        self._touch(lane)

    def _spill(self, lane: BindingQueue) -> None:
        """What is in memory alone goes to the disk, and so does what comes until the lane is empty."""
        lane.spooled = True
        items = [item for item in lane.in_memory() if item.on_disk is OnDisk.NO]
        lane.counters.spilled += len(items)
        self._to_store.extend(items)

    def _unfit(self, item: Item) -> str:
        """Why this message can't pass the edge, whoever is up; brings its body into the form that the target wants."""
        if item.message.hops >= MAX_HOPS:
            return "loop: the message passed too many gateways"
        wanted = item.lane.wanted_type
        if wanted:
            try:
                item.message = converted(item.message, wanted)
            except Unfit as exc:
                return str(exc)
        size = len(item.message.body)
        return too_large(item.lane, size) if size > item.lane.size_limit else ""

    # -- out -------------------------------------------------------------------------------------------------------

    def _finish(self, item: Item) -> None:
        """Nobody has to do with the item any more: off the disk, its sources settled."""
        item.done = True
        for key in item.keys:
            self._underway.pop(key, None)
        if item.on_disk is OnDisk.YES:
            self._effects.append(ev.Forget((*item.replaces, item.seq)))
        elif item.replaces:
            self._effects.append(ev.Forget(item.replaces))
        tickets, item.tickets = item.tickets, ()
        for ticket in tickets:
            self._take(ticket)

    def _drop(self, item: Item) -> None:
        """A limit or a policy gives it up. The item is in no queue any more."""
        item.lane.counters.dropped += 1
        self._finish(item)

    def _take_all(self, item: Item) -> None:
        tickets, item.tickets = item.tickets, ()
        for ticket in tickets:
            self._take(ticket)

    def _take(self, ticket: Ticket) -> None:
        ticket.remaining -= 1
        if not ticket.remaining:
            self._effects.append(ev.Settle(ticket.delivery, Outcome.ACCEPTED))

    def _hand_over(self, old: Item, heir: Item) -> None:
        """``heir`` takes the place of ``old``: its duplicates, its sources, and its record as soon as that is safe."""
        heir.tickets = old.tickets + heir.tickets  # the oldest first: who is told last comes again after a crash
        under_way = tuple(key for key in old.keys if self._underway.get(key) is old)
        heir.keys += under_way  # those that are committed are remembered anyway: they would become ever more
        for key in under_way:
            self._underway[key] = heir
        heir.replaces += (*old.replaces, old.seq) if old.on_disk is OnDisk.YES else old.replaces
        old.tickets, old.keys, old.replaces = (), (), ()
        old.done, old.heir = True, heir

    # -- dead letters ----------------------------------------------------------------------------------------------

    def _bury(self, item: Item, reason: str) -> None:
        """To the edge's dead letter, as an edge of its own; without one it rests in the spool."""
        item.lane.counters.dead += 1
        binding = dead_binding(item.lane.binding)
        if binding is not None:
            lane = self._lane(binding)
            letter = Item(lane, replace(item.message, reason=reason), self._now)
            self._hand_over(item, letter)
            lane.counters.accepted += 1
            self._enqueue(letter)
            return
        item.reason = reason
        if item.on_disk is OnDisk.YES:
            self._rest(item)
        elif item.on_disk is OnDisk.NO:
            self._to_store.append(item)

    def _rest(self, item: Item) -> None:
        """A message came to rest in the spool, where a person finds it."""
        item.done = True
        for key in item.keys:
            self._seen.add(key)
            self._underway.pop(key, None)
        self._effects.append(ev.Bury(item.seq, item.reason, item.attempts))
        self._effects.append(ev.AnnounceDead(item.lane.binding.id, item.message, item.reason))
        if item.replaces:
            self._effects.append(ev.Forget(item.replaces))
        self._take_all(item)
