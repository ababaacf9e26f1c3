"""A graph as text for Mermaid and for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from gateway.fbp.drawing.layout import literal, port_label
from gateway.model.graph import Edge, Graph, members
from gateway.model.port import PortRef


def draw_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, from left to right."""
    return "\n".join(_mermaid(graph)) + "\n"


def _mermaid(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    names = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        yield f'    {names[node.id]}["{_quoted(node.id)}<br/>{_quoted(node.component)}"]'
    for number, export in enumerate(graph.inports):
        yield f'    i{number}(["{_quoted(export.name)}"]) -- "{_quoted(port_label(export.ref))}" --> {names[export.ref.node]}'
    for number, entry in enumerate(graph.order):
        tgt = names[entry.tgt.node]
        if isinstance(entry, Edge):
            yield (
                f'    {names[entry.src.node]} -- "{_quoted(port_label(entry.src))} → {_quoted(port_label(entry.tgt))}" --> {tgt}'
            )
        else:
            yield f'    d{number}[/"{_quoted(literal(entry.data))}"/] -. "{_quoted(port_label(entry.tgt))}" .-> {tgt}'
    for number, export in enumerate(graph.outports):
        yield f'    {names[export.ref.node]} -- "{_quoted(port_label(export.ref))}" --> o{number}(["{_quoted(export.name)}"])'
    for number, group in enumerate(graph.groups):
        yield f'    subgraph g{number}["{_quoted(str(group.get("name")))}"]'
        for member in members(group):
            yield f"        {names[member]}"
        yield "    end"


def _quoted(text: str) -> str:
    """Text for a quoted Mermaid label: what has a meaning there becomes an entity."""
    return "".join(f"#{ord(char)};" if char in '"#<>&\\`' or ord(char) < 32 else char for char in text)


def draw_graphviz(graph: Graph) -> str:
    """A Graphviz graph (``dot -Tpng``): ports are cells of their nodes."""
    return "\n".join(_graphviz(graph)) + "\n"


def _graphviz(graph: Graph) -> Iterator[str]:
    yield f"digraph {_string(graph.name or 'graph')} {{"
    yield '  rankdir=LR; node [shape=plain, fontname="sans-serif", fontsize=11]; edge [color="#446"];'
    names = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    ins: dict[str, dict[str, str]] = {node.id: {} for node in graph.nodes}
    outs: dict[str, dict[str, str]] = {node.id: {} for node in graph.nodes}
    lines = list(_graphviz_edges(graph, names, ins, outs))
    for node in graph.nodes:
        rows = "".join(_row(ins[node.id], outs[node.id]))
        yield (
            f'  {names[node.id]} [label=<<table border="1" cellborder="0" cellspacing="0" style="rounded">'
            f'<tr><td colspan="2"><b>{_html(node.id)}</b></td></tr>'
            f'<tr><td colspan="2">{_html(node.component)}</td></tr>{rows}</table>>];'
        )
    for number, group in enumerate(graph.groups):
        inside = " ".join(names[member] for member in members(group))
        yield f"  subgraph cluster_{number} {{ label={_string(str(group.get('name')))}; {inside} }}"
    yield from lines
    yield "}"


def _graphviz_edges(
    graph: Graph, names: Mapping[str, str], ins: dict[str, dict[str, str]], outs: dict[str, dict[str, str]]
) -> Iterator[str]:
    def end(ref: PortRef, ports: dict[str, dict[str, str]], letter: str) -> str:
        cell = ports[ref.node].setdefault(port_label(ref), f"{letter}{len(ports[ref.node])}")
        return f"{names[ref.node]}:{cell}"

    for number, export in enumerate(graph.inports):
        yield f"  i{number} [label={_string(export.name)}, shape=oval];"
        yield f"  i{number} -> {end(export.ref, ins, 'i')}:w;"
    for number, entry in enumerate(graph.order):
        tgt = end(entry.tgt, ins, "i")
        if isinstance(entry, Edge):
            yield f"  {end(entry.src, outs, 'o')}:e -> {tgt}:w;"
        else:
            yield f"  d{number} [label={_string(literal(entry.data))}, shape=note];"
            yield f"  d{number} -> {tgt}:w [style=dashed];"
    for number, export in enumerate(graph.outports):
        yield f"  o{number} [label={_string(export.name)}, shape=oval];"
        yield f"  {end(export.ref, outs, 'o')}:e -> o{number};"


def _row(ins: Mapping[str, str], outs: Mapping[str, str]) -> Iterator[str]:
    left, right = list(ins.items()), list(outs.items())
    for number in range(max(len(left), len(right))):
        cells = []
        for ports, align in ((left, "left"), (right, "right")):
            if number < len(ports):
                name, cell = ports[number]
                cells.append(f'<td port="{cell}" align="{align}">{_html(name)}</td>')
            else:
                cells.append("<td></td>")
        yield f"<tr>{''.join(cells)}</tr>"


def _html(text: str) -> str:
    return escape(_printable(text))


def _string(text: str) -> str:
    escaped = _printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
