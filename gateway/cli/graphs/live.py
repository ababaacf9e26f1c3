"""``gateway graph connect``, ``disconnect`` and ``apply``: the graph of the running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json
from gateway.cli.daemon import ask_one
from gateway.cli.graphs.group import read
from gateway.errors import EXIT_USAGE, GatewayError

if TYPE_CHECKING:
    from gateway.fbp.text.formats import Form


class UsageProblem(GatewayError):
    """The command line can't be meant so."""

    exit_code = EXIT_USAGE


@click.command("connect")
@click.argument("ends", metavar="SRC TGT", nargs=-1, required=True)
@click.option("--component", "components", multiple=True, metavar="ROLE=NAME", help="For a role never seen yet.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
@placed
def connect_command(
    here: CommandContext, ends: tuple[str, ...], components: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Wire an outport to an inport, each as ROLE.PORT: `gateway graph connect attic.temp archive.in`.

    Roles that are not in the graph yet are added to it; one that was never seen needs --component too. ROLE PORT is
    taken for ROLE.PORT. When this returns the graph file is saved and the brokers that are up have the edge.
    """
    src, tgt = _ends(ends)
    answer = ask_one(
        here, "graph.connect", src=src, tgt=tgt, dry_run=dry_run, components=dict(map(_component, components))
    )
    _show(answer, as_json)


def _ends(words: tuple[str, ...]) -> tuple[str, str]:
    """``ROLE.PORT ROLE.PORT``, or the same with blanks for dots."""
    if len(words) == 4:
        return f"{words[0]}.{words[1]}", f"{words[2]}.{words[3]}"
    if len(words) != 2:
        raise UsageProblem("name an outport and an inport, each as ROLE.PORT")
    return words[0], words[1]


def _component(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not equals or not role or not name:
        raise UsageProblem(f"--component {text}: write ROLE=NAME")
    return role, name


@click.command("disconnect")
@click.argument("ends", metavar="SRC TGT", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
@placed
def disconnect_command(here: CommandContext, ends: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Take an edge out: `gateway graph disconnect attic.temp archive.in`.

    What waits for its target stays in the spool until it is delivered or dropped by hand.
    """
    src, tgt = _ends(ends)
    _show(ask_one(here, "graph.disconnect", src=src, tgt=tgt, dry_run=dry_run), as_json)


@click.command("apply")
@click.argument("file")
@click.option("--case-sensitive", is_flag=True, help="Keep the case of ports in a .fbp text.")
@click.option("--from", "form", type=click.Choice(["fbp", "json"]), help="Form of FILE; default: by its name.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
@placed
def apply_command(
    here: CommandContext, file: str, case_sensitive: bool, form: Form | None, dry_run: bool, as_json: bool
) -> None:
    """Make the running graph equal to FILE, and show what that changes.

    All of it or nothing: a change that can't be is named, and everything stays as it was.
    """
    from gateway.fbp.text.graph_json import to_json

    graph = read(file, form, case_sensitive)
    source = "standard input" if file == "-" else str(Path(file))
    _show(ask_one(here, "graph.apply", graph=to_json(graph), source=source, dry_run=dry_run), as_json)


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json("change", answer)
        return
    if not answer["edits"]:
        click.echo("nothing to change")
        return
    for line in answer["edits"]:
        click.echo(line)
    for line in answer["edges"]:
        click.echo(f"  {line}")
    for edge, why in answer["waiting"].items():
        click.echo(f"  {edge} {why}")
    if not answer["applied"]:
        click.echo("nothing done: dry run")
    else:
        click.echo(
            "done and saved" if answer["bound"] else "saved; a broker takes its time, the edges begin when it is done"
        )
