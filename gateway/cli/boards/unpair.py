"""``gateway unpair``."""

from __future__ import annotations

import asyncio

import click

from gateway.cli.boards.pair import own_boards
from gateway.cli.common import CommandContext, placed
from gateway.cli.daemon import ask_one, find_daemon


@click.command("unpair")
@click.argument("name", metavar="ROLE")
@placed
def command(here: CommandContext, name: str) -> None:
    """Forget the board ROLE (or its id). What of its messages waits in the spool stays there."""
    if find_daemon(here) is not None:
        gone = ask_one(here, "unpair", name=name)
    else:
        with own_boards(here) as boards:
            gone = asyncio.run(boards.unpair(name))
    click.echo(f"{gone['role']}: unpaired ({gone['id']})")
