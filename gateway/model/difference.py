"""The edits that lead from one graph to another: what ``graph diff`` prints and ``graph apply`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.model import graph as g
from gateway.model.edits import (
    AddEdge,
    AddExport,
    AddGroup,
    AddIip,
    AddNode,
    ChangeEdge,
    ChangeGroup,
    ChangeNode,
    ChangeProperties,
    Edit,
    RemoveEdge,
    RemoveExport,
    RemoveGroup,
    RemoveIips,
    RemoveNode,
    RenameExport,
    RenameGroup,
    RenameNode,
    as_edit,
)
from gateway.model.graph import Export, Graph, Iip, Metadata
from gateway.model.port import Direction, PortRef


def difference(before: Graph, after: Graph) -> tuple[Edit, ...]:
    """The edits that make ``after`` of ``before``, as few and as small as they can be.

    What changes its component is removed and added anew. The order of nodes and connections is not compared.
    """
    wanted = {node.id: node.component for node in after.nodes}
    gone = {node.id for node in before.nodes if wanted.get(node.id) != node.component}
    edits: list[Edit] = [RemoveNode(node.id) for node in before.nodes if node.id in gone]
    reached = g.remove_nodes(before, gone)
    kept = {node.id: node for node in reached.nodes}
    for node in after.nodes:
        if node.id not in kept:
            edits.append(AddNode(node))
        elif changes := _changes(kept[node.id].metadata, node.metadata):
            edits.append(ChangeNode(node.id, changes))
    edits += _edge_edits(reached, after)
    edits += _iip_edits(reached, after)
    for direction in Direction:
        edits += _export_edits(reached, after, direction)
    edits += _group_edits(reached, after)
    if changes := _changes(before.properties, after.properties):
        edits.append(ChangeProperties(changes))
    return tuple(edits)


def _changes(before: Metadata, after: Metadata) -> Metadata:
    changed = {key: value for key, value in after.items() if not _same(before.get(key), value)}  # a null is nothing
    return {**{key: None for key in before if key not in after}, **changed}


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one in JSON: 1, 1.0 and true are equal to Python, and not there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _edge_edits(before: Graph, after: Graph) -> list[Edit]:
    old = {(edge.src, edge.tgt): edge for edge in before.edges}
    new = {(edge.src, edge.tgt): edge for edge in after.edges}
    edits: list[Edit] = [RemoveEdge(*ends) for ends in old if ends not in new]
    for ends, edge in new.items():
        if ends not in old:
            edits.append(AddEdge(edge))
        elif changes := _changes(old[ends].metadata, edge.metadata):
            edits.append(ChangeEdge(*ends, changes))
    return edits


def _iip_edits(before: Graph, after: Graph) -> list[Edit]:
    """An inport whose IIPs changed gets all of them anew, because they are sent in order."""
    edits: list[Edit] = []
    ports: dict[PortRef, tuple[list[Iip], list[Iip]]] = {}
    for side, graph in enumerate((before, after)):
        for iip in graph.iips:
            ports.setdefault(iip.tgt, ([], []))[side].append(iip)
    for tgt, (old, new) in ports.items():
        if not _same([_facts(iip) for iip in old], [_facts(iip) for iip in new]):
            edits += [RemoveIips(tgt)] if old else []
            edits += [AddIip(iip) for iip in new]
    return edits


def _facts(iip: Iip) -> list[Any]:
    return [iip.data, iip.metadata, iip.extra]


def _export_edits(before: Graph, after: Graph, direction: Direction) -> list[Edit]:
    old = {export.name: export for export in before.exports(direction)}
    new = {export.name: export for export in after.exports(direction)}
    same = {name for name, export in old.items() if name in new and _is_same_export(export, new[name])}
    edits: list[Edit] = [RemoveExport(direction, name) for name in old if name not in same]
    return [*edits, *(AddExport(direction, export) for name, export in new.items() if name not in same)]


def _is_same_export(one: Export, other: Export) -> bool:
    return one.ref == other.ref and _same([one.metadata, one.extra], [other.metadata, other.extra])


def _group_edits(before: Graph, after: Graph) -> list[Edit]:
    old = {str(group.get("name")): as_edit(group) for group in before.groups}
    new = {str(group.get("name")): as_edit(group) for group in after.groups}
    same = {name for name, group in old.items() if name in new and _is_same_group(group, new[name])}
    edits: list[Edit] = [RemoveGroup(name) for name in old if name not in same]
    return [*edits, *(group for name, group in new.items() if name not in same)]


def _is_same_group(one: AddGroup, other: AddGroup) -> bool:
    return one.nodes == other.nodes and _same(one.metadata, other.metadata)


def describe(edit: Edit) -> str:
    """An edit as a line for people: what comes with ``+``, what goes with ``-``, what changes with ``~``."""
    match edit:
        case AddNode(node):
            return f"+ node {node.id} ({node.component}){_told(node.metadata)}"
        case RemoveNode(node_id):
            return f"- node {node_id}"
        case ChangeNode(node_id, metadata):
            return f"~ node {node_id}{_told(metadata)}"
        case RenameNode(old, new):
            return f"~ node {old} is now {new}"
        case AddEdge(edge):
            return f"+ edge {edge}{_told(edge.metadata)}"
        case RemoveEdge(src, tgt):
            return f"- edge {src}->{tgt}"
        case ChangeEdge(src, tgt, metadata):
            return f"~ edge {src}->{tgt}{_told(metadata)}"
        case AddIip(iip):
            return f"+ iip {json.dumps(iip.data, ensure_ascii=False)} -> {iip.tgt}{_told(iip.metadata)}"
        case RemoveIips(tgt):
            return f"- iip -> {tgt}"
        case AddExport(direction, export):
            return f"+ {direction}port {export.name} = {export.ref}{_told(export.metadata)}"
        case RemoveExport(direction, name):
            return f"- {direction}port {name}"
        case RenameExport(direction, old, new):
            return f"~ {direction}port {old} is now {new}"
        case AddGroup(name, nodes, metadata):
            return f"+ group {name}: {', '.join(nodes)}{_told(metadata)}"
        case RemoveGroup(name):
            return f"- group {name}"
        case RenameGroup(old, new):
            return f"~ group {old} is now {new}"
        case ChangeGroup(name, metadata):
            return f"~ group {name}{_told(metadata)}"
        case ChangeProperties(properties):
            return f"~ properties{_told(properties)}"


def _told(metadata: Metadata) -> str:
    parts = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in metadata.items()]
    return f" [{', '.join(parts)}]" if parts else ""
