"""What a paired board is, put together from its graph, its component map and what was said at pairing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import msgspec

from gateway.errors import ConfigError, GraphError, PortUnknown
from gateway.fbp.text.formats import parse_graph
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef
from gateway.model.topic import own_topic_problem
from gateway.serial_link.description.component_map import parse_component_map
from gateway.serial_link.description.self_description import Description
from gateway.serial_link.graph.node_ids import NodeIds, port_type
from gateway.serial_link.graph.upload import check_graph
from gateway.serial_link.protocol.codec import Wire
from gateway.serial_link.protocol.json_values import check_scale

INTEGER_BYTES = 4
SHOWN = 80
"""Characters of what can't be that are said again."""

PortType: TypeAlias = Literal["any", "boolean", "integer", "number", "bang"]


class PortMeaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was said of an exported port, at pairing or later; UNSET is what nobody said anything of. ``topic`` is its queue on
    MQTT, ``delivery`` what was set of the contract between the two, and ``retained`` whether the broker keeps what an
    outport said last.
    """

    type: PortType | msgspec.UnsetType = msgspec.UNSET
    scale: float | msgspec.UnsetType | None = msgspec.UNSET
    unit: str | msgspec.UnsetType = msgspec.UNSET
    topic: str | msgspec.UnsetType = msgspec.UNSET
    delivery: Mapping[str, Any] = msgspec.field(default_factory=dict)
    retained: bool | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """``ValueError`` (``msgspec.ValidationError`` in what is read) for a scale that nothing can be divided by, and for
        a topic that can't be a port's.
        """
        if isinstance(self.scale, float | int):
            check_scale(self.scale)
        topic = self.topic or ""
        problem = own_topic_problem(topic) if topic else ""
        if problem:
            raise ValueError(f"topic {topic[:SHOWN]}: {problem}")

    def port(self, name: str) -> PortDef:
        """The port, with the usual where nothing was said; the name map puts the real direction in."""
        return PortDef(
            id=name,
            direction=Direction.OUT,
            type=self.type or "any",
            queue=self.topic or "",
            scale=self.scale or None,  # which is never 0
            unit=self.unit or "",
            delivery=tuple(sorted(self.delivery.items())),
            retained=bool(self.retained),
        )


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """A board's graph and firmware. Without a graph (a watched board nobody described) it has no ports."""

    graph: Graph | None
    library: ComponentLibrary
    ports: Mapping[str, PortDef]
    document: bytes = b""
    """What the board told of itself when it was paired; empty from stock firmware."""

    problem: str = ""
    """Why the board can't be used though it is paired: its files are damaged."""

    @classmethod
    def of(cls, graph: Graph | None, library: ComponentLibrary, meanings: Mapping[str, PortMeaning]) -> BoardProfile:
        """Checked against each other: ``GraphError`` for a graph this firmware can't run, a port it doesn't export, and an
        inport that should be retained.
        """
        ports = {name: meaning.port(name) for name, meaning in meanings.items()}
        if graph is not None:
            check_graph(graph, library)
            exported = [export.name for export in (*graph.inports, *graph.outports)]
        else:
            exported = []
        for name in ports:
            if name not in exported:
                known = ", ".join(exported) or "none"
                raise PortUnknown(f"port {name}", f"the graph exports no such port (it exports: {known})")
            if ports[name].retained and not _is_outport(graph, name):
                raise GraphError(
                    f"port {name}", "is an inport: retained=true is for outports, whose topic we publish on"
                )
        return cls(graph, library, ports)

    @classmethod
    def empty(cls) -> BoardProfile:
        """A board of which nobody said what runs on it."""
        return cls(None, ComponentLibrary(), {})

    @classmethod
    def own(cls, description: Description, meanings: Mapping[str, PortMeaning]) -> BoardProfile:
        """The graph that is built into the board, as it tells of itself. ``meanings`` come before what it says."""
        if description.graph is None:
            return cls.empty()
        return cls.of(description.graph, description.library, said_later(told_meanings(description), meanings))

    def with_document(self, document: bytes) -> BoardProfile:
        """The same, with what the board told of itself."""
        return replace(self, document=document)

    def predicted(self) -> NodeIds | None:
        """Names and numbers as a board has them that was given this graph by anybody."""
        if self.graph is None:
            return None
        return NodeIds.predicted(self.graph, self.library, self.ports)

    def participant(self, board_id: str, role: str, wire: Wire) -> Participant:
        """The board as the graph sees it; a port without a topic of its own has the queue ``ROLE/PORT``.

        On a wire whose events carry 16 bits only, integers from the board are typed ``int16``.
        """
        names = self.predicted()

        def shown(port: PortDef) -> PortDef:
            cut = port.type == "integer" and port.direction is Direction.OUT and wire.event_bytes < INTEGER_BYTES
            return replace(port, queue=port.queue or f"{role}/{port.id}", type="int16" if cut else port.type)

        def queued(ports: tuple[PortDef, ...]) -> tuple[PortDef, ...]:
            return tuple(shown(port) for port in ports)

        return Participant(
            id=board_id,
            role=role,
            component=(self.graph.name if self.graph is not None else "") or role,
            transport="serial",
            inports=queued(names.inports()) if names else (),
            outports=queued(names.outports()) if names else (),
        )


def told_meanings(description: Description) -> dict[str, PortMeaning]:
    """What a board tells of the values of its ports."""
    return {
        name: PortMeaning(type=cast("PortType", port_type(port.type)), scale=port.scale, unit=port.unit)
        for name, port in description.ports.items()
    }


def said_later(before: Mapping[str, PortMeaning], now: Mapping[str, PortMeaning]) -> dict[str, PortMeaning]:
    """What holds when ``now`` is said of ports of which ``before`` is known: of each what is new, and the rest of the old."""
    merged = dict(before)
    for name, meaning in now.items():
        said = {
            key: value for key, value in msgspec.structs.asdict(meaning).items() if value not in (msgspec.UNSET, {})
        }
        merged[name] = msgspec.structs.replace(before[name], **said) if name in before else meaning
    return merged


def exported_only(graph: Graph | None, meanings: Mapping[str, PortMeaning]) -> dict[str, PortMeaning]:
    """The meanings of ports that this graph exports, without ``retained`` of an outport that is an inport here."""
    names = {export.name for export in (*graph.inports, *graph.outports)} if graph is not None else set()
    return {
        name: meaning if _is_outport(graph, name) else msgspec.structs.replace(meaning, retained=msgspec.UNSET)
        for name, meaning in meanings.items()
        if name in names
    }


def _is_outport(graph: Graph | None, name: str) -> bool:
    return graph is not None and any(export.name == name for export in graph.outports)


def parse_board_graph(text: str, source: str) -> Graph:
    """A device graph: ``.fbp`` by its name, else JSON."""
    return parse_graph(text, source)


def parse_library(text: str, source: str) -> ComponentLibrary:
    """A component map. ``ConfigError`` names the place."""
    if not text.strip():
        raise ConfigError(source, "", "is empty: it should be the component map of the board's firmware")
    return parse_component_map(text, source)
