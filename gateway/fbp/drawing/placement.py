"""The order of boxes within columns, with few crossings, and their heights, with wires as straight as that allows."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from gateway.fbp.drawing.boxes import GAP_X, GAP_Y, LANE_H, MARGIN, Box, DrawnEdge

SWEEPS = 12

WIRE_X, MOST_WIDENED = 1.5, 90.0
"""How much wider each wire makes the gap that it crosses, in pixels, and all of them at most."""

Link = tuple[Box, float, Box, float]
"""Two boxes of neighbouring layers (or one), and the heights within them at which a wire touches them."""


def links_of(wires: Iterable[DrawnEdge]) -> list[Link]:
    """What keeps boxes at each other's height. Wires that share lanes have links in common."""
    links: dict[Link, None] = {}
    for wire in wires:
        if wire.below:
            continue
        points = [(wire.src, wire.src.outports[wire.src_port])]
        points += [(lane, LANE_H / 2) for lane in wire.lanes]
        points.append((wire.tgt, wire.tgt.inports[wire.tgt_port]))
        for (a, at_a), (b, at_b) in pairwise(points):
            links[a, at_a, b, at_b] = None
    return list(links)


def _sides(links: Iterable[Link]) -> dict[tuple[Box, int], list[tuple[float, Box, float]]]:
    """For a box and a neighbouring layer: own height, the other box, its height."""
    sides: dict[tuple[Box, int], list[tuple[float, Box, float]]] = defaultdict(list)
    for a, at_a, b, at_b in links:
        if a.layer != b.layer:
            sides[a, b.layer].append((at_a, b, at_b))
            sides[b, a.layer].append((at_b, a, at_a))
    return sides


def _beside(links: Iterable[Link]) -> dict[Box, Box]:
    """For a lane beside an end of its own wire: the box at that end, which it should stay close to."""
    beside: dict[Box, Box] = {}
    for a, _, b, _ in links:
        if a.layer == b.layer:
            lane, box = (a, b) if a.kind == "lane" else (b, a)
            beside[lane] = box
    return beside


def order_columns(columns: list[list[Box]], links: list[Link]) -> None:
    """Sort every layer by the middle of its neighbours, left to right and back; keep the order with fewest crossings."""
    sides, beside = _sides(links), _beside(links)
    place: dict[Box, float] = {}

    def renumber(column: list[Box]) -> None:
        for number, box in enumerate(column):
            place[box] = number

    for column in columns:
        renumber(column)
    best, fewest = [list(column) for column in columns], _crossings(links, place)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for column in columns[::step]:
            middles = {}
            for box in column:
                near = sides.get((box, box.layer - step), [])
                heights = [place[other] + at / max(other.h, 1.0) for _, other, at in near]
                if box in beside:
                    heights.append(place[beside[box]] + 0.9)
                middles[box] = sum(heights) / len(heights) if heights else place[box]
            column.sort(key=lambda box: middles[box])
            renumber(column)
        crossings = _crossings(links, place)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, kept in zip(columns, best, strict=True):
        column[:] = kept


def _crossings(links: Iterable[Link], place: dict[Box, float]) -> int:
    between: dict[tuple[int, int], list[tuple[tuple[float, float], tuple[float, float]]]] = defaultdict(list)
    for a, at_a, b, at_b in links:
        left, right = ((a, at_a), (b, at_b)) if a.layer < b.layer else ((b, at_b), (a, at_a))
        ends = ((place[left[0]], left[1]), (place[right[0]], right[1]))
        between[left[0].layer, right[0].layer].append(ends)
    total = 0
    for pairs in between.values():
        before: list[tuple[float, float]] = []  # right ends of those with a higher left end, in order
        for _, right_end in sorted(pairs):
            at = bisect_right(before, right_end)
            total += len(before) - at
            before.insert(at, right_end)
    return total


def place(columns: list[list[Box]], links: list[Link]) -> None:
    """Columns side by side; heights so that wires are as straight as the order allows."""
    x = MARGIN
    between = Counter(min(a.layer, b.layer) for a, _, b, _ in links if a.layer != b.layer)
    for column in columns:
        width = max(box.w for box in column)
        y = 0.0
        for box in column:
            if box.kind == "lane":
                box.w = width
            box.left, box.right = x, x + width
            box.x = x + (width - box.w) / (1 if box.kind == "iip" else 2)
            box.y = y
            y += box.h + _gap(box)
        x += width + GAP_X + min(MOST_WIDENED, WIRE_X * between[column[0].layer])
    sides, beside = _sides(links), _beside(links)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for column in columns[::step]:
            wanted = []
            for box in column:
                near = sides.get((box, box.layer - step), []) or sides.get((box, box.layer + step), [])
                heights = [other.y + at - own for own, other, at in near]
                if box in beside:
                    heights = [_next_to(box, beside[box])]
                wanted.append(sum(heights) / len(heights) if heights else box.y)
            _stack(column, wanted)


def _next_to(lane: Box, box: Box) -> float:
    return box.y + box.h + LANE_H if lane.y > box.y else box.y - 2 * LANE_H


def _gap(box: Box) -> float:
    return GAP_Y if box.kind != "lane" else LANE_H


def _stack(column: list[Box], wanted: list[float]) -> None:
    """The heights nearest to the wanted ones that keep the order and the gaps (pools what would overlap)."""
    offset, offsets = 0.0, []
    for box in column:
        offsets.append(offset)
        offset += box.h + _gap(box)
    pools: list[tuple[float, int]] = []  # mean of (wanted - offset), how many boxes share it
    for want, own in zip(wanted, offsets, strict=True):
        mean, count = want - own, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    for box, mean, own in zip(column, means, offsets, strict=True):
        box.y = mean + own
