"""What arrives on the consuming connection: whose it is, how much of it is let through, what is acknowledged when.

Each subscription hands out at most its credit of unsettled deliveries. What comes beyond that is parked here, so that a
slow edge does not hold up the others on the same connection; when too much is parked the connection is not read.
A persistent session sends what it kept before anybody subscribed anew: it waits until it is claimed, or given up.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from gateway.model.address import Address
from gateway.model.message import Delivery, Outcome
from gateway.mqtt.core.packets import IncomingPublish
from gateway.mqtt.core.properties import decode_message, subscription_ids
from gateway.mqtt.core.topics import has_wildcards, matches

PARKED = 256
"""Messages kept beyond the credit of their subscription; above it the connection is not read."""

MOST_UNSETTLED = 2048
"""Messages of all subscriptions together that are not settled; above it the connection is not read.

It is what we tell the broker too (``client.RECEIVE_MAXIMUM``), but Mosquitto 2.0 sends a whole window for every single
acknowledgement: it would send all of a backlog. It does not grow with the sources: a session of MQTT is one row, and a source
whose messages can be neither delivered nor written to disk fills any window. (A small one takes 2 KiB until it is confirmed.)
"""

ROUTES_KEPT = 4096
"""Topics whose subscriptions are remembered; above it they are looked up anew."""

NEXT_ID = 0x0FFF_FFFF
"""Subscription ids have 28 bits (MQTT 5.0, section 3.8.2.1.2)."""


def subscription_id(topic_filter: str) -> int:
    """The id under which we subscribe to a filter: the same in every process, for a session keeps messages with it."""
    return zlib.crc32(topic_filter.encode()) % NEXT_ID + 1


@dataclass(slots=True, eq=False)
class Subscription:
    """One source, and how much of its credit is used. ``unsettled`` counts what was handed out."""

    source: Address
    credit: int
    number: int
    unsettled: int = 0
    parked: deque[Delivery] = field(default_factory=deque)


class _Origin(msgspec.Struct, gc=False):
    """Where a delivery came from, to settle it by. ``share`` counts the deliveries of one packet."""

    mid: int
    subscription: Subscription
    share: list[int] | None = None


_Route = tuple[str, str, tuple[Subscription, ...]]
"""The topic as text, the origin of messages that are born there, and who takes them."""


class MqttInbound:
    """One epoch's deliveries. ``new_id`` names messages that have no id; ``wall_ms`` tells the time of day.

    What is to be done outside is left in ``ready`` (deliveries to hand out), ``acks`` (packet ids to acknowledge) and
    ``strangers`` (topics nobody here subscribed to). ``dots_are_slashes`` is set for a broker that takes ``a.b`` and gives
    out ``a/b`` (RabbitMQ's MQTT plugin): there both are one topic. While ``catching_up``, all that comes is what the broker had
    kept from before, whoever claims it when. What comes on one of ``ours``, topics on which the session speaks to itself, is for
    no edge, however wide its filter is.
    """

    def __init__(
        self,
        epoch: int,
        instance: str,
        new_id: Callable[[], str],
        wall_ms: Callable[[], int],
    ) -> None:
        self.ready: deque[Delivery] = deque()
        self.acks: list[int] = []
        self.strangers: set[str] = set()
        self.dots_are_slashes = False
        self.catching_up = False
        self.ours: frozenset[bytes] = frozenset()
        self._epoch = epoch
        self._instance = instance
        self._new_id = new_id
        self._wall_ms = wall_ms
        self._tag = 0
        self._exact: dict[str, Subscription] = {}
        self._patterns: dict[str, Subscription] = {}
        self._routes: dict[bytes, _Route] = {}
        self._origins: dict[int, _Origin] = {}
        self._unclaimed: deque[IncomingPublish] = deque()
        self._claiming = True
        self._parked = 0

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, source: Address, credit: int) -> None:
        """Take messages of ``source`` from now on, and those that waited for it: these the broker had kept from before."""
        table = self._patterns if has_wildcards(source.name) else self._exact
        known = table.get(source.name)
        if known is not None:
            known.credit = credit
            self._refill(known)
            return
        table[source.name] = Subscription(source, credit, subscription_id(source.name))
        self._routes.clear()
        waiting, self._unclaimed = self._unclaimed, deque()
        for incoming in waiting:
            self.arrived(msgspec.structs.replace(incoming, again=True))

    def unsubscribe(self, source: Address) -> None:
        """Take no more of it. What is parked was never handed out and nobody wants it: it is acknowledged."""
        table = self._patterns if has_wildcards(source.name) else self._exact
        gone = table.pop(source.name, None)
        if gone is None:
            return
        self._routes.clear()
        while gone.parked:
            self._parked -= 1
            delivery = gone.parked.popleft()
            self._acknowledge(self._origins.pop(delivery.tag))

    @property
    def unclaimed(self) -> int:
        """Messages that wait for somebody to subscribe to their topic."""
        return len(self._unclaimed)

    def give_up_unclaimed(self) -> None:
        """From now on what nobody subscribed to is acknowledged and its topic is a stranger."""
        self._claiming = False
        while self._unclaimed:
            self.arrived(self._unclaimed.popleft())

    # -- messages --------------------------------------------------------------------------------------------------

    def arrived(self, incoming: IncomingPublish) -> None:
        """A message came."""
        route = self._routes.get(incoming.topic)
        if route is None:
            route = self._find(incoming.topic)
        topic, origin, subscriptions = route
        if len(subscriptions) > 1:
            subscriptions = self._meant(incoming, subscriptions)
        if not subscriptions:
            self._unwanted(topic, incoming)
            return
        message = decode_message(
            incoming.properties, incoming.payload, incoming.retain, origin, self._new_id, self._wall_ms
        )
        share = [len(subscriptions)] if len(subscriptions) > 1 else None
        again = incoming.again or self.catching_up
        for subscription in subscriptions:
            self._tag += 1
            self._origins[self._tag] = _Origin(incoming.mid, subscription, share)
            delivery = Delivery(message, subscription.source, self._epoch, self._tag, again)
            if subscription.unsettled < subscription.credit and not subscription.parked:
                subscription.unsettled += 1
                self.ready.append(delivery)
            else:
                subscription.parked.append(delivery)
                self._parked += 1

    def take(self) -> list[Delivery]:
        """All that is to be handed out."""
        taken = list(self.ready)
        self.ready.clear()
        return taken

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """A delivery is done with. A released one is not acknowledged: it comes again in the next epoch."""
        if delivery.epoch != self._epoch:
            return
        origin = self._origins.pop(delivery.tag, None)
        if origin is None:
            return
        origin.subscription.unsettled -= 1
        if outcome is not Outcome.RELEASED:
            self._acknowledge(origin)
        if origin.subscription.parked:
            self._refill(origin.subscription)

    @property
    def crowded(self) -> bool:
        """Whether the connection should not be read at the moment."""
        return self._parked + len(self._unclaimed) > PARKED or len(self._origins) > MOST_UNSETTLED

    @property
    def has_room(self) -> bool:
        """Whether it may be read again: well below the marks, so that reading does not flutter."""
        return self._parked + len(self._unclaimed) <= PARKED // 2 and len(self._origins) <= MOST_UNSETTLED * 7 // 8

    # -- inside ----------------------------------------------------------------------------------------------------

    def _find(self, topic: bytes) -> _Route:
        text = topic.decode("utf-8", "replace")
        if topic in self.ours:
            return text, "", ()
        found = [self._exact[text]] if text in self._exact else []
        found += [entry for pattern, entry in self._patterns.items() if matches(pattern, text)]
        if self.dots_are_slashes:
            dotted = [(name, entry) for name, entry in (self._exact | self._patterns).items() if "." in name]
            found += [entry for name, entry in dotted if matches(name.replace(".", "/"), text) and entry not in found]
        if len(self._routes) >= ROUTES_KEPT:
            self._routes.clear()
        route = self._routes[topic] = (text, f"{self._instance} mqtt:{text}", tuple(found))
        return route

    def _meant(self, incoming: IncomingPublish, candidates: tuple[Subscription, ...]) -> tuple[Subscription, ...]:
        """Of several filters that match, those for which the broker sent this copy; all if it does not say."""
        numbers = subscription_ids(incoming.properties)
        return tuple(entry for entry in candidates if entry.number in numbers) or candidates

    def _unwanted(self, topic: str, incoming: IncomingPublish) -> None:
        is_ours = incoming.topic in self.ours
        if self._claiming and not is_ours:
            self._unclaimed.append(incoming)
            return
        if not is_ours:
            self.strangers.add(topic)
        if incoming.mid:
            self.acks.append(incoming.mid)

    def _acknowledge(self, origin: _Origin) -> None:
        if origin.share is not None:
            origin.share[0] -= 1
            if origin.share[0]:
                return
        if origin.mid:
            self.acks.append(origin.mid)

    def _refill(self, subscription: Subscription) -> None:
        while subscription.parked and subscription.unsettled < subscription.credit:
            self._parked -= 1
            subscription.unsettled += 1
            self.ready.append(subscription.parked.popleft())
