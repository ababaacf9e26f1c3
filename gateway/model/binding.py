"""An edge as the router carries it: from one address to another, under a delivery contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.model.address import Address


class BindingKind(StrEnum):
    """Every target gets a copy, or one of them gets each message."""

    PUBSUB = "pubsub"
    ROUNDROBIN = "roundrobin"


class DeliveryMode(StrEnum):
    """How much a message is worth (contract: "Delivery modes, exactly")."""

    VOLATILE = "volatile"
    HELD = "held"
    STORED = "stored"


class OverflowPolicy(StrEnum):
    """What happens to a message for which there is no room."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Contract:
    """The delivery contract of one edge: counts, bytes and seconds. ``ttl_s`` 0 never expires.

    ``content_type`` is what the target wants to get (JSON and CBOR are turned into each other); empty: as it came.
    """

    mode: DeliveryMode = DeliveryMode.HELD
    latest: bool = False
    ttl_s: float = 0.0
    max_pending: int = 100_000
    max_pending_bytes: int = 67_108_864
    overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST
    max_message_bytes: int = 16_777_216
    max_attempts: int = 5
    content_type: str = ""
    deadletter: Address | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """One edge between two addresses.

    ``id`` is derived from the graph edge, so that the same edge has the same id after a restart. ``tgt`` is None
    while the target has never been seen: then it counts as down, and ``waits_for`` names its role. ``intake`` is where
    messages are really taken from: for an AMQP outport exchange this edge's own queue, else ``src`` itself.

    A ROUNDROBIN binding gives each message to one of several: ``targets`` then has two or more addresses and ``tgt`` is
    None. One that has a single target so far has it as ``tgt``, like any other binding.

    ``retain`` has the MQTT broker keep the newest message that went to ``tgt``.
    """

    id: str
    src: Address
    tgt: Address | None
    contract: Contract = field(default_factory=Contract)
    kind: BindingKind = BindingKind.PUBSUB
    intake: Address | None = None
    waits_for: str = ""
    label: str = ""
    targets: tuple[Address, ...] = ()
    retain: bool = False

    @property
    def ends(self) -> tuple[Address, ...]:
        """Everywhere a message may go: none while the target has never been seen."""
        return self.targets or ((self.tgt,) if self.tgt is not None else ())

    @property
    def source(self) -> Address:
        """The address that is subscribed to."""
        return self.intake or self.src

    @property
    def by_broker(self) -> bool:
        """Whether the AMQP broker itself carries this edge, and the router never sees it."""
        return self.src.transport == "amqp" and self.tgt is not None and self.tgt.transport == "amqp"


DEAD_SUFFIX = "!dead"
"""Ends the id of the binding that carries another's dead letters."""


def edge_of(binding_id: str) -> str:
    """The graph edge of a binding: without what sets several participants of a role, or its dead letters, apart."""
    ends = binding_id.removesuffix(DEAD_SUFFIX).split("->", 1)
    return "->".join(_without_participant(end) for end in ends)


def _without_participant(end: str) -> str:
    port, at, _ = end.partition("@")
    return port if at and "." in port else end
