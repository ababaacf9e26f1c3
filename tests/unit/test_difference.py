"""What has to change so that one graph becomes another: no more than that, and no less."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model.difference import describe, difference
from gateway.model.edits import apply_edits
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.port import PortRef

A, B = Node("a", "X"), Node("b", "Y")
OUT, IN = PortRef("a", "out"), PortRef("b", "in")


def changes(before: Graph, after: Graph) -> list[str]:
    return [describe(edit) for edit in difference(before, after)]


def with_value(value: Any) -> Graph:
    """A graph that holds a value everywhere it may hold one."""
    metadata = {"m": value}
    return Graph(
        nodes=(Node("a", "X", metadata), B),
        order=(Edge(OUT, IN, metadata), Iip(IN, value)),
        inports=(Export("in", IN, metadata),),
        groups=({"name": "g", "nodes": ["a"], "metadata": metadata},),
        properties=metadata,
    )


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0), ([1], [True]), ({"x": 0}, {"x": False})])
def test_what_is_another_value_in_json_is_another_everywhere(one: Any, other: Any) -> None:
    assert [line[:6] for line in changes(with_value(one), with_value(other))] == [
        "~ node",
        "~ edge",
        "- iip ",
        "+ iip ",
        "- inpo",
        "+ inpo",
        "- grou",
        "+ grou",
        "~ prop",
    ]


def test_a_graph_that_was_applied_is_no_difference_any_more() -> None:
    """Nor is what no edit can bring: a node twice in a group, a null in metadata."""
    nothing = {"m": None}
    wanted = Graph(
        nodes=(Node("a", "X", nothing), B),
        order=(Edge(OUT, IN, nothing),),
        groups=({"name": "g", "nodes": ["a", "b", "a"]},),
        properties=nothing,
    )
    for before in (Graph(), Graph(nodes=(A, B), order=(Edge(OUT, IN),)), with_value(1)):
        reached = apply_edits(before, difference(before, wanted))
        assert changes(reached, wanted) == []


def test_the_order_of_keys_is_no_difference() -> None:
    one, other = {"x": 1, "y": [{"p": 1, "q": 2}]}, {"y": [{"q": 2, "p": 1}], "x": 1}
    assert changes(with_value(one), with_value(other)) == []


def test_the_order_of_the_iips_of_a_port_is_one() -> None:
    one, other = (Graph(nodes=(B,), order=tuple(Iip(IN, value) for value in data)) for data in ((1, 2), (2, 1)))
    assert changes(one, other) == ["- iip -> b.in", "+ iip 2 -> b.in", "+ iip 1 -> b.in"]


def test_with_a_node_goes_what_touches_it_and_nothing_is_said_twice() -> None:
    before = Graph(
        nodes=(A, B),
        order=(Edge(OUT, IN), Iip(IN, 1)),
        inports=(Export("in", IN),),
        groups=({"name": "g", "nodes": ["b"]},),
    )
    after = Graph(nodes=(A,), groups=({"name": "g", "nodes": []},))
    assert changes(before, after) == ["- node b"]
    assert changes(before, Graph(nodes=(A, Node("b", "Z")))) == ["- node b", "+ node b (Z)", "- group g"]
