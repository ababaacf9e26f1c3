"""Graphs of any shape: edits and their inverses, the difference of two graphs, and both forms on disk."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GraphError
from gateway.fbp.text.graph_json import dumps, loads, to_json
from gateway.fbp.text.language import parse
from gateway.fbp.text.language_writer import write
from gateway.model import edits as e
from gateway.model.difference import difference
from gateway.model.graph import Edge, Export, Graph, Iip, Json, Node
from gateway.model.port import Direction, PortRef

NAMES = st.sampled_from(["a", "b", "c", "d-1", "_e"])
PORTS = st.sampled_from(["in", "out", "x.y", "error"])
REFS = st.builds(PortRef, NAMES, PORTS, st.one_of(st.none(), st.integers(0, 3)))
COMPONENTS = st.sampled_from(["X", "ns/Y", "a-b/C_d"])
KEYS = st.sampled_from(["label", "route", "x"])
VALUES = st.one_of(st.integers(0, 9), st.text(max_size=3), st.booleans())
METADATA = st.dictionaries(KEYS, VALUES, max_size=2)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=2)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
DIRECTIONS = st.sampled_from(list(Direction))
PUBLIC = st.sampled_from(["p", "q"])
GROUPS = st.sampled_from(["g", "h"])

EDITS: st.SearchStrategy[e.Edit] = st.one_of(
    st.builds(e.AddNode, st.builds(Node, NAMES, COMPONENTS, METADATA)),
    st.builds(e.AddNode, st.builds(Node, NAMES, COMPONENTS)),
    st.builds(e.RemoveNode, NAMES),
    st.builds(e.RenameNode, NAMES, NAMES),
    st.builds(e.ChangeNode, NAMES, CHANGES),
    st.builds(e.AddEdge, st.builds(Edge, REFS, REFS, METADATA)),
    st.builds(e.AddEdge, st.builds(Edge, REFS, REFS)),
    st.builds(e.RemoveEdge, REFS, REFS),
    st.builds(e.ChangeEdge, REFS, REFS, CHANGES),
    st.builds(e.AddIip, st.builds(Iip, REFS, JSON)),
    st.builds(e.RemoveIips, REFS),
    st.builds(e.AddExport, DIRECTIONS, st.builds(Export, PUBLIC, REFS)),
    st.builds(e.RemoveExport, DIRECTIONS, PUBLIC),
    st.builds(e.RenameExport, DIRECTIONS, PUBLIC, PUBLIC),
    st.builds(e.AddGroup, GROUPS, st.lists(NAMES, max_size=2, unique=True).map(tuple)),
    st.builds(e.RemoveGroup, GROUPS),
    st.builds(e.RenameGroup, GROUPS, GROUPS),
    st.builds(e.ChangeGroup, GROUPS, CHANGES),
    st.builds(e.ChangeProperties, CHANGES),
)


def contents(graph: Graph) -> Any:
    """What a graph holds, whatever the order; IIPs of one port keep theirs. Empty metadata is no metadata."""
    document = to_json(graph)
    iips = [entry for entry in document["connections"] if "data" in entry]
    edges = [entry for entry in document["connections"] if "data" not in entry]
    document["connections"] = sorted(json.dumps(entry, sort_keys=True) for entry in edges)
    document["iips"] = {
        port: [json.dumps(iip, sort_keys=True) for iip in iips if json.dumps(iip["tgt"]) == port]
        for port in {json.dumps(iip["tgt"]) for iip in iips}
    }
    document["groups"] = sorted(
        json.dumps(
            {key: sorted(part) if key == "nodes" else part for key, part in group.items() if part}, sort_keys=True
        )
        for group in document["groups"]
    )
    return document


def grown(wanted: list[e.Edit]) -> tuple[Graph, list[tuple[Graph, e.Edit]]]:
    """An empty graph after these edits, and what each was applied to; those refused change nothing."""
    graph, done = Graph(), []
    for edit in wanted:
        try:
            after = e.apply_edit(graph, edit)
        except GraphError:
            continue
        done.append((graph, edit))
        graph = after
    return graph, done


@given(st.lists(EDITS, max_size=40))
@settings(max_examples=300)
def test_any_edits_taken_back_one_by_one_leave_what_was_before(wanted: list[e.Edit]) -> None:
    graph, done = grown(wanted)
    for before, edit in reversed(done):
        graph = e.apply_edits(graph, e.inverse(edit, before))
        assert contents(graph) == contents(before)


@given(st.lists(EDITS, max_size=40), st.lists(EDITS, max_size=40))
@settings(max_examples=300)
def test_the_difference_leads_from_one_graph_to_the_other(first: list[e.Edit], second: list[e.Edit]) -> None:
    before, after = grown(first)[0], grown(first[:15] + second)[0]
    assert contents(e.apply_edits(before, difference(before, after))) == contents(after)
    assert difference(after, after) == ()


@given(st.lists(EDITS, max_size=40))
@settings(max_examples=300)
def test_every_edge_and_export_of_an_edited_graph_ends_at_a_node(wanted: list[e.Edit]) -> None:
    graph, _ = grown(wanted)
    assert to_json(loads(dumps(graph))) == to_json(graph)  # the reader checks all of them
    assert dumps(loads(dumps(graph))) == dumps(graph)


WORDS = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=5)
LABELS = st.dictionaries(st.sampled_from(["label", "routes", "k"]), WORDS, max_size=2)
PLACES = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 999), max_size=2)
PLAIN_DATA = JSON.filter(lambda data: data is not None and not isinstance(data, bool))
SMALL: st.SearchStrategy[e.Edit] = st.one_of(
    st.builds(
        e.AddNode,
        st.builds(Node, NAMES, COMPONENTS, st.tuples(LABELS, PLACES).map(lambda both: {**both[0], **both[1]})),
    ),
    st.builds(e.AddEdge, st.builds(Edge, REFS, REFS)),
    st.builds(e.AddIip, st.builds(Iip, REFS, PLAIN_DATA)),
    st.builds(
        e.AddExport, DIRECTIONS, st.builds(Export, st.sampled_from(["p", "q.r"]), st.builds(PortRef, NAMES, PORTS))
    ),
    st.builds(
        e.ChangeProperties,
        st.fixed_dictionaries({}, optional={"name": WORDS, "environment": st.just({"type": "msgflo"})}),
    ),
)


@given(st.lists(SMALL, max_size=40))
@settings(max_examples=300)
def test_what_the_language_can_hold_reads_back_equal(wanted: list[e.Edit]) -> None:
    graph, _ = grown(wanted)
    text = write(graph)
    assert to_json(parse(text)) == to_json(graph)
    assert write(parse(text)) == text


@given(st.lists(EDITS, max_size=40))
@settings(max_examples=300)
def test_a_graph_is_written_whole_or_refused(wanted: list[e.Edit]) -> None:
    graph, _ = grown(wanted)
    try:
        text = write(graph, "plant.fbp")
    except GraphError as exc:
        refusal = str(exc)
    else:
        assert to_json(parse(text)) == to_json(graph)
        return
    assert refusal.startswith("plant.fbp: ")
    assert "\n" not in refusal


def test_the_largest_graph_of_the_field_loads_and_saves_byte_stable() -> None:
    """As large as the largest deployment we know of: 64 nodes, 99 edges, 6 IIPs, one of them ``true``."""
    nodes = tuple(Node(f"role{n}", f"house/Kind{n % 47}") for n in range(64))
    edges = tuple(
        Edge(PortRef(f"role{n % 64}", f"out{n // 64}"), PortRef(f"role{(n * 7 + 3) % 64}", f"in{n % 4}"))
        for n in range(99)
    )
    values: tuple[Json, ...] = (True, True, True, "on", "off", 90)
    iips = tuple(Iip(PortRef(f"role{n}", "in0"), data) for n, data in enumerate(values))
    graph = Graph(nodes=nodes, order=edges + iips)
    text = dumps(graph)
    assert text == dumps(loads(text))
    assert len(loads(text).nodes) == 64
    assert len(loads(text).order) == 105
    without_true = Graph(nodes=nodes, order=edges + iips[3:])
    assert write(parse(write(without_true))) == write(without_true)
