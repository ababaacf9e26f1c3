"""``gateway bindings``."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.common import CommandContext, edge_names, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one

COLUMNS = ("pending", "in_flight", "oldest_s", "delivered", "duplicates", "dead", "bytes")

RETAINED = ", retained"
"""Behind the mode of an edge whose newest message an MQTT broker keeps."""


@click.command("bindings")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """List the edges as the running gateway carries them, with their counters.

    "retained" behind the mode: the MQTT broker keeps the newest message.
    """
    status = ask_one(here, "status")
    edges = [{**edge, "waiting": waiting_of(edge, status["waiting"])} for edge in status["edges"]]
    if as_json:
        print_json("bindings", edges)
    elif edges:
        rows = [
            [
                name,
                edge["mode"] + (RETAINED if edge["retain"] else ""),
                "up" if edge["up"] else "away",
                *(str(edge[name]) for name in COLUMNS),
                note(edge),
            ]
            for name, edge in zip(edge_names(edges, "id"), edges, strict=True)
        ]
        print_table(["EDGE", "MODE", "TARGET", *(name.upper() for name in COLUMNS), ""], rows)
    else:
        click.echo("no edges")


def waiting_of(edge: dict[str, Any], waiting: dict[str, str]) -> str:
    """What it waits for: a role, or something at a broker. Empty if nothing."""
    return waiting.get(edge["label"]) or (f"waits for role {edge['waits_for']}" if edge["waits_for"] else "")


def note(edge: dict[str, Any]) -> str:
    """Why it does not move, if somebody knows."""
    return str(edge["waiting"] or (edge["last_error"] if edge["pending"] else ""))
