"""``Graph`` -> ``.fbp`` text that reads back equal. What the language can't hold is refused by name.

Every node is declared once with its component, ports are always written, IIPs are quoted text where that is possible
and JSON elsewhere. Same graph, same bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from gateway.errors import GraphError
from gateway.model.graph import Edge, Export, Graph, Iip, Json, Metadata, Node
from gateway.model.port import PortRef

_NODE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_COMPONENT = re.compile(r"[A-Za-z0-9/_-]+")
_PORT = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_META = re.compile(r"[A-Za-z0-9/_]*")
_DIGITS = re.compile(r"0|[1-9][0-9]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VALUE = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9 _.-]*")
_TEXT = re.compile(r"[^'\\\x00-\x1f\x7f\u2028\u2029]*")

IN_JSON = "keep this graph as JSON"

MOST_DIGITS = 9
"""Of the index of an array port."""


def write(graph: Graph, source: str = "graph") -> str:
    """The text of a graph. ``GraphError`` names the first thing that the language has no words for.

    In a graph that is not case sensitive ports are written in capitals, as custom has it.
    """
    writer = _Writer(graph, source)
    blocks = [list(writer.exports()), list(writer.annotations()), list(writer.nodes()), list(writer.connections())]
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks if block)


class _Writer:
    def __init__(self, graph: Graph, source: str) -> None:
        self._graph = graph
        self._source = source
        for place, extra in (("the graph", graph.extra), *((f"group {g.get('name')}", g) for g in graph.groups)):
            if extra:
                raise self._fail(place, "the .fbp language has no groups and no keys of its own")

    def _fail(self, place: str, problem: str) -> GraphError:
        return GraphError(f"{self._source}: {place}", f"{problem}; {IN_JSON}")

    # -- the blocks of the text ------------------------------------------------------------------------------------

    def exports(self) -> Iterator[str]:
        for keyword, exports in (("INPORT", self._graph.inports), ("OUTPORT", self._graph.outports)):
            for export in exports:
                yield self._export(keyword, export)

    def _export(self, keyword: str, export: Export) -> str:
        place = f"{keyword}={export.ref}:{export.name}"
        self._nothing_more(place, export.metadata, export.extra)
        if export.ref.index is not None:
            raise self._fail(place, "an exported port can't have an index in the .fbp language")
        self._name(_PORT, export.name, place, "exported port")
        return f"{keyword}={self._node_name(export.ref.node)}.{self._port(export.ref)}:{export.name}"

    def annotations(self) -> Iterator[str]:
        for key, value in self._graph.properties.items():
            place = f"property {key}"
            if key == "environment":
                if not isinstance(value, dict) or set(value) != {"type"}:
                    raise self._fail(place, "only its type has a place in the .fbp language")
                key, value = "runtime", value["type"]
            elif key == "runtime":
                raise self._fail(place, "in the .fbp language this word means environment")
            if not _KEY.fullmatch(key) or not isinstance(value, str) or not _VALUE.fullmatch(value):
                raise self._fail(place, f"{value!r} does not fit: only text of letters, digits, blanks and _ . -")
            yield f"# @{key} {value}"

    def nodes(self) -> Iterator[str]:
        for node in self._graph.nodes:
            if not _COMPONENT.fullmatch(node.component):
                raise self._fail(
                    f"node {node.id}", f"component {node.component!r} does not fit: only letters, digits and / _ -"
                )
            self._nothing_more(f"node {node.id}", {}, node.extra)
            meta = ",".join(self._metadata(node))
            yield f"{self._node_name(node.id)}({node.component}{f':{meta}' if meta else ''})"

    def _metadata(self, node: Node) -> Iterator[str]:
        for key, value in node.metadata.items():
            place = f"node {node.id}: metadata {key}"
            if key in ("x", "y"):
                fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
                if not fits and not (isinstance(value, str) and _META.fullmatch(value) and not _DIGITS.match(value)):
                    raise self._fail(place, f"{value!r} does not fit: only whole numbers from 0")
            elif not isinstance(value, str) or not _META.fullmatch(value) or not _META.fullmatch(key):
                raise self._fail(place, f"{value!r} does not fit: only text of letters, digits and / _")
            yield f"{key}={value}"

    def connections(self) -> Iterator[str]:
        for entry in self._graph.order:
            if isinstance(entry, Edge):
                self._nothing_more(str(entry), entry.metadata, entry.extra)
                src = f"{self._node_name(entry.src.node)} {self._indexed(entry.src)}"
                yield f"{src} -> {self._indexed(entry.tgt)} {self._node_name(entry.tgt.node)}"
            else:
                place = f"IIP for {entry.tgt}"
                self._nothing_more(place, entry.metadata, entry.extra)
                literal = self._literal(entry, place)
                yield f"{literal} -> {self._indexed(entry.tgt)} {self._node_name(entry.tgt.node)}"

    # -- words -----------------------------------------------------------------------------------------------------

    def _literal(self, iip: Iip, place: str) -> str:
        data = iip.data
        if data is None or isinstance(data, bool):
            raise self._fail(place, f"a bare {json.dumps(data)} is the name of a node in the .fbp language")
        if isinstance(data, str) and _TEXT.fullmatch(data):
            return f"'{data}'"
        if not _is_json(data):
            raise self._fail(place, f"{data!r} is no JSON")
        return json.dumps(data, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

    def _nothing_more(self, place: str, metadata: Metadata, extra: Metadata) -> None:
        if metadata or extra:
            keys = ", ".join([*metadata, *extra])
            raise self._fail(place, f"the .fbp language has no place for its metadata ({keys})")

    def _node_name(self, name: str) -> str:
        if not _NODE.fullmatch(name):
            raise self._fail(f"node {name!r}", "its name does not fit: a letter or _, then letters, digits, _ and -")
        return name

    def _indexed(self, ref: PortRef) -> str:
        if ref.index is not None and ref.index >= 10**MOST_DIGITS:
            raise self._fail(
                f"{ref.node}.{ref.port}", f"an index has at most {MOST_DIGITS} digits in the .fbp language"
            )
        return self._port(ref) + ("" if ref.index is None else f"[{ref.index}]")

    def _port(self, ref: PortRef) -> str:
        return self._name(_PORT, ref.port, str(ref), "port")

    def _name(self, pattern: re.Pattern[str], name: str, place: str, what: str) -> str:
        if not pattern.fullmatch(name):
            raise self._fail(place, f"{what} {name!r} does not fit: a letter or _, then letters, digits, _ and .")
        if self._graph.case_sensitive:
            return name
        if name != name.lower():
            raise self._fail(place, f"{what} {name!r} has capitals, and this graph is not case sensitive")
        return name.upper()


def _is_json(data: Json) -> bool:
    """Whether a value can be written as JSON: no NaN, no infinity."""
    match data:
        case float():
            return math.isfinite(data)
        case list():
            return all(_is_json(item) for item in data)
        case dict():
            values: list[Any] = list(data.values())
            return all(isinstance(key, str) for key in data) and all(_is_json(value) for value in values)
        case _:
            return data is None or isinstance(data, bool | int | str)
