"""Wires across many columns of a large graph: each in a row below all columns, instead of on a lane in every one of them.

A thousand nodes with three edges each stand in some five hundred columns, and would need three hundred thousand lanes:
half a minute of work, and a picture in which nobody can follow a wire.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from gateway.fbp.drawing.boxes import GAP_Y, LANE_H, Box, DrawnEdge

FEW_LANES = 4000
LANES_PER_WIRE = 2
"""A graph may have as many lanes as the larger of the two allows; those of the shortest wires stay."""

Outport = tuple[Box, str, bool]
"""A port, and whether the wire leads back: such wires share their lanes."""


def choose_detours(wires: Sequence[DrawnEdge]) -> None:
    """Mark the longest wires ``below``, if there would be too many lanes."""
    lanes = 0
    longest: dict[Outport, int] = {}
    for wire in sorted(wires, key=lambda wire: len(wire.passed)):
        outport, span = _outport(wire), len(wire.passed)
        lanes += span - longest.get(outport, 0)
        longest[outport] = span
        wire.below = span > 0 and lanes > max(FEW_LANES, LANES_PER_WIRE * len(wires))


def place_detours(columns: Sequence[Sequence[Box]], wires: Iterable[DrawnEdge]) -> list[Box]:
    """A lane for each wire that runs below the columns, which stand at their places. Those of one outport share a row, and
    so do those that are far enough from each other.
    """
    column_of = {column[0].layer: column[0] for column in columns}
    bottom = max(box.y + box.h for column in columns for box in column) + GAP_Y
    groups: dict[Outport, list[DrawnEdge]] = {}
    for wire in wires:
        if wire.below:
            groups.setdefault(_outport(wire), []).append(wire)
    spans = [
        (min(_ends(wire)[0] for wire in group), max(_ends(wire)[1] for wire in group)) for group in groups.values()
    ]
    lanes: list[Box] = []
    for group, row in zip(groups.values(), _rows(spans), strict=True):
        for wire in group:
            first, last = (column_of[layer] for layer in _ends(wire))
            lane = Box("lane", "", layer=first.layer, y=bottom + LANE_H * row, h=LANE_H)
            lane.x, lane.w = first.left, last.right - first.left
            lane.left, lane.right = first.left, last.right
            wire.lanes.append(lane)
            lanes.append(lane)
    return lanes


def _outport(wire: DrawnEdge) -> Outport:
    return wire.src, wire.src_port, wire.back


def _ends(wire: DrawnEdge) -> tuple[int, int]:
    """The first and the last layer that it passes."""
    here, there = wire.passed[0], wire.passed[-1]
    return min(here, there), max(here, there)


def _rows(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A row for each span, so that no two in one row come near each other; as few rows as can be."""
    rows = [0] * len(spans)
    taken: list[tuple[int, int]] = []  # up to which layer, and the row
    for number in sorted(range(len(spans)), key=lambda number: spans[number]):
        first, last = spans[number]
        free = taken and taken[0][0] + 1 < first  # in the gap right behind a wire it still bends away
        rows[number] = heapq.heappop(taken)[1] if free else len(taken)
        heapq.heappush(taken, (last, rows[number]))
    return rows
