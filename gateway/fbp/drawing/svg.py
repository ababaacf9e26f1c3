"""A graph as an SVG picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from gateway.fbp.drawing.boxes import ARROW, GAP_X, LINE_H, PAD, TITLE_H, Box, Drawing, DrawnEdge
from gateway.fbp.drawing.layout import lay_out, shown_line, shown_port, shown_title
from gateway.model.graph import Graph

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLOURS = ("#2563ab", "#b4541a", "#2f7d4f", "#8a3f8f", "#a3283a", "#4b6b75", "#7a6a1f", "#4a4fb0")
_STYLE = """\
text{font:11px 'DejaVu Sans',Verdana,sans-serif;fill:#333}
.title{font-size:12px;font-weight:bold;fill:#111}
.component{fill:#667}
.node rect{fill:#fff;stroke:#556;stroke-width:1.2}
.node line{stroke:#dde;stroke-width:1}
.export rect{fill:#e8eef7;stroke:#2563ab}
.iip rect{fill:#fdf6e3;stroke:#b8a46a;stroke-dasharray:3 2}
.wire{fill:none;stroke-width:1.5}"""


def draw_svg(graph: Graph) -> str:
    """The picture as a document. The same graph gives the same bytes."""
    drawing = lay_out(graph)
    return "\n".join(_document(drawing)) + "\n"


def _document(drawing: Drawing) -> Iterator[str]:
    width, height = drawing.width, drawing.height
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
    yield f'     viewBox="0 0 {width:.0f} {height:.0f}">'
    yield f"<title>{_text(drawing.title or 'graph')}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fafbfc"/>'
    colours: dict[Box | str, str] = {}
    for wire in drawing.wires:
        source = wire.src if wire.src.kind == "node" else wire.src.kind
        colour = colours.setdefault(source, _COLOURS[len(colours) % len(_COLOURS)])
        yield from _wire(wire, colour)
    for box in drawing.boxes:
        yield from _box(box)
    yield "</svg>"


def _box(box: Box) -> Iterator[str]:
    yield f'<g class="{box.kind}" transform="translate({box.x:.1f} {box.y:.1f})">'
    corner = 5 if box.kind == "node" else box.h / 2 if box.kind == "export" else 2
    yield f'<rect width="{box.w:.1f}" height="{box.h:.1f}" rx="{corner:g}"/>'
    middle = box.w / 2
    if box.kind != "node":
        yield _label(box.title, shown_title(box), f'x="{middle:.1f}" y="{box.h / 2 + 4:.1f}" text-anchor="middle"')
    else:
        yield _label(box.title, shown_title(box), f'class="title" x="{middle:.1f}" y="16" text-anchor="middle"')
        for number, line in enumerate(box.lines):
            y = TITLE_H + LINE_H * number + 9
            yield _label(line, shown_line(line), f'class="component" x="{middle:.1f}" y="{y:.1f}" text-anchor="middle"')
        if box.inports or box.outports:
            y = TITLE_H + LINE_H * len(box.lines) + PAD / 4
            yield f'<line x1="0" x2="{box.w:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for port, y in box.inports.items():
            yield _label(port, shown_port(port), f'x="{PAD:g}" y="{y + 4:.1f}"')
        for port, y in box.outports.items():
            yield _label(port, shown_port(port), f'x="{box.w - PAD:.1f}" y="{y + 4:.1f}" text-anchor="end"')
    yield "</g>"


def _label(text: str, shown: str, attributes: str) -> str:
    """A text; pointing at one that was clipped shows all of it."""
    whole = "" if shown == text else f"<title>{_text(text)}</title>"
    return f"<text {attributes}>{_text(shown)}{whole}</text>"


def _wire(wire: DrawnEdge, colour: str) -> Iterator[str]:
    """Within columns it runs level, so that it passes their boxes by; it climbs between them."""
    (x, y), (end_x, end_y) = wire.start, wire.end
    path = [f"M{x:.1f} {y:.1f}", f"L{wire.src.right:.1f} {y:.1f}"]
    x = wire.src.right
    bend = GAP_X / 2
    for lane in wire.lanes:
        at_y = lane.y + lane.h / 2
        near, far = (lane.right, lane.left) if wire.back else (lane.left, lane.right)
        path.append(_curve(x, y, near, at_y, bend, leftwards=wire.back, turn=wire.back and lane is wire.lanes[0]))
        path.append(f"L{far:.1f} {at_y:.1f}")
        x, y = far, at_y
    tip = end_x - ARROW
    level_from = min(tip, wire.tgt.left)
    path.append(_curve(x, y, level_from, end_y, bend, leftwards=False, turn=wire.back))
    path.append(f"L{tip:.1f} {end_y:.1f}")
    yield f'<path class="wire" stroke="{colour}" d="{"".join(path)}"><title>{_text(wire.label)}</title></path>'
    back = tip - 1
    yield f'<path fill="{colour}" d="M{back:.1f} {end_y - 4:.1f}L{end_x:.1f} {end_y:.1f}L{back:.1f} {end_y + 4:.1f}z"/>'


def _curve(x: float, y: float, to_x: float, to_y: float, bend: float, *, leftwards: bool, turn: bool) -> str:
    """A curve that leaves and arrives level; with ``turn`` it leaves one way and arrives the other."""
    if turn:
        side = bend if leftwards else -bend
        return f"C{x + side:.1f} {y:.1f} {to_x + side:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    half = (to_x - x) / 2
    return f"C{x + half:.1f} {y:.1f} {to_x - half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))
