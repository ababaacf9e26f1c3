"""``gateway monitor``."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_line, placed
from gateway.cli.daemon import ask

if TYPE_CHECKING:
    from gateway.serial_link.protocol.codec import Wire
    from gateway.serial_link.protocol.dissector import LineDirection, Names

WIRE_NAMES = ("w10", "w8-0.6", "w8-0.4")
SILENCE_S = 0.25
"""A line that is silent for so long sends no more of a command that it began."""

Print = Callable[[str], None]


@click.command("monitor")
@click.argument("target", metavar="PORT|ROLE")
@click.option("--wire", type=click.Choice(WIRE_NAMES), default="w10", show_default=True, help="For a PORT.")
@click.option("--baud", type=click.IntRange(300, 4_000_000), default=115200, show_default=True, help="For a PORT.")
@click.option("--graph", type=click.Path(path_type=Path), help="What runs there, for names instead of numbers.")
@click.option("--components", type=click.Path(path_type=Path), help="Component map of the firmware, with --graph.")
@click.option("--hex", "show_hex", is_flag=True, help="The bytes too.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON a command.")
@placed
def command(
    here: CommandContext,
    target: str,
    wire: str,
    baud: int,
    graph: Path | None,
    components: Path | None,
    show_hex: bool,
    as_json: bool,
) -> None:
    """Show what passes on a board's line, in words, until Ctrl-C.

    A ROLE is a paired board, watched in both directions through the running gateway. A PORT is one that nobody holds: what
    the board says by itself is shown, and nothing is written; opening it resets many boards.
    """
    if (graph is None) != (components is None):
        raise click.UsageError("--graph and --components go together")
    if "/" in target:
        names = names_of(graph, components)
        asyncio.run(listen(target, wire, baud, names, show_hex=show_hex, as_json=as_json))
        return
    with suppress(KeyboardInterrupt):
        for line in through_daemon(here, target, show_hex=show_hex, as_json=as_json):
            click.echo(line)


def names_of(graph: Path | None, components: Path | None) -> Names:
    """The names of the graph, if one is given."""
    from gateway.fbp.text.graph_files import load_graph
    from gateway.serial_link.description.component_files import load_components
    from gateway.serial_link.protocol.dissector import Names

    if graph is None or components is None:
        return Names()
    return Names.of(load_graph(graph), load_components(components))


def through_daemon(here: CommandContext, device: str, *, show_hex: bool, as_json: bool) -> Iterator[str]:
    """What the daemon's line to a board carries. Its first item says what the line is, each other one is a read or write."""
    from gateway.fbp.text.graph_files import parse_graph
    from gateway.serial_link.description.component_map import parse_component_map
    from gateway.serial_link.protocol.codec import WIRES
    from gateway.serial_link.protocol.dissector import LineDirection, Names

    items = ask(here, "monitor", timeout_s=None, device=device)
    head = next(items)
    names = Names()
    if head.get("graph") and head.get("components"):
        library = parse_component_map(head["components"], "the board's components")
        names = Names.of(parse_graph(head["graph"], head.get("graph_name", "graph.json")), library, head.get("nodes"))
    view = MonitorView(WIRES[head["wire"]], names, show_hex=show_hex, as_json=as_json)
    for item in items:
        yield from view.lines(float(item["time"]), LineDirection(item["way"]), bytes.fromhex(item["hex"]))


async def listen(port: str, wire: str, baud: int, names: Names, *, show_hex: bool, as_json: bool) -> None:
    """Until SIGINT or SIGTERM, or until the port is gone."""
    from gateway.errors import ConnectionLost
    from gateway.serial_link.ports.tty import PortOptions, open_serial
    from gateway.serial_link.protocol.codec import WIRES
    from gateway.serial_link.protocol.dissector import LineDirection

    view = MonitorView(WIRES[wire], names, show_hex=show_hex, as_json=as_json)
    line = await open_serial(port, PortOptions(baud))
    gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    started = time.monotonic()
    silence: asyncio.TimerHandle | None = None

    def show(data: bytes, *, flush: bool = False) -> None:
        for text in view.lines(time.monotonic() - started, LineDirection.FROM_BOARD, data, flush=flush):
            click.echo(text)

    def heard(data: bytes) -> None:
        nonlocal silence
        show(data)
        if silence is not None:
            silence.cancel()
        silence = asyncio.get_running_loop().call_later(SILENCE_S, lambda: show(b"", flush=True))

    def end(reason: str) -> None:
        if not gone.done():
            gone.set_result(reason)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, "")
    line.listen(heard, end)
    try:
        reason = await gone
    finally:
        line.close()
    if reason:
        raise ConnectionLost(f"port {port}", reason)


class MonitorView:
    """Bytes of a line -> the lines that people or programs read."""

    def __init__(self, wire: Wire, names: Names, *, show_hex: bool, as_json: bool) -> None:
        from gateway.serial_link.protocol.dissector import Dissector, LineDirection

        self._wire, self._names = wire, names
        self._show_hex, self._as_json = show_hex, as_json
        self._listeners = {way: Dissector(wire, way) for way in LineDirection}

    def lines(self, time: float, way: LineDirection, data: bytes, *, flush: bool = False) -> Iterator[str]:
        """What is whole now."""
        listener = self._listeners[way]
        for found in listener.flush() if flush else listener.feed(data):
            yield self._json(time, way, found) if self._as_json else self._words(time, way, found)

    def _words(self, time: float, way: LineDirection, found: Any) -> str:
        from gateway.serial_link.protocol.codec import encode
        from gateway.serial_link.protocol.dissector import describe

        if isinstance(found, bytes):
            return f"{time:10.3f} {way} no command: {found.hex()} {printable(found)}"
        tail = f"   [{encode(self._wire, found).hex()}]" if self._show_hex else ""
        return f"{time:10.3f} {describe(self._wire, way, found, self._names)}{tail}"

    def _json(self, time: float, way: LineDirection, found: Any) -> str:
        from gateway.serial_link.protocol.codec import encode
        from gateway.serial_link.protocol.dissector import LineDirection, fields

        if isinstance(found, bytes):
            direction = "to board" if way is LineDirection.TO_BOARD else "from board"
            return json_line({"time": round(time, 6), "direction": direction, "kind": "garbage", "hex": found.hex()})
        said = fields(self._wire, way, found, self._names)
        return json_line({"time": round(time, 6), **said, "hex": encode(self._wire, found).hex()})


def printable(data: bytes) -> str:
    """Text that a board's other program printed, if it is text."""
    text = data.decode("ascii", "replace").strip()
    return (
        f"({text})"
        if text and all(letter.isprintable() or letter in "\r\n" for letter in text) and "�" not in text
        else ""
    )
