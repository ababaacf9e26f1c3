"""What a client's edit makes of a graph can be saved, and what was saved can be read again: the gateway starts with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GraphError, GraphSyntaxError
from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.client_session import FbpSession
from gateway.fbp.runtime.intents import EditGraph
from gateway.fbp.runtime.protocol_messages import Reply
from gateway.fbp.text.formats import Form, parse_graph, render_graph
from gateway.fbp.text.language import parse
from gateway.files import LARGEST_TEXT
from gateway.model import graph as g
from gateway.model.edits import apply_edits
from gateway.model.graph import Edge, Graph, Iip, Node
from gateway.model.port import PortRef
from tests.support.fbp_runtime import SmallRuntime

MAIN = "default/main"
GRAPH = Graph(nodes=(Node("a", "core/Repeat"), Node("b", "core/Drop")))
A, B = {"node": "a", "port": "out"}, {"node": "b", "port": "in"}


def edited(command: str, payload: dict[str, Any], graph: Graph = GRAPH) -> Graph | str:
    """The graph after a client's edit, or why it is refused."""
    runtime = SmallRuntime()
    runtime.held[MAIN].graph = graph
    text = json.dumps({"protocol": "graph", "command": command, "payload": {"graph": MAIN, **payload}})
    (item,) = FbpSession("me", runtime, Access()).receive(text)
    if isinstance(item, Reply):
        return str(item.payload["message"])
    assert isinstance(item, EditGraph)
    try:
        return apply_edits(graph, [item.edit])
    except GraphError as exc:
        return str(exc)


def rendered(graph: Graph, form: Form) -> tuple[str, str]:
    """Its text, or why there is none."""
    try:
        return render_graph(graph, form), ""
    except GraphError as exc:
        return "", str(exc)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("form", ["json", "fbp"])
@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("addedge", {"src": {**A, "port": ""}, "tgt": B}),
        ("addedge", {"src": A, "tgt": {**B, "port": ""}}),
        ("addinitial", {"src": {"data": 1}, "tgt": {**B, "port": ""}}),
        ("addinport", {"public": "x", "node": "b", "port": ""}),
        ("addinitial", {"src": {"data": 1}, "tgt": {**B, "index": 12345678901}}),
        ("addinitial", {"src": {"data": 1}, "tgt": {**B, "index": 10**300}}),
        ("addedge", {"src": {**A, "index": 999_999_999}, "tgt": B}),
        *[("addinitial", {"src": {"data": nested(depth)}, "tgt": B}) for depth in (100, 117, 120, 124, 125)],
        *[
            (command, {**fields, "metadata": {"x": nested(depth)}})
            for depth in (100, 117, 120, 124, 125)
            for command, fields in (
                ("addnode", {"id": "c", "component": "core/Drop"}),
                ("addedge", {"src": A, "tgt": B}),
                ("addgroup", {"name": "c", "nodes": ["a"]}),
                ("addinport", {"public": "x", "node": "b", "port": "in"}),
            )
        ],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_edit_is_refused_or_its_graph_comes_back_from_the_file(
    command: str, payload: dict[str, Any], form: Form
) -> None:
    after = edited(command, payload)
    if isinstance(after, str):
        assert 10 < len(after) < 200
        return
    text, refusal = rendered(after, form)
    if refusal:
        assert "keep this graph as JSON" in refusal
        return
    assert render_graph(parse_graph(text, "graph", form), form) == text


@pytest.mark.parametrize(("form", "size"), [("fbp", 200_000), ("json", 3_500_000), ("json", 7_000_000)])
def test_a_graph_that_grows_longer_than_a_file_may_be_is_refused(form: Form, size: int) -> None:
    letter = "é" if size < 5_000_000 else "x"
    graph, refusal = GRAPH, ""
    while not refusal:
        assert len(graph.order) < 6
        graph = g.add_iip(graph, Iip(PortRef("b", "in"), letter * size))
        text, refusal = rendered(graph, form)
        assert len(text.encode()) <= LARGEST_TEXT
    assert "could not be read again" in refusal


def test_an_index_that_the_language_cannot_read_is_not_written_in_it() -> None:
    graph = Graph(nodes=GRAPH.nodes, order=(Edge(PortRef("a", "out", 10**9), PortRef("b", "in")),))
    with pytest.raises(GraphError, match=r"a\.out: an index has at most 9 digits"):
        render_graph(graph, "fbp")
    assert parse_graph(render_graph(graph, "json"), "graph", "json") == graph


@pytest.mark.parametrize("text", ["1e999 -> IN a(X)", "[1, -1e999] -> IN a(X)"])
def test_a_number_that_no_json_file_can_hold_is_no_literal(text: str) -> None:
    with pytest.raises(GraphSyntaxError, match="1e999 is too large a number"):
        parse(text)


@pytest.mark.parametrize("text", ["A(X)B(Y)" * 2000, "A(X) -> IN B(Y) C(Z) -> IN D(W) " * 1000])
def test_as_many_statements_may_stand_side_by_side_as_there_are(text: str) -> None:
    graph = parse(text)
    assert len(graph.order) == text.count("->")
    assert len(graph.nodes) == len({node for node in "ABCD" if f"{node}(" in text})


def test_a_name_that_is_not_there_is_not_answered_with_thousands_that_are() -> None:
    graph = Graph(nodes=tuple(Node(f"n{n}", "core/Drop") for n in range(2000)))
    refused = edited("removenode", {"id": "x"}, graph)
    assert isinstance(refused, str)
    assert "n0, n1," in refused
    assert refused.endswith("n19 and 1980 more)")


def test_a_group_has_each_of_its_nodes_once() -> None:
    after = edited("addgroup", {"name": "c", "nodes": ["b", "a", "b"]})
    assert isinstance(after, Graph)
    assert g.members(after.groups[0]) == ["b", "a"]
    assert "no such node" in str(edited("addgroup", {"name": "c", "nodes": ["a", "x"]}))
