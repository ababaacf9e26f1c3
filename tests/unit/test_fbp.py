"""The .fbp language and JSON graphs, against the reference parser's own results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GraphError, GraphSyntaxError
from gateway.fbp.text.graph_files import load_graph
from gateway.fbp.text.graph_json import dumps, loads, to_json
from gateway.fbp.text.language import parse

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "fbp-graphs.json").read_text())
EXAMPLES = Path(__file__).parents[2] / "examples"

DEVIATIONS = {
    "   ": "blanks alone are an empty graph, as an empty text is",
    "A(X) OUT[] -> IN B(Y)": "an empty index is a mistake, not an array literal",
    "A(X) OUT[-1] -> IN B(Y)": "a negative index is a mistake",
    "'x' -> 'y' -> IN A(X)": "a literal that goes nowhere is a mistake",
    "A(X)\nB(Y)\nC(Z)\nA -> B -> C": "the edge from A is kept",
    "A(X)\nB(Y)\nC(Z)\nA OUT -> B OUT -> IN C": "the same",
}
"""Where the reference does what no reader would expect, and we do better; each is marked so in the vectors."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["fbp"])[:60])
def test_a_text_means_what_it_means_to_the_reference_parser(vector: dict[str, Any]) -> None:
    text = vector["fbp"]
    if text in DEVIATIONS:
        assert vector.get("quirk"), "only quirks may be deviated from"
        return
    if "json" not in vector:
        with pytest.raises(GraphError):
            parse(text)
        return
    graph = parse(text, case_sensitive=vector.get("caseSensitive", False))
    assert _plain(to_json(graph)) == _plain(vector["json"])


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "properties" or value}


def test_a_bare_chain_keeps_all_its_edges() -> None:
    graph = parse("A(X)\nB(Y)\nC(Z)\nA -> B -> C")
    assert [str(edge) for edge in graph.edges] == ["A.out->B.in", "B.out->C.in"]
    graph = parse("A(X)\nB(Y)\nC(Z)\nA OUT -> B DONE -> IN C")
    assert [str(edge) for edge in graph.edges] == ["A.out->B.in", "B.done->C.in"]


def test_statements_may_stand_side_by_side_where_parentheses_tell_them_apart() -> None:
    graph = parse("A(X) OUT -> IN B(Y) C(Z) OUT -> IN A 'v' -> IN D(W)")
    assert [str(edge) for edge in graph.edges] == ["A.out->B.in", "C.out->A.in"]
    assert [iip.data for iip in graph.iips] == ["v"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("A(X) OUT -> IN B(Y)\nA OUT ->", 2, "expected"),
        ("A(X) OUT[] -> IN B(Y)", 1, "can't read"),
        ("A(X) OUT -> IN\tB(Y)", 1, "can't read"),
        ("A(X) OUT IN B(Y)", 1, "is an arrow missing"),
        ("'x' -> 'y' -> IN A(X)", 1, "literal"),
        (f"A(X) OUT[{'9' * 5000}] -> IN B(Y)", 1, "can't read"),
        (f"{'[' * 200}{']' * 200} -> IN A(X)", 1, "nested deeper"),
        (f"{'[' * 5000}{']' * 5000} -> IN A(X)", 1, "no valid JSON"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_was_expected(text: str, line: int, words: str) -> None:
    with pytest.raises(GraphSyntaxError) as caught:
        parse(text, "plant.fbp")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"plant.fbp:{line}:")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_that_is_nowhere_declared_is_named_with_its_edge() -> None:
    with pytest.raises(GraphError, match=r"plant\.fbp: A\.out->B\.in: no node B"):
        parse("A(X) OUT -> IN B", "plant.fbp")


@given(st.text(alphabet="AB xX()[]'\"->,.:\n#@=09{}\\INPORT\t", max_size=60))
@settings(max_examples=400)
def test_any_text_is_a_graph_or_a_graph_error(text: str) -> None:
    try:
        graph = parse(text)
    except GraphError:
        return
    assert to_json(loads(dumps(graph))) == to_json(graph)


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_a_json_graph_or_a_graph_error(text: str) -> None:
    try:
        graph = loads(text)
    except GraphError:
        return
    assert loads(dumps(graph)) == graph


@pytest.mark.parametrize("vector", [v for v in VECTORS if "json" in v], ids=lambda vector: repr(vector["fbp"])[:60])
def test_a_json_graph_comes_back_as_it_was(vector: dict[str, Any]) -> None:
    text = json.dumps(vector["json"])
    assert _plain(json.loads(dumps(loads(text)))) == _plain(vector["json"])
    assert dumps(loads(dumps(loads(text)))) == dumps(loads(text))


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ("[]", "the graph"),
        ('{"processes": []}', "processes"),
        ('{"processes": {"a": {}}}', "processes.a.component"),
        ('{"connections": [{"src": {"process": "a", "port": "o"}}]}', "connections[0].tgt"),
        (
            '{"processes": {"a": {"component": "X"}},"connections":[{"data":1, "tgt": {"process": "b", "port": "i"}}]}',
            "connections[0].tgt: no process 'b'",
        ),
        ("{", "no valid JSON"),
        ('{"groups": [{"name": "g", "nodes": [[1]]}]}', "groups[0].nodes"),
        (f'{{"properties": {"[" * 200}{"]" * 200}}}', "nested deeper"),
        (f'{{"properties": {"[" * 5000}{"]" * 5000}}}', "nested deeper"),
    ],
)
def test_a_mistake_in_a_json_graph_names_its_place(document: str, place: str) -> None:
    with pytest.raises(GraphError) as caught:
        loads(document, "plant.json")
    assert str(caught.value).startswith("plant.json")
    assert place in str(caught.value)


def test_a_place_of_endless_digits_is_kept_as_text() -> None:
    assert parse(f"A(X:x={'9' * 5000})").node("A").metadata == {"x": "9" * 5000}


def test_falsy_data_is_data() -> None:
    text = (
        '{"processes": {"a": {"component": "X"}}, "connections": [{"data": 0, "tgt": {"process": "a", "port": "i"}}]}'
    )
    assert [iip.data for iip in loads(text).iips] == [0]


@pytest.mark.parametrize("data", ["[0]", "[ 7 ]", "[[1]]", "[0, 1]", "[]"])
def test_a_list_at_the_beginning_of_a_line_is_data(data: str) -> None:
    assert [iip.data for iip in parse(f"A(X)\n{data} -> IN A").iips] == [json.loads(data)]


def test_the_examples_are_graphs() -> None:
    graph = load_graph(EXAMPLES / "thermometer.fbp")
    assert graph.name == "thermometer"
    assert [export.name for export in graph.inports] == ["fan"]
    assert [node.id for node in load_graph(EXAMPLES / "demo.fbp").nodes] == ["attic", "cloud"]
