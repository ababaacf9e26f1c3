"""``gateway simulate``."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from gateway.errors import GatewayError, NotFound, found_in

if TYPE_CHECKING:
    from gateway.model.component import ComponentLibrary
    from gateway.model.graph import Graph
    from gateway.simulator.core.faults import FaultSpec
    from gateway.simulator.pty import Playable

BoardMaker: TypeAlias = "Callable[[str], Callable[[float], Playable]]"
"""For a name to print before its lines: how a board is made as it is after reset."""

WIRE_NAMES = ("w10", "w8-0.6", "w8-0.4")


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the command line asks for."""

    links: tuple[Path, ...]
    graph: Path | None
    components: Path | None
    wire: str
    strict: bool
    faults: str
    seed: int
    replay: Path | None


@click.command("simulate")
@click.option(
    "--link",
    "links",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Name for the pty: a link to it is made. Several times: several boards.",
)
@click.option("--count", type=click.IntRange(1, 256), default=1, help="So many boards: LINK, LINK1, LINK2 …")
@click.option("--graph", type=click.Path(path_type=Path), help="Device graph that the firmware runs at boot.")
@click.option(
    "--components", type=click.Path(path_type=Path), help="Component map, or C++ sources; default: the simulator's own."
)
@click.option("--wire", type=click.Choice(WIRE_NAMES), default="w10", show_default=True, help="Wire generation.")
@click.option("--strict", is_flag=True, help="As our own firmware: errors instead of crashes, and all extensions.")
@click.option("--faults", default="", metavar="SPEC", help="As drop=1e-3,reset=10, or @FILE with a script of times.")
@click.option("--seed", type=int, default=0, help="The same seed gives the same faults.")
@click.option("--replay", type=click.Path(path_type=Path), metavar="FILE", help="Play a recorded line instead.")
@click.option(
    "--firmware", metavar="TARGET", help="Our firmware instead: host, or uno on an emulated chip; compiled now."
)
def command(
    links: tuple[Path, ...],
    count: int,
    graph: Path | None,
    components: Path | None,
    wire: str,
    strict: bool,
    faults: str,
    seed: int,
    replay: Path | None,
    firmware: str | None,
) -> None:
    """Run simulated boards on ptys, and print their pins as they change. Ctrl-C ends them.

    A board behaves as stock firmware does, limits and errors included; where that would crash, it hangs up, says which
    rule was broken, and comes back as after a reset.

    LINK.ctl is a socket that takes a request a line: set PIN VALUE, get PIN, stats, reset, unplug, plug [LINK], hang
    (until resume or reset), resume, pause, run, noise HEX, harm in|out (a bit of the next byte that way is turned over).

    Faults: drop, flip, duplicate (rate per byte), delay, jitter (seconds), and, every so many seconds on average,
    stall, reset, noise, unplug, rename (as reset=10 or unplug=30:2).

    \b
    Example: gateway simulate --link ./ttyDEMO --graph examples/thermometer.fbp --faults drop=1e-4,unplug=60 --seed 7
    """
    if len(links) > 1 and count > 1:
        raise click.UsageError("--count makes names of one --link; give either several links or a count")
    if replay and (graph or components or strict):
        raise click.UsageError("--replay plays what was recorded: it takes no graph, components or --strict")
    if firmware is not None:
        run_emulated(firmware, links, graph, other=bool(components or count > 1 or faults or replay or strict))
        return
    named = links if count == 1 else tuple(Path(f"{links[0]}{n or ''}") for n in range(count))
    asyncio.run(simulate(SimulateOptions(named, graph, components, wire, strict, faults, seed, replay)))


def run_emulated(firmware: str, links: tuple[Path, ...], graph: Path | None, *, other: bool) -> None:
    """Machine code in the place of a simulated board."""
    from gateway.cli.boards.emulate import run_firmware

    if other or len(links) > 1:
        raise click.UsageError(
            "--firmware runs one board with its own components: it goes with --link and --graph only"
        )
    run_firmware(firmware, links[0], graph, print_pin)


async def simulate(wanted: SimulateOptions) -> None:
    """Until SIGINT or SIGTERM."""
    from gateway.simulator.core.faults import FaultyLine
    from gateway.simulator.pty import SimulatedBoard

    spec = read_faults(wanted.faults)
    make_board, names = replayed(wanted.replay) if wanted.replay else simulated(wanted)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    many = len(wanted.links) > 1
    running = f", playing {wanted.replay}" if wanted.replay else f", running {wanted.graph}" if wanted.graph else ""
    async with AsyncExitStack() as boards:
        for index, link in enumerate(wanted.links):
            name = f"{link}: " if many else ""
            line = FaultyLine(spec, wanted.seed + index) if spec else None
            board = SimulatedBoard(make_board(name), link, names, line, crash_printer(name))
            await boards.enter_async_context(board)
            click.echo(f"board ready on {link} -> {board.path}{running}")
        await stop.wait()


def simulated(wanted: SimulateOptions) -> tuple[BoardMaker, dict[str, str]]:
    """How boards are made that execute a graph, each with pins of its own; and the names of their outports."""
    from gateway.fbp.text.graph_files import load_graph
    from gateway.firmware.sources import component_map
    from gateway.serial_link.description.component_files import load_components
    from gateway.serial_link.graph.upload import compile_stream
    from gateway.serial_link.protocol.codec import WIRES
    from gateway.simulator.core import board as core
    from gateway.simulator.core.components import Pins
    from gateway.simulator.core.our_firmware import Told

    wire = WIRES[wanted.wire]
    library = load_components(wanted.components or component_map())
    graph = load_graph(wanted.graph) if wanted.graph else None
    with found_in(wanted.graph):
        embedded = compile_stream(graph, library, wire, embedded=True) if graph else b""

    document = described(graph, library) if wanted.strict and wire.request_ids else b""

    def for_board(name: str) -> Callable[[float], Playable]:
        pins = Pins(on_change=lambda pin, value, kind: print_pin(pin, value, kind, name))
        told = Told(document, board_id(name or str(wanted.links[0]))) if document else None
        return lambda now: core.Board(
            library, pins, wire=wire, embedded=embedded, now=now, strict=wanted.strict, told=told
        )

    return for_board, outport_names(graph, library) if graph else {}


def described(graph: Graph | None, library: ComponentLibrary) -> bytes:
    """What a strict board tells of itself."""
    from gateway import __version__
    from gateway.serial_link.description.self_description import Description, FirmwareLimits, encode_description

    limits = FirmwareLimits(nodes=49, messages=48, outports=255, receive_bytes=4095)
    return encode_description(
        Description("microflo-simulator", __version__, "a simulated board", library, limits, graph)
    )


def board_id(name: str) -> bytes:
    """The same for the same link."""
    return hashlib.blake2b(name.removesuffix(": ").encode(), digest_size=8).digest()


def outport_names(graph: Graph, library: ComponentLibrary) -> dict[str, str]:
    """``2.0`` -> ``sensor.out``, for a board that numbered its nodes in the order of the graph."""
    return {
        f"{number}.{port.number}": f"{node.id}.{port.id}"
        for number, node in enumerate(graph.nodes, 1)
        for port in library.component(node.component).outports
    }


def replayed(path: Path) -> tuple[BoardMaker, dict[str, str]]:
    """How boards are made that say what was recorded."""
    from gateway.files import read_text
    from gateway.serial_link.protocol.capture_format import LARGEST_CAPTURE, capture_commands, parse_capture
    from gateway.serial_link.protocol.dissector import LineDirection
    from gateway.simulator.core.replay import ReplayBoard

    try:
        capture = parse_capture(read_text(path, LARGEST_CAPTURE), str(path))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such recording") from None
    except OSError as exc:
        raise GatewayError(f"{path}: can't be read: {exc.strerror}") from exc
    recorded = [(time, way is LineDirection.TO_BOARD, unit) for time, way, unit in capture_commands(capture)]
    return lambda name: lambda now: ReplayBoard(capture.wire, recorded), {}


def read_faults(text: str) -> FaultSpec | None:
    """The specification itself, or the script that ``@FILE`` names."""
    from dataclasses import replace

    from gateway.files import read_text
    from gateway.simulator.core.faults import FaultSpec, parse_faults, parse_script

    if not text.startswith("@"):
        return parse_faults(text) if text else None
    try:
        return replace(FaultSpec(), script=parse_script(read_text(Path(text[1:])), text[1:]))
    except FileNotFoundError:
        raise NotFound(f"{text[1:]}: no such script") from None
    except OSError as exc:
        raise GatewayError(f"{text[1:]}: can't be read: {exc.strerror}") from exc


def print_pin(pin: int, value: int, kind: str, name: str = "") -> None:
    """One line a change."""
    text = f"{value} %" if kind == "pwm" else "on" if value else "off"
    click.echo(f"{name}pin {pin} = {text}")


def crash_printer(name: str) -> Callable[[str], None]:
    """One line a crash."""
    return lambda rule: click.echo(f"{name}the board crashed, as stock firmware does: {rule}", err=True)
