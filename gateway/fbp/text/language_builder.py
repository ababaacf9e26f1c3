"""From the words of a chain to nodes, edges and IIPs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NoReturn

from gateway.errors import GraphError, GraphSyntaxError, NodeUnknown
from gateway.fbp.text.json_depth import DEEPEST, is_too_deep
from gateway.model.graph import Edge, Export, Graph, Iip, Json, Node
from gateway.model.port import PortRef

LONGEST_TEXT = 1 << 20
"""Characters of a graph; more is taken for another sort of file."""

MOST_DIGITS = 9
"""Of a node's place in a drawing."""

_WORD = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)?(?:\[(?P<index>\d+)\])?"
    r"(?P<declared>\((?P<component>[A-Za-z0-9/_-]*)(?::(?P<meta>[^)]*))?\))?"
)
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PORT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True)
class Element:
    """What stands between two arrows: words, or a literal (quoted ``text``, or ``json``). Line and column from 1."""

    line: int
    column: int
    words: tuple[str, ...] = ()
    text: str | None = None
    json: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A node in a chain with the ports that were written beside it."""

    node: str
    inport: tuple[str, int | None] | None
    outport: tuple[str, int | None] | None


class Builder:
    """Takes statements in order and makes the graph of them."""

    def __init__(self, source: str, case_sensitive: bool, declared: Collection[str] = ()) -> None:
        """``declared`` are the nodes that have parentheses anywhere in the text."""
        self._source = source
        self._declared = declared
        self._case_sensitive = case_sensitive
        self._nodes: dict[str, Node] = {}
        self._order: list[Edge | Iip] = []
        self._exports: dict[str, dict[str, Export]] = {"INPORT": {}, "OUTPORT": {}}
        self._properties: dict[str, Any] = {}
        self._anonymous: dict[str, int] = {}
        self._default_in = "IN"
        self._default_out = "OUT"

    # -- statements ------------------------------------------------------------------------------------------------

    def directive(self, kind: str, text: str, line: int, column: int) -> None:
        """An export, a default port, or an annotation."""
        if kind == "ANNOTATION":
            key, _, value = text.partition("@")[2].partition(" ")
            value = value.lstrip(" ")
            if key == "runtime":
                self._properties["environment"] = {"type": value}
            else:
                self._properties[key] = value
            return
        _, _, rest = text.partition("=")
        if kind == "DEFAULT_INPORT":
            self._default_in = rest
        elif kind == "DEFAULT_OUTPORT":
            self._default_out = rest
        else:
            inner, _, public = rest.rpartition(":")
            node, _, port = self._split_export(inner, line, column)
            name = self._fold(public)
            self._exports[kind].pop(name, None)
            self._exports[kind][name] = Export(name, PortRef(node, self._fold(port)))

    def _split_export(self, inner: str, line: int, column: int) -> tuple[str, str, str]:
        head, dot, port = inner.partition(".")
        word = _WORD.fullmatch(head)
        if word is None or word["name"] is None or not dot:
            raise GraphSyntaxError(self._source, line, column, f"{inner!r} is no node.port")
        if word["declared"]:
            self._declare(word)
        return word["name"], dot, port

    def chain(self, elements: Sequence[Element]) -> None:
        """One chain; a single element only declares nodes. Where words are left over, the next chain begins."""
        last = len(elements) - 1
        literal: Json = None
        left: _Place | None = None
        for number, element in enumerate(elements):
            if element.text is not None or element.json is not None:
                if number or not last:
                    self._fail(element, "a literal stands at the beginning of a chain, before an arrow")
                literal = element.text if element.text is not None else self._json(element)
                continue
            *ended, open_one = self._split(element, leads_on=number < last)
            for at, part in enumerate([*ended, open_one]):
                first = number == 0 or at > 0
                here = self._place(part, first=first, last=number == last or at < len(ended))
                if not first:
                    tgt = self._ref(here.node, here.inport, self._default_in)
                    if left is None:
                        self._order.append(Iip(tgt, literal))
                    else:
                        self._order.append(Edge(self._ref(left.node, left.outport, self._default_out), tgt))
                left = here

    def _split(self, element: Element, *, leads_on: bool) -> list[Element]:
        """The words of one element, and those that begin further statements: `IN B(Y) C(Z)`, `A(X)B(Y)`.

        Only where parentheses or an arrow show that nothing was forgotten in between.
        """
        words = element.words
        nodes = [n for n, word in enumerate(words) if "(" in word]
        parts: list[Element] = []
        at = seen = 0  # where the rest begins, and how many of the nodes lie before
        while True:
            node = nodes[seen] - at if seen < len(nodes) else None
            count = len(words) - at
            if len(nodes) - seen < 2 and count <= 3 and (node is None or (node < 2 and count - node <= 2)):
                return [*parts, replace(element, words=words[at:])]
            taken = 1 if node == 0 else 2
            whole = node is not None and node < taken
            if not whole or count <= taken or not (leads_on or nodes[-1] >= at + taken):
                self._fail(element, "too many words between two arrows; is an arrow missing, or a comma?")
            parts.append(replace(element, words=words[at : at + taken]))
            at += taken
            while seen < len(nodes) and nodes[seen] < at:
                seen += 1

    def _json(self, element: Element) -> Json:
        try:
            value: Json = json.loads(element.json or "", parse_constant=_no_constant, parse_float=_finite)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is a text that no file can hold
        except (ValueError, RecursionError) as exc:
            self._fail(element, f"no valid JSON: {exc}")
        if is_too_deep(value):
            self._fail(element, f"nested deeper than {DEEPEST}")
        return value

    # -- elements --------------------------------------------------------------------------------------------------

    def _place(self, element: Element, *, first: bool, last: bool) -> _Place:
        words = [self._word(word, element) for word in element.words]
        declared = [n for n, word in enumerate(words) if word["declared"]]
        at = declared[0] if declared else self._node_at(element, first, last)
        before, after = words[:at], words[at + 1 :]
        if len(before) > 1 or len(after) > 1:
            self._fail(element, "a node has one port before it and one behind it")
        if declared and words[at]["name"] and not _NODE_NAME.fullmatch(words[at]["name"]):
            self._fail(element, f"{words[at]['name']!r} is no name of a node: letters, digits, _ and -")
        node = self._declare(words[at]) if declared else self._bare(words[at], element)
        return _Place(node, self._port(before, element), self._port(after, element))

    def _node_at(self, element: Element, first: bool, last: bool) -> int:
        """Which of the bare words is the node: `A OUT ->`, `-> IN A`, `-> IN A OUT ->`, `-> A OUT ->` if A is one."""
        words = element.words
        if len(words) != 2:
            return len(words) // 2
        if first:
            return 0
        if not last:
            if words[0] not in self._declared or words[1] in self._declared:
                self._fail(element, "in the middle of a chain a node without parentheses needs both its ports, or none")
            return 0
        return 1

    def _word(self, text: str, element: Element) -> re.Match[str]:
        word = _WORD.fullmatch(text)
        if word is None:
            self._fail(element, f"{text!r} is neither a node nor a port")
        return word

    def _bare(self, word: re.Match[str], element: Element) -> str:
        name = word["name"] or ""
        if word["index"] is not None or not _NODE_NAME.fullmatch(name):
            self._fail(element, f"{word[0]!r} is no name of a node")
        return name

    def _port(self, words: Sequence[re.Match[str]], element: Element) -> tuple[str, int | None] | None:
        if not words:
            return None
        name = words[0]["name"] or ""
        if not _PORT_NAME.fullmatch(name):
            self._fail(element, f"{words[0][0]!r} is no name of a port")
        return name, None if words[0]["index"] is None else int(words[0]["index"])

    def _ref(self, node: str, port: tuple[str, int | None] | None, default: str) -> PortRef:
        name, index = port or (default, None)
        return PortRef(node, self._fold(name), index)

    def _declare(self, word: re.Match[str]) -> str:
        component, meta = word["component"], word["meta"]
        name = word["name"]
        if name is None:
            stem = re.sub(r"[^A-Za-z0-9]+", "_", component, count=1)
            self._anonymous[stem] = self._anonymous.get(stem, 0) + 1
            name = f"_{stem}_{self._anonymous[stem]}"
        before = self._nodes.get(name)
        node = before or Node(name, "")
        if component:
            node = replace(node, component=component)
        if meta:
            node = replace(node, metadata=MappingProxyType(_metadata(meta)))
        self._nodes[name] = node
        return name

    # -- the end ---------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """The graph, checked: every node has a component, exports and edges name nodes that are there."""
        for node in self._nodes.values():
            if not node.component:
                raise GraphError(
                    self._source, f"node {node.id} has no component: declare it once as {node.id}(Component)"
                )
        for kind, exports in self._exports.items():
            for export in exports.values():
                self._known(export.ref, f"{kind}={export.ref}:{export.name}")
        for entry in self._order:
            if isinstance(entry, Edge):
                self._known(entry.src, str(entry))
            self._known(entry.tgt, str(entry) if isinstance(entry, Edge) else f"{entry.data!r} -> {entry.tgt}")
        return Graph(
            name=str(self._properties.get("name", "")),
            nodes=tuple(self._nodes.values()),
            order=tuple(self._order),
            inports=tuple(self._exports["INPORT"].values()),
            outports=tuple(self._exports["OUTPORT"].values()),
            properties=MappingProxyType(self._properties),
            case_sensitive=self._case_sensitive,
        )

    def _known(self, ref: PortRef, place: str) -> None:
        if ref.node not in self._nodes:
            hint = f"declare it as {ref.node}(Component)"
            if ref.node in ("true", "false", "null"):
                hint += "; as data it can stand in a JSON graph only"
            raise NodeUnknown(f"{self._source}: {place}", f"no node {ref.node}: {hint}")

    def _fold(self, name: str) -> str:
        return name if self._case_sensitive else name.lower()

    def _fail(self, element: Element, problem: str) -> NoReturn:
        raise GraphSyntaxError(self._source, element.line, element.column, problem)


def _metadata(text: str) -> dict[str, Any]:
    """``k=v,l=w``: values are text, x and y numbers; a bare word goes under ``routes``."""
    found: dict[str, Any] = {}
    for part in text.split(","):
        if not part:
            continue
        key, equals, value = part.partition("=")
        if not equals:
            found["routes"] = key
        elif key in ("x", "y"):
            found[key] = _number(value.partition("=")[0])
        else:
            found[key] = value.partition("=")[0]
    return found


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
