"""``gateway watch``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import click

from gateway.cli.common import CommandContext, json_line, placed
from gateway.cli.daemon import ask


@click.command("watch")
@click.argument("target", metavar="[ROLE[.PORT]]", required=False, default="")
@click.argument("port", metavar="", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--count", type=int, default=0, help="End after so many messages.")
@placed
def command(here: CommandContext, target: str, port: str, as_json: bool, count: int) -> None:
    """Print a line for every message that leaves ROLE, ROLE.PORT, or anybody. Ctrl-C ends it."""
    target = f"{target}.{port}" if port else target
    with suppress(KeyboardInterrupt):
        show(ask(here, "watch", timeout_s=None, target=target), as_json=as_json, count=count)


def show(items: Iterable[Any], *, as_json: bool, count: int) -> None:
    """A line a message, until there have been ``count``; 0: for ever."""
    for seen, item in enumerate(items, 1):
        if as_json:
            click.echo(json_line(item))
        else:
            click.echo(f"{item['time']}  {item['source']}  {item['body']}")
        if count and seen >= count:
            return
