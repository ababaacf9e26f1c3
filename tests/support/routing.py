"""A router with one way in and out, for tests that read like a log: what happened, and what it made necessary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.model.address import Address, amqp_queue
from gateway.model.binding import Binding, Contract
from gateway.model.message import Delivery, Message, Outcome
from gateway.routing.core import events as ev
from gateway.routing.core.binding_queue import BindingQueue
from gateway.routing.core.router import Router
from gateway.routing.core.table import RouteTable
from gateway.spool.core.record import Backlog, SpoolRecord

SOURCE = Address("mqtt", "attic/temp")
CLOUD = amqp_queue("cloud.in")
NO_LETTERS = Address("mqtt", "sink/in")
"""A target without dead letters of its own."""


def edge(
    name: str = "edge", target: Address | None = NO_LETTERS, source: Address = SOURCE, **contract: object
) -> Binding:
    return Binding(name, source, target, Contract(**contract))  # type: ignore[arg-type]


@dataclass
class Bench:
    """Time stands still unless told. ``up`` are the targets that are up from the start."""

    bindings: Sequence[Binding]
    up: Sequence[str] = ("mqtt", "amqp")
    window: int = 4
    in_memory: int = 256
    now: float = 0.0
    tag: int = 0
    last_seq: int = 0
    disk: dict[int, SpoolRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.router = Router(window=self.window, in_memory=self.in_memory)
        self.install(*self.bindings)
        for target in self.up:
            self.tell(ev.TargetUp(target))

    def tell(self, event: ev.RouterEvent) -> list[ev.Effect]:
        effects = self.router.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, ev.Forget):
                for seq in effect.seqs:
                    self.disk.pop(seq, None)
            elif isinstance(effect, ev.Bury):
                self.disk[effect.seq] = replace(
                    self.disk[effect.seq], dead=True, last_error=effect.reason, attempts=effect.attempts
                )
            elif isinstance(effect, ev.RecordAttempts):
                self.disk[effect.seq] = replace(self.disk[effect.seq], attempts=effect.attempts)
        return effects

    def install(self, *bindings: Binding) -> list[ev.Effect]:
        return self.tell(ev.TableInstalled(RouteTable.of(bindings)))

    def deliver(self, name: str, source: Address = SOURCE, **fields: object) -> list[ev.Effect]:
        self.tag += 1
        message = Message(name, fields.pop("body", name.encode()), **fields)  # type: ignore[arg-type]
        return self.tell(ev.Delivered(Delivery(message, source, 1, self.tag)))

    def wait(self, seconds: float) -> list[ev.Effect]:
        self.now += seconds
        return self.router.tick(self.now)

    def commit(self, effects: Sequence[ev.Effect]) -> list[ev.Effect]:
        """The disk has written what these effects asked for."""
        found: list[ev.Effect] = []
        for store in stores(effects):
            seqs = []
            for record in store.records:
                self.last_seq += 1
                self.disk[self.last_seq] = replace(record, seq=self.last_seq)
                seqs.append(self.last_seq)
            found += self.tell(ev.Stored(store.token, seqs))
        return found

    def fetch(self, effects: Sequence[ev.Effect]) -> list[ev.Effect]:
        """The disk gives what these effects asked for."""
        found: list[ev.Effect] = []
        for effect in effects:
            if isinstance(effect, ev.Fetch):
                wanted = [
                    one
                    for seq, one in sorted(self.disk.items())
                    if effect.after < seq <= effect.upto and one.binding_id == effect.lane_id and not one.dead
                ]
                exhausted = len(wanted) <= effect.limit
                found += self.tell(ev.Fetched(effect.lane_id, effect.upto, wanted[: effect.limit], exhausted))
        return found

    def settle_down(self, effects: Sequence[ev.Effect], *, confirm: bool = True) -> list[str]:
        """Disk and targets do all they are asked for; what was published meanwhile."""
        sent: list[str] = []
        todo = list(effects)
        while todo:
            effect = todo.pop(0)
            match effect:
                case ev.Publish(ref, _, message):
                    sent.append(message.id)
                    todo += self.tell(ev.Confirmed(ref)) if confirm else []
                case ev.StoreRecords():
                    todo += self.commit([effect])
                case ev.Fetch():
                    todo += self.fetch([effect])
        return sent

    def lane(self, name: str = "edge") -> BindingQueue:
        return next(lane for lane in self.router.lanes if lane.binding.id == name)


def stores(effects: Sequence[ev.Effect]) -> list[ev.StoreRecords]:
    return [effect for effect in effects if isinstance(effect, ev.StoreRecords)]


def stored(effects: Sequence[ev.Effect]) -> list[str]:
    return [record.message.id for store in stores(effects) for record in store.records]


def published(effects: Sequence[ev.Effect]) -> list[str]:
    return [effect.message.id for effect in effects if isinstance(effect, ev.Publish)]


def refs(effects: Sequence[ev.Effect]) -> list[int]:
    return [effect.ref for effect in effects if isinstance(effect, ev.Publish)]


def settled(effects: Sequence[ev.Effect]) -> list[str]:
    """Ids of what a source was told ACCEPTED about."""
    found = [effect for effect in effects if isinstance(effect, ev.Settle)]
    assert all(effect.outcome is Outcome.ACCEPTED for effect in found)
    return [effect.delivery.message.id for effect in found]


def forgotten(effects: Sequence[ev.Effect]) -> list[int]:
    return [seq for effect in effects if isinstance(effect, ev.Forget) for seq in effect.seqs]


def kinds(effects: Sequence[ev.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def backlog(name: str, records: int, last_seq: int, size: int = 0) -> Backlog:
    return Backlog(name, records, size, last_seq)
