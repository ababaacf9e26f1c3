"""``gateway participants``."""

from __future__ import annotations

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one


@click.command("participants")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """List who takes part, and which announcements were refused and why."""
    answer = ask_one(here, "participants")
    if as_json:
        print_json("participants", answer)
        return
    rows = [
        [
            p["role"],
            p["id"],
            p["transport"],
            p["state"],
            f"{p['silent_s']:.0f} s" if p["silent_s"] is not None else "-",
            ports(p["inports"]),
            ports(p["outports"]),
        ]
        for p in answer["known"]
    ]
    print_table(["ROLE", "ID", "ON", "STATE", "SILENT", "INPORTS", "OUTPORTS"], rows)
    for reason, count in answer["refused"].items():
        click.echo(f"refused {count}x: {reason}")


def ports(names: list[str]) -> str:
    """Port names in a row."""
    return ",".join(names) or "-"
