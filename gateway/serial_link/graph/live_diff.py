"""From the graph that runs on a board to another one, by as few commands as it takes, while it runs; and back again.

New nodes come first, then edges, so that data can flow on; an outport that gets another target is connected anew, which
replaces the old one. A node goes when nothing leads into it any more (section 5.3: the board crashes otherwise).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway.errors import GraphError
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph, Iip
from gateway.model.packet import Packet
from gateway.model.port import Direction, PortDef
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.graph.upload import resolved
from gateway.serial_link.protocol.board_model import MOST_NODES
from gateway.serial_link.protocol.codec import W10, Command, Wire, command, send_packet
from gateway.serial_link.protocol.commandformat import REPLY_OF, CommandKind

Port = tuple[int, int]
"""Node number, port number."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs on a board: the graph, the numbers of its nodes, and the highest number given since the last clear."""

    graph: Graph
    nodes: Mapping[str, int]
    created: int

    @classmethod
    def after_upload(cls, graph: Graph, nodes: Mapping[str, int]) -> Running:
        """A graph that was uploaded as a whole."""
        return cls(graph, dict(nodes), max(nodes.values(), default=0))


@dataclass(slots=True)
class _State:
    """Numbers only: what is on the board, or shall be."""

    components: dict[int, int] = field(default_factory=dict)
    targets: dict[Port, Port] = field(default_factory=dict)
    subscribed: set[Port] = field(default_factory=set)

    def forget(self, number: int) -> None:
        """A node is gone, with the edges out of it and what was subscribed."""
        del self.components[number]
        self.targets = {src: tgt for src, tgt in self.targets.items() if src[0] != number}
        self.subscribed = {port for port in self.subscribed if port[0] != number}


class GraphChange:
    """One change, command by command; used like ``Uploader``. When a command fails, ``rollback`` is the way back.

    ``GraphError`` at once if the wanted graph can't run, or if the board has no room for its new nodes beside those that
    were made since the last clear: then only an upload of the whole graph helps.
    """

    def __init__(
        self,
        running: Running,
        wanted: Graph,
        library: ComponentLibrary,
        ports: Mapping[str, PortDef] | None = None,
        *,
        wire: Wire = W10,
    ) -> None:
        self._before = running
        self._checked = resolved(wanted, library)
        self._library = library
        self._ports = ports or {}
        self._wire = wire
        self._numbers = {
            node.id: running.nodes[node.id]
            for node in wanted.nodes
            if running.graph.has_node(node.id) and running.graph.node(node.id).component == node.component
        }
        self._created = running.created
        self._state = _state(running.graph, library, running.nodes)
        self._new = [node for node in wanted.nodes if node.id not in self._numbers]
        if running.created + len(self._new) > MOST_NODES:
            problem = f"{len(self._new)} new nodes don't fit beside {running.created} made since the last clear"
            raise GraphError(wanted.name or "graph", f"{problem}; upload the whole graph")
        self._resend_to: frozenset[tuple[str, str]] = frozenset()
        self._asked: Command | None = None
        self._finished = False
        self._steps = self._walk()
        self.done = 0

    # -- step by step ------------------------------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """The next request (its id is the link's business), or None at the end."""
        self._asked = next(self._steps, None)
        self._finished = self._finished or self._asked is None
        return self._asked

    def accept(self, reply: Command) -> None:
        """The board's good answer to it. ``GraphError`` if it is not the one that belongs to the request."""
        asked = self._asked
        if asked is None or reply.kind != REPLY_OF[CommandKind(asked.kind)]:
            raise GraphError(self._checked.graph.name, f"unexpected answer {reply.kind} to a change of the graph")
        self.done += 1
        state = self._state
        match reply.kind:
            case CommandKind.NODE_ADDED:
                self._added(asked["component"], reply["node"])
            case CommandKind.NODES_CONNECTED:
                state.targets[asked["src"], asked["src_port"]] = (asked["tgt"], asked["tgt_port"])
            case CommandKind.NODES_DISCONNECTED:
                state.targets.pop((asked["src"], asked["src_port"]), None)
                state.subscribed.discard((asked["src"], asked["src_port"]))
            case CommandKind.PORT_SUBSCRIPTION_CHANGED:
                port = (asked["node"], asked["port"])
                (state.subscribed.add if asked["enable"] else state.subscribed.discard)(port)
            case CommandKind.NODE_REMOVED:
                state.forget(asked["node"])

    def _added(self, component: int, number: int) -> None:
        node = next(node for node in self._new if node.id not in self._numbers)
        if not self._created < number <= MOST_NODES:
            raise GraphError(node.id, f"the board numbered it {number}: it is out of room or out of order")
        self._numbers[node.id] = self._created = number
        self._state.components[number] = component

    @property
    def names(self) -> NodeIds:
        """What the numbers mean now; only after the end of the change."""
        self._require_end()
        return NodeIds.of(self._checked.graph, self._library, self._numbers, self._ports, self._wire)

    @property
    def running(self) -> Running:
        """What runs now; only after the end of the change."""
        self._require_end()
        return Running(self._checked.graph, dict(self._numbers), self._created)

    def _require_end(self) -> None:
        if not self._finished:
            raise GraphError(self._checked.graph.name, "the change of the graph has not ended")

    def rollback(self, ports: Mapping[str, PortDef] | None = None) -> GraphChange:
        """The change from what was reached back to what ran before; ``ports`` are those that it exported.

        The state of components that are made anew is lost, and initial packets sent to kept nodes are sent as they were.
        """
        back = GraphChange(
            replace(self._before, created=self._created),
            self._before.graph,
            self._library,
            ports,
            wire=self._wire,
        )
        back._state = self._state
        back._numbers = {
            name: number for name, number in self._before.nodes.items() if number in self._state.components
        }
        back._new = [node for node in self._before.graph.nodes if node.id not in back._numbers]
        back._resend_to = self._touched()
        if self._created + len(back._new) > MOST_NODES:
            raise GraphError(self._before.graph.name, "no room is left to go back; upload the whole graph")
        return back

    # -- the commands ------------------------------------------------------------------------------------------

    def _touched(self) -> frozenset[tuple[str, str]]:
        """Inports of kept nodes that this change sends initial packets to."""
        return frozenset((node, port) for node, port, _ in self._initial_packets())

    def _walk(self) -> Iterator[Command]:
        for node in list(self._new):
            number = self._library.component(node.component).number
            yield command(CommandKind.CREATE_COMPONENT, component=number, parent=0)
        wanted = _state(self._checked.graph, self._library, self._numbers)
        for (src, src_port), (tgt, tgt_port) in wanted.targets.items():
            if self._state.targets.get((src, src_port)) != (tgt, tgt_port):
                yield _edge(CommandKind.CONNECT_NODES, (src, src_port), (tgt, tgt_port))
        yield from self._removals(wanted)
        for port in sorted(self._state.subscribed - wanted.subscribed):
            yield _subscription(port, enable=0)
        for port in sorted(wanted.subscribed - self._state.subscribed):
            yield _subscription(port, enable=1)
        for node_id, port_id, packets in self._initial_packets():
            component = self._library.component(self._checked.graph.node(node_id).component)
            inport = component.port(Direction.IN, port_id).number
            for packet in packets:
                yield send_packet(0, self._numbers[node_id], inport, packet)

    def _removals(self, wanted: _State) -> Iterator[Command]:
        gone = set(self._state.components) - set(wanted.components)
        for src, tgt in list(self._state.targets.items()):
            if src[0] not in gone and src not in wanted.targets:
                yield _edge(CommandKind.DISCONNECT_NODES, src, tgt)
        while gone:
            led_to = {tgt[0] for tgt in self._state.targets.values()}
            free = sorted(gone - led_to)
            if free:
                gone.discard(free[0])
                yield command(CommandKind.REMOVE_NODE, node=free[0])
                continue
            # Only circles of nodes that all go are left: cut one edge.
            src, tgt = next((src, tgt) for src, tgt in self._state.targets.items() if tgt[0] in gone)
            yield _edge(CommandKind.DISCONNECT_NODES, src, tgt)

    def _initial_packets(self) -> Iterator[tuple[str, str, tuple[Packet, ...]]]:
        """For new nodes all of theirs; for kept ones those of a port whose packets are others than before."""
        before = _packets(resolved(self._before.graph, self._library).packets)
        fresh = {node.id for node in self._new}
        for (node, port), packets in _packets(self._checked.packets).items():
            if node in fresh or (node, port) in self._resend_to or before.get((node, port)) != packets:
                yield node, port, packets


def _packets(literals: tuple[tuple[Iip, tuple[Packet, ...]], ...]) -> dict[tuple[str, str], tuple[Packet, ...]]:
    found: dict[tuple[str, str], tuple[Packet, ...]] = {}
    for iip, packets in literals:
        place = (iip.tgt.node, iip.tgt.port)
        found[place] = (*found.get(place, ()), *packets)
    return found


def _state(graph: Graph, library: ComponentLibrary, numbers: Mapping[str, int]) -> _State:
    kinds = {node.id: library.component(node.component) for node in graph.nodes}
    state = _State({numbers[node]: component.number for node, component in kinds.items()})
    for edge in graph.edges:
        src = (numbers[edge.src.node], kinds[edge.src.node].port(Direction.OUT, edge.src.port).number)
        state.targets[src] = (numbers[edge.tgt.node], kinds[edge.tgt.node].port(Direction.IN, edge.tgt.port).number)
    for export in graph.outports:
        number = kinds[export.ref.node].port(Direction.OUT, export.ref.port).number
        state.subscribed.add((numbers[export.ref.node], number))
    return state


def _edge(kind: CommandKind, src: Port, tgt: Port) -> Command:
    return command(kind, src=src[0], tgt=tgt[0], src_port=src[1], tgt_port=tgt[1])


def _subscription(port: Port, *, enable: int) -> Command:
    return command(CommandKind.SUBSCRIBE_TO_PORT, node=port[0], port=port[1], enable=enable)
