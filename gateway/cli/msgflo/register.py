"""``gateway msgflo register`` and ``register-foreign``: announcing programs that know nothing of MsgFlo."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from gateway.cli.msgflo.common import broker_option, read_text, switch
from gateway.errors import ConfigError
from gateway.library.core.foreign import Foreign, parse_foreign

DEFAULT_INTERVAL_S = 60.0


@click.command("register")
@broker_option
@click.option("--role", "roles", metavar="ROLE:FILE.yaml", multiple=True, required=True, help="Repeatable.")
@click.option("--interval", type=click.FloatRange(1), default=DEFAULT_INTERVAL_S, show_default=True, help="Seconds.")
@switch("--forever", "Keep announcing.", default=True)
@click.option("--skip-bad", is_flag=True, help="Announce the others where a file is wrong.")
def register(broker: str | None, roles: Sequence[str], interval: float, forever: bool, skip_bad: bool) -> None:
    """Announce foreign participants, described in YAML files, and keep announcing them."""
    foreigners = []
    for text in roles:
        try:
            foreigners.append(_read(text))
        except ConfigError as exc:
            if not skip_bad:
                raise
            click.echo(f"gateway: {exc}", err=True)
    _announce(broker, foreigners, interval if forever else 0.0)


@click.command("register-foreign")
@click.argument("file", type=click.Path(path_type=Path))
@broker_option
@click.option("--role", metavar="ROLE", default="", help="Default: the role in FILE.")
@click.option("--interval", type=click.FloatRange(1), default=DEFAULT_INTERVAL_S, show_default=True, help="Seconds.")
@switch("--forever", "Keep announcing.")
def register_foreign(file: Path, broker: str | None, role: str, interval: float, forever: bool) -> None:
    """Announce one foreign participant, described in a YAML file, once. (Better: register.)"""
    _announce(broker, [parse_foreign(read_text(file), str(file), role)], interval if forever else 0.0)


def _read(text: str) -> Foreign:
    """``ROLE:FILE``, split at the last colon: a role may have one."""
    role, colon, file = text.rpartition(":")
    if not colon or not role or not file:
        raise click.UsageError(f"--role {text}: write ROLE:FILE.yaml")
    return parse_foreign(read_text(Path(file)), file, role)


def _announce(broker: str | None, foreigners: Sequence[Foreign], interval_s: float) -> None:
    from gateway.participant.client import HEARTBEATS_PER_PERIOD
    from gateway.participant.msgflo_tools import announce
    from gateway.participant.run import find_broker, make_broker, set_up_logging

    set_up_logging()
    messages = {foreign.id: foreign.announcement() for foreign in foreigners}

    def said(name: str) -> None:
        click.echo(f"Sent discovery message for {name}")

    place = make_broker(find_broker(broker), "register")
    with suppress(KeyboardInterrupt):
        asyncio.run(announce(place, messages, interval_s / HEARTBEATS_PER_PERIOD, said))
