"""``gateway io``."""

from __future__ import annotations

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json
from gateway.cli.daemon import ask_one

KINDS = {"analog": 1, "digital": 2}


@click.group("io")
def command() -> None:
    """Set simulated pins of a board, where its firmware is built for that."""


@command.command("set")
@click.argument("role")
@click.argument("pin", type=click.IntRange(0, 255))
@click.argument("value", type=click.IntRange(-(2**31), 2**31 - 1))
@click.option("--kind", type=click.Choice(tuple(KINDS)), help="Default: digital for 0 and 1, else analog.")
@json_option
@placed
def set_command(here: CommandContext, role: str, pin: int, value: int, kind: str | None, as_json: bool) -> None:
    """Set PIN of the board ROLE to VALUE. Stock firmware has no simulated pins, and is not asked twice.

    \b
    Example: gateway io set attic 5 700
    """
    kind = kind or ("digital" if value in (0, 1) else "analog")
    answer = ask_one(here, "io_set", device=role, kind=KINDS[kind], pin=pin, value=value)
    if as_json:
        print_json("io", answer)
    else:
        click.echo(f"{role}: {kind} pin {pin} is {value}")
