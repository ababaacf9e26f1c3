"""Where everything of a drawn graph goes: layers from left to right, few crossings, wires that pass boxes by.

The usual four steps of a layered drawing: break cycles, choose layers, order each layer, choose heights. A wire that
spans several layers has a lane (an invisible box) in each of them; one that leads back has lanes beside its ends too.
Of a graph so large that there would be too many lanes, the longest wires run below everything instead (``detours``).
Parts of a graph that no edge joins are laid out each by itself, one below the other. All lengths are in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from gateway.fbp.drawing.boxes import (
    GAP_X,
    GAP_Y,
    LINE_H,
    MARGIN,
    PAD,
    ROW_H,
    SMALL_H,
    TITLE_H,
    Box,
    Drawing,
    DrawnEdge,
)
from gateway.fbp.drawing.layers import choose_layers, with_lanes
from gateway.fbp.drawing.long_edges import choose_detours, place_detours
from gateway.fbp.drawing.placement import links_of, order_columns, place
from gateway.fbp.drawing.text_metrics import BOLD, SIZE, clipped, text_width
from gateway.model.graph import Edge, Graph, Iip, Json, members
from gateway.model.port import PortRef

LONGEST_LITERAL = 28
LITERAL_W = 200.0
NAME_W = 260.0
PORT_W = 160.0
"""What is longer is clipped; pointing at it shows all of it."""

TITLE_SIZE = 12.0
ROW_W = 900.0
"""How wide a row of boxes without edges may be, where nothing else is wider."""


def lay_out(graph: Graph) -> Drawing:
    """The drawing of a graph. The same graph gives the same drawing."""
    boxes, wires = _parts(graph)
    drawing = Drawing(graph.name, boxes, wires, MARGIN, MARGIN)
    lonely: list[Box] = []
    for some_boxes, some_wires in _joined(boxes, wires):
        if some_wires:
            _lay_out_part(some_boxes, some_wires, drawing)
        else:
            lonely += some_boxes
    _lay_out_rows(lonely, drawing)
    drawing.width += MARGIN
    drawing.height += MARGIN - (GAP_Y if boxes else 0.0)
    return drawing


def _joined(boxes: Sequence[Box], wires: Sequence[DrawnEdge]) -> list[tuple[list[Box], list[DrawnEdge]]]:
    """The parts of a graph that no edge joins, each with its boxes and wires, in the order of their first boxes."""
    leader = {box: box for box in boxes}

    def find(box: Box) -> Box:
        while leader[box] is not box:
            leader[box] = leader[leader[box]]
            box = leader[box]
        return box

    for wire in wires:
        leader[find(wire.tgt)] = find(wire.src)
    parts: dict[Box, tuple[list[Box], list[DrawnEdge]]] = {}
    for box in boxes:
        parts.setdefault(find(box), ([], []))[0].append(box)
    for wire in wires:
        parts[find(wire.src)][1].append(wire)
    return list(parts.values())


def _lay_out_part(boxes: Sequence[Box], wires: Sequence[DrawnEdge], drawing: Drawing) -> None:
    """Below what is there already."""
    choose_layers(boxes, wires)
    choose_detours(wires)
    columns = with_lanes(boxes, wires)
    links = links_of(wires)
    order_columns(columns, links)
    place(columns, links)
    everything = [box for column in columns for box in column]
    everything += place_detours(columns, wires)
    top = min(box.y for box in everything)
    for box in everything:
        box.y += drawing.height - top
    drawing.width = max(drawing.width, *(box.right for box in everything))
    drawing.height = max(box.y + box.h for box in everything) + GAP_Y


def _lay_out_rows(boxes: Iterable[Box], drawing: Drawing) -> None:
    """Boxes without wires, as they stand in a text."""
    x, y, width = MARGIN, drawing.height, max(drawing.width, ROW_W)
    for box in boxes:
        if x > MARGIN and x + box.w > width:
            x, y = MARGIN, drawing.height
        box.x, box.y = x, y
        x += box.w + GAP_X / 2
        drawing.width = max(drawing.width, box.x + box.w)
        drawing.height = max(drawing.height, box.y + box.h + GAP_Y)


# -- boxes and wires -------------------------------------------------------------------------------------------


def _parts(graph: Graph) -> tuple[list[Box], list[DrawnEdge]]:
    groups = {node: str(group.get("name")) for group in graph.groups for node in members(group)}
    nodes = {
        node.id: Box("node", node.id, (node.component, *([f"in {groups[node.id]}"] if node.id in groups else [])))
        for node in graph.nodes
    }
    boxes = list(nodes.values())
    wires: list[DrawnEdge] = []

    def wire(src: Box, tgt: Box, src_port: str, tgt_port: str, label: str) -> None:
        src.outports.setdefault(src_port, 0.0)
        tgt.inports.setdefault(tgt_port, 0.0)
        wires.append(DrawnEdge(src, tgt, src_port, tgt_port, label))

    for export in graph.inports:
        box = Box("export", export.name)
        boxes.append(box)
        wire(box, nodes[export.ref.node], "", port_label(export.ref), f"{export.name} = {export.ref}")
    for entry in graph.order:
        tgt = nodes[entry.tgt.node]
        if isinstance(entry, Edge):
            wire(nodes[entry.src.node], tgt, port_label(entry.src), port_label(entry.tgt), str(entry))
        elif isinstance(entry, Iip):
            box = Box("iip", literal(entry.data))
            boxes.append(box)
            wire(box, tgt, "", port_label(entry.tgt), f"{box.title} -> {entry.tgt}")
    for export in graph.outports:
        box = Box("export", export.name)
        boxes.append(box)
        wire(nodes[export.ref.node], box, port_label(export.ref), "", f"{export.name} = {export.ref}")
    for box in boxes:
        _measure(box)
    return boxes, wires


def port_label(ref: PortRef) -> str:
    """A port as it is shown, with the index of one of an array."""
    return ref.port if ref.index is None else f"{ref.port}[{ref.index}]"


def literal(data: Json) -> str:
    """An IIP as a short text."""
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= LONGEST_LITERAL else text[: LONGEST_LITERAL - 1] + "…"


def _measure(box: Box) -> None:
    if box.kind != "node":
        box.w, box.h = text_width(shown_title(box)) + 2 * PAD, SMALL_H
        for ports in (box.inports, box.outports):
            for port in ports:
                ports[port] = SMALL_H / 2
        return
    head = TITLE_H + LINE_H * len(box.lines)
    for ports in (box.inports, box.outports):
        for row, port in enumerate(ports):
            ports[port] = head + PAD + ROW_H * (row + 0.5)
    rows = max(len(box.inports), len(box.outports))
    sides = [max((text_width(shown_port(port)) for port in ports), default=0) for ports in (box.inports, box.outports)]
    texts = [text_width(shown_title(box), TITLE_SIZE) * BOLD, *map(text_width, map(shown_line, box.lines))]
    box.w = max(*texts, sum(sides) + 2 * PAD) + 2 * PAD
    box.h = head + (ROW_H * rows + 2 * PAD if rows else PAD / 2)


def shown_title(box: Box) -> str:
    """What there is room for."""
    if box.kind == "node":
        return clipped(box.title, NAME_W / BOLD, TITLE_SIZE)
    return clipped(box.title, LITERAL_W, SIZE)


def shown_line(line: str) -> str:
    """What there is room for."""
    return clipped(line, NAME_W)


def shown_port(port: str) -> str:
    """What there is room for."""
    return clipped(port, PORT_W)
