"""A graph, and the pure functions that edit it. The same type holds a board's graph and the coordinator's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from gateway.errors import EdgeExists, EdgeUnknown, GraphError, NodeUnknown, PortUnknown
from gateway.model.port import Direction, PortRef

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
Metadata: TypeAlias = Mapping[str, Any]

NO_METADATA: Metadata = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Node:
    """An instance of a component. In the coordinator's graph ``id`` is a role.

    ``extra`` holds what a JSON graph says of the node beyond this, so that saving loses nothing.
    """

    id: str
    component: str
    metadata: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    extra: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)


@dataclass(frozen=True, slots=True)
class Edge:
    """From an outport to an inport. Prints as ``a.out->b.in``. ``extra`` as for nodes."""

    src: PortRef
    tgt: PortRef
    metadata: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    extra: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)

    def __str__(self) -> str:
        return f"{self.src}->{self.tgt}"


@dataclass(frozen=True, slots=True)
class Iip:
    """An initial information packet: JSON data for an inport. A quoted literal of ``.fbp`` is text."""

    tgt: PortRef
    data: Json
    metadata: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    extra: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)


@dataclass(frozen=True, slots=True)
class Export:
    """An exported port: the public ``name`` of a node's port."""

    name: str
    ref: PortRef
    metadata: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    extra: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in their order (a board numbers them so), edges and IIPs in theirs, exported ports, properties.

    ``order`` keeps edges and IIPs interleaved as they were written, because JSON graphs list both as
    connections: the entries are the same objects as in ``edges`` and ``iips``.
    """

    name: str = ""
    nodes: tuple[Node, ...] = ()
    order: tuple[Edge | Iip, ...] = ()
    inports: tuple[Export, ...] = ()
    outports: tuple[Export, ...] = ()
    groups: tuple[Metadata, ...] = ()
    properties: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    case_sensitive: bool = False
    extra: Metadata = field(default_factory=lambda: NO_METADATA, hash=False)
    revision: int = field(default=0, compare=False)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges, in order."""
        return tuple(entry for entry in self.order if isinstance(entry, Edge))

    @property
    def iips(self) -> tuple[Iip, ...]:
        """The IIPs, in order."""
        return tuple(entry for entry in self.order if isinstance(entry, Iip))

    def exports(self, direction: Direction) -> tuple[Export, ...]:
        """The exported ports of one direction."""
        return self.inports if direction is Direction.IN else self.outports

    def node(self, node_id: str) -> Node:
        """The node ``node_id``, or ``NodeUnknown``."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise NodeUnknown(node_id, f"no such node in the graph (it has: {_listed(node.id for node in self.nodes)})")

    def has_node(self, node_id: str) -> bool:
        """Whether there is a node ``node_id``."""
        return any(node.id == node_id for node in self.nodes)


MOST_LISTED = 20
"""Names that an error lists; there are graphs of thousands of nodes."""


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - MOST_LISTED
    return (", ".join(every[:MOST_LISTED]) or "none") + (f" and {more} more" if more > 0 else "")


def _require_port(graph: Graph, ref: PortRef) -> None:
    graph.node(ref.node)
    if not ref.port:
        raise PortUnknown(ref.node, "a port needs a name")


def add_node(graph: Graph, node: Node) -> Graph:
    """The graph with one more node; ``GraphError`` if its name is empty or taken."""
    if not node.id:
        raise GraphError("", "a node needs a name")
    if not node.component:
        raise GraphError(node.id, "a node needs a component")
    if graph.has_node(node.id):
        raise GraphError(node.id, "the graph has a node of this name already")
    return _next(graph, nodes=(*graph.nodes, node))


def remove_node(graph: Graph, node_id: str) -> Graph:
    """The graph without the node and everything that touches it."""
    graph.node(node_id)
    return remove_nodes(graph, frozenset((node_id,)))


def remove_nodes(graph: Graph, gone: Set[str]) -> Graph:
    """The graph without these nodes and everything that touches them."""
    return _next(
        graph,
        nodes=tuple(node for node in graph.nodes if node.id not in gone),
        order=tuple(entry for entry in graph.order if gone.isdisjoint(touches(entry))),
        inports=tuple(export for export in graph.inports if export.ref.node not in gone),
        outports=tuple(export for export in graph.outports if export.ref.node not in gone),
        groups=tuple(_with_members(group, [m for m in members(group) if m not in gone]) for group in graph.groups),
    )


def rename_node(graph: Graph, old: str, new: str) -> Graph:
    """The graph with a node under another name: edges, IIPs, exports and groups follow, every place is kept."""
    graph.node(old)
    if old == new:
        return graph
    if not new:
        raise GraphError(old, "a node needs a name")
    if graph.has_node(new):
        raise GraphError(new, "the graph has a node of this name already")

    def moved(ref: PortRef) -> PortRef:
        return replace(ref, node=new) if ref.node == old else ref

    def entry_moved(entry: Edge | Iip) -> Edge | Iip:
        if isinstance(entry, Edge):
            return replace(entry, src=moved(entry.src), tgt=moved(entry.tgt))
        return replace(entry, tgt=moved(entry.tgt))

    return _next(
        graph,
        nodes=tuple(replace(node, id=new) if node.id == old else node for node in graph.nodes),
        order=tuple(entry_moved(entry) for entry in graph.order),
        inports=tuple(replace(export, ref=moved(export.ref)) for export in graph.inports),
        outports=tuple(replace(export, ref=moved(export.ref)) for export in graph.outports),
        groups=tuple(_with_members(g, [new if m == old else m for m in members(g)]) for g in graph.groups),
    )


def change_node(graph: Graph, node_id: str, changes: Metadata) -> Graph:
    """The graph with ``changes`` merged into a node's metadata: a value of None takes the key out."""
    graph.node(node_id)
    return _next(
        graph,
        nodes=tuple(
            replace(node, metadata=merged(node.metadata, changes)) if node.id == node_id else node
            for node in graph.nodes
        ),
    )


def touches(entry: Edge | Iip) -> tuple[str, ...]:
    """The nodes at the ends of an edge or IIP."""
    return (entry.src.node, entry.tgt.node) if isinstance(entry, Edge) else (entry.tgt.node,)


def find_edge(graph: Graph, src: PortRef, tgt: PortRef) -> Edge:
    """The edge from ``src`` to ``tgt``; ``EdgeUnknown`` if there is none."""
    for entry in graph.order:
        if isinstance(entry, Edge) and _is_edge(entry, src, tgt):
            return entry
    raise EdgeUnknown(f"{src}->{tgt}", "the graph has no such edge")


def add_edge(graph: Graph, edge: Edge) -> Graph:
    """The graph with one more edge; both nodes must be there, the edge must not."""
    _require_port(graph, edge.src)
    _require_port(graph, edge.tgt)
    node = edge.tgt.node  # compared first: in a graph of thousands of edges most of the work is here
    if any(known.tgt.node == node and _is_edge(known, edge.src, edge.tgt) for known in graph.order):
        raise EdgeExists(str(edge), "the graph has this edge already")
    return _next(graph, order=(*graph.order, edge))


def remove_edge(graph: Graph, src: PortRef, tgt: PortRef) -> Graph:
    """The graph without the edge from ``src`` to ``tgt``; ``GraphError`` if it has none."""
    find_edge(graph, src, tgt)
    return _next(graph, order=tuple(entry for entry in graph.order if not _is_edge(entry, src, tgt)))


def change_edge(graph: Graph, src: PortRef, tgt: PortRef, changes: Metadata) -> Graph:
    """The graph with ``changes`` merged into an edge's metadata: a value of None takes the key out."""
    find_edge(graph, src, tgt)
    return _next(
        graph,
        order=tuple(
            replace(entry, metadata=merged(entry.metadata, changes)) if _is_edge(entry, src, tgt) else entry
            for entry in graph.order
        ),
    )


def _is_edge(entry: Edge | Iip, src: PortRef, tgt: PortRef) -> bool:
    return isinstance(entry, Edge) and entry.src == src and entry.tgt == tgt


def add_iip(graph: Graph, iip: Iip) -> Graph:
    """The graph with one more IIP; its node must be there. A port may have several: they are sent in order."""
    _require_port(graph, iip.tgt)
    return _next(graph, order=(*graph.order, iip))


def remove_iips(graph: Graph, tgt: PortRef) -> Graph:
    """The graph without the IIPs of one inport; ``GraphError`` if it has none."""
    kept = tuple(entry for entry in graph.order if not (isinstance(entry, Iip) and entry.tgt == tgt))
    if len(kept) == len(graph.order):
        raise GraphError(str(tgt), "the graph has no IIP for this port")
    return _next(graph, order=kept)


def find_export(graph: Graph, direction: Direction, name: str) -> Export:
    """The exported port ``name``; ``PortUnknown`` with the names that are there."""
    exports = graph.exports(direction)
    for export in exports:
        if export.name == name:
            return export
    known = _listed(export.name for export in exports)
    raise PortUnknown(name, f"the graph exports no {direction}port of this name (it exports: {known})")


def add_export(graph: Graph, direction: Direction, export: Export) -> Graph:
    """The graph with one more exported port; its node must be there, its public name must be free."""
    _require_port(graph, export.ref)
    if not export.name:
        raise GraphError(str(export.ref), "an exported port needs a name")
    if any(known.name == export.name for known in graph.exports(direction)):
        raise GraphError(export.name, f"the graph exports an {direction}port of this name already")
    return _with_exports(graph, direction, (*graph.exports(direction), export))


def remove_export(graph: Graph, direction: Direction, name: str) -> Graph:
    """The graph without an exported port."""
    find_export(graph, direction, name)
    return _with_exports(graph, direction, tuple(e for e in graph.exports(direction) if e.name != name))


def rename_export(graph: Graph, direction: Direction, old: str, new: str) -> Graph:
    """The graph with an exported port under another public name, at its place."""
    find_export(graph, direction, old)
    if old != new and any(export.name == new for export in graph.exports(direction)):
        raise GraphError(new, f"the graph exports an {direction}port of this name already")
    if not new:
        raise GraphError(old, "an exported port needs a name")
    changed = tuple(replace(e, name=new) if e.name == old else e for e in graph.exports(direction))
    return _with_exports(graph, direction, changed)


def _with_exports(graph: Graph, direction: Direction, exports: tuple[Export, ...]) -> Graph:
    return _next(graph, inports=exports) if direction is Direction.IN else _next(graph, outports=exports)


def find_group(graph: Graph, name: str) -> Metadata:
    """The group ``name``; ``GraphError`` if there is none."""
    for group in graph.groups:
        if group.get("name") == name:
            return group
    raise GraphError(name, "the graph has no such group")


def members(group: Metadata) -> list[str]:
    """The nodes of a group."""
    return list(group.get("nodes") or ())


def add_group(graph: Graph, name: str, nodes: Sequence[str], metadata: Metadata = NO_METADATA) -> Graph:
    """The graph with one more group of nodes, which must be there; one that is named twice is in it once."""
    if not name:
        raise GraphError("", "a group needs a name")
    if any(group.get("name") == name for group in graph.groups):
        raise GraphError(name, "the graph has a group of this name already")
    known = {node.id for node in graph.nodes}
    group: dict[str, Any] = {"name": name, "nodes": list(dict.fromkeys(nodes))}
    for node in group["nodes"]:
        if node not in known:
            graph.node(node)  # says so
    if metadata:
        group["metadata"] = dict(metadata)
    return _next(graph, groups=(*graph.groups, MappingProxyType(group)))


def remove_group(graph: Graph, name: str) -> Graph:
    """The graph without a group; its nodes stay."""
    find_group(graph, name)
    return _next(graph, groups=tuple(group for group in graph.groups if group.get("name") != name))


def rename_group(graph: Graph, old: str, new: str) -> Graph:
    """The graph with a group under another name, at its place."""
    find_group(graph, old)
    if not new:
        raise GraphError(old, "a group needs a name")
    if old != new and any(group.get("name") == new for group in graph.groups):
        raise GraphError(new, "the graph has a group of this name already")
    return _with_group(graph, old, {"name": new})


def change_group(graph: Graph, name: str, changes: Metadata) -> Graph:
    """The graph with ``changes`` merged into a group's metadata: a value of None takes the key out."""
    metadata = merged(find_group(graph, name).get("metadata") or {}, changes)
    return _with_group(graph, name, {"metadata": dict(metadata)})


def _with_group(graph: Graph, name: str, changes: Metadata) -> Graph:
    return _next(
        graph,
        groups=tuple(
            MappingProxyType({**group, **changes}) if group.get("name") == name else group for group in graph.groups
        ),
    )


def _with_members(group: Metadata, nodes: list[str]) -> Metadata:
    return group if nodes == members(group) else MappingProxyType({**group, "nodes": nodes})


def change_properties(graph: Graph, changes: Metadata) -> Graph:
    """The graph with ``changes`` merged into its properties; ``name`` among them is the graph's name."""
    properties = merged(graph.properties, changes)
    return _next(graph, properties=properties, name=str(properties.get("name") or ""))


def merged(metadata: Metadata, changes: Metadata) -> Metadata:
    """``metadata`` with the keys of ``changes`` replaced, and those whose value is None taken out."""
    together = {**metadata, **changes}
    return MappingProxyType({key: value for key, value in together.items() if value is not None})


def _next(graph: Graph, **changes: Any) -> Graph:
    return replace(graph, revision=graph.revision + 1, **changes)
