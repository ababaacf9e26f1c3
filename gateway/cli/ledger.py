"""``gateway ledger``."""

from __future__ import annotations

import click

from gateway.cli.common import CommandContext, edge_names, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one

COLUMNS = ("opening", "in", "delivered", "pending", "expired", "dead", "dropped")


@click.command("ledger")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """The books of every edge since the gateway started: opening + in = delivered + pending + expired + dead + dropped."""
    entries = ask_one(here, "ledger")
    if as_json:
        print_json("ledger", entries)
        return
    edges = edge_names(entries, "binding")
    rows = [[edge, *(str(one[name]) for name in COLUMNS), _note(one)] for edge, one in zip(edges, entries, strict=True)]
    total = ["all", *(str(sum(one[name] for one in entries)) for name in COLUMNS), ""]
    print_table(["EDGE", *(name.upper() for name in COLUMNS), ""], [*rows, total])


def _note(entry: dict[str, object]) -> str:
    if not entry["balanced"]:
        return "does not balance: please report"
    dropped = f"{entry['dead_dropped']} dead letters dropped for newer ones" if entry["dead_dropped"] else ""
    return "; ".join(filter(None, ("" if entry["in_graph"] else "not in the graph", dropped)))
