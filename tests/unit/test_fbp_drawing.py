"""Drawings of graphs: everything is in them, nothing lies on something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fbp.drawing import long_edges
from gateway.fbp.drawing.boxes import Box
from gateway.fbp.drawing.dot_mermaid import draw_graphviz, draw_mermaid
from gateway.fbp.drawing.layout import lay_out
from gateway.fbp.drawing.svg import draw_svg
from gateway.fbp.text.graph_files import load_graph
from gateway.fbp.text.language import parse
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.port import PortRef

EXAMPLES = Path(__file__).parents[2] / "examples"
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", ["thermometer.fbp", "demo.fbp"])
def test_a_picture_names_every_node_component_and_port(name: str) -> None:
    graph = load_graph(EXAMPLES / name)
    found = texts(draw_svg(graph))
    for node in graph.nodes:
        assert node.id in found
        assert node.component in found
    for edge in graph.edges:
        assert edge.src.port in found
        assert edge.tgt.port in found
    for export in (*graph.inports, *graph.outports):
        assert export.name in found


def test_a_picture_of_nothing_is_a_picture() -> None:
    assert ElementTree.fromstring(draw_svg(Graph())).tag == f"{SVG}svg"


def test_what_would_be_markup_stays_text() -> None:
    graph = Graph(name='<&">', nodes=(Node('<b>"&', "X\x00"),), order=(Iip(PortRef('<b>"&', "a'<"), '"><script>\x07'),))
    assert '<b>"&' in texts(draw_svg(graph))
    assert "<b>&quot" not in draw_graphviz(graph)
    assert '["#60;b#62;#34;#38;<br/>X#0;"]' in draw_mermaid(graph)


REFS = st.builds(PortRef, st.sampled_from("abcdefgh"), st.sampled_from(["in", "out"]))
ORDER = st.lists(st.one_of(st.builds(Edge, REFS, REFS), st.builds(Iip, REFS, st.integers())), max_size=25)


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h


@given(ORDER)
@settings(max_examples=200)
def test_no_box_lies_on_another_and_all_lie_on_the_paper(order: list[Edge | Iip]) -> None:
    graph = Graph(nodes=tuple(Node(name, "X") for name in "abcdefgh"), order=tuple(order))
    drawing = lay_out(graph)
    lanes = {lane for wire in drawing.wires for lane in wire.lanes}
    for a, b in combinations([*drawing.boxes, *lanes], 2):
        assert not overlap(a, b), f"{a.title or a.kind} and {b.title or b.kind}"
    for box in drawing.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.w <= drawing.width
        assert box.y + box.h <= drawing.height
    assert draw_svg(graph) == draw_svg(graph)


Point = tuple[float, float]


def along(path: str) -> Iterator[Point]:
    """Points of a path of lines and curves, a few pixels apart."""
    at: Point = (0.0, 0.0)
    for letter, numbers in re.findall("([MLC])([^MLCz]*)", path):
        values = [float(number) for number in numbers.split()]
        points = [at, *zip(values[::2], values[1::2], strict=True)]
        if letter == "L":
            points = [at, at, points[1], points[1]]
        at = points[-1]
        if letter != "M":
            yield from (bezier(points, step / 40) for step in range(41))


def bezier(points: list[Point], part: float) -> Point:
    while len(points) > 1:
        points = [(a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part) for a, b in pairwise(points)]
    return points[0]


@given(ORDER, st.lists(st.sampled_from(["", "a much longer name than others", "W" * 60]), min_size=8, max_size=8))
@settings(max_examples=100)
def test_no_wire_leads_through_a_box_or_off_the_paper(order: list[Edge | Iip], names: list[str]) -> None:
    nodes = tuple(Node(name, component or "X") for name, component in zip("abcdefgh", names, strict=True))
    leads_through_no_box(Graph(nodes=nodes, order=tuple(order)))


def leads_through_no_box(graph: Graph) -> None:
    drawing = lay_out(graph)
    root = ElementTree.fromstring(draw_svg(graph))
    paths = [element.attrib["d"] for element in root.iter(f"{SVG}path") if element.attrib.get("class") == "wire"]
    assert len(paths) == len(drawing.wires)
    for wire, path in zip(drawing.wires, paths, strict=True):
        for x, y in along(path):
            assert 1 <= x <= drawing.width - 1, wire.label
            assert 1 <= y <= drawing.height - 1, wire.label
            for box in drawing.boxes:
                inside = box.x + 1 < x < box.x + box.w - 1 and box.y + 1 < y < box.y + box.h - 1
                assert not inside, f"{wire.label} leads through {box.title}"


@given(ORDER)
@settings(max_examples=100)
def test_no_wire_that_runs_below_leads_through_a_box_or_off_the_paper(order: list[Edge | Iip]) -> None:
    graph = Graph(nodes=tuple(Node(name, "X") for name in "abcdefgh"), order=tuple(order))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_edges, "FEW_LANES", 2)
        patch.setattr(long_edges, "LANES_PER_WIRE", 0)
        leads_through_no_box(graph)


def large_graph(nodes: int, edges: int) -> Graph:
    """Every node leads to some others, anywhere in the graph."""
    pick = Random(1)
    ends = [(pick.randrange(nodes), pick.randrange(nodes)) for _ in range(edges)]
    order = [Edge(PortRef(f"n{a}", f"out{a % 3}"), PortRef(f"n{b}", f"in{b % 2}")) for a, b in ends]
    return Graph(nodes=tuple(Node(f"n{n}", "X") for n in range(nodes)), order=tuple(order))


def test_of_a_large_graph_the_longest_wires_run_below_it_and_few_lanes_are_left() -> None:
    drawing = lay_out(large_graph(400, 1200))
    lanes = {lane for wire in drawing.wires for lane in wire.lanes}
    assert len(lanes) < long_edges.FEW_LANES + len(drawing.wires)
    below = [wire for wire in drawing.wires if wire.below]
    assert below
    assert min(lane.y for wire in below for lane in wire.lanes) > max(
        box.y + box.h for box in drawing.boxes if box.inports
    )
    rows: dict[float, list[tuple[float, float, Box]]] = {}
    for wire in below:
        (lane,) = wire.lanes
        rows.setdefault(lane.y, []).append((lane.left, lane.right, wire.src))
    for row in rows.values():
        for (_, right, src), (left, _, other) in combinations(sorted(row, key=lambda lane: lane[0]), 2):
            assert src is other or right < left


def test_of_a_small_graph_no_wire_runs_below_it() -> None:
    drawing = lay_out(large_graph(60, 100))
    assert not any(wire.below for wire in drawing.wires)


@pytest.mark.parametrize(("name", "other"), [("in arm", "jn arm"), ("iip 0", "iip 9")])
def test_a_node_may_be_called_as_an_exported_port_or_an_iip(name: str, other: str) -> None:
    def places(node: str) -> list[tuple[float, float]]:
        names = ("a", "b", node)
        order: list[Edge | Iip] = [Iip(PortRef("b", "in"), 1), Iip(PortRef("a", "in"), 1)]
        order += [Edge(PortRef("a", "out"), PortRef("b", "in")), Edge(PortRef("a", "out"), PortRef(node, "in"))]
        graph = Graph(
            nodes=tuple(Node(name, "X") for name in names),
            order=tuple(order),
            inports=(Export("arm", PortRef("b", "arm")),),
            outports=(Export("arm", PortRef("b", "arm")),),
        )
        return [(box.x, box.y) for box in lay_out(graph).boxes]

    assert places(name) == places(other)


def test_what_is_too_long_is_clipped_and_shown_when_pointed_at() -> None:
    name, port = "W" * 80, "m" * 50
    graph = parse(f"{name}(X) {port} -> IN b(Y)")
    svg = draw_svg(graph)
    (box,) = [box for box in lay_out(graph).boxes if box.title == name]
    assert box.w < 300
    assert all(len(text) < 40 for text in texts(svg))
    assert f"<title>{name}</title>" in svg
    assert f"<title>{port}</title>" in svg


@pytest.mark.parametrize("name", ["WWWWMMMM", "温度センサー", "Iliil", "kitchen-thermostat"])
def test_a_box_is_as_wide_as_its_letters_need(name: str) -> None:
    (box,) = lay_out(Graph(nodes=(Node(name, "x"),))).boxes
    widest = {"W": 13.5, "M": 12.0, "I": 4.5, "i": 4.5, "l": 4.5}
    assert box.w >= sum(widest.get(char, 13.5 if ord(char) > 255 else 7.5) for char in name)


def test_parts_that_no_edge_joins_stand_below_each_other_and_lonely_nodes_in_rows() -> None:
    pairs = "\n".join(f"a{n}(X) OUT -> IN b{n}(X)" for n in range(3))
    drawing = lay_out(parse(pairs + "\n" + "\n".join(f"lonely{n}(Y)" for n in range(20))))
    where = {box.title: box for box in drawing.boxes}
    assert where["a0"].x == where["a1"].x
    assert (
        where["a0"].y < where["a1"].y < where["a2"].y < where["lonely0"].y == where["lonely1"].y < where["lonely19"].y
    )
    assert drawing.height < 600


def test_edges_lead_to_the_right_where_there_is_no_circle() -> None:
    drawing = lay_out(parse("A(X) OUT -> IN B(Y) OUT -> IN C(Z)\nA OUT -> OTHER C"))
    assert all(wire.start[0] < wire.end[0] for wire in drawing.wires)


def test_graphviz_and_mermaid_get_every_edge_with_its_ports() -> None:
    graph = parse("A(X) OUT[2] -> IN B(Y)\n5 -> IN A")
    assert 'n0 -- "out[2] → in" --> n1' in draw_mermaid(graph)
    assert '[/"5"/] -. "in" .-> n0' in draw_mermaid(graph)
    assert ":e -> n1:i0:w;" in draw_graphviz(graph)
    assert ">out[2]</td>" in draw_graphviz(graph)
