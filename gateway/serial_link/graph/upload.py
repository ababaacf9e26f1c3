"""A device graph -> the commands that make a board run it (reference: microflo-protocol, section 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gateway.errors import ComponentUnknown, GraphError, NodeUnknown, PortUnknown, ValueUnfit
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Edge, Graph, Iip
from gateway.model.packet import Packet
from gateway.model.port import Direction, PortDef, PortRef
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.protocol.board_model import MOST_NODES, MOST_WAITING
from gateway.serial_link.protocol.codec import W10, Command, Wire, command, encode, opening, send_packet
from gateway.serial_link.protocol.commandformat import REPLY_OF, CommandKind, DebugLevel
from gateway.serial_link.protocol.iip_values import literal_packets


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph whose names are all known: nothing below can fail on them."""

    graph: Graph
    library: ComponentLibrary
    packets: tuple[tuple[Iip, tuple[Packet, ...]], ...]

    def port(self, ref: PortRef, direction: Direction) -> int:
        """The number of a node's port."""
        return self.library.component(self.graph.node(ref.node).component).port(direction, ref.port).number


def check_graph(graph: Graph, library: ComponentLibrary) -> None:
    """Refuse a graph that this firmware can't run: ``GraphError`` names the node, edge or literal."""
    resolved(graph, library)


def resolved(graph: Graph, library: ComponentLibrary) -> CheckedGraph:
    """The graph with every name looked up; ``GraphError`` as ``check_graph``."""
    where = graph.name or "graph"
    if len(graph.nodes) > MOST_NODES:
        raise GraphError(where, f"{len(graph.nodes)} nodes; the firmware has room for {MOST_NODES}")
    for node in graph.nodes:
        try:
            library.component(node.component)
        except ComponentUnknown as exc:
            raise ComponentUnknown(f"{node.id}({node.component})", exc.problem) from None
    checked = CheckedGraph(graph, library, tuple(_literal(iip) for iip in graph.iips))
    used: dict[PortRef, Edge] = {}
    for edge in graph.edges:
        _resolve(checked, edge.src, Direction.OUT, str(edge))
        _resolve(checked, edge.tgt, Direction.IN, str(edge))
        first = used.setdefault(replace(edge.src, index=None), edge)
        if first is not edge:
            raise GraphError(str(edge), f"{edge.src} goes to {first.tgt} already; one target an outport: use a Split")
    for iip in graph.iips:
        _resolve(checked, iip.tgt, Direction.IN, f"{iip.data!r} -> {iip.tgt}")
    for export in graph.inports:
        _resolve(checked, export.ref, Direction.IN, f"inport {export.name}")
    for export in graph.outports:
        _resolve(checked, export.ref, Direction.OUT, f"outport {export.name}")
    count = sum(len(packets) for _, packets in checked.packets)
    if count > MOST_WAITING:
        raise GraphError(where, f"{count} initial packets; the firmware's queue takes {MOST_WAITING}")
    return checked


def _resolve(checked: CheckedGraph, ref: PortRef, direction: Direction, place: str) -> None:
    if not checked.graph.has_node(ref.node):
        raise NodeUnknown(place, f"no node {ref.node} in the graph")
    try:
        checked.port(ref, direction)
    except PortUnknown as exc:
        raise PortUnknown(place, exc.problem) from None


def _literal(iip: Iip) -> tuple[Iip, tuple[Packet, ...]]:
    try:
        return iip, literal_packets(iip.data)
    except ValueUnfit as exc:
        raise GraphError(f"{iip.data!r} -> {iip.tgt}", str(exc)) from exc


def _creates(checked: CheckedGraph) -> Iterator[Command]:
    for node in checked.graph.nodes:
        number = checked.library.component(node.component).number
        yield command(CommandKind.CREATE_COMPONENT, component=number, parent=0)


def _connects(checked: CheckedGraph, nodes: Mapping[str, int]) -> Iterator[Command]:
    for edge in checked.graph.edges:
        yield command(
            CommandKind.CONNECT_NODES,
            src=nodes[edge.src.node],
            tgt=nodes[edge.tgt.node],
            src_port=checked.port(edge.src, Direction.OUT),
            tgt_port=checked.port(edge.tgt, Direction.IN),
        )


def _initial(checked: CheckedGraph, nodes: Mapping[str, int]) -> Iterator[Command]:
    for iip, packets in checked.packets:
        for packet in packets:
            yield send_packet(0, nodes[iip.tgt.node], checked.port(iip.tgt, Direction.IN), packet)


class Uploader:
    """One upload to a live board, command by command, taking node numbers from the board's own answers.

    ``ports`` gives type, scale, unit and queue of exported ports by public name; without ``start`` the network stays
    stopped. After ``next_command`` returned None, ``names`` holds what the numbers mean.
    """

    def __init__(
        self,
        graph: Graph,
        library: ComponentLibrary,
        ports: Mapping[str, PortDef] | None = None,
        *,
        debug_level: DebugLevel = DebugLevel.ERROR,
        wire: Wire = W10,
        start: bool = True,
    ) -> None:
        self._start = start
        self._wire = wire
        self._checked = resolved(graph, library)
        self._ports = ports or {}
        self._debug_level = debug_level
        self._nodes: dict[str, int] = {}
        self._steps = self._walk()
        self._asked: Command | None = None
        self._names: NodeIds | None = None
        self.done = 0
        self.total = (
            3
            + start
            + len(graph.nodes)
            + len(graph.edges)
            + sum(len(packets) for _, packets in self._checked.packets)
            + len(graph.outports)
        )

    @property
    def names(self) -> NodeIds:
        """The name map; only after the end of the upload."""
        if self._names is None:
            raise GraphError(self._checked.graph.name, "the upload has not ended")
        return self._names

    def next_command(self) -> Command | None:
        """The next request (its id is the link's business), or None at the end."""
        self._asked = next(self._steps, None)
        return self._asked

    def accept(self, reply: Command) -> None:
        """The board's answer to it. ``GraphError`` if it is not the one that belongs to the request."""
        asked = self._asked
        if asked is None or reply.kind != REPLY_OF[CommandKind(asked.kind)]:
            raise GraphError(self._checked.graph.name, f"unexpected answer {reply.kind} in the upload")
        self.done += 1
        if reply.kind == CommandKind.NODE_ADDED:
            node = self._checked.graph.nodes[len(self._nodes)]
            if not 1 <= reply["node"] <= MOST_NODES or reply["node"] in self._nodes.values():
                raise GraphError(node.id, f"the board numbered it {reply['node']}: it is out of room or out of order")
            self._nodes[node.id] = reply["node"]

    def _walk(self) -> Iterator[Command]:
        yield command(CommandKind.STOP_NETWORK)
        yield command(CommandKind.CLEAR_NODES)
        yield command(CommandKind.CONFIGURE_DEBUG, level=self._debug_level)
        yield from _creates(self._checked)
        names = NodeIds.of(self._checked.graph, self._checked.library, self._nodes, self._ports, self._wire)
        yield from _connects(self._checked, self._nodes)
        yield from _initial(self._checked, self._nodes)
        yield from names.subscriptions()  # before the start, so that the first packets are seen
        if self._start:
            yield command(CommandKind.START_NETWORK)
        self._names = names


def compile_stream(
    graph: Graph,
    library: ComponentLibrary,
    wire: Wire,
    *,
    embedded: bool,
    debug_level: DebugLevel = DebugLevel.ERROR,
) -> bytes:
    """The command stream of a graph, as firmware embeds it (``embedded``: with open and End around it).

    Request ids count from 1; in an embedded stream the open has the first. Byte for byte what the vectors call correct.
    """
    checked = resolved(graph, library)
    nodes = {node.id: number for number, node in enumerate(graph.nodes, 1)}
    units = [
        *([] if wire.clear_stops else [command(CommandKind.STOP_NETWORK)]),
        command(CommandKind.CLEAR_NODES),
        command(CommandKind.CONFIGURE_DEBUG, level=debug_level),
        *_creates(checked),
        *_connects(checked, nodes),
        *_initial(checked, nodes),
        command(CommandKind.START_NETWORK),
    ]
    first = 2 if embedded else 1
    if embedded:
        units.append(command(CommandKind.END))
    body = b"".join(
        encode(wire, replace(unit, request_id=_stream_id(number))) for number, unit in enumerate(units, first)
    )
    return opening(wire, 1) + body if embedded else body


def _stream_id(number: int) -> int:
    """1..255 and round again: a stream longer than the ids must still be whole (the reference tool fails there)."""
    return (number - 1) % 255 + 1
