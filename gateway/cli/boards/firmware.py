"""``gateway firmware``: build it, look at it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, writing

if TYPE_CHECKING:
    from gateway.firmware.build import MemoryUse
    from gateway.firmware.core.targets import Target
    from gateway.serial_link.description.self_description import Description

GRAPH = click.option("--graph", type=click.Path(path_type=Path), help="Device graph that the board runs at boot.")
MEANINGS = click.option(
    "--port", "meanings", multiple=True, metavar="NAME:K=V,…", help="type=, scale=, unit= of an exported port."
)
ANSWER_S = 15.0


@click.group("firmware")
def command() -> None:
    """Build our own firmware, and look at what a board runs."""


@command.command("build")
@click.argument("target")
@GRAPH
@MEANINGS
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The image; a map goes beside it.")
def build(target: str, graph: Path | None, meanings: tuple[str, ...], output: Path) -> None:
    """Build the firmware of TARGET (host, uno, …), with a graph built in or without.

    For example: gateway firmware build uno --graph thermometer.fbp --port temp:type=number,scale=0.01,unit=°C -o attic.hex
    """
    from gateway.firmware.build import build_firmware, check_limits, memory_use
    from gateway.firmware.sources import component_map

    made = known_target(target)
    description = describe(made, graph, meanings)
    with tempfile.TemporaryDirectory(prefix="gateway-firmware-") as directory:
        image = build_firmware(made, generated(made, description), Path(directory))
        used = memory_use(made, image)
        check_limits(made, used)
        with writing(output):
            shutil.copy(image, output)
    maps = output.with_suffix(".component.map.json")
    with writing(maps):
        shutil.copyfile(component_map(), maps)
    click.echo(f"{output}: {made.board}, {graph_words(description)}{size_words(used)}")
    click.echo(f"{maps}: its components, for hosts that can't ask the board")


@command.command("generate", hidden=True)
@click.argument("target")
@GRAPH
@MEANINGS
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True)
def generate(target: str, graph: Path | None, meanings: tuple[str, ...], output: Path) -> None:
    """Write generated.h for a build of TARGET; the Makefile of the sources calls this."""
    made = known_target(target)
    text = generated(made, describe(made, graph, meanings))
    with writing(output):
        output.write_text(text, "utf-8")


@command.command("info")
@click.argument("what", metavar="FILE|PORT|ROLE")
@json_option
@placed
def info(here: CommandContext, what: str, as_json: bool) -> None:
    """Show what is in an image, or what the board on a port or with a role tells of itself."""
    path = Path(what)
    found = {"id": None, "own_graph": None} | fields(in_file(path)) if path.is_file() else of_board(here, what)
    if as_json:
        print_json("firmware", found)
        return
    for line in lines(found):
        click.echo(line)


# -- building ----------------------------------------------------------------------------------------------------------


def known_target(name: str) -> Target:
    """The target of this name."""
    from gateway.errors import NotFound
    from gateway.firmware.core.targets import TARGETS

    if name not in TARGETS:
        raise NotFound(f"no firmware target {name}; there are {', '.join(TARGETS)}")
    return TARGETS[name]


def describe(target: Target, graph_file: Path | None, meanings: tuple[str, ...] = ()) -> Description:
    """What a build will tell of itself; ``GraphError`` for a graph or port that it can't have."""
    from gateway import __version__
    from gateway.cli.boards.pair import port_meanings
    from gateway.errors import GraphError
    from gateway.fbp.text.graph_files import load_graph
    from gateway.firmware.sources import component_map
    from gateway.serial_link.description.component_map import parse_component_map
    from gateway.serial_link.description.self_description import Description, FirmwareLimits
    from gateway.serial_link.records.profile import BoardProfile

    path = component_map()
    library = parse_component_map(path.read_text("utf-8"), str(path))
    limits = FirmwareLimits(target.nodes, target.messages, target.outports, target.receive_bytes)
    graph = load_graph(graph_file) if graph_file else None
    try:
        profile = BoardProfile.of(graph, library, port_meanings(meanings, ()))
    except GraphError as exc:
        raise GraphError(str(graph_file or target.name), str(exc)) from exc
    return Description("microflo-gateway", __version__, target.board, library, limits, graph, profile.ports)


def generated(target: Target, description: Description) -> str:
    """The text of generated.h."""
    from gateway.firmware.core.header import generated_header
    from gateway.serial_link.description.self_description import encode_description, image_block
    from gateway.serial_link.graph.upload import compile_stream
    from gateway.serial_link.protocol.codec import W10

    graph, library = description.graph, description.library
    stream = compile_stream(graph, library, W10, embedded=True) if graph else b""
    return generated_header(target, library, stream, image_block(encode_description(description)))


def graph_words(description: Description) -> str:
    """The graph in a sentence."""
    if description.graph is None:
        return "no graph built in"
    return f"graph {description.graph.name or 'without a name'} with {len(description.graph.nodes)} nodes"


def size_words(used: MemoryUse | None) -> str:
    """Flash and RAM in a sentence."""
    return f", {used.flash} bytes of flash, {used.ram} bytes of RAM" if used else ""


# -- looking -----------------------------------------------------------------------------------------------------------


def in_file(path: Path) -> Description:
    """The description in an image: Intel HEX, ELF, or plain bytes."""
    from gateway.errors import GatewayError
    from gateway.files import read_bytes
    from gateway.firmware.core.ihex import read_ihex
    from gateway.serial_link.description.self_description import decode_description, document_in

    try:
        data = read_bytes(path)
    except OSError as exc:
        raise GatewayError(f"{path}: can't be read: {exc.strerror}") from exc
    image = read_ihex(data.decode("ascii", "replace"), str(path)) if data.startswith(b":") else data
    document = document_in(image)
    if document is None:
        raise GatewayError(f"{path}: nothing describes it in there: it is none of our firmware's images")
    return decode_description(document)


def of_board(here: CommandContext, what: str) -> dict[str, Any]:
    """What the board on a port, or with a role, tells of itself."""
    from gateway.cli.boards.flash import borrowed

    with borrowed(here, what, "gateway firmware info") as path:
        return asyncio.run(ask_board(path))


async def ask_board(path: str) -> dict[str, Any]:
    """Open the port, and ask."""
    from gateway.errors import BoardRefused, ConnectFailed, GatewayError
    from gateway.serial_link.connected.link_driver import LinkDriver
    from gateway.serial_link.connected.setup_steps import wait_for_boot
    from gateway.serial_link.description.self_description import DescriptionReader
    from gateway.serial_link.ports.schemes import opener
    from gateway.serial_link.ports.tty import PortOptions
    from gateway.serial_link.protocol.codec import W10
    from gateway.serial_link.protocol.link import Link
    from gateway.serial_link.protocol.link_events import options_for

    port = await opener()(path, PortOptions())
    try:
        async with asyncio.timeout(ANSWER_S):
            if port.resets:
                await wait_for_boot(port, 2.0)
            conversation = LinkDriver(port, Link(W10, options_for(W10, W10.baud)), f"port {path}")
            await conversation.open()
            reader = DescriptionReader()
            while (unit := reader.next_command()) is not None:
                reader.accept(await conversation.ask(unit))
    except BoardRefused:
        raise GatewayError(f"port {path}: the board has stock firmware, which can't tell of itself") from None
    except TimeoutError:
        raise ConnectFailed(f"port {path}", f"no whole description within {ANSWER_S:.0f} s") from None
    finally:
        port.close()
    told = reader.result()
    return {"id": told.id, "own_graph": told.own_graph} | fields(told.description)


def fields(description: Description) -> dict[str, Any]:
    """The stable shape of ``gateway firmware info --json``."""
    graph, limits = description.graph, description.limits
    exported = () if graph is None else (*graph.inports, *graph.outports)
    return {
        "firmware": description.firmware,
        "version": description.version,
        "board": description.board,
        "components": sorted(description.library.by_name),
        "limits": {name: getattr(limits, name) for name in limits.__slots__},
        "graph": None if graph is None else graph.name,
        "ports": [port_fields(export.name, description) for export in exported],
    }


def port_fields(name: str, description: Description) -> dict[str, Any]:
    """One exported port."""
    assert description.graph is not None
    meaning = description.ports.get(name)
    inport = any(export.name == name for export in description.graph.inports)
    shown: dict[str, Any] = {"name": name, "direction": "in" if inport else "out"}
    if meaning is not None:
        shown |= {"type": meaning.type, "scale": meaning.scale, "unit": meaning.unit}
    return shown


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    limits = found["limits"]
    shown = [f"{found['firmware']} {found['version']} for {found['board']}"]
    if found["id"]:
        shown.append(f"id          {found['id']}")
    graph = found["graph"] if found["graph"] is not None else "none built in"
    if found["own_graph"] is False and found["graph"] is not None:
        graph += " (another one was uploaded since)"
    shown.append(f"graph       {graph}")
    for port in found["ports"]:
        unit = f" in {port['unit']}" if port.get("unit") else ""
        shown.append(f"{port['direction']}port".ljust(12) + f"{port['name']} ({port.get('type', 'any')}{unit})")
    shown.append(f"room for    {limits['nodes']} nodes, {limits['messages']} packets, {limits['outports']} outports")
    shown.append(f"components  {', '.join(found['components'])}")
    return shown
