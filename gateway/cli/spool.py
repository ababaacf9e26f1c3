"""``gateway spool``: the messages that wait on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_line, json_option, placed, print_json, print_table
from gateway.cli.daemon import ask_one, find_daemon
from gateway.errors import NotFound

if TYPE_CHECKING:
    from gateway.spool.admin import SpoolAdmin
    from gateway.spool.core.record import SpoolRecord

LISTED = 100
"""Records that ``list`` prints as text; ``--all`` prints more."""

AT_ONCE = 500


@click.group("spool")
def command() -> None:
    """Look at the messages that wait on disk, and mend what went wrong."""


edge_option = click.option(
    "--edge", default="", metavar="EDGE", help="Only this edge, as a.out->b.in or as bindings shows it."
)
dead_option = click.option("--dead", is_flag=True, help="Dead letters; without it, what still waits.")


@command.command("list")
@dead_option
@edge_option
@click.option("--all", "everything", is_flag=True, help=f"All of them, and not only the first {LISTED}.")
@json_option
@placed
def list_command(here: CommandContext, dead: bool, edge: str, everything: bool, as_json: bool) -> None:
    """List what waits, oldest first. Reads the file itself, whether or not a gateway runs.

    Where one runs, it says too which edges are not in the graph any more.
    """
    from gateway.model.binding import DEAD_SUFFIX
    from gateway.spool.core.listing import entry

    carried = _carried(here)
    found = [
        {
            **entry(record),
            "in_graph": None if carried is None else record.binding_id.removesuffix(DEAD_SUFFIX) in carried,
        }
        for record in records(here, dead=dead, edge=edge)
    ]
    if as_json:
        print_json("records", found)
        return
    if not found:
        click.echo("no dead letters" if dead else "nothing waits")
        return
    shown = found if everything else found[:LISTED]
    rows = [[str(one["seq"]), one["edge"], one["id"], str(one["bytes"]), _note(one)] for one in shown]
    print_table(["SEQ", "EDGE", "MESSAGE", "BYTES", "REASON"], rows)
    if len(found) > len(shown):
        click.echo(f"and {len(found) - len(shown)} more (--all)")


def _carried(here: CommandContext) -> set[str] | None:
    """The ids of the bindings of the graph; None where no gateway runs that would know them."""
    if find_daemon(here) is None:
        return None
    return {edge["id"] for edge in ask_one(here, "status")["edges"] if edge["in_graph"]}


def _note(one: dict[str, Any]) -> str:
    """The reason, and that nothing carries it."""
    return "; ".join(filter(None, (one["reason"], "edge not in the graph" if one["in_graph"] is False else "")))


def records(here: CommandContext, *, dead: bool | None, edge: str = "") -> Iterator[SpoolRecord]:
    """What the file holds, some at a time."""
    from gateway.spool.core.listing import concerns
    from gateway.spool.sqlite import read_records

    edge = _meant(here, edge)
    after = 0
    while some := read_records(here.places.spool, dead=dead, after=after, limit=AT_ONCE):
        after = some[-1].seq
        yield from (record for record in some if concerns(record, edge))


def _meant(here: CommandContext, edge: str) -> str:
    """The edge that was named. The names that ``bindings`` shows are known where a gateway runs."""
    from gateway.spool.core.listing import edge_meant
    from gateway.spool.sqlite import read_bindings

    if not edge:
        return edge
    stored = read_bindings(here.places.spool)
    if find_daemon(here) is not None:
        return edge_meant(edge, {one["id"]: one["label"] for one in ask_one(here, "status")["edges"]}, stored)
    try:
        return edge_meant(edge, {}, stored)
    except NotFound as exc:
        click.echo(f"{exc}; more names are known while a gateway runs", err=True)
        return edge


@command.command("show")
@click.argument("seq", type=int)
@json_option
@placed
def show_command(here: CommandContext, seq: int, as_json: bool) -> None:
    """Show one record with its body."""
    from gateway.spool.core.listing import whole_entry
    from gateway.spool.sqlite import read_records

    found = read_records(here.places.spool, after=seq - 1, limit=1)
    if not found or found[0].seq != seq:
        raise NotFound(f"record {seq}: not in the spool; see: gateway spool list")
    shown = whole_entry(found[0])
    if as_json:
        print_json("record", shown)
        return
    for key, value in shown.items():
        click.echo(f"{key}: {value}")


@command.command("export")
@click.option("--dead", is_flag=True, help="Only dead letters.")
@edge_option
@click.option("--json", "as_json", is_flag=True, help="As it is anyway: a line of JSON a record.")
@placed
def export_command(here: CommandContext, dead: bool, edge: str, as_json: bool) -> None:
    """Print every record with its body, one line of JSON each: to look through, or to feed in elsewhere."""
    from gateway.spool.core.listing import whole_entry

    for record in records(here, dead=True if dead else None, edge=edge):
        click.echo(json_line(whole_entry(record)))


@command.command("requeue")
@click.argument("seqs", type=int, nargs=-1, metavar="SEQ…")
@click.option("--all", "everything", is_flag=True, help="All dead letters (of --edge).")
@edge_option
@json_option
@placed
def requeue_command(here: CommandContext, seqs: tuple[int, ...], everything: bool, edge: str, as_json: bool) -> None:
    """Give dead letters another try: they go behind what waits for their edge."""
    if bool(seqs) == (everything or bool(edge)):
        raise click.UsageError("name records, or --edge EDGE, or --all")
    edge = _meant(here, edge)

    async def alone(desk: SpoolAdmin) -> dict[str, int]:
        return {"requeued": await desk.requeue(seqs, edge)}

    answer = _do(here, "spool.requeue", alone, seqs=list(seqs), edge=edge)
    _tell(answer, as_json, "requeued")


@command.command("drop")
@click.argument("seqs", type=int, nargs=-1, required=True, metavar="SEQ…")
@json_option
@placed
def drop_command(here: CommandContext, seqs: tuple[int, ...], as_json: bool) -> None:
    """Throw records away, waiting or dead. There is no way back: export them first."""

    async def alone(desk: SpoolAdmin) -> dict[str, int]:
        return await desk.drop(seqs)

    _tell(_do(here, "spool.drop", alone, seqs=list(seqs)), as_json, "dropped")


@command.command("purge")
@click.option("--dead", is_flag=True, help="Only dead letters.")
@edge_option
@click.option("--all", "everything", is_flag=True, help="Everything: what waits and what is dead.")
@json_option
@placed
def purge_command(here: CommandContext, dead: bool, edge: str, everything: bool, as_json: bool) -> None:
    """Throw away all dead letters, all of one edge, or everything. There is no way back: export it first."""
    if everything == (dead or bool(edge)):
        raise click.UsageError("say what: --dead, --edge EDGE, both, or --all")
    chosen = True if dead else None
    edge = _meant(here, edge)

    async def alone(desk: SpoolAdmin) -> dict[str, int]:
        return await desk.purge(dead=chosen, edge=edge)

    _tell(_do(here, "spool.purge", alone, dead=chosen, edge=edge), as_json, "dropped")


def _do(
    here: CommandContext, op: str, alone: Callable[[SpoolAdmin], Awaitable[dict[str, int]]], **params: Any
) -> dict[str, int]:
    """Through the daemon where one runs; else on the file, which no daemon may open meanwhile."""
    if find_daemon(here) is not None:
        answer: dict[str, int] = ask_one(here, op, **params)
        return answer
    return asyncio.run(_on_the_file(here, alone))


async def _on_the_file(
    here: CommandContext, alone: Callable[[SpoolAdmin], Awaitable[dict[str, int]]]
) -> dict[str, int]:
    from gateway.daemon.state_dir import locked
    from gateway.spool.admin import SpoolAdmin
    from gateway.spool.sqlite import SqliteStore

    if not here.places.spool.exists():
        raise NotFound(f"{here.places.spool}: there is no spool")
    with locked(here.places.state, here.places.lock):
        store = SqliteStore(here.places.spool, max_bytes=1 << 62, disk_reserve_bytes=0)
        try:
            return await alone(SpoolAdmin(store))
        finally:
            await store.close()


def _tell(answer: dict[str, int], as_json: bool, what: str) -> None:
    if as_json:
        print_json(what, answer)
        return
    click.echo(f"{what} {answer[what]}")
    if answer.get("in_flight"):
        click.echo(f"{answer['in_flight']} are on their way at the moment and were left alone")
