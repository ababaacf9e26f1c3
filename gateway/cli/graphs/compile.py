"""``gateway graph compile``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.common import writing
from gateway.errors import found_in

FORMATS = ("hex", "bin", "c-header")
WIRE_NAMES = ("w10", "w8-0.6", "w8-0.4")


@click.command("compile")
@click.argument("graph", type=click.Path(path_type=Path))
@click.option(
    "--components",
    type=click.Path(path_type=Path),
    required=True,
    help="The firmware's component map, or the C++ sources (a file or a directory) with its components.",
)
@click.option("--wire", type=click.Choice(WIRE_NAMES), default="w10", show_default=True, help="Wire generation.")
@click.option("--embedded", is_flag=True, help="With open and End around it, as firmware embeds its start graph.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="hex", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file; default: standard output.")
def compile_command(graph: Path, components: Path, wire: str, embedded: bool, form: str, output: Path | None) -> None:
    """Write the command stream that makes a board run GRAPH.

    hex is one command a line; c-header an array to compile into firmware. Request ids count from 1.

    \b
    Example: gateway graph compile blink.fbp --components map.json --embedded --format c-header -o graph.h
    """
    from gateway.fbp.text.graph_files import load_graph
    from gateway.files import write_output
    from gateway.serial_link.description.component_files import load_components
    from gateway.serial_link.graph.upload import compile_stream
    from gateway.serial_link.protocol.codec import WIRES

    generation = WIRES[wire]
    loaded, library = load_graph(graph), load_components(components)
    with found_in(graph):
        stream = compile_stream(loaded, library, generation, embedded=embedded)
    data = render(stream, generation.size, form, graph.name)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    with writing(output):
        write_output(output, data)


def render(stream: bytes, size: int, form: str, name: str) -> bytes:
    """A stream of commands of ``size`` bytes in one of ``FORMATS``."""
    if form == "bin":
        return stream
    lines = [stream[at : at + size] for at in range(0, len(stream), size)]
    if form == "hex":
        return "".join(f"{line.hex()}\n" for line in lines).encode()
    rows = "".join(f"    {', '.join(f'0x{byte:02x}' for byte in line)},\n" for line in lines)
    return (
        f"// {name}, compiled by gateway graph compile: {len(lines)} commands of {size} bytes\n"
        f"#pragma once\n\nstatic const unsigned char graph[] = {{\n{rows}}};\n"
    ).encode()
