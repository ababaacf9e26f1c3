"""The host's own model of a board: what runs on it, as its answers told. A command that would crash stock firmware, damage
its memory or fail in silence is refused here, before it is sent (reference: microflo-protocol, sections 5.3, 5.4 and 6).

The model changes only with an answer, and node numbers are those that the board gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import BoardFull, GraphError, PortUnknown
from gateway.model.component import Component, ComponentLibrary
from gateway.model.graph import Graph
from gateway.model.packet import PacketType
from gateway.model.port import Direction, PortDef
from gateway.serial_link.protocol.codec import W10, Command, Wire
from gateway.serial_link.protocol.commandformat import EXTENSION_REPLY_OF, CommandKind, DebugLevel

MOST_NODES = 49
"""Of the stock firmware's 50 slots, slot 0 is unused; number 50 damages its memory (section 6)."""

MOST_WAITING = 48
"""Packets that a stopped network's queue holds; with the 49th it forgets all of them (section 6)."""

SUBGRAPH = 100
"""The component id of subgraphs: none works on stock firmware (section 14.1)."""

_ALWAYS = frozenset(
    {
        CommandKind.CLEAR_NODES,
        CommandKind.END,
        CommandKind.PING,
        CommandKind.START_NETWORK,
        CommandKind.STOP_NETWORK,
        CommandKind.GET_NETWORK_STATUS,
    }
)


@dataclass(slots=True)
class _Node:
    component: Component
    targets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where each connected outport leads: node and port."""
    subscribed: set[int] = field(default_factory=set)


class BoardModel:
    """One board's nodes, edges and subscriptions. Unknown at first: until ``CLEAR_NODES`` or ``assume``, nothing that
    names a node is let through. ``max_nodes`` and ``max_waiting`` are those of the firmware build.
    """

    def __init__(
        self,
        library: ComponentLibrary,
        wire: Wire = W10,
        *,
        max_nodes: int = MOST_NODES,
        max_waiting: int = MOST_WAITING,
        takes_floats: bool = False,
        simulated_pins: bool = False,
    ) -> None:
        self._by_number = {component.number: component for component in library.by_name.values()}
        self._library = library
        self._wire = wire
        self._max_nodes = max_nodes
        self._max_waiting = max_waiting
        self._takes_floats = takes_floats
        self._simulated_pins = simulated_pins
        self._nodes: dict[int, _Node] = {}
        self._waiting: list[int] = []
        self.created = 0
        """The highest node number since the last clear; none is given twice."""
        self.known = False
        self.running: bool | None = None

    # -- what others may know ----------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[int, str]:
        """Node numbers and the names of their components."""
        return {number: node.component.name for number, node in self._nodes.items()}

    def edges(self) -> set[tuple[int, int, int, int]]:
        """Every edge as source node, source port, target node, target port."""
        return {
            (number, port, *target) for number, node in self._nodes.items() for port, target in node.targets.items()
        }

    def subscriptions(self) -> set[tuple[int, int]]:
        """Every subscribed outport as node and port."""
        return {(number, port) for number, node in self._nodes.items() for port in node.subscribed}

    @property
    def room(self) -> int:
        """How many more nodes can be made before a clear."""
        return self._max_nodes - self.created

    def assume(self, graph: Graph, nodes: Mapping[str, int]) -> None:
        """This graph is what runs there, under these numbers: a watched board, which told nobody."""
        self._empty()
        for node in graph.nodes:
            self._nodes[nodes[node.id]] = _Node(self._library.component(node.component))
        for edge in graph.edges:
            source, target = self._nodes[nodes[edge.src.node]], self._nodes[nodes[edge.tgt.node]]
            out = source.component.port(Direction.OUT, edge.src.port).number
            source.targets[out] = (nodes[edge.tgt.node], target.component.port(Direction.IN, edge.tgt.port).number)
        self.created = max(nodes.values(), default=0)
        self.known, self.running = True, True

    def forget(self) -> None:
        """Alignment was lost, or the board restarted: nothing is known any more."""
        self._empty()
        self.known, self.running = False, None

    def _empty(self) -> None:
        self._nodes.clear()
        self._waiting.clear()
        self.created = 0

    # -- before a command is sent ------------------------------------------------------------------------------

    def check(self, unit: Command) -> None:
        """Let a request pass, or ``GraphError`` with the reason why this board must not get it."""
        kind = CommandKind(unit.kind)
        if kind in _ALWAYS or kind in EXTENSION_REPLY_OF:
            return
        if kind is CommandKind.CONFIGURE_DEBUG:
            _require(unit["level"] in list(DebugLevel), f"debug level {unit['level']}", "there is no such level")
            return
        if kind is CommandKind.SET_IO_VALUE:
            _require(self._simulated_pins, "set io value", "this firmware has no simulated pins")
            return
        _require(self.known, kind.name.lower(), "what runs on the board is not known; upload its graph first")
        match kind:
            case CommandKind.CREATE_COMPONENT:
                self._check_create(unit)
            case CommandKind.CONNECT_NODES:
                self._port(unit["src"], Direction.OUT, unit["src_port"])
                self._port(unit["tgt"], Direction.IN, unit["tgt_port"])
            case CommandKind.DISCONNECT_NODES:
                self._check_disconnect(unit)
            case CommandKind.SEND_PACKET:
                self._check_packet(unit)
            case CommandKind.SUBSCRIBE_TO_PORT:
                self._port(unit["node"], Direction.OUT, unit["port"])
            case CommandKind.REMOVE_NODE:
                self._check_remove(unit["node"])
            case _:
                raise GraphError(kind.name.lower(), "stock firmware's subgraphs don't work; flatten the graph")

    def _check_create(self, unit: Command) -> None:
        number = unit["component"]
        _require(number != SUBGRAPH, f"component {number}", "stock firmware has no subgraphs; flatten the graph")
        _require(number in self._by_number, f"component {number}", "the board's component map has none of this number")
        _require(unit["parent"] == 0, f"parent {unit['parent']}", "no node can have a parent; flatten the graph")
        left = (
            f"the firmware has room for {self._max_nodes} nodes, counted since the last clear; upload the whole graph"
        )
        _require(self.room > 0, f"node {self.created + 1}", left)

    def _check_disconnect(self, unit: Command) -> None:
        source = self._node(unit["src"])
        self._port(unit["src"], Direction.OUT, unit["src_port"])
        there = source.targets.get(unit["src_port"]) == (unit["tgt"], unit["tgt_port"])
        _require(there, f"node {unit['src']} port {unit['src_port']}", "there is no such edge to take away")

    def _check_packet(self, unit: Command) -> None:
        self._port(unit["node"], Direction.IN, unit["port"])
        place, kind = f"node {unit['node']} port {unit['port']}", unit["type"]
        _require(kind in list(PacketType), place, f"packet type {kind} becomes void on a board")
        if kind == PacketType.FLOAT and not self._takes_floats:
            raise GraphError(
                place, f"a float becomes void on this firmware ({self._wire.name}): scale it to an integer"
            )
        full = f"{len(self._waiting)} packets wait for the network to start; one more and the firmware forgets them all"
        if self.running is not True and len(self._waiting) >= self._max_waiting:
            raise BoardFull(place, full)

    def _check_remove(self, number: int) -> None:
        self._node(number)
        into = [edge for edge in self.edges() if edge[2] == number]
        _require(not into, f"node {number}", f"disconnect {len(into)} edges into it first, or the board crashes")
        waiting = self._waiting.count(number)
        _require(not waiting, f"node {number}", f"{waiting} packets wait for it; start or clear the network first")

    def _node(self, number: int) -> _Node:
        node = self._nodes.get(number)
        if node is None:
            raise GraphError(f"node {number}", "the board has no such node")
        return node

    def _port(self, number: int, direction: Direction, port: int) -> PortDef:
        component = self._node(number).component
        for known in component.inports if direction is Direction.IN else component.outports:
            if known.number == port:
                return known
        raise PortUnknown(f"node {number}", f"component {component.name} has no {direction}port {port}")

    # -- after its answer --------------------------------------------------------------------------------------

    def accept(self, unit: Command, reply: Command) -> None:
        """The good answer to a request that passed. ``GraphError`` if the board can't mean what it says."""
        match reply.kind:
            case CommandKind.NODES_CLEARED:
                self._empty()
                self.known = True
                self.running = False if self._wire.clear_stops else self.running
            case CommandKind.NETWORK_STARTED:
                self.running = True
                self._waiting.clear()
            case CommandKind.NETWORK_STOPPED:
                self.running = False
            case CommandKind.NETWORK_STATUS:
                self.running = bool(reply["running"])
            case CommandKind.NODE_ADDED:
                self._added(unit["component"], reply["node"])
            case CommandKind.NODES_CONNECTED:
                self._node(unit["src"]).targets[unit["src_port"]] = (unit["tgt"], unit["tgt_port"])
            case CommandKind.NODES_DISCONNECTED:
                source = self._node(unit["src"])
                source.targets.pop(unit["src_port"], None)
                source.subscribed.discard(unit["src_port"])
            case CommandKind.PORT_SUBSCRIPTION_CHANGED:
                ports = self._node(unit["node"]).subscribed
                (ports.add if unit["enable"] else ports.discard)(unit["port"])
            case CommandKind.SEND_PACKET_DONE if self.running is not True:
                self._waiting.append(unit["node"])
            case CommandKind.NODE_REMOVED:
                del self._nodes[unit["node"]]

    def _added(self, component: int, number: int) -> None:
        if not self.created < number <= self._max_nodes:
            self.forget()
            raise GraphError(
                f"node {number}", "the board gave a number that it can't give: it is out of room or broken"
            )
        self._nodes[number] = _Node(self._by_number[component])
        self.created = number


def _require(condition: bool, place: str, problem: str) -> None:
    if not condition:
        raise GraphError(place, problem)
