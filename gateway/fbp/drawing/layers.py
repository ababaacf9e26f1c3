"""Which column of a drawing a box stands in, and where wires pass the columns between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from gateway.fbp.drawing.boxes import LANE_H, Box, DrawnEdge


def choose_layers(boxes: Sequence[Box], wires: Sequence[DrawnEdge]) -> None:
    """Every forward wire leads at least one layer to the right; sources stand close to what they feed."""
    _break_cycles(boxes, wires)
    after: dict[Box, list[Box]] = defaultdict(list)
    waits: dict[Box, int] = defaultdict(int)
    for wire in wires:
        if not wire.back:
            after[wire.src].append(wire.tgt)
            waits[wire.tgt] += 1
    ready = [box for box in boxes if not waits[box]]
    fed = {wire.tgt for wire in wires}
    for box in ready:  # grows while it is walked: a box comes in once all before it have been
        for other in after[box]:
            other.layer = max(other.layer, box.layer + 1)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    for box in reversed(ready):
        if box not in fed and after[box]:
            box.layer = min(other.layer for other in after[box]) - 1
    last = max((box.layer for box in boxes), default=0)
    for box in boxes:
        if box.kind == "export":
            box.layer = last if box.inports else min(box.layer, 0)


def _break_cycles(boxes: Sequence[Box], wires: Sequence[DrawnEdge]) -> None:
    """Mark as leading back what closes a circle in a walk from the sources (without recursion: graphs may be long)."""
    leaving: dict[Box, list[DrawnEdge]] = defaultdict(list)
    for wire in wires:
        leaving[wire.src].append(wire)
    fed = {wire.tgt for wire in wires if wire.src is not wire.tgt}
    state: dict[Box, int] = {}
    for root in sorted(boxes, key=lambda box: box in fed):
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(leaving[root]))]
        while stack:
            key, rest = stack[-1]
            leading = next(rest, None)
            if leading is None:
                state[key] = 2
                stack.pop()
            elif state.get(leading.tgt) == 1:
                leading.back = True
            elif leading.tgt not in state:
                state[leading.tgt] = 1
                stack.append((leading.tgt, iter(leaving[leading.tgt])))


def with_lanes(boxes: Iterable[Box], wires: Sequence[DrawnEdge]) -> list[list[Box]]:
    """The boxes by layer, and lanes for the wires that pass a layer. Wires of one outport share their lanes."""
    first = min((box.layer for box in boxes), default=0)
    columns: dict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        box.layer -= first
        columns[box.layer].append(box)
    shared: dict[tuple[Box, str, int, bool], Box] = {}
    for wire in wires:
        for layer in () if wire.below else wire.passed:
            key = (wire.src, wire.src_port, layer, wire.back)
            if key not in shared:
                shared[key] = Box("lane", "", layer=layer, h=LANE_H)
                columns[layer].append(shared[key])
            wire.lanes.append(shared[key])
    return [columns[layer] for layer in sorted(columns)]
