"""``gateway rename``."""

from __future__ import annotations

import asyncio

import click

from gateway.cli.boards.pair import own_boards
from gateway.cli.common import CommandContext, placed
from gateway.cli.daemon import ask_one, find_daemon


@click.command("rename")
@click.argument("name", metavar="ROLE")
@click.argument("new_role", metavar="NEW")
@placed
def command(here: CommandContext, name: str, new_role: str) -> None:
    """Give the board ROLE (or its id) the role NEW. Its id, its files and its own topics stay."""
    if find_daemon(here) is not None:
        answer = ask_one(here, "rename", name=name, role=new_role)
    else:
        with own_boards(here) as boards:
            answer = asyncio.run(boards.rename(name, new_role))
    click.echo(f"{answer['id']}: its role is {answer['role']} now (it was {answer['before']})")
