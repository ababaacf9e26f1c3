"""Crash-point enumeration: after every effect the gateway may die, and nothing that was settled is ever missing.

A world of sources, targets and a disk is driven by a seeded script against the real ``Router``, once for every kind of
contract. The disk commits later than it is asked to, or a duplicate that is settled too early could not be seen, and a
lane keeps next to nothing in memory, so that most of it has to come back from the disk. The books have to balance after
every event. Mutations of the router, each a mistake somebody could make, must be caught by the same checks.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from gateway.model.address import Address
from gateway.model.binding import Binding, BindingKind, Contract, DeliveryMode, OverflowPolicy
from gateway.model.message import Delivery, Message
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk, Ticket
from gateway.routing.core.router import Router
from gateway.routing.core.table import RouteTable
from gateway.spool.core.record import Backlog, SpoolRecord

HELD, STORED, VOLATILE = DeliveryMode.HELD, DeliveryMode.STORED, DeliveryMode.VOLATILE
SOURCES = ("one", "two")
TARGETS = ("cloud", "shed")
MESSAGES = 12
POISON = frozenset({"one-3", "one-4", "two-0", "two-7"})
GRAVE = Address("shed", "grave")
MAY_MIX = frozenset({"refused to grave", "refused to rest", "refused, held, to rest", "letters", "oldest", "newest"})
"""Bindings that put messages aside: those may come later, or a second time."""


def binding(name: str, source: str, target: str, contract: Contract) -> Binding:
    return Binding(name, Address("src", source), Address(target, name), contract)


def round_robin(name: str, source: str) -> Binding:
    targets = tuple(Address(target, name) for target in TARGETS)
    return Binding(name, Address("src", source), None, Contract(), BindingKind.ROUNDROBIN, targets=targets)


SCENARIOS: Mapping[str, tuple[Binding, ...]] = {
    "held and stored": (
        binding("held to cloud", "one", "cloud", Contract(HELD)),
        binding("stored to shed", "one", "shed", Contract(STORED)),
        binding("held to shed", "two", "shed", Contract(HELD)),
    ),
    "volatile beside held": (
        binding("volatile", "one", "cloud", Contract(VOLATILE)),
        binding("held", "one", "shed", Contract(HELD)),
    ),
    "latest": (
        binding("latest held", "one", "cloud", Contract(HELD, latest=True)),
        binding("latest stored", "two", "shed", Contract(STORED, latest=True)),
    ),
    "ttl": (
        binding("short", "one", "cloud", Contract(HELD, ttl_s=3.0)),
        binding("long", "one", "shed", Contract(STORED, ttl_s=1e6)),
    ),
    "dead letter": (
        binding("refused to grave", "one", "cloud", Contract(HELD, deadletter=GRAVE)),
        binding("refused to rest", "one", "cloud", Contract(STORED)),
        binding("refused, held, to rest", "two", "shed", Contract(HELD)),
    ),
    "overflow": (
        binding("letters", "one", "cloud", Contract(HELD, max_pending=3, overflow=OverflowPolicy.DEAD_LETTER)),
        binding("block", "two", "shed", Contract(STORED, max_pending=3, overflow=OverflowPolicy.BLOCK)),
    ),
    "drops": (
        binding("oldest", "one", "cloud", Contract(STORED, max_pending=4, overflow=OverflowPolicy.DROP_OLDEST)),
        binding("newest", "two", "shed", Contract(HELD, max_pending=4, overflow=OverflowPolicy.DROP_NEWEST)),
    ),
    "round robin": (round_robin("shared", "one"), round_robin("also shared", "two")),
}


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class World:
    """Everything outside the router. ``router_type`` may be a mutation."""

    rng: random.Random
    scenario: str
    router_type: type[Router]
    crash_after: int
    faults: bool
    together: bool = False
    """Deliveries and confirmations are kept back for a while and told at once, as those of one turn of the loop are."""
    router: Router = field(init=False)
    kept_back: list[ev.Frequent] = field(default_factory=list)
    now: float = 0.0
    effects_seen: int = 0
    epoch: int = 1
    tag: int = 0
    offered: dict[str, deque[Message]] = field(init=False)
    unsettled: dict[str, dict[str, Message]] = field(init=False)
    tags: dict[int, tuple[str, str]] = field(default_factory=dict)
    disk: dict[int, SpoolRecord] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    last_seq: int = 0
    questions: deque[ev.StoreRecords | ev.Fetch] = field(default_factory=deque)
    wire: dict[str, deque[ev.Publish]] = field(init=False)
    taken: deque[ev.Publish] = field(default_factory=deque)
    received: dict[Address, list[str]] = field(default_factory=dict)
    up: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.bindings = SCENARIOS[self.scenario]
        self.offered = {
            name: deque(Message(f"{name}-{n}", str(n).encode()) for n in range(MESSAGES)) for name in SOURCES
        }
        self.unsettled = {name: {} for name in SOURCES}
        self.wire = {name: deque() for name in TARGETS}
        self._boot()

    def _boot(self) -> None:
        self.router = self.router_type(window=4, in_memory=3)
        self.up = set(TARGETS)
        self.tell(ev.TableInstalled(RouteTable.of(self.bindings)))
        self.tell(ev.Recovered(backlogs(self.disk.values()), list(self.seen), 0))
        for target in TARGETS:
            self.tell(ev.TargetUp(target))

    def tell(self, event: ev.RouterEvent) -> None:
        if self.together and isinstance(event, ev.Delivered | ev.Confirmed):
            self.kept_back.append(event)
            if self.rng.random() < 0.4:
                self.tell_kept_back()
            return
        epoch = self.epoch
        self.tell_kept_back()
        if self.epoch == epoch:  # else it crashed meanwhile, and nobody is left to hear of this
            self.carry_out(self.router.handle(event, self.now))

    def tell_kept_back(self) -> None:
        events, self.kept_back = self.kept_back, []
        if events:
            deliveries = [event.delivery for event in events if isinstance(event, ev.Delivered)]
            confirmed = [event.ref for event in events if isinstance(event, ev.Confirmed)]
            self.carry_out(self.router.handle_all(deliveries, confirmed, self.now))

    def carry_out(self, effects: Iterable[ev.Effect]) -> None:
        for lane in self.router.lanes:
            if lane.counters.balance != lane.pending:
                raise Violation(f"{lane.binding.id}: the books say {lane.counters.balance}, pending is {lane.pending}")
        for effect in effects:
            self._do(effect)
            self.effects_seen += 1
            if self.effects_seen == self.crash_after:
                self._crash()
                return

    def _do(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Publish(_, target, _):
                if target.transport in self.up:
                    self.wire[target.transport].append(effect)
            case ev.StoreRecords() | ev.Fetch():
                self.questions.append(effect)
            case ev.Settle(delivery, _):
                self._settled(delivery)
            case ev.Forget(seqs):
                for seq in seqs:
                    if self.disk.pop(seq, None) is None:
                        raise Violation(f"record {seq} forgotten twice")
            case ev.RecordAttempts(seq, attempts, _):
                if attempts < self.disk[seq].attempts:
                    raise Violation(f"record {seq}: {attempts} attempts after {self.disk[seq].attempts}")
                self.disk[seq] = replace(self.disk[seq], attempts=attempts)
            case ev.Bury(seq, reason):
                if self.scenario not in ("dead letter", "overflow"):
                    raise Violation("nothing here deserves a dead letter")
                self.disk[seq] = replace(self.disk[seq], dead=True, last_error=reason)

    def _settled(self, delivery: Delivery) -> None:
        if delivery.epoch == self.epoch:
            source, message_id = self.tags.pop(delivery.tag)
            self.unsettled[source].pop(message_id, None)

    def _crash(self) -> None:
        """Everything in memory is gone; the sources give again what was not settled, oldest first."""
        self.kept_back.clear()
        self.questions.clear()
        self.taken.clear()
        self.tags.clear()
        for wire in self.wire.values():
            wire.clear()
        self.epoch += 1
        for name in SOURCES:
            self.offered[name].extendleft(reversed(self.unsettled[name].values()))
            self.unsettled[name] = {}
        self._boot()

    # -- what may happen next --------------------------------------------------------------------------------------

    def step(self) -> None:
        actions = [self.deliver] * 4 + [self.answer] * 3 + [self.take] * 4 + [self.confirm] * 4 + [self.wait]
        if self.faults:
            actions += [self.toggle, self.duplicate, self.disk_trouble, self.defer]
        self.rng.choice(actions)()

    def deliver(self) -> None:
        name = self.rng.choice(SOURCES)
        if self.offered[name] and len(self.unsettled[name]) < 6:
            message = self.offered[name].popleft()
            self.unsettled[name][message.id] = message
            self._deliver(name, message)

    def _deliver(self, name: str, message: Message) -> None:
        self.tag += 1
        self.tags[self.tag] = (name, message.id)
        self.tell(ev.Delivered(Delivery(message, Address("src", name), self.epoch, self.tag)))

    def duplicate(self) -> None:
        """A broker may deliver again what it still waits for."""
        name = self.rng.choice(SOURCES)
        if self.unsettled[name]:
            self._deliver(name, self.rng.choice(list(self.unsettled[name].values())))

    def answer(self) -> None:
        """The disk has done what it was asked for first."""
        if not self.questions:
            return
        match self.questions.popleft():
            case ev.StoreRecords(token, records):
                self.tell(ev.Stored(token, [self._commit(record) for record in records]))
            case ev.Fetch(lane_id, after, upto, limit):
                found = [
                    record
                    for seq, record in sorted(self.disk.items())
                    if record.binding_id == lane_id and after < seq <= upto and not record.dead
                ]
                self.tell(ev.Fetched(lane_id, upto, found[:limit], len(found) <= limit))

    def _commit(self, record: SpoolRecord) -> int:
        self.last_seq += 1
        self.disk[self.last_seq] = replace(record, seq=self.last_seq)
        self.seen.extend(record.seen)
        return self.last_seq

    def disk_trouble(self) -> None:
        if not self.questions:
            return
        match self.questions.popleft():
            case ev.StoreRecords(token, _):
                full = self.scenario == "drops" and self.rng.random() < 0.5
                self.tell(ev.StoreRefused(token, "disk trouble", full, room=self.rng.choice((0, 300, 500))))
            case ev.Fetch(lane_id, _, _, _):
                self.tell(ev.FetchFailed(lane_id, "disk trouble"))

    def take(self) -> None:
        """A target has a message, but its confirmation is still under way."""
        wire = self.wire[self.rng.choice(TARGETS)]
        if wire:
            publication = wire.popleft()
            if not self.refuses(publication):
                self.received.setdefault(publication.target, []).append(publication.message.id)
            self.taken.append(publication)

    def refuses(self, publication: ev.Publish) -> bool:
        wanted = self.scenario == "dead letter" and publication.message.id in POISON
        return wanted and publication.target != GRAVE

    def confirm(self) -> None:
        if self.taken:
            publication = self.taken.popleft()
            if self.refuses(publication):
                self.tell(ev.Refused(publication.ref, "poison", permanent=self.rng.random() < 0.5))
            else:
                self.tell(ev.Confirmed(publication.ref))

    def defer(self) -> None:
        """The target is busy: it has not taken the message."""
        wire = self.wire[self.rng.choice(TARGETS)]
        if wire and len(wire) == 1 and not any(one.target.transport == wire[0].target.transport for one in self.taken):
            self.tell(ev.Deferred(wire.popleft().ref, "busy", counts=False))

    def toggle(self) -> None:
        target = self.rng.choice(TARGETS)
        if target in self.up:
            self.up.discard(target)
            self.wire[target].clear()
            self.taken = deque(one for one in self.taken if one.target.transport != target)
            self.tell(ev.TargetDown(target))
        else:
            self.up.add(target)
            self.tell(ev.TargetUp(target))

    def wait(self) -> None:
        self.tell_kept_back()
        self.now += 0.4
        self.carry_out(self.router.tick(self.now))

    def finish(self) -> None:
        """All faults end; everything must come to rest within a bounded number of steps."""
        for target in TARGETS:
            if target not in self.up:
                self.up.add(target)
                self.tell(ev.TargetUp(target))
        self.faults = False
        for _ in range(6000):
            if self.at_rest():
                return
            self.step()
        raise Violation("something never came to rest")

    def at_rest(self) -> bool:
        return not (
            any(self.offered.values())
            or any(self.unsettled.values())
            or any(not record.dead for record in self.disk.values())
            or self.kept_back
            or self.questions
            or self.taken
            or any(self.wire.values())
        )


def backlogs(records: Iterable[SpoolRecord]) -> list[Backlog]:
    found: dict[str, list[SpoolRecord]] = {}
    for record in records:
        if not record.dead:
            found.setdefault(record.binding_id, []).append(record)
    return [
        Backlog(name, len(some), sum(len(one.message.body) for one in some), max(one.seq for one in some))
        for name, some in found.items()
    ]


# -- what every message has a right to -----------------------------------------------------------------------------


def check(world: World) -> None:
    if world.router.unsafe or len(world.router.orphans):
        raise Violation("the router still holds something")
    for one in world.bindings:
        offered = [f"{one.src.name}-{n}" for n in range(MESSAGES)]
        got = list(dict.fromkeys(name for end in one.ends for name in world.received.get(end, ())))
        check_order(world, one, got, offered)
        check_all_there(world, one, got, offered)


def check_order(world: World, one: Binding, got: list[str], offered: list[str]) -> None:
    """In the order of first arrival. Who left messages out on purpose may get them later, when they come a second time."""
    if one.contract.latest:
        if any(world.received[end][-1] != offered[-1] for end in one.ends):
            raise Violation(f"{one.id}: the newest value did not come last")
    elif one.kind is not BindingKind.ROUNDROBIN and one.contract.mode is not VOLATILE and one.id not in MAY_MIX:
        places = [offered.index(name) for name in got]
        if places != sorted(places):
            raise Violation(f"{one.id}: out of order: {got}")


def check_all_there(world: World, one: Binding, got: list[str], offered: list[str]) -> None:
    letters = set(world.received.get(GRAVE, ())) if one.contract.deadletter else set()
    letters |= {record.message.id for record in world.disk.values() if record.binding_id == one.id}
    missing = [name for name in offered if name not in got and name not in letters]
    contract = one.contract
    if contract.latest:
        missing = [name for name in missing if name == offered[-1]]
    may_go = contract.mode is VOLATILE or 0 < contract.ttl_s < 1e6 or one.id in ("oldest", "newest")
    if missing and not may_go:
        raise Violation(f"{one.id}: never got {missing}")
    if world.scenario == "dead letter" and POISON & set(got):
        raise Violation(f"{one.id}: {POISON & set(got)} was refused and delivered")


def run(
    seed: int, scenario: str, router_type: type[Router] = Router, *, faults: bool = True, together: bool = False
) -> int:
    """One script, then the same script with a crash after every single effect; the number of crash points."""
    length = drive(seed, scenario, router_type, 0, faults, together)
    for point in range(1, length + 1):
        drive(seed, scenario, router_type, point, faults, together)
    return length


def drive(seed: int, scenario: str, router_type: type[Router], crash_after: int, faults: bool, together: bool) -> int:
    world = World(random.Random(seed), scenario, router_type, crash_after, faults, together)
    for _ in range(80):
        world.step()
    world.finish()
    check(world)
    return world.effects_seen


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", range(6))
def test_no_settled_message_is_missing_after_a_crash_at_any_effect(seed: int, scenario: str) -> None:
    assert run(seed, scenario) > 25


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", range(6))
def test_the_same_where_several_things_happen_at_once(seed: int, scenario: str) -> None:
    assert run(seed, scenario, together=True) > 25


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_without_faults(seed: int, scenario: str) -> None:
    assert run(seed, scenario, faults=False) > 25


# -- mutations: mistakes that must not pass ------------------------------------------------------------------------


class SettlesBeforeTheCommit(Router):
    def _conclude(self) -> list[ev.Effect]:
        for item in self._to_store:
            self._take_all(item)
        return super()._conclude()


class SettlesAtTheFirstConfirmation(Router):
    def _take(self, ticket: Ticket) -> None:
        if ticket.remaining > 0:
            ticket.remaining = 1
            super()._take(ticket)


class SettlesADuplicateAtOnce(Router):
    def _accept(self, lane: BindingQueue, message: Message, ticket: Ticket) -> None:
        if (lane.dedupe_target, message.id) in self._underway:
            lane.counters.duplicates += 1
            self._take(ticket)
        else:
            super()._accept(lane, message, ticket)


class KeepsTheWindowOverALostTarget(Router):
    def _ground(self, lane: BindingQueue, target: str = "") -> None:
        return


class LosesOrderWhenATargetIsLost(Router):
    def _ground(self, lane: BindingQueue, target: str = "") -> None:
        behind = list(lane.waiting)
        super()._ground(lane, target)
        ahead = [item for item in lane.waiting if item not in behind]
        lane.waiting = deque((*behind, *ahead))


class LosesOrderBetweenSpillAndDrain(Router):
    """What is not on disk yet overtakes what is on disk alone."""

    def _advance(self, lane: BindingQueue) -> None:
        while lane.tail:
            lane.line_up(lane.tail.popleft())
        super()._advance(lane)


class ForgetsBeforeTheConfirmation(Router):
    def _advance(self, lane: BindingQueue) -> None:
        before = set(lane.flying)
        super()._advance(lane)
        for ref in set(lane.flying) - before:
            item = lane.flying[ref]
            if item.on_disk is OnDisk.YES:
                item.on_disk = OnDisk.NO
                self._effects.append(ev.Forget((item.seq,)))


class ForgetsARecordBeforeItsHeirIsSafe(Router):
    def _hand_over(self, old: Item, heir: Item) -> None:
        super()._hand_over(old, heir)
        if heir.replaces:
            self._effects.append(ev.Forget(heir.replaces))
            heir.replaces = ()


class SettlesTheNewestValueFirst(Router):
    def _hand_over(self, old: Item, heir: Item) -> None:
        own, heir.tickets = heir.tickets, ()
        super()._hand_over(old, heir)
        heir.tickets = own + heir.tickets


class ForgetsWhatTargetsHaveSeen(Router):
    def _recovered(self, backlogs: Iterable[Backlog], seen: Iterable[tuple[str, str]], wall_ms: int) -> None:
        super()._recovered(backlogs, (), wall_ms)


class SkipsRecovery(Router):
    def _adopt(self) -> None:
        return


class LosesTheTailAtAFetch(Router):
    """It believes that what it asked for was all there is."""

    def _fetched(self, lane_id: str, upto: int, records: Sequence[SpoolRecord], exhausted: bool) -> None:
        super()._fetched(lane_id, upto, records, True)


class CountsNoDrops(Router):
    def _drop(self, item: Item) -> None:
        self._finish(item)


class SettlesDeadLettersBeforeTheyRest(Router):
    def _bury(self, item: Item, reason: str) -> None:
        self._take_all(item)
        super()._bury(item, reason)


MUTATIONS: tuple[tuple[type[Router], str], ...] = (
    (SettlesBeforeTheCommit, "held and stored"),
    (SettlesAtTheFirstConfirmation, "held and stored"),
    (SettlesADuplicateAtOnce, "held and stored"),
    (KeepsTheWindowOverALostTarget, "held and stored"),
    (LosesOrderWhenATargetIsLost, "held and stored"),
    (LosesOrderBetweenSpillAndDrain, "held and stored"),
    (ForgetsBeforeTheConfirmation, "held and stored"),
    (SkipsRecovery, "held and stored"),
    (LosesTheTailAtAFetch, "held and stored"),
    (KeepsTheWindowOverALostTarget, "round robin"),
    (SettlesBeforeTheCommit, "ttl"),
    (ForgetsARecordBeforeItsHeirIsSafe, "dead letter"),
    (SettlesDeadLettersBeforeTheyRest, "dead letter"),
    (SettlesTheNewestValueFirst, "latest"),
    (ForgetsWhatTargetsHaveSeen, "latest"),
    (CountsNoDrops, "drops"),
)


@pytest.mark.parametrize(("mutation", "scenario"), MUTATIONS)
def test_a_mistake_in_the_router_is_caught(mutation: type[Router], scenario: str) -> None:
    for seed in range(60):
        try:
            run(seed, scenario, mutation)
        except (Violation, KeyError):
            return
    pytest.fail(f"{mutation.__name__} was not noticed in 60 scripts")
