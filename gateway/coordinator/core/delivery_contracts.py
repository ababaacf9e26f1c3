"""The delivery contract of an edge: its own metadata, else ``[delivery.edge]``, else ``[delivery]``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.config.schema import DeliverySection, DeliverySettings
from gateway.errors import GraphError
from gateway.model.address import Address, AddressKind
from gateway.model.binding import Contract, DeliveryMode, OverflowPolicy
from gateway.model.graph import Edge, Graph

HELD = ("mode", DeliveryMode.HELD)
FIELDS = tuple(field.name for field in msgspec.structs.fields(DeliverySettings))


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What the configuration says about delivery.

    ``mqtt_forgets``: the broker forgets a message that is not acknowledged in seconds, so that waiting for the target's
    confirmation would lose it: what would be held is stored.
    """

    section: DeliverySection
    mqtt_forgets: bool = False

    def default(self, source: Address) -> Contract:
        """The contract of a binding that no graph edge stands for."""
        return _contract({}, self, source, "delivery")

    def of_port(self, source: Address, settings: Iterable[tuple[str, Any]], place: str) -> Contract:
        """The same where something was set for the port."""
        return _contract(_checked(dict(settings), place), self, source, place)


def _checked(own: dict[str, Any], place: str) -> dict[str, Any]:
    """Keys of a contract that came from outside, by their types. ``GraphError`` says which does not fit."""
    try:
        read = msgspec.convert(own, DeliverySettings)
    except msgspec.ValidationError as exc:
        raise GraphError(place, f"delivery contract: {str(exc).replace('`', '')}") from exc
    return {name: getattr(read, name) for name in own}


def edges_without_graph(section: DeliverySection, graph: Graph) -> tuple[str, ...]:
    """Edges that ``[delivery.edge]`` names and the graph does not have: a slip of the pen, or an edge still to come."""
    known = {str(edge) for edge in graph.edges}
    return tuple(name for name in section.edge if name not in known)


BROKER_KEEPS = frozenset({"dead_letter"})
"""What the AMQP broker can keep of a contract where it carries an edge itself; beside ``mode = "held"``."""


def contract_of(edge: Edge, settings: EdgeSettings, source: Address, *, by_broker: bool = False) -> Contract:
    """The contract of an edge whose messages come from ``source``; ``by_broker``: the AMQP broker carries it itself.

    Raises ``GraphError`` for one that can't be kept: ``block`` needs a source that keeps its messages, and a broker
    knows nothing of what it isn't told.
    """
    values: dict[str, Any] = {}
    named = settings.section.edge.get(str(edge))
    if named is not None:
        values.update({name: value for name in FIELDS if (value := getattr(named, name)) is not None})
    own = {name: value for name, value in edge.metadata.items() if name in FIELDS}
    values.update(_checked(own, str(edge)))
    if by_broker:
        asked = sorted(key for key, value in values.items() if key not in BROKER_KEEPS and (key, value) != HELD)
        if asked:
            raise GraphError(
                str(edge),
                f"the AMQP broker carries this edge itself and can't keep {', '.join(asked)}: leave that out",
            )
    return _contract(values, settings, source, str(edge))


def _contract(values: dict[str, Any], settings: EdgeSettings, source: Address, place: str) -> Contract:
    resolved = {name: values.get(name, getattr(settings.section, name)) for name in FIELDS}
    if settings.mqtt_forgets and source.transport == "mqtt" and resolved["mode"] is DeliveryMode.HELD:
        resolved["mode"] = DeliveryMode.STORED
    overflow = resolved.pop("overflow")
    if overflow == "auto":
        overflow = "block" if source.transport == "amqp" else "drop_oldest"
    if overflow == "block" and source.transport != "amqp":
        raise GraphError(
            place,
            f"overflow block needs an AMQP source, and {source} is none: its messages would be dropped behind our back;"
            " choose drop_oldest, drop_newest or dead_letter",
        )
    return Contract(
        overflow=OverflowPolicy(overflow),
        deadletter=dead_letter_address(resolved.pop("dead_letter"), place),
        **resolved,
    )


def dead_letter_address(text: str, place: str) -> Address | None:
    """``mqtt:TOPIC``, ``amqp:QUEUE`` or ``amqp-exchange:NAME`` as an address; empty: none."""
    if not text:
        return None
    transport, _, name = text.partition(":")
    match transport, bool(name):
        case (("mqtt" | "amqp"), True):
            return Address(transport, name)
        case "amqp-exchange", True:
            return Address("amqp", name, AddressKind.EXCHANGE)
    raise GraphError(place, f"dead letter {text!r}: write mqtt:TOPIC, amqp:QUEUE or amqp-exchange:NAME")
