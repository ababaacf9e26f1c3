"""``gateway set``."""

from __future__ import annotations

import asyncio

import click

from gateway.cli.boards.pair import own_boards
from gateway.cli.common import CommandContext, placed
from gateway.cli.daemon import ask_one, find_daemon


@click.command("set")
@click.argument("name", metavar="ROLE")
@click.argument("changes", metavar="KEY=VALUE…", nargs=-1, required=True)
@placed
def command(here: CommandContext, name: str, changes: tuple[str, ...]) -> None:
    """Change what may change of the board ROLE (or its id) without pairing it again.

    Keys: baud, boot_wait_s, dtr, keep_running, usb_reauthorise; and of a port: PORT.type, PORT.scale, PORT.unit, PORT.topic,
    PORT.retained (true: the broker keeps an outport's newest message), and the contract with its topic: PORT.mode,
    PORT.latest, PORT.ttl_s, PORT.max_pending and the other keys of [delivery]; an empty value takes one of these back.
    For example: gateway set attic keep_running=true temp.unit=°C temp.mode=stored
    """
    pairs = [change.partition("=") for change in changes]
    for key, equals, _value in pairs:
        if not equals or not key:
            raise click.UsageError(f"{key}: write KEY=VALUE")
    for key, _equals, value in pairs:
        if find_daemon(here) is not None:
            answer = ask_one(here, "set", name=name, key=key, value=value)
        else:
            with own_boards(here) as boards:
                answer = asyncio.run(boards.set(name, key, value))
        click.echo(f"{answer['role']}: {key} = {answer['value']}")
