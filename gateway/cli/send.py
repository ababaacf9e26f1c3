"""``gateway send``."""

from __future__ import annotations

import click

from gateway.cli.common import CommandContext, placed
from gateway.cli.daemon import ask_one

SEND_TIMEOUT_S = 15.0


@click.command("send")
@click.argument("role")
@click.argument("port_or_value")
@click.argument("value", required=False)
@placed
def command(here: CommandContext, role: str, port_or_value: str, value: str | None) -> None:
    """Send VALUE to a port of ROLE: `gateway send ROLE PORT VALUE` or `gateway send ROLE.PORT VALUE`.

    VALUE is JSON, else text. Returns when the target has confirmed it.
    """
    name, port, text = split_target(role, port_or_value, value)
    answer = ask_one(here, "send", timeout_s=SEND_TIMEOUT_S, role=name, port=port, value=text)
    click.echo(f"{name}.{port}: confirmed by {answer['address']}")


def split_target(role: str, second: str, third: str | None) -> tuple[str, str, str]:
    """ROLE PORT VALUE, or ROLE.PORT VALUE split at the last dot."""
    if third is not None:
        return role, second, third
    name, dot, port = role.rpartition(".")
    if not dot or not name or not port:
        raise click.UsageError("name role, port and value: gateway send ROLE PORT VALUE")
    return name, port, second
