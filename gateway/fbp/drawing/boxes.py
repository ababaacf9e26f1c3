"""What a drawing of a graph consists of. All lengths are in pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

TITLE_H = 22.0
LINE_H = 16.0
ROW_H = 16.0
SMALL_H = 24.0
LANE_H = 8.0
PAD = 8.0
GAP_Y = 22.0
GAP_X = 70.0
MARGIN = 34.0
"""Around everything; a wire that leads back bulges into it by three quarters of half a ``GAP_X``."""

ARROW = 7.0
"""How long the head of a wire is."""


@dataclass(slots=True, eq=False)
class Box:
    """A node, an exported port, an IIP, or a lane. ``inports`` and ``outports`` are heights of port rows below the top.

    ``left`` and ``right`` bound its column: between columns wires may be anywhere, within one they run level. A box is
    equal to no other: a node may have the name of an exported port.
    """

    kind: str
    title: str
    lines: tuple[str, ...] = ()
    inports: dict[str, float] = field(default_factory=dict)
    outports: dict[str, float] = field(default_factory=dict)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    h: float = 0.0
    left: float = 0.0
    right: float = 0.0


@dataclass(slots=True)
class DrawnEdge:
    """From an outport to an inport, through lanes. ``back``: it leads against the drawing's direction; ``below``: its one
    lane lies below all columns.
    """

    src: Box
    tgt: Box
    src_port: str
    tgt_port: str
    label: str
    lanes: list[Box] = field(default_factory=list)
    back: bool = False
    below: bool = False

    @property
    def passed(self) -> range:
        """The layers in which it needs a lane: those between its ends, of one that leads back the ends' own too."""
        if self.back:
            return range(self.src.layer, self.tgt.layer - 1, -1)
        return range(self.src.layer + 1, self.tgt.layer)

    @property
    def start(self) -> tuple[float, float]:
        """Where it leaves its box."""
        return self.src.x + self.src.w, self.src.y + self.src.outports[self.src_port]

    @property
    def end(self) -> tuple[float, float]:
        """Where it enters its box."""
        return self.tgt.x, self.tgt.y + self.tgt.inports[self.tgt_port]


@dataclass(slots=True)
class Drawing:
    """What to draw, and how large the paper is."""

    title: str
    boxes: list[Box]
    wires: list[DrawnEdge]
    width: float = 0.0
    height: float = 0.0
