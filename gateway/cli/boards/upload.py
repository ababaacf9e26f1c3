"""``gateway upload``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.boards.pair import own_boards, read
from gateway.cli.common import CommandContext, json_option, placed, print_json
from gateway.cli.daemon import ask, find_daemon

if TYPE_CHECKING:
    from gateway.serial_link.paired.pairing import Text

OnStep = Callable[[int, int], None]


@click.command("upload")
@click.argument("name", metavar="ROLE")
@click.argument("graph", type=click.Path(path_type=Path))
@json_option
@placed
def command(here: CommandContext, name: str, graph: Path, as_json: bool) -> None:
    """Give the board ROLE (or its id) another GRAPH, .fbp or .json.

    All or nothing: each command is verified by the board's answer, and what is refused leaves the graph before. The board
    is managed from then on: it gets this graph after every reopening. What was said of ports stays.

    \b
    Example: gateway upload attic thermometer.fbp
    """
    text = read(graph, "graph")
    assert text is not None
    step = no_bar if as_json or not sys.stderr.isatty() else bar
    answer = upload(here, name, text, step)
    if as_json:
        print_json("upload", answer)
    else:
        count = answer["nodes"]
        click.echo(f"{answer['role']}: runs {graph} now ({count} node{'' if count == 1 else 's'})")


def upload(here: CommandContext, name: str, graph: Text, on_step: OnStep) -> dict[str, Any]:
    """Through the daemon when one runs, else by ourselves."""
    if find_daemon(here) is None:
        with own_boards(here) as boards:
            return asyncio.run(alone(boards, name, graph, on_step))
    answer: dict[str, Any] = {}
    for item in ask(here, "upload", name=name, graph={"source": graph.source, "text": graph.text}):
        if "done" in item:
            on_step(item["done"], item["total"])
        else:
            answer = item
    return answer


async def alone(boards: Any, name: str, graph: Text, on_step: OnStep) -> dict[str, Any]:
    """Open the board's port, upload, close it."""
    from gateway.errors import PortMissing
    from gateway.serial_link.paired.graph_store import BoardGraphStore

    record = boards.find(name)
    if not boards.is_present(record.id):
        raise PortMissing(f"device {record.role}", f"is not plugged in (it was on {record.path})")
    async with boards.connector(record.id).connect():
        answer: dict[str, Any] = await BoardGraphStore(boards).upload(name, graph, on_step)
        return answer


def bar(done: int, total: int) -> None:
    """Progress on one line of the terminal."""
    click.echo(f"\r{done}/{total} commands", nl=done == total, err=True)


def no_bar(done: int, total: int) -> None:
    """Nobody looks."""
