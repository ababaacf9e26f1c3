"""Names of the graph <-> numbers on the board: nodes, and the ports that the graph exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from gateway.model.component import ComponentLibrary
from gateway.model.graph import Export, Graph
from gateway.model.port import Direction, PortDef
from gateway.serial_link.protocol.codec import W10, Command, Wire, command
from gateway.serial_link.protocol.commandformat import CommandKind


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An exported port: the number of its node, and its definition with the public name as id."""

    node: int
    port: PortDef


@dataclass(frozen=True, slots=True)
class NodeIds:
    """What the running board's numbers mean. Frozen: a new upload makes a new one."""

    nodes: Mapping[str, int]
    _inports: Mapping[str, Endpoint]
    _outports: Mapping[str, Endpoint]

    @classmethod
    def of(
        cls,
        graph: Graph,
        library: ComponentLibrary,
        nodes: Mapping[str, int],
        ports: Mapping[str, PortDef],
        wire: Wire = W10,
    ) -> NodeIds:
        """The map for nodes numbered as ``nodes`` says. ``ports`` gives type, scale, unit and queue by public name.

        What the board's generation can't report in full is typed as what it can: ``int16``.
        """

        def endpoints(exports: tuple[Export, ...], direction: Direction) -> Mapping[str, Endpoint]:
            found = {}
            for export in exports:
                component = library.component(graph.node(export.ref.node).component)
                own = component.port(direction, export.ref.port)
                said = ports.get(export.name)
                port = replace(
                    said or own,
                    id=export.name,
                    number=own.number,
                    direction=direction,
                    type=wire_type(said.type if said and said.type != "any" else port_type(own.type), direction, wire),
                )
                found[export.name] = Endpoint(nodes[export.ref.node], port)
            return MappingProxyType(found)

        return cls(
            MappingProxyType(dict(nodes)),
            endpoints(graph.inports, Direction.IN),
            endpoints(graph.outports, Direction.OUT),
        )

    @classmethod
    def predicted(
        cls, graph: Graph, library: ComponentLibrary, ports: Mapping[str, PortDef], wire: Wire = W10
    ) -> NodeIds:
        """The map of a board that numbered its nodes in the order of the graph, from 1 (section 7.2)."""
        nodes = {node.id: number for number, node in enumerate(graph.nodes, 1)}
        return cls.of(graph, library, nodes, ports, wire)

    def inport(self, public: str) -> tuple[int, PortDef] | None:
        """Node number and definition of an exported inport."""
        found = self._inports.get(public)
        return (found.node, found.port) if found else None

    def outport(self, public: str) -> PortDef | None:
        """The definition of an exported outport."""
        found = self._outports.get(public)
        return found.port if found else None

    def outport_of(self, node: int, port: int) -> PortDef | None:
        """The exported outport that an event's numbers mean, if it is one."""
        for endpoint in self._outports.values():
            if endpoint.node == node and endpoint.port.number == port:
                return endpoint.port
        return None

    def inports(self) -> tuple[PortDef, ...]:
        """All exported inports."""
        return tuple(endpoint.port for endpoint in self._inports.values())

    def outports(self) -> tuple[PortDef, ...]:
        """All exported outports."""
        return tuple(endpoint.port for endpoint in self._outports.values())

    def subscriptions(self) -> list[Command]:
        """The requests that make the board report every exported outport."""
        return [
            command(CommandKind.SUBSCRIBE_TO_PORT, node=endpoint.node, port=endpoint.port.number, enable=1)
            for endpoint in self._outports.values()
        ]


def wire_type(declared: str, direction: Direction, wire: Wire) -> str:
    """A port's type as this generation can carry it: the 8-byte wires report the low 16 bits of an integer."""
    return "int16" if declared == "integer" and direction is Direction.OUT and wire.event_bytes == 2 else declared


def port_type(declared: str) -> str:
    """The type of a port as components declare it, in our words (section 13.1)."""
    return {"bool": "boolean", "true": "boolean", "int": "integer", "all": "any"}.get(
        declared, declared if declared in ("boolean", "integer", "number", "bang", "any") else "any"
    )
