"""``gateway devices``."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one, find_daemon
from gateway.cli.status import ago


@click.command("devices")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """List the paired boards and how they are, and since when (FOR). Without a running gateway their state is unknown.

    IS tells a board that gets its graph from the gateway (managed) from one that is left alone (watched). LINE is what was
    agreed on with the board beyond the stock protocol: packets numbered (seq), flow control (credit), checksums (sum), floats
    (float), the board's own counters (count); stock firmware's line is plain. --json has the ports too, and all counters: the
    gateway's, and the board's own (board_counters, null where it tells none).
    """
    found = entries(here)
    if as_json:
        print_json("devices", found)
        return
    if not found:
        click.echo("no boards are paired; pair one with: gateway pair PORT")
        return
    rows = [
        [
            d["role"],
            d["id"],
            d["state"],
            ago(d["since"]),
            d["port"],
            "managed" if d["managed"] else "watched",
            line_of(d),
            d["reason"],
        ]
        for d in found
    ]
    print_table(["ROLE", "ID", "STATE", "FOR", "PORT", "IS", "LINE", "REASON"], rows)


SHORT = {"sequence": "seq", "credit": "credit", "checksum": "sum", "floats": "float", "counters": "count"}
"""How the table names what a line has beyond the stock protocol."""


def line_of(device: dict[str, Any]) -> str:
    """``plain``, or what was agreed on with the board; nothing while it is not connected."""
    agreed = "+".join(SHORT.get(name, name) for name in device["extensions"])
    return agreed or ("plain" if device["state"] == "running" else "")


def entries(here: CommandContext) -> list[dict[str, Any]]:
    """From the daemon when one runs, else from the registry itself."""
    if find_daemon(here) is not None:
        answer: list[dict[str, Any]] = ask_one(here, "devices")
        return answer
    from gateway.serial_link.paired.board_handlers import unknown_states
    from gateway.serial_link.paired.boards import Boards

    boards = Boards(here.places.state, here.config().serial, on_change=lambda: None, on_running=lambda board_id: None)
    boards.load()
    return unknown_states(boards)
