"""``gateway status``."""

from __future__ import annotations

import time
from typing import Any

import click

from gateway.cli.common import CommandContext, edge_names, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one


@click.command("status")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """Show what the running gateway is doing: brokers, boards, edges, spool."""
    status = ask_one(here, "status")
    if as_json:
        print_json("status", status)
        return
    show(status)


def show(status: dict[str, Any]) -> None:
    """The status document as a page of text."""
    gateway = status["gateway"]
    at = f", {status['http']['url']}" if status["http"]["url"] else ""
    click.echo(f"gateway {gateway['instance']}: version {gateway['version']}, up {ago(gateway['since'])}{at}")
    click.echo("")
    rows = [
        [link["name"], link["state"], ago(link["since"]), str(link["connects"]), _link_note(link)]
        for link in status["links"]
    ]
    print_table(["LINK", "STATE", "FOR", "CONNECTS", "REASON"], rows)
    if status["processes"]:
        click.echo("")
        print_processes(status["processes"])
    if status["edges"]:
        click.echo("")
        print_edges(status["edges"])
    for edge, why in status["waiting"].items():
        click.echo(f"waiting: {edge}: {why}")
    for edge, why in status["refused"].items():
        click.echo(f"refused: {edge}: {why}")
    spool = status["spool"]
    click.echo("")
    dead = f"{spool['dead']} dead{_dead_note(spool)}"
    click.echo(f"spool: {spool['records']} records, {dead}, {spool['bytes']} bytes{_spool_note(spool)}")
    for one in spool["orphans"]:
        click.echo(f"  {one['binding']}: {one['records']} records: {one['note']}")


def print_processes(processes: list[dict[str, Any]]) -> None:
    """One line a participant that was started here."""
    rows = [
        [one["role"], one["state"], ago(one["since"]), str(one["pid"] or "-"), str(one["starts"]), one["reason"]]
        for one in processes
    ]
    print_table(["PROCESS", "STATE", "FOR", "PID", "STARTS", "REASON"], rows)


def _link_note(link: dict[str, Any]) -> str:
    return f"takes no messages: {link['blocked']}" if link["blocked"] else str(link["reason"])


def _dead_note(spool: dict[str, Any]) -> str:
    """That some are gone: there is a limit to what dead letters may take."""
    return f" (and {spool['dead_dropped']} dropped for newer ones)" if spool["dead_dropped"] else ""


def _spool_note(spool: dict[str, Any]) -> str:
    return f" ({spool['problem']})" if spool["problem"] else ""


def print_edges(edges: list[dict[str, Any]]) -> None:
    """One line an edge with its counters."""
    counters = ("accepted", "delivered", "pending", "dead", "dropped")
    rows = [
        [label, edge["mode"], *(str(edge[name]) for name in counters), edge_note(edge)]
        for label, edge in zip(edge_names(edges, "id"), edges, strict=True)
    ]
    print_table(["EDGE", "MODE", *(name.upper() for name in counters), ""], rows)


def edge_note(edge: dict[str, Any]) -> str:
    """What is odd about an edge."""
    return "" if edge["in_graph"] else "not in the graph any more"


def ago(since: float) -> str:
    """How long ago a time in seconds since 1970 was, in two units at most."""
    seconds = max(0, int(time.time() - since))
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    parts = [f"{value}{unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")) if value]
    return " ".join(parts[:2]) or "0s"
