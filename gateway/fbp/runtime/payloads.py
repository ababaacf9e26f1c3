"""What happened -> the payloads that tell of it (reference: fbp-runtime-protocol, sections 3 to 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.fbp.runtime.backend import Asked, ComponentInfo, Data, Edited, NetworkStatus, RuntimeInfo, Source
from gateway.fbp.runtime.protocol_messages import VERSION, Reply
from gateway.fbp.text.graph_json import dumps
from gateway.model import edits as e
from gateway.model import graph as g
from gateway.model.graph import Edge, Graph, Metadata
from gateway.model.port import Direction, PortDef, PortRef

LIBRARY_SEPARATOR = "/"


def runtime(info: RuntimeInfo, capabilities: Iterable[str]) -> Reply:
    """``runtime:runtime``."""
    payload: dict[str, Any] = {
        "id": info.id,
        "label": info.label,
        "version": VERSION,
        "type": info.type,
        "capabilities": sorted(capabilities),
        "allCapabilities": sorted(info.offers),
    }
    optional = {"graph": info.main, "namespace": info.namespace, "repository": info.repository}
    return Reply("runtime", "runtime", payload | {key: value for key, value in optional.items() if value})


def ports(graph_id: str, graph: Graph, components: Sequence[ComponentInfo]) -> Reply:
    """``runtime:ports``: the exported ports with what is known of the ports behind them."""
    known = {component.name: component for component in components}

    def exported(direction: Direction) -> list[dict[str, Any]]:
        return [
            port_definition(export.name, _port_behind(known, graph, direction, export.ref))
            for export in graph.exports(direction)
        ]

    payload = {"graph": graph_id, "inPorts": exported(Direction.IN), "outPorts": exported(Direction.OUT)}
    return Reply("runtime", "ports", payload)


def _port_behind(
    known: Mapping[str, ComponentInfo], graph: Graph, direction: Direction, ref: PortRef
) -> PortDef | None:
    component = known.get(graph.node(ref.node).component)
    if component is None:
        return None
    candidates = component.inports if direction is Direction.IN else component.outports
    return next((port for port in candidates if port.id == ref.port), None)


def port_definition(name: str, port: PortDef | None) -> dict[str, Any]:
    """A port as clients know it: no queue, nothing beyond the schema."""
    definition: dict[str, Any] = {"id": name, "type": (port.type if port else "") or "any"}
    if port is not None and port.description:
        definition["description"] = port.description
    if port is not None and port.required:
        definition["required"] = True
    return definition


def component(info: ComponentInfo) -> Reply:
    """``component:component``."""
    payload: dict[str, Any] = {
        "name": info.name,
        "subgraph": False,
        "inPorts": [port_definition(port.id, port) for port in info.inports],
        "outPorts": [port_definition(port.id, port) for port in info.outports],
    }
    optional = {"description": info.description, "icon": info.icon}
    return Reply("component", "component", payload | {key: value for key, value in optional.items() if value})


def source(found: Source, response_to: str | None) -> Reply:
    """``component:source``."""
    payload = {"name": found.name, "language": found.language, "code": found.code}
    optional = {"library": found.library, "tests": found.tests}
    return Reply("component", "source", payload | {key: value for key, value in optional.items() if value}, response_to)


def graph_source(graph_id: str, graph: Graph) -> Source:
    """A live graph as a component's source: this is how an editor loads what runs."""
    library, separator, name = graph_id.partition(LIBRARY_SEPARATOR)
    if not separator:
        library, name = "", graph_id
    return Source(name, "json", dumps(graph), library)


def status(graph_id: str, network: NetworkStatus, debug: bool | None = None) -> dict[str, Any]:
    """The payload of ``network:status``. No time (strict clients refuse it), no uptime (one of them compares)."""
    payload: dict[str, Any] = {"graph": graph_id, "running": network.running, "started": network.started}
    if debug is not None:
        payload["debug"] = debug
    return payload


def started(graph_id: str, network: NetworkStatus) -> dict[str, Any]:
    """The payload of ``network:started``."""
    payload = {"graph": graph_id, "started": network.started, "running": network.running}
    return payload | ({"time": network.time} if network.time else {})


def stopped(graph_id: str, network: NetworkStatus) -> dict[str, Any]:
    """The payload of ``network:stopped``. Its ``uptime`` is that of the run which ended."""
    uptime = {} if network.uptime_s is None else {"uptime": round(network.uptime_s, 3)}
    return started(graph_id, network) | uptime


def data(change: Data) -> dict[str, Any]:
    """The payload of ``network:data``. Its id is a line in the graph language."""
    tgt = f"{_label(change.tgt)} {change.tgt.node}()"
    src = f"{change.src.node}() {_label(change.src)}" if change.src else "DATA"
    payload: dict[str, Any] = {
        "id": f"{src} -> {tgt}",
        "tgt": end(change.tgt),
        "graph": change.graph_id,
        "data": change.data,
    }
    return payload if change.src is None else payload | {"src": end(change.src)}


def _label(ref: PortRef) -> str:
    return ref.port.upper() + ("" if ref.index is None else f"[{ref.index}]")


def end(ref: PortRef) -> dict[str, Any]:
    """An end of an edge."""
    payload: dict[str, Any] = {"node": ref.node, "port": ref.port}
    return payload if ref.index is None else payload | {"index": ref.index}


# -- edits -------------------------------------------------------------------------------------------------------


def edited(change: Edited) -> list[tuple[str, dict[str, Any]]]:
    """Commands of the sub-protocol graph and their payloads, in order; the last one is the answer proper."""
    always = change.asked is not None and change.asked.with_metadata
    return [
        (command, {**payload, "graph": change.graph_id})
        for command, payload in _told(change.edit, change.before, change.after, always)
    ]


def implied(graph_id: str, edge: Edge, there: bool) -> Reply:
    """That an edge which nobody drew is there, or is no more."""
    payload = {**_ends(edge.src, edge.tgt), **({"metadata": dict(edge.metadata)} if there else {}), "graph": graph_id}
    return Reply("graph", "addedge" if there else "removeedge", payload)


def asks_for_ports(change: Edited) -> bool:
    """Whether the exported ports are others than before."""
    return (change.before.inports, change.before.outports) != (change.after.inports, change.after.outports)


_Told = Iterator[tuple[str, dict[str, Any]]]


def _told(edit: e.Edit, before: Graph, after: Graph, always: bool) -> _Told:
    match edit:
        case e.AddNode(node):
            yield "addnode", {"id": node.id, "component": node.component, **_metadata(node.metadata, always)}
        case e.RemoveNode(node_id):
            yield from _removed_with(before, node_id)
            yield "removenode", {"id": node_id}
        case e.RenameNode(old, new):
            yield "renamenode", {"from": old, "to": new}
        case e.ChangeNode(node_id):
            yield "changenode", {"id": node_id, "metadata": dict(after.node(node_id).metadata)}
        case e.AddEdge(edge):
            yield "addedge", {**_ends(edge.src, edge.tgt), **_metadata(edge.metadata, always)}
        case e.RemoveEdge(src, tgt):
            yield "removeedge", _ends(src, tgt)
        case e.ChangeEdge(src, tgt):
            yield "changeedge", {**_ends(src, tgt), "metadata": dict(g.find_edge(after, src, tgt).metadata)}
        case e.AddIip(iip):
            yield "addinitial", {"src": {"data": iip.data}, "tgt": end(iip.tgt), **_metadata(iip.metadata, always)}
        case e.RemoveIips(tgt):
            for iip in before.iips:
                if iip.tgt == tgt:
                    yield "removeinitial", {"src": {"data": iip.data}, "tgt": end(tgt)}
        case e.AddExport(direction, export):
            where = {"public": export.name, "node": export.ref.node, "port": export.ref.port}
            yield f"add{direction}port", {**where, **_metadata(export.metadata, always)}
        case e.RemoveExport(direction, name):
            yield f"remove{direction}port", {"public": name}
        case e.RenameExport(direction, old, new):
            yield f"rename{direction}port", {"from": old, "to": new}
        case e.AddGroup(name, nodes, metadata):
            yield "addgroup", {"name": name, "nodes": list(nodes), **_metadata(metadata, always)}
        case e.RemoveGroup(name):
            yield "removegroup", {"name": name}
        case e.RenameGroup(old, new):
            yield "renamegroup", {"from": old, "to": new}
        case e.ChangeGroup(name):
            yield "changegroup", {"name": name, "metadata": dict(g.find_group(after, name).get("metadata") or {})}
        case e.ChangeProperties():
            return  # the protocol has no words for them


def _removed_with(before: Graph, node_id: str) -> _Told:
    """What goes with a node."""
    for entry in before.order:
        if node_id not in g.touches(entry):
            continue
        if isinstance(entry, Edge):
            yield "removeedge", _ends(entry.src, entry.tgt)
        else:
            yield "removeinitial", {"src": {"data": entry.data}, "tgt": end(entry.tgt)}
    for direction in Direction:
        for export in before.exports(direction):
            if export.ref.node == node_id:
                yield f"remove{direction}port", {"public": export.name}


def _ends(src: PortRef, tgt: PortRef) -> dict[str, Any]:
    return {"src": end(src), "tgt": end(tgt)}


def _metadata(metadata: Metadata, always: bool) -> dict[str, Any]:
    return {"metadata": dict(metadata)} if metadata or always else {}


def response_to(asked: Asked | None, client: str) -> str | None:
    """The request id that a change answers, if it was this client's request."""
    return asked.request_id if asked is not None and asked.client == client else None
