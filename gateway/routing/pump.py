"""The owner of the router: carries out its effects, serves the sessions, keeps its time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.errors import DeliveryError, GatewayError, SpoolError, SpoolFull, SpoolUnavailable, TransportDown
from gateway.model.address import Address
from gateway.model.binding import DEAD_SUFFIX, Binding
from gateway.model.message import Delivery, Message
from gateway.routing.core import events as ev
from gateway.routing.core import outcomes
from gateway.routing.core.ledger import binding_entries, ledger_entries, orphan_entries
from gateway.routing.core.router import NO_SOURCES, Router
from gateway.routing.core.table import RouteTable
from gateway.routing.sessions import Retirement, Served, Sessions, not_taken
from gateway.spool.core.record import SpoolRecord
from gateway.spool.core.store import Page, Store
from gateway.transport import Session

log = logging.getLogger(__name__)

TICK_S = 0.2
"""How often the router's deadlines are looked at while one is near."""

LONGEST_TICK_S = 1.0
CREDIT = 512
"""Unsettled deliveries of one source: enough to keep a broker busy that confirms every 20 ms or so."""

Tap = Callable[[Delivery], None]
OnDead = Callable[[ev.AnnounceDead], None]


class Pump:
    """One for the whole gateway. All its methods belong to the loop that runs it."""

    def __init__(self, store: Store, *, credit: int = CREDIT, on_dead: OnDead | None = None) -> None:
        self._store = store
        self._credit = credit
        self._on_dead = on_dead or (lambda effect: None)
        self._router = Router()
        self._wanted = RouteTable()
        self._table = RouteTable()
        self._retirement = Retirement()
        self._former: tuple[Binding, ...] = ()
        self._served = Sessions()
        self._taps: dict[Address, list[Tap]] = {}
        self._confirmed: list[int] = []
        self._effects: deque[list[ev.Effect]] = deque()
        self._carrying_out = False
        self._forgotten: list[int] = []
        self._full: frozenset[Address] = NO_SOURCES
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._fatal: GatewayError | None = None
        self._draining = False

    # -- the pillar ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take over what the spool holds, then keep the router's time. Runs until cancelled.

        Raises ``SpoolCorrupt`` when the spool turns out to be damaged, another ``SpoolError`` when its writer has a bug,
        another ``GatewayError`` for a bug in the router: what is on disk, or not settled, is safe, and delivered by the
        next run.
        """
        opening = await self._store.opening()
        self._dispatch(ev.Recovered(opening.backlogs, opening.seen, int(time.time() * 1000)))
        waiting = sum(backlog.records for backlog in opening.backlogs)
        if waiting:
            log.info("spool: %d messages wait from before", waiting)
        self._ready.set()
        while self._fatal is None:
            await self._wake.wait()
            self._wake.clear()
            while self._fatal is None and (deadline := self._router.deadline) is not None:
                await asyncio.sleep(min(max(TICK_S, deadline - time.monotonic()), LONGEST_TICK_S))
                self._tell(self._router.tick)
        raise self._fatal

    def install(self, table: RouteTable, *, gone: Iterable[Binding] = (), former: Iterable[Binding] = ()) -> None:
        """These are the edges from now on; sessions subscribe and declare what is new, and undo what is gone.

        ``gone`` are edges of an earlier run that have to be undone too, ``former`` those whose records may still wait.
        """
        self._retirement.change((*self._wanted.declared, *gone), table)
        self._wanted, self._former = table, tuple(former)
        self._reinstall()

    def _reinstall(self) -> None:
        """The wanted edges, and those whose queues still have to be emptied."""
        draining = self._retirement.draining
        more = draining or self._former
        self._table = RouteTable.of((*self._wanted.declared, *draining), self._former) if more else self._wanted
        self._dispatch(ev.TableInstalled(self._table))
        for served in self._served.all:
            served.changed.set()

    def tap(self, address: Address, handler: Tap) -> None:
        """Let ``handler`` see what arrives from an address, whether an edge takes it or not."""
        self._taps.setdefault(address, []).append(handler)
        self._sources_changed(address)

    def untap(self, address: Address, handler: Tap) -> None:
        """No more of that."""
        handlers = self._taps.get(address, [])
        if handler in handlers:
            handlers.remove(handler)
        if not handlers:
            self._taps.pop(address, None)
        self._sources_changed(address)

    def _sources_changed(self, address: Address) -> None:
        served = self._served.at(address)
        if served is not None:
            served.changed.set()

    async def caught_up(self) -> None:
        """Return once every connected session has declared and subscribed what the table and the taps want now."""
        for served in self._served.all:
            served.calm.clear()
            served.changed.set()
            await served.calm.wait()

    # -- one session -----------------------------------------------------------------------------------------------

    async def serve(self, session: Session, target: str) -> None:
        """One epoch of a transport: subscribe, take deliveries, publish, until ``TransportDown``."""
        await self._ready.wait()
        served = Served(session, target)
        try:
            async with asyncio.TaskGroup() as tasks:
                served.tasks = tasks
                self._retirement.begin(target)
                await self._subscribe(served)
                self._served.begin(served)
                served.changed.set()  # the edges may have changed while it subscribed
                self._dispatch(ev.TargetUp(target))
                tasks.create_task(self._receive(served), name=f"{target}:deliveries")
                tasks.create_task(served.settle_in_order(), name=f"{target}:settle")
                tasks.create_task(self._follow(served), name=f"{target}:subscriptions")
        finally:
            served.tasks = None
            served.calm.set()
            if self._served.end(served):
                self._dispatch(ev.TargetDown(target))

    async def _receive(self, served: Served) -> None:
        async for first in served.session.deliveries():
            if self._draining:
                continue  # left unsettled: its source gives it to the next run
            deliveries = (first, *served.more())
            if self._taps or self._retirement.any:
                for delivery in deliveries:
                    self._watch(delivery)
            self._dispatch_together(deliveries)
        raise TransportDown(served.target, "the deliveries ended")

    def _watch(self, delivery: Delivery) -> None:
        for handler in tuple(self._taps.get(delivery.source, ())):
            _show(delivery, handler)
        if self._retirement.is_watched(delivery.source):
            self._retirement.heard(delivery.source, time.monotonic())

    async def _follow(self, served: Served) -> None:
        """Keep the session's subscriptions as the table and the taps want them."""
        while True:
            patience = served.patience_s(self._retirement)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await served.changed.wait()
            served.changed.clear()
            await self._subscribe(served)
            if not served.changed.is_set():
                served.calm.set()

    async def _subscribe(self, served: Served) -> None:
        if self._draining:
            return  # unsubscribing would tell an MQTT broker to keep nothing for us until the next run
        await served.declare(self._wanted.concerning(served.target))
        wanted = {address for address in self._taps if address.target == served.target}
        wanted |= self._table.sources(served.target)
        full = self._full  # as it is now; a queue that is not taken from is not retired
        wanted -= full
        await served.subscribe(wanted, self._credit)
        gone = tuple(one for one in self._retirement.concerning(served.target) if one.source not in full)
        if gone:
            kept = await served.retire(gone)
            now, not_taken = time.monotonic(), served.not_taken
            if self._retirement.progress(gone, kept, self._unsettled, now, not_taken):
                self._reinstall()

    def _unsettled(self, binding_id: str) -> bool:
        return self._router.holds_unsettled(binding_id)

    # -- effects ---------------------------------------------------------------------------------------------------

    def _dispatch(self, event: ev.RouterEvent) -> None:
        """Now, behind what happened before it."""
        self._dispatch_together()
        self._tell(lambda now: self._router.handle(event, now))

    def _dispatch_together(self, deliveries: Sequence[Delivery] = ()) -> None:
        """What every message brings, all of one turn together."""
        confirmed, self._confirmed = self._confirmed, []
        if deliveries or confirmed:
            self._tell(lambda now: self._router.handle_all(deliveries, confirmed, now))

    def _tell(self, handle: Callable[[float], list[ev.Effect]]) -> None:
        if self._fatal is not None:
            return
        try:
            self._carry_out(handle(time.monotonic()))
        except Exception as exc:  # in whoever's task this happens: it is not his failure, and nothing is sure any more
            log.exception("routing: an unexpected error")
            self._fatal = GatewayError(f"routing: a bug: {exc!r}")
        self._wake.set()
        full = self._router.full_sources()
        if full is not self._full and full != self._full:
            changed, self._full = self._full ^ full, full
            for address in changed:
                self._sources_changed(address)
        if self._draining:
            self._check_idle()

    def _check_idle(self) -> None:
        if not self._router.unsafe:
            self._idle.set()

    def _carry_out(self, effects: list[ev.Effect]) -> None:
        """In order, also where carrying out one of them brings an answer at once."""
        if not effects:
            return
        self._effects.append(effects)
        if self._carrying_out:
            return
        self._carrying_out = True
        try:
            while self._effects:
                self._do(self._effects.popleft())
        finally:
            self._carrying_out = False

    def _do(self, effects: list[ev.Effect]) -> None:
        by_address, find, published = self._served.by_address, self._served.at, self._published
        for effect in effects:
            if type(effect) is ev.Publish:
                target = effect.target
                served = by_address.get(target) or find(target)
                if served is not None:  # else it went down in this very moment: TargetDown makes the message wait again
                    served.publish(target, effect.message, partial(published, effect.ref))
            elif type(effect) is ev.Settle:
                delivery = effect.delivery
                served = by_address.get(delivery.source) or find(delivery.source)
                if served is not None and served.epoch == delivery.epoch:
                    served.settle(delivery, effect.outcome)
            else:
                self._do_rarely(effect)

    def _do_rarely(self, effect: ev.Effect) -> None:
        """Those that not every message brings: comparing with a pattern takes as long as the rest of the two above."""
        match effect:
            case ev.StoreRecords(token, records):
                self._store.submit(records, partial(self._stored, token))
            case ev.Forget(seqs):
                if not self._forgotten:
                    asyncio.get_running_loop().call_soon(self._forget)  # all of one turn of the loop together
                self._forgotten.extend(seqs)
            case ev.Fetch(lane_id, after, upto, limit):
                self._forget()
                self._store.fetch(lane_id, after, upto, limit, partial(self._fetched, lane_id, upto))
            case ev.Bury(seq, reason, attempts):
                self._store.bury(seq, reason, attempts)
            case ev.RecordAttempts(seq, attempts, reason):
                self._store.tried(seq, attempts, reason)
            case ev.AnnounceDead():
                log.error("edge %s: dead letter: %s", effect.binding_id, effect.reason)
                self._on_dead(effect)

    def _forget(self) -> None:
        if self._forgotten:
            self._store.forget(self._forgotten)
            self._forgotten = []

    def _published(self, ref: int, problem: DeliveryError | TransportDown | None) -> None:
        if problem is None:
            if not self._confirmed:
                asyncio.get_running_loop().call_soon(self._dispatch_together)
            self._confirmed.append(ref)
        elif (event := outcomes.of_publication(ref, problem)) is not None:
            self._dispatch(event)

    def _stored(self, token: int, answer: list[int] | SpoolError) -> None:
        self._notice(answer)
        self._dispatch(outcomes.of_write(token, answer))

    def _fetched(self, lane_id: str, upto: int, answer: Page | SpoolError) -> None:
        self._notice(answer)
        self._dispatch(outcomes.of_fetch(lane_id, upto, answer))

    def _notice(self, answer: object) -> None:
        heals = isinstance(answer, SpoolFull | SpoolUnavailable)
        if isinstance(answer, SpoolError) and not heals and self._fatal is None:
            self._fatal = answer
            self._wake.set()

    # -- from outside ----------------------------------------------------------------------------------------------

    async def inject(self, target: Address, message: Message) -> None:
        """Publish one message now and wait until it is confirmed. ``TransportDown`` if the target isn't there."""
        served = self._served.at(target)
        if served is None:
            raise TransportDown(target.target, "is not connected at the moment")
        await served.session.publish(target, message)

    async def drain(self, timeout_s: float) -> None:
        """Stop taking messages, and let what is in memory only reach its target or the disk."""
        self._draining = True
        for served in self._served.all:
            served.changed.set()
        self._idle.clear()
        self._check_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()

    def requeued(self, records: Sequence[SpoolRecord]) -> None:
        """A person gave dead letters another try; the store has them as these new records."""
        self._dispatch(ev.Requeued(records))

    def removed(self, records: Sequence[SpoolRecord]) -> set[int]:
        """A person wants these waiting records gone. The numbers of those in flight, which can't be called back."""
        flying = {item.seq for lane in self._router.lanes for item in lane.flying.values()}
        self._dispatch(ev.Removed([(one.binding_id, one.seq, len(one.message.body)) for one in records]))
        return flying.intersection(one.seq for one in records)

    @property
    def unsafe(self) -> int:
        """Messages under way that are in memory only."""
        return self._router.unsafe

    def status(self) -> list[dict[str, Any]]:
        """One entry a binding, with its counters and what it waits for."""
        return binding_entries(self._router, self._wanted, time.monotonic())

    def ledger(self) -> list[dict[str, Any]]:
        """The books of every binding since the daemon started."""
        return ledger_entries(self._router, self._wanted, self._store.usage().dead_dropped)

    def orphans(self) -> list[dict[str, Any]]:
        """Records that wait for an edge that is not in the graph, by binding."""
        return orphan_entries(self._router)

    @property
    def stuck(self) -> dict[str, str]:
        """Edges whose source gives nothing, and those that are gone while their queue still holds messages without a target."""
        return {**not_taken(self._served.all, self._table), **self._retirement.stuck}

    @property
    def has_recovered(self) -> bool:
        """Whether what the spool holds is known."""
        return self._ready.is_set()

    def unfinished(self) -> tuple[set[str], tuple[Binding, ...]]:
        """The ids of bindings for which records wait, and the bindings that are being undone."""
        waiting = {
            lane.binding.id for lane in self._router.lanes if lane.pending
        } | self._router.orphans.backlogs.keys()
        return {binding_id.removesuffix(DEAD_SUFFIX) for binding_id in waiting}, self._retirement.bindings


def _show(delivery: Delivery, handler: Tap) -> None:
    """Whoever listens in is no reason to hold a message up."""
    try:
        handler(delivery)
    except Exception:
        log.exception("%s: what listens in failed", delivery.source)
