"""Edits of a graph as data: what a client asks for, what others are told, what ``graph apply`` shows before it acts.

Each edit knows the graph after it and the edits that take it back. Taking back restores every node, edge, IIP, export
and group; what was removed comes back at the end of its list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.model import graph as g
from gateway.model.graph import Edge, Export, Graph, Iip, Metadata, Node
from gateway.model.port import Direction, PortRef


@dataclass(frozen=True, slots=True)
class AddNode:
    """One more node."""

    node: Node


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """A node goes, with everything that touches it."""

    id: str


@dataclass(frozen=True, slots=True)
class RenameNode:
    """A node gets another name; everything that names it follows."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ChangeNode:
    """Metadata of a node is merged: a value of None takes its key out."""

    id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class AddEdge:
    """One more edge."""

    edge: Edge


@dataclass(frozen=True, slots=True)
class RemoveEdge:
    """An edge goes."""

    src: PortRef
    tgt: PortRef


@dataclass(frozen=True, slots=True)
class ChangeEdge:
    """Metadata of an edge is merged."""

    src: PortRef
    tgt: PortRef
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class AddIip:
    """One more IIP."""

    iip: Iip


@dataclass(frozen=True, slots=True)
class RemoveIips:
    """The IIPs of an inport go."""

    tgt: PortRef


@dataclass(frozen=True, slots=True)
class AddExport:
    """One more exported port."""

    direction: Direction
    export: Export


@dataclass(frozen=True, slots=True)
class RemoveExport:
    """An exported port goes."""

    direction: Direction
    name: str


@dataclass(frozen=True, slots=True)
class RenameExport:
    """An exported port gets another public name."""

    direction: Direction
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class AddGroup:
    """One more group of nodes."""

    name: str
    nodes: tuple[str, ...]
    metadata: Metadata = field(default_factory=lambda: g.NO_METADATA, hash=False)


@dataclass(frozen=True, slots=True)
class RemoveGroup:
    """A group goes; its nodes stay."""

    name: str


@dataclass(frozen=True, slots=True)
class RenameGroup:
    """A group gets another name."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """Metadata of a group is merged."""

    name: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class ChangeProperties:
    """Properties of the graph are merged."""

    properties: Metadata


Edit: TypeAlias = (
    AddNode
    | RemoveNode
    | RenameNode
    | ChangeNode
    | AddEdge
    | RemoveEdge
    | ChangeEdge
    | AddIip
    | RemoveIips
    | AddExport
    | RemoveExport
    | RenameExport
    | AddGroup
    | RemoveGroup
    | RenameGroup
    | ChangeGroup
    | ChangeProperties
)


def apply_edit(graph: Graph, edit: Edit) -> Graph:
    """The graph after an edit. ``GraphError`` names what is in the way; nothing has changed then."""
    match edit:
        case AddNode() | RemoveNode() | RenameNode() | ChangeNode():
            return _apply_to_nodes(graph, edit)
        case AddEdge(edge):
            return g.add_edge(graph, edge)
        case RemoveEdge(src, tgt):
            return g.remove_edge(graph, src, tgt)
        case ChangeEdge(src, tgt, metadata):
            return g.change_edge(graph, src, tgt, metadata)
        case AddIip(iip):
            return g.add_iip(graph, iip)
        case RemoveIips(tgt):
            return g.remove_iips(graph, tgt)
        case AddExport(direction, export):
            return g.add_export(graph, direction, export)
        case RemoveExport(direction, name):
            return g.remove_export(graph, direction, name)
        case RenameExport(direction, old, new):
            return g.rename_export(graph, direction, old, new)
        case ChangeProperties(properties):
            return g.change_properties(graph, properties)
        case _:
            return _apply_to_groups(graph, edit)


def _apply_to_nodes(graph: Graph, edit: AddNode | RemoveNode | RenameNode | ChangeNode) -> Graph:
    match edit:
        case AddNode(node):
            return g.add_node(graph, node)
        case RemoveNode(node_id):
            return g.remove_node(graph, node_id)
        case RenameNode(old, new):
            return g.rename_node(graph, old, new)
        case ChangeNode(node_id, metadata):
            return g.change_node(graph, node_id, metadata)


def _apply_to_groups(graph: Graph, edit: AddGroup | RemoveGroup | RenameGroup | ChangeGroup) -> Graph:
    match edit:
        case AddGroup(name, nodes, metadata):
            return g.add_group(graph, name, nodes, metadata)
        case RemoveGroup(name):
            return g.remove_group(graph, name)
        case RenameGroup(old, new):
            return g.rename_group(graph, old, new)
        case ChangeGroup(name, metadata):
            return g.change_group(graph, name, metadata)


def apply_edits(graph: Graph, edits: Iterable[Edit]) -> Graph:
    """The graph after several edits, all or none."""
    for edit in edits:
        graph = apply_edit(graph, edit)
    return graph


def inverse(edit: Edit, before: Graph) -> tuple[Edit, ...]:
    """The edits that take ``edit`` back, which was or will be applied to ``before``."""
    match edit:
        case AddNode(node):
            return (RemoveNode(node.id),)
        case RemoveNode(node_id):
            return _put_back(before, node_id)
        case RenameNode(old, new):
            return (RenameNode(new, old),)
        case ChangeNode(node_id, metadata):
            return (ChangeNode(node_id, _undone(before.node(node_id).metadata, metadata)),)
        case AddEdge(edge):
            return (RemoveEdge(edge.src, edge.tgt),)
        case RemoveEdge(src, tgt):
            return (AddEdge(g.find_edge(before, src, tgt)),)
        case ChangeEdge(src, tgt, metadata):
            return (ChangeEdge(src, tgt, _undone(g.find_edge(before, src, tgt).metadata, metadata)),)
        case AddIip(iip):
            return (RemoveIips(iip.tgt), *iips_at(before, iip.tgt))
        case RemoveIips(tgt):
            return iips_at(before, tgt)
        case AddExport(direction, export):
            return (RemoveExport(direction, export.name),)
        case RemoveExport(direction, name):
            return (AddExport(direction, g.find_export(before, direction, name)),)
        case RenameExport(direction, old, new):
            return (RenameExport(direction, new, old),)
        case ChangeProperties(properties):
            return (ChangeProperties(_undone(before.properties, properties)),)
        case _:
            return _inverse_of_group(edit, before)


def _inverse_of_group(edit: AddGroup | RemoveGroup | RenameGroup | ChangeGroup, before: Graph) -> tuple[Edit, ...]:
    match edit:
        case AddGroup(name):
            return (RemoveGroup(name),)
        case RemoveGroup(name):
            return (as_edit(g.find_group(before, name)),)
        case RenameGroup(old, new):
            return (RenameGroup(new, old),)
        case ChangeGroup(name, metadata):
            return (ChangeGroup(name, _undone(g.find_group(before, name).get("metadata") or {}, metadata)),)


def as_edit(group: Metadata) -> AddGroup:
    """The edit that makes this group. A node that is named twice is in it once."""
    return AddGroup(
        str(group.get("name")), tuple(dict.fromkeys(g.members(group))), group.get("metadata") or g.NO_METADATA
    )


def iips_at(graph: Graph, tgt: PortRef) -> tuple[Edit, ...]:
    """The edits that make the IIPs of one inport."""
    return tuple(AddIip(iip) for iip in graph.iips if iip.tgt == tgt)


def _undone(metadata: Metadata, changes: Metadata) -> Metadata:
    return {key: metadata.get(key) for key in changes}


def _put_back(before: Graph, node_id: str) -> tuple[Edit, ...]:
    """A removed node, what touched it, and its places in groups: a group it was in is made anew."""
    edits: list[Edit] = [AddNode(before.node(node_id))]
    for entry in before.order:
        if node_id in g.touches(entry):
            edits.append(AddEdge(entry) if isinstance(entry, Edge) else AddIip(entry))
    for direction in Direction:
        edits += [AddExport(direction, e) for e in before.exports(direction) if e.ref.node == node_id]
    for group in before.groups:
        if node_id in g.members(group):
            edits += [RemoveGroup(str(group.get("name"))), as_edit(group)]
    return tuple(edits)
