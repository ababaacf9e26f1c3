"""The FBP JSON graph format <-> ``Graph`` (reference: fbp-graph, section 3). Same graph, same bytes."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import GraphError
from gateway.fbp.text.json_depth import DEEPEST, is_too_deep
from gateway.model.graph import Edge, Export, Graph, Iip, Metadata, Node
from gateway.model.port import PortRef

LARGEST_TEXT = 16 << 20
"""Bytes of a graph that is saved: no longer file is read."""


def loads(text: str, source: str = "graph") -> Graph:
    """The graph of a JSON text. ``GraphError`` names the place, as in ``lamp.json: connections[3].tgt``."""
    if not text.strip():
        raise GraphError(source, "is empty; the least graph is {}")
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise GraphError(source, f"no valid JSON: {exc}") from exc
    except RecursionError:
        raise GraphError(source, f"nested deeper than {DEEPEST}") from None
    return from_json(document, source)


def from_json(document: Any, source: str = "graph") -> Graph:
    """The graph of a decoded document."""
    if is_too_deep(document):
        raise GraphError(source, f"nested deeper than {DEEPEST}")
    reader = _Reader(source)
    top = reader.table(document, "the graph")
    properties = reader.table(_part(top, "properties", {}), "properties")
    nodes = tuple(
        reader.node(name, entry) for name, entry in reader.table(_part(top, "processes", {}), "processes").items()
    )
    reader.known = {node.id for node in nodes}
    groups = reader.listing(_part(top, "groups", []), "groups")
    connections = reader.listing(_part(top, "connections", []), "connections")
    return Graph(
        name=str(properties.get("name") or ""),
        nodes=nodes,
        order=tuple(reader.connection(entry, f"connections[{n}]") for n, entry in enumerate(connections)),
        inports=reader.exports(_part(top, "inports", {}), "inports"),
        outports=reader.exports(_part(top, "outports", {}), "outports"),
        groups=tuple(reader.group(entry, f"groups[{n}]") for n, entry in enumerate(groups)),
        properties=MappingProxyType(properties),
        case_sensitive=bool(top.get("caseSensitive")),
        extra=_beyond(top, *_TOP),
    )


_TOP = ("caseSensitive", "properties", "inports", "outports", "groups", "processes", "connections")


def _beyond(fields: dict[str, Any], *known: str) -> Metadata:
    """What a part says beyond the format: kept, so that saving loses nothing of other tools."""
    return MappingProxyType({key: value for key, value in fields.items() if key not in known})


def _part(document: dict[str, Any], key: str, default: Any) -> Any:
    """A part of a document; missing and null are the same."""
    value = document.get(key)
    return default if value is None else value


class _Reader:
    """Reads the parts of one document, and names the place of what is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.known: set[str] = set()

    def fail(self, place: str, problem: str) -> GraphError:
        return GraphError(f"{self._source}: {place}", problem)

    def table(self, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(place, "must be an object")
        return value

    def listing(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(place, "must be a list")
        return value

    def node(self, name: str, entry: Any) -> Node:
        fields = self.table(entry, f"processes.{name}")
        component = fields.get("component")
        if not isinstance(component, str) or not component:
            raise self.fail(f"processes.{name}.component", "must name a component")
        metadata = self._metadata(fields, f"processes.{name}")
        return Node(name, component, metadata, _beyond(fields, "component", "metadata"))

    def _metadata(self, fields: dict[str, Any], place: str) -> Metadata:
        return MappingProxyType(self.table(fields.get("metadata") or {}, f"{place}.metadata"))

    def connection(self, entry: Any, place: str) -> Edge | Iip:
        fields = self.table(entry, place)
        tgt = self._ref(fields.get("tgt"), f"{place}.tgt")
        metadata = self._metadata(fields, place)
        if "data" in fields:  # 0, false, null and "" are data too
            return Iip(tgt, fields["data"], metadata, _beyond(fields, "data", "src", "tgt", "metadata"))
        src = self._ref(fields.get("src"), f"{place}.src")
        return Edge(src, tgt, metadata, _beyond(fields, "src", "tgt", "metadata"))

    def _ref(self, value: Any, place: str) -> PortRef:
        fields = self.table(value, place)
        process, port, index = fields.get("process"), fields.get("port"), fields.get("index")
        if not isinstance(process, str) or not isinstance(port, str) or not port:
            raise self.fail(place, "must have the texts process and port")
        if process not in self.known:
            raise self.fail(place, f"no process {process!r} in the graph")
        if index is not None and (not isinstance(index, int) or isinstance(index, bool) or index < 0):
            raise self.fail(f"{place}.index", "must be a whole number from 0")
        return PortRef(process, port, index)

    def exports(self, value: Any, place: str) -> tuple[Export, ...]:
        if value == []:  # real files hold an empty list where the format says object
            return ()
        return tuple(self._export(name, entry, f"{place}.{name}") for name, entry in self.table(value, place).items())

    def _export(self, name: str, entry: Any, place: str) -> Export:
        fields = self.table(entry, place)
        extra = _beyond(fields, "process", "port", "index", "metadata")
        return Export(name, self._ref(entry, place), self._metadata(fields, place), extra)

    def group(self, entry: Any, place: str) -> Metadata:
        fields = self.table(entry, place)
        if not isinstance(fields.get("name"), str):
            raise self.fail(f"{place}.name", "must be a text")
        for node in self.listing(fields.get("nodes", []), f"{place}.nodes"):
            if not isinstance(node, str) or node not in self.known:
                raise self.fail(f"{place}.nodes", f"no process {node!r} in the graph")
        self._metadata(fields, place)
        return MappingProxyType(fields)


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph as a document for any JSON writer."""
    document: dict[str, Any] = {
        "properties": dict(graph.properties),
        "inports": {export.name: _export(export) for export in graph.inports},
        "outports": {export.name: _export(export) for export in graph.outports},
        "groups": [dict(group) for group in graph.groups],
        "processes": {node.id: _process(node) for node in graph.nodes},
        "connections": [_connection(entry) for entry in graph.order],
        "caseSensitive": graph.case_sensitive,
        **graph.extra,
    }
    if not document["properties"]:
        del document["properties"]
    return document


def dumps(graph: Graph) -> str:
    """The graph as text: two blanks of indent, the order of the graph, one newline at the end."""
    return json.dumps(to_json(graph), indent=2, ensure_ascii=False) + "\n"


def _with_metadata(metadata: Metadata) -> dict[str, Any]:
    return {"metadata": dict(metadata)} if metadata else {}


def _process(node: Node) -> dict[str, Any]:
    return {"component": node.component, **_with_metadata(node.metadata), **node.extra}


def _export(export: Export) -> dict[str, Any]:
    return {**_ref(export.ref), **_with_metadata(export.metadata), **export.extra}


def _ref(ref: PortRef) -> dict[str, Any]:
    fields: dict[str, Any] = {"process": ref.node, "port": ref.port}
    if ref.index is not None:
        fields["index"] = ref.index
    return fields


def _connection(entry: Edge | Iip) -> dict[str, Any]:
    source = {"src": _ref(entry.src)} if isinstance(entry, Edge) else {"data": entry.data}
    return {**source, "tgt": _ref(entry.tgt), **_with_metadata(entry.metadata), **entry.extra}
