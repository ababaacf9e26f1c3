"""One session as the pump serves it, and the edges that are gone but whose queues still hold messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from gateway.errors import DeliveryDeferred, DeliveryError, TransportDown
from gateway.model.address import Address
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome
from gateway.routing.core.table import RouteTable
from gateway.transport import Done, Session

log = logging.getLogger(__name__)

ADDRESSES_KEPT = 4096
"""Addresses of which it is remembered who serves them; above it they are looked up anew."""


class Served:
    """One session while it lasts. Its fast ways are used where it has them (``gateway.transport.FastSession``)."""

    def __init__(self, session: Session, target: str) -> None:
        self.session = session
        self.epoch = session.epoch
        self.target = target
        self.changed = asyncio.Event()
        self.calm = asyncio.Event()
        self.tasks: asyncio.TaskGroup | None = None
        self._subscribed: set[Address] = set()
        self._declared: tuple[Binding, ...] | None = None
        self._settling: asyncio.Queue[tuple[Delivery, Outcome]] = asyncio.Queue()
        self._submit: Any = getattr(session, "submit", None)
        self.more: Callable[[], Iterable[Delivery]] = getattr(session, "more", tuple)
        self.settle: Callable[[Delivery, Outcome], None] = getattr(session, "settle_soon", None) or self._settle_later

    # -- what is wanted of it --------------------------------------------------------------------------------------

    async def declare(self, bindings: tuple[Binding, ...]) -> None:
        """Have made what these need, where that changed."""
        if bindings != self._declared:
            if bindings:
                await self.session.declare(bindings)
            self._declared = bindings

    async def subscribe(self, wanted: Collection[Address], credit: int) -> None:
        """Take from exactly these."""
        for address in self._subscribed.difference(wanted):
            await self.session.unsubscribe(address)
            self._subscribed.discard(address)
        for address in set(wanted) - (self._subscribed - self.not_taken.keys()):
            await self.session.subscribe(address, credit)
            self._subscribed.add(address)

    @property
    def not_taken(self) -> Mapping[Address, str]:
        """Sources that nothing is taken from although it was asked for, and why. A session need not know any."""
        return getattr(self.session, "not_taken", {})

    def patience_s(self, retirement: Retirement) -> float | None:
        """When to look again at what is wanted of it, though nothing changed; None: there is no need."""
        times = (retirement.patience_s(self.target), REFUSED_AGAIN_S if self.not_taken else None)
        return min((time_s for time_s in times if time_s is not None), default=None)

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Have undone what these needed, and hear of which something has to stay. Doing it again is harmless."""
        return await self.session.retire(bindings)

    # -- messages --------------------------------------------------------------------------------------------------

    def publish(self, target: Address, message: Message, done: Done) -> None:
        """Send; ``done`` is called when that succeeded or failed, unless the session ends before."""
        if self._submit is not None:
            try:
                self._submit(target, message, done)
            except DeliveryError as exc:
                done(exc)
            except TransportDown:
                return  # the session is ending: TargetDown follows
            except Exception as exc:  # noqa: BLE001 - told, logged and counted
                done(_unforeseen(target, message, exc))
        elif self.tasks is not None:
            with contextlib.suppress(RuntimeError):  # the session's tasks are ending: TargetDown follows
                self.tasks.create_task(self._send(target, message, done), name=f"{self.target}:publish")

    async def _send(self, target: Address, message: Message, done: Done) -> None:
        try:
            await self.session.publish(target, message)
        except DeliveryError as exc:
            done(exc)
        except TransportDown:
            raise
        except Exception as exc:  # noqa: BLE001 - the same
            done(_unforeseen(target, message, exc))
        else:
            done(None)

    def _settle_later(self, delivery: Delivery, outcome: Outcome) -> None:
        self._settling.put_nowait((delivery, outcome))

    async def settle_in_order(self) -> None:
        """In the order of completion; one task, so that a slow connection holds up nobody else's."""
        while True:
            delivery, outcome = await self._settling.get()
            await self.session.settle(delivery, outcome)


class Sessions:
    """Those that are served now. ``by_address`` is what ``at`` has found, for it is asked with every message."""

    def __init__(self) -> None:
        self._by_target: dict[str, Served] = {}
        self.by_address: dict[Address, Served] = {}

    def begin(self, served: Served) -> None:
        """This one serves its target from now on."""
        self._by_target[served.target] = served
        self.by_address.clear()

    def end(self, served: Served) -> bool:
        """It serves no more; whether it did."""
        if self._by_target.get(served.target) is not served:
            return False
        del self._by_target[served.target]
        self.by_address.clear()
        return True

    def at(self, address: Address) -> Served | None:
        """Who serves this address."""
        served = self._by_target.get(address.target)
        if served is not None:
            if len(self.by_address) >= ADDRESSES_KEPT:
                self.by_address.clear()
            self.by_address[address] = served
        return served

    @property
    def all(self) -> tuple[Served, ...]:
        """All of them."""
        return tuple(self._by_target.values())


def _unforeseen(target: Address, message: Message, exc: Exception) -> DeliveryError:
    """A bug that one message brings out must not stop the others: it counts as an attempt, and ends as a dead letter."""
    log.exception("%s: a message can't be sent", target, exc_info=exc)
    return DeliveryDeferred(str(target), message.id, f"a bug: {exc!r}", counts=True)


def not_taken(sessions: Iterable[Served], table: RouteTable) -> dict[str, str]:
    """Edges that get nothing because their broker gives us nothing of their source, and why; other sources by themselves."""
    refused = [pair for served in sessions for pair in served.not_taken.items()]
    found = {str(source): f"gives nothing: {reason}" for source, reason in refused if source not in table.by_source}
    for source, reason in refused:
        for binding in table.by_source.get(source, ()):
            found[binding.label or binding.id] = f"gets nothing from {source}: {reason}"
    return found


REFUSED_AGAIN_S = 30.0
"""How often a source is asked for again that the broker refused: a person may have allowed it meanwhile."""

QUIET_S = 3.0
"""A queue that nobody fills any more, and from which nothing came for so long while it was taken from, is empty."""

KEPT_S = 30.0
"""How long a queue that is empty is still mentioned to its session, which deletes it when its consumer is gone."""

SOON_S = 1.0
LATER_S = 30.0
"""How often the queues of edges that are gone are looked at: those that are being emptied, and those that nobody empties."""


class Retirement:
    """Edges that are gone from the graph, whose queues on a broker are unbound, emptied into their target, deleted.

    An edge whose target was never seen has nobody to empty its queue into: the queue stays while it holds messages.
    """

    def __init__(self) -> None:
        self._gone: dict[tuple[object, ...], Binding] = {}
        self._stuck: dict[tuple[object, ...], Binding] = {}
        self._heard: dict[Address, float] = {}
        self._empty_since: dict[tuple[object, ...], float] = {}

    @staticmethod
    def _key(binding: Binding) -> tuple[object, ...]:
        letters = binding.contract.deadletter if binding.by_broker else None
        return (binding.id, binding.src, binding.ends, binding.intake, letters)

    def change(self, before: Iterable[Binding], after: RouteTable) -> None:
        """From these edges to a new table. An edge that is back is gone no more."""
        kept = {self._key(binding) for binding in after.declared}
        intakes = {binding.intake for binding in after.declared}
        for key in kept & self._gone.keys():
            self._end(key)
        for key, binding in list(self._gone.items()):
            if binding.intake in intakes and binding.intake is not None:
                self._end(key)  # its queue serves on, to another target
        for binding in before:
            moved = binding.intake is not None and binding.intake in intakes
            if (binding.intake is not None or binding.by_broker) and self._key(binding) not in kept and not moved:
                self._gone[self._key(binding)] = binding

    def _end(self, key: tuple[object, ...]) -> None:
        binding = self._gone.pop(key)
        self._stuck.pop(key, None)
        self._empty_since.pop(key, None)
        self._heard.pop(binding.source, None)

    @property
    def any(self) -> bool:
        """Whether there is any such edge."""
        return bool(self._gone)

    @property
    def draining(self) -> tuple[Binding, ...]:
        """Those from whose queues messages are still taken."""
        return tuple(
            binding
            for key, binding in self._gone.items()
            if binding.intake is not None and binding.ends and key not in self._empty_since
        )

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All of them."""
        return tuple(self._gone.values())

    @property
    def stuck(self) -> dict[str, str]:
        """Edges whose queue holds messages that have no target, with what that means."""
        return {binding.label or binding.id: _stuck_note(binding) for binding in self._stuck.values()}

    def patience_s(self, target: str) -> float | None:
        """When this broker's queues have to be looked at again; None: there are no such."""
        concerned = [key for key, binding in self._gone.items() if binding.source.target == target]
        if not concerned:
            return None
        return LATER_S if all(key in self._stuck for key in concerned) else SOON_S

    def concerning(self, target: str) -> tuple[Binding, ...]:
        """Those that have something on this broker."""
        return tuple(binding for binding in self._gone.values() if binding.source.target == target)

    def begin(self, target: str) -> None:
        """This broker is taken from anew: that nothing came while it was away says nothing."""
        for binding in self.concerning(target):
            self._heard.pop(binding.source, None)

    def is_watched(self, source: Address) -> bool:
        """Whether it matters when something comes from there."""
        return source in self._heard

    def heard(self, source: Address, now: float) -> None:
        """Something came from there."""
        self._heard[source] = now

    def progress(
        self,
        retired: Iterable[Binding],
        kept: Collection[Binding],
        unsettled: Callable[[str], bool],
        now: float,
        not_taken: Collection[Address] = (),
    ) -> bool:
        """These were just unbound (again) while being taken from; ``kept`` are those whose queue is still there. That nothing
        comes of one that is ``not_taken`` says nothing.

        Whether any is empty now, so that the table changes.
        """
        changed = False
        for binding in retired:
            key = self._key(binding)
            if key not in self._gone:
                continue
            if key in self._empty_since:
                if now - self._empty_since[key] > KEPT_S:
                    self._end(key)
                continue
            if not binding.ends and binding in kept:
                if key not in self._stuck:
                    log.warning("edge %s: %s", binding.label or binding.id, _stuck_note(binding))
                self._stuck[key] = binding
                continue
            self._stuck.pop(key, None)
            if unsettled(binding.id) or (binding in kept and binding.source in not_taken):
                self._heard[binding.source] = now  # more may come only when that is done
            since = self._heard.setdefault(binding.source, now)
            if binding.by_broker or not binding.ends or now - since > QUIET_S:
                self._empty_since[key] = now
                changed = True
        return changed


def _stuck_note(binding: Binding) -> str:
    queue = binding.intake.name if binding.intake is not None else ""
    return f"is not in the graph any more; its queue {queue} holds messages without a target, and goes when it is empty"
