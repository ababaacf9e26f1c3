"""``gateway msgflo send-message`` and ``dump-message``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from gateway.cli.msgflo.common import broker_option


@click.command("send-message")
@broker_option
@click.option("--queue", metavar="QUEUE", help="The inport's queue (AMQP) or topic (MQTT).")
@click.option("--json", "data", metavar="DATA", help="The message, as JSON.")
def send_message(broker: str | None, queue: str | None, data: str | None) -> None:
    """Send one message to a queue. Example: gateway msgflo send-message --queue hall.IN --json '{"on": true}'"""
    from gateway.participant.msgflo_tools import send_one
    from gateway.participant.run import find_broker, make_broker

    if not queue:
        raise click.UsageError("Missing queue to send to (--queue)")
    if data is None:
        raise click.UsageError("Missing message payload (--json)")
    try:
        json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise click.UsageError(f"Invalid JSON: {exc}") from None
    asyncio.run(send_one(make_broker(find_broker(broker), "send-message"), queue, data.encode()))


@click.command("dump-message")
@broker_option
@click.option("--queue", metavar="QUEUE", help="The queue (AMQP; they are taken from it) or topic (MQTT).")
@click.option("--amount", type=click.IntRange(1, 65535), default=1, show_default=True, help="How many to wait for.")
def dump_message(broker: str | None, queue: str | None, amount: int) -> None:
    """Wait for messages of a queue, take them, print them as one line of JSON: an array where --amount is above 1."""
    from gateway.participant.msgflo_tools import take_some
    from gateway.participant.run import find_broker, make_broker

    if not queue:
        raise click.UsageError("Missing queue to dump from (--queue)")
    bodies = asyncio.run(take_some(make_broker(find_broker(broker), "dump-message"), queue, amount))
    values = [_value(body) for body in bodies]
    click.echo(json.dumps(values[0] if amount == 1 else values, ensure_ascii=False, separators=(",", ":")))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _value(body: bytes) -> Any:
    from gateway.participant.core.definition import decode

    data, is_json = decode(body)
    return data if is_json else body.decode("utf-8", "replace")
