"""``gateway graph``: what can be done with a graph file, and (elsewhere) with the graph that runs."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, print_table, writing
from gateway.errors import GatewayError, found_in

if TYPE_CHECKING:
    from gateway.fbp.text.formats import Form
    from gateway.model.graph import Graph

ELSEWHERE = {
    "compile": "gateway.cli.graphs.compile",
    "connect": "gateway.cli.graphs.live",
    "disconnect": "gateway.cli.graphs.live",
    "apply": "gateway.cli.graphs.live",
}
"""Subcommands that live in modules of their own, imported only when they are used, as attributes of their name."""

Drawing = Literal["svg", "mermaid", "graphviz"]
EXTENSIONS: dict[str, Drawing] = {".svg": "svg", ".mmd": "mermaid", ".dot": "graphviz", ".gv": "graphviz"}


class GraphGroup(click.Group):
    """A group that imports some of its commands late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names; those whose module is missing are left out."""
        return sorted({*super().list_commands(ctx), *(name for name in ELSEWHERE if self._found(name))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        return super().get_command(ctx, cmd_name) or self._found(cmd_name)

    @staticmethod
    def _found(name: str) -> click.Command | None:
        if name not in ELSEWHERE:
            return None
        try:
            found: click.Command = getattr(importlib.import_module(ELSEWHERE[name]), f"{name}_command")
        except ModuleNotFoundError:
            return None
        return found


@click.group("graph", cls=GraphGroup)
def command() -> None:
    """Check, show, convert, compare and draw graphs, and wire the running one.

    FILE is a graph in the .fbp language or in JSON, by its extension; - is standard input.
    """


def reading(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command needs that reads a graph."""
    case = click.option("--case-sensitive", is_flag=True, help="Keep the case of ports in a .fbp text.")
    form = click.option(
        "--from", "form", type=click.Choice(["fbp", "json"]), help="Form of FILE; default: by its name."
    )
    return case(form(function))


def read(name: str, form: Form | None, case_sensitive: bool) -> Graph:
    """The graph of a file, or of standard input (whose first character tells its form)."""
    from gateway.fbp.text.formats import parse_graph
    from gateway.fbp.text.graph_files import read_graph_text
    from gateway.files import text_from

    if name != "-":
        return parse_graph(read_graph_text(Path(name)), name, form, case_sensitive=case_sensitive)
    try:
        text = text_from(sys.stdin.buffer)
    except OSError as exc:
        raise GatewayError(f"standard input: {exc.strerror}") from None
    guess: Form = "json" if text.lstrip().startswith("{") else "fbp"
    return parse_graph(text, "standard input", form or guess, case_sensitive=case_sensitive)


def output(text: str, path: Path | None) -> None:
    """Print, or replace a file in one step."""
    from gateway.files import write_output

    if path is None:
        click.echo(text, nl=False)
        return
    with writing(path):
        write_output(path, text.encode())


@command.command("convert")
@click.argument("file")
@click.option("--to", "target", type=click.Choice(["fbp", "json"]), required=True, help="Form of the result.")
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="Write there instead of printing.")
@reading
def convert(file: str, target: Form, path: Path | None, form: Form | None, case_sensitive: bool) -> None:
    """Turn .fbp into JSON or JSON into .fbp: `gateway graph convert hall.fbp --to json`.

    The same graph gives the same bytes. What the .fbp language has no words for (groups, metadata of edges, bare true,
    false and null) is named, and nothing is written.
    """
    from gateway.fbp.text.formats import render_graph

    graph = read(file, form, case_sensitive)
    if case_sensitive:
        graph = replace(graph, case_sensitive=True)
    output(render_graph(graph, target, "standard input" if file == "-" else file), path)


@command.command("show")
@click.argument("file", required=False)
@reading
@json_option
@placed
def show(here: CommandContext, file: str | None, form: Form | None, case_sensitive: bool, as_json: bool) -> None:
    """Print what is in a graph: nodes, edges, IIPs, exported ports, groups. Without FILE: the graph that runs."""
    from gateway.fbp.text.graph_json import to_json

    notes: list[str] = []
    if file is None:
        graph, notes = _running(here)
    else:
        graph = read(file, form, case_sensitive)
    if as_json:
        print_json("graph", to_json(graph))
        return
    if not graph.nodes:
        click.echo("no nodes")
    _print(graph)
    for note in notes:
        click.echo(note)


def _running(here: CommandContext) -> tuple[Graph, list[str]]:
    """The graph of the running gateway, and what there is to say of its edges."""
    from gateway.cli.daemon import ask_one
    from gateway.fbp.text.graph_json import from_json

    answer = ask_one(here, "graph.get")
    graph = from_json(answer["graph"], "the running graph")
    told = ask_one(here, "status")["waiting"]  # by the brokers too
    waiting = answer["waiting"] | {name: told[name] for edge in graph.edges if (name := str(edge)) in told}
    notes = [f"{edge} {why}" for edge, why in waiting.items()]
    notes += [f"{edge} is left out: {why}" for edge, why in answer["refused"].items()]
    notes += [f"{edge} is implied: one queue for both, nothing is forwarded" for edge in answer["implied"]]
    return graph, notes


def _print(graph: Graph) -> None:
    for key, value in graph.properties.items():
        click.echo(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if graph.nodes:
        incoming = Counter(edge.tgt.node for edge in graph.edges)
        leaving = Counter(edge.src.node for edge in graph.edges)
        rows = [[node.id, node.component, str(incoming[node.id]), str(leaving[node.id])] for node in graph.nodes]
        print_table(["NODE", "COMPONENT", "EDGES IN", "EDGES OUT"], rows)
    for edge in graph.edges:
        click.echo(f"{edge.src} -> {edge.tgt}{_metadata(edge.metadata)}")
    for iip in graph.iips:
        click.echo(f"{json.dumps(iip.data, ensure_ascii=False)} -> {iip.tgt}")
    for kind, exports in (("inport", graph.inports), ("outport", graph.outports)):
        for export in exports:
            click.echo(f"{kind} {export.name} = {export.ref}")
    for group in graph.groups:
        click.echo(f"group {group['name']}: {', '.join(group.get('nodes') or [])}")


def _metadata(metadata: Any) -> str:
    return f"  {json.dumps(dict(metadata), ensure_ascii=False)}" if metadata else ""


@command.command("check")
@click.argument("files", nargs=-1, required=True)
@click.option("--components", type=click.Path(path_type=Path), help="Component map of the board that shall run it.")
@reading
@json_option
def check(
    files: tuple[str, ...], components: Path | None, form: Form | None, case_sensitive: bool, as_json: bool
) -> None:
    """Read graphs and say what is wrong, with line and column, or that nothing is.

    With --components also whether that board's firmware can run them.
    """
    results: list[dict[str, Any]] = []
    for file in files:
        graph = read(file, form, case_sensitive)
        if components is not None:
            with found_in("standard input" if file == "-" else file):
                _check_for_board(graph, components)
        counts = {"nodes": len(graph.nodes), "edges": len(graph.edges), "iips": len(graph.iips)}
        results.append({"file": file, **counts, "remarks": remarks(graph)})
    if as_json:
        print_json("check", results)
        return
    for result in results:
        click.echo("{file}: good; nodes: {nodes}, edges: {edges}, IIPs: {iips}".format(**result))
        for remark in result["remarks"]:
            click.echo(f"  {remark}")


def _check_for_board(graph: Graph, components: Path) -> None:
    from gateway.serial_link.description.component_files import load_components
    from gateway.serial_link.graph.upload import check_graph

    check_graph(graph, load_components(components))


def remarks(graph: Graph) -> list[str]:
    """What is allowed, but may not be meant."""
    found = []
    used = {ref.node for edge in graph.edges for ref in (edge.src, edge.tgt)}
    used |= {export.ref.node for export in (*graph.inports, *graph.outports)}
    found += [f"node {node.id} has no edge" for node in graph.nodes if node.id not in used]
    edges = Counter(str(edge) for edge in graph.edges)
    found += [f"edge {edge} is there more than once" for edge, count in edges.items() if count > 1]
    ports = Counter(str(iip.tgt) for iip in graph.iips)
    return found + [f"{port} has more than one IIP" for port, count in ports.items() if count > 1]


@command.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the graphs differ.")
@reading
@json_option
def diff(before: str, after: str, exit_code: bool, form: Form | None, case_sensitive: bool, as_json: bool) -> None:
    """Print what has to change so that graph BEFORE becomes graph AFTER; nothing when they are the same.

    The order of lines, and whether a file is .fbp or JSON, make no difference.
    """
    from gateway.model.difference import describe, difference

    edits = difference(read(before, form, case_sensitive), read(after, form, case_sensitive))
    lines = [describe(edit) for edit in edits]
    if as_json:
        print_json("diff", lines)
    else:
        for line in lines:
            click.echo(line)
    if lines and exit_code:
        sys.exit(1)


@command.command("draw")
@click.argument("file")
@click.option("--as", "kind", type=click.Choice(["svg", "mermaid", "graphviz"]), help="Default: by the name of OUTPUT.")
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="Write there instead of printing.")
@reading
def draw(file: str, kind: Drawing | None, path: Path | None, form: Form | None, case_sensitive: bool) -> None:
    """Draw a graph as SVG, or as text for Mermaid or Graphviz: `gateway graph draw hall.fbp -o hall.svg`."""
    from gateway.fbp.drawing.dot_mermaid import draw_graphviz, draw_mermaid
    from gateway.fbp.drawing.svg import draw_svg

    wanted = kind or EXTENSIONS.get(path.suffix if path else ".svg")
    if wanted is None:
        raise click.UsageError(f"{path}: say with --as what it shall be: svg, mermaid or graphviz")
    drawers = {"svg": draw_svg, "mermaid": draw_mermaid, "graphviz": draw_graphviz}
    output(drawers[wanted](read(file, form, case_sensitive)), path)
