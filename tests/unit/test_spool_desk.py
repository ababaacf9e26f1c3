"""A person's hands in the spool: on the file alone, by the command as it is typed, and the books that follow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.daemon.state_dir import locked
from gateway.errors import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_USAGE, Conflict, NotFound
from gateway.model.binding import edge_of
from gateway.model.message import MAX_HOPS, Message
from gateway.routing.core import events as ev
from gateway.routing.core.ledger import ledger_entries
from gateway.routing.core.table import RouteTable
from gateway.spool.admin import AT_ONCE, SpoolAdmin
from gateway.spool.core.listing import edge_meant
from gateway.spool.core.record import SpoolRecord
from gateway.spool.database import FETCH_BYTES
from gateway.spool.sqlite import SqliteStore
from tests.support.routing import Bench, backlog, edge, stores


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose spool holds three that wait for two edges, and two dead ones."""

    async def fill() -> None:
        store = SqliteStore(tmp_path / "spool.db", max_bytes=1 << 20, disk_reserve_bytes=0)
        names = ("a.out->b.in", "a.out->b.in@lamp-2", "x.out->y.in", "a.out->b.in!dead", "x.out->y.in")
        await store.append(
            [SpoolRecord(name, Message(f"m{number}", b'{"t": 1}')) for number, name in enumerate(names, 1)]
        )
        store.bury(4, "poison")
        store.bury(5, "out of range")
        await store.close()

    asyncio.run(fill())
    return tmp_path


def gateway(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--state-dir", str(state), *arguments])


def listed(state: Path, *arguments: str) -> list[tuple[int, str]]:
    found = json.loads(gateway(state, "spool", "list", "--json", *arguments).output)
    assert found["version"] == 1
    return [(record["seq"], record["edge"]) for record in found["records"]]


def test_list_shows_what_waits_by_graph_edge_and_the_dead_on_demand(state: Path) -> None:
    assert listed(state) == [(1, "a.out->b.in"), (2, "a.out->b.in"), (3, "x.out->y.in")]
    assert listed(state, "--dead") == [(4, "a.out->b.in"), (5, "x.out->y.in")]
    assert listed(state, "--edge", "x.out->y.in") == [(3, "x.out->y.in")]
    assert "out of range" in gateway(state, "spool", "list", "--dead").output


def test_show_prints_one_with_its_body(state: Path) -> None:
    assert json.loads(gateway(state, "spool", "show", "3", "--json").output)["record"]["body"] == '{"t": 1}'
    assert gateway(state, "spool", "show", "99").exit_code == EXIT_NOT_FOUND


def test_export_prints_a_line_a_record(state: Path) -> None:
    lines = gateway(state, "spool", "export").output.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert {json.loads(line)["version"] for line in lines} == {1}


def test_requeue_puts_dead_ones_behind_what_waits(state: Path) -> None:
    assert gateway(state, "spool", "requeue", "5").output == "requeued 1\n"
    assert listed(state)[-1] == (6, "x.out->y.in")
    assert gateway(state, "spool", "requeue", "--all").output == "requeued 1\n"
    assert listed(state, "--dead") == []


def test_requeue_of_what_is_not_dead_or_not_there_says_so(state: Path) -> None:
    assert "is no dead letter" in gateway(state, "spool", "requeue", "1").output
    assert gateway(state, "spool", "requeue", "77").exit_code == EXIT_NOT_FOUND
    assert gateway(state, "spool", "requeue").exit_code == EXIT_USAGE


def test_drop_and_purge_throw_away_what_they_name_and_nothing_else(state: Path) -> None:
    assert gateway(state, "spool", "drop", "1").output == "dropped 1\n"
    assert json.loads(gateway(state, "spool", "purge", "--dead", "--json").output)["dropped"]["dropped"] == 2
    assert listed(state) == [(2, "a.out->b.in"), (3, "x.out->y.in")]
    assert gateway(state, "spool", "purge", "--edge", "a.out->b.in").output == "dropped 1\n"
    assert gateway(state, "spool", "purge", "--all").output == "dropped 1\n"
    assert listed(state) == []


def test_nothing_is_thrown_away_where_one_of_those_named_is_not_there(state: Path) -> None:
    missing = [str(number) for number in range(70, 90)]
    result = gateway(state, "spool", "drop", "1", "2", *missing)
    assert result.exit_code == EXIT_NOT_FOUND
    assert "record 70, 71, 72, 73, 74, 75, 76, 77 and 12 more: not in the spool" in result.output
    assert gateway(state, "spool", "requeue", "4", "3").exit_code == EXIT_NOT_FOUND
    assert [len(listed(state)), len(listed(state, "--dead"))] == [3, 2]


class _Refusing:
    """A daemon in which what is given another try fails again at once, and for what is thrown away more comes."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.calls = 0

    def _again(self) -> None:
        self.calls += 1
        assert self.calls < 9, "it goes on for ever"

    def requeued(self, records: Sequence[SpoolRecord]) -> None:
        self._again()
        for record in records:
            self._store.bury(record.seq, "refused again")

    def removed(self, records: Sequence[SpoolRecord]) -> set[int]:
        self._again()
        self._store.forget([record.seq for record in records])
        new = [SpoolRecord(record.binding_id, Message(f"again {record.message.id}", b"{}")) for record in records]
        self._store.submit(new, lambda answer: None)
        return set()

    def ledger(self) -> list[dict[str, Any]]:
        return []


async def test_what_fails_again_at_once_is_tried_once_and_what_comes_meanwhile_is_not_thrown_away(state: Path) -> None:
    store = SqliteStore(state / "spool.db", max_bytes=1 << 20, disk_reserve_bytes=0)
    router = _Refusing(store)
    desk = SpoolAdmin(store, router)
    assert await desk.requeue([], "") == 2
    assert await desk.purge(dead=False, edge="") == {"dropped": 3, "in_flight": 0}
    left = [record async for some in desk.records(dead=None, edge="") for record in some]
    assert [record.message.id for record in left] == ["m4", "m5", "again m1", "again m2", "again m3"]
    assert [record.dead for record in left] == [True, True, False, False, False]
    await store.close()


async def test_of_the_named_only_some_are_in_memory_at_a_time(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "spool.db", max_bytes=1 << 30, disk_reserve_bytes=0)
    small = [SpoolRecord("a", Message(f"s{number}", b"x")) for number in range(2 * AT_ONCE)]
    large = [SpoolRecord("a", Message(f"l{number}", b"x" * (FETCH_BYTES // 4))) for number in range(20)]
    seqs = await store.append(small) + await store.append(large)
    for seq in seqs:
        store.bury(seq, "poison")
    router = Watching()
    assert await SpoolAdmin(store, router).requeue([*seqs, *seqs]) == len(seqs)
    assert len(router.batches) > 2
    assert all(len(batch) <= AT_ONCE for batch in router.batches)
    assert all(sum(record.size for record in batch) < 2 * FETCH_BYTES for batch in router.batches)
    waiting = [record.seq for batch in router.batches for record in batch]
    assert await SpoolAdmin(store).drop(waiting) == {"dropped": len(seqs), "in_flight": 0}
    assert await store.load() == []
    await store.close()


class Watching:
    """A router that sees what comes together."""

    def __init__(self) -> None:
        self.batches: list[Sequence[SpoolRecord]] = []

    def requeued(self, records: Sequence[SpoolRecord]) -> None:
        self.batches.append(records)

    def removed(self, records: Sequence[SpoolRecord]) -> set[int]:
        return set()

    def ledger(self) -> list[dict[str, Any]]:
        return []


def test_purge_wants_to_be_told_what(state: Path) -> None:
    assert gateway(state, "spool", "purge").exit_code == EXIT_USAGE


def test_the_file_is_not_touched_while_somebody_holds_the_state_directory(state: Path) -> None:
    with locked(state, state / "lock"):
        assert gateway(state, "spool", "drop", "1").exit_code == EXIT_CONFLICT
    assert listed(state)[0] == (1, "a.out->b.in")
    assert gateway(state / "elsewhere", "spool", "drop", "1").exit_code == EXIT_NOT_FOUND


def test_ledger_needs_the_daemon_and_says_how_to_start_it(state: Path) -> None:
    result = gateway(state, "ledger")
    assert result.exit_code == EXIT_UNREACHABLE
    assert "gateway run" in result.output


@pytest.mark.parametrize(
    ("binding", "shown"),
    [
        ("a.out->b.in", "a.out->b.in"),
        ("a.out@lamp-1->b.in@b/in2!dead", "a.out->b.in"),
        ("me@home.out->b.in", "me@home.out->b.in"),
        ("serial:b1.temp->mqtt:attic/temp", "serial:b1.temp->mqtt:attic/temp"),
    ],
)
def test_a_bindings_edge_is_as_the_graph_writes_it(binding: str, shown: str) -> None:
    assert edge_of(binding) == shown


LABELS = {"serial:b1.temp->mqtt:t": "attic.temp->t", "a.out->b.in@1": "a.out->b.in", "a.out->b.in@2": "a.out->b.in"}
TWINS = {"serial:b1.temp->mqtt:t": "attic.temp->t", "serial:b2.temp->mqtt:t": "attic.temp->t"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("attic.temp->t", "serial:b1.temp->mqtt:t"),
        ("serial:b1.temp->mqtt:t", "serial:b1.temp->mqtt:t"),
        ("a.out->b.in", "a.out->b.in"),
        ("a.out->b.in@2", "a.out->b.in@2"),
        ("gone.out->b.in", "gone.out->b.in"),
    ],
)
def test_an_edge_is_meant_by_any_name_that_it_is_shown_under(name: str, meant: str) -> None:
    assert edge_meant(name, LABELS, ["gone.out->b.in"]) == meant


def test_a_name_that_several_are_shown_under_is_an_error_with_their_ids() -> None:
    with pytest.raises(Conflict, match=r"2 are shown .* serial:b1\.temp->mqtt:t, serial:b2\.temp->mqtt:t"):
        edge_meant("attic.temp->t", TWINS, [])


def test_a_name_that_nobody_has_is_an_error_with_the_names_there_are() -> None:
    with pytest.raises(NotFound, match=r"attic\.temp->t, a\.out->b\.in, gone\.out->b\.in\)"):
        edge_meant("attic.tmp->t", LABELS, ["gone.out->b.in"])


# -- under a running router --------------------------------------------------------------------------------------------


def waiting(count: int, in_memory: int = 2) -> Bench:
    bench = Bench([edge()], up=(), in_memory=in_memory)
    for number in range(1, count + 1):
        bench.settle_down(bench.deliver(f"{number}", body=b"1234"))
    return bench


def test_what_a_person_drops_is_gone_and_counted_wherever_it_lies() -> None:
    bench = waiting(10)
    bench.settle_down(bench.tell(ev.Removed([("edge", 1, 4), ("edge", 7, 4)])))
    assert (bench.lane().counters.dropped, bench.lane().pending, bench.lane().bytes) == (2, 8, 32)
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["2", "3", "4", "5", "6", "8", "9", "10"]


def test_what_is_in_flight_cant_be_called_back() -> None:
    bench = waiting(3)
    bench.tell(ev.TargetUp("mqtt"))
    assert bench.tell(ev.Removed([("edge", 1, 4)])) == []


def test_records_removed_behind_our_back_are_counted_as_dropped() -> None:
    bench = waiting(10)
    for seq in range(4, 11):
        del bench.disk[seq]
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["1", "2", "3"]
    assert (bench.lane().counters.balance, bench.lane().counters.dropped) == (0, 7)


def test_a_dead_letter_that_is_requeued_is_delivered_behind_what_waits() -> None:
    bench = waiting(5)
    again = SpoolRecord("edge", Message("again", b"x"), 6)
    bench.disk[6] = again
    bench.tell(ev.Requeued([again]))
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["1", "2", "3", "4", "5", "again"]


def test_the_ledger_opens_with_what_the_spool_holds_and_balances() -> None:
    bench = Bench([edge()])
    bench.tell(ev.Recovered([backlog("edge", 3, 3), backlog("gone.out->b.in", 2, 5)], (), 0))
    bench.commit(bench.deliver("poison", hops=MAX_HOPS))
    books = {entry["edge"]: entry for entry in ledger_entries(bench.router, RouteTable.of([edge()]), {})}
    assert {key: books["edge"][key] for key in ("opening", "in", "pending", "dead", "balanced")} == {
        "opening": 3,
        "in": 1,
        "pending": 3,
        "dead": 1,
        "balanced": True,
    }
    assert (books["gone.out->b.in"]["pending"], books["gone.out->b.in"]["in_graph"]) == (2, False)


def test_the_ledger_tells_of_which_edges_dead_letters_went_for_newer_ones() -> None:
    bench = Bench([edge()])
    books = ledger_entries(bench.router, RouteTable.of([edge()]), {"edge": 3, "gone.out->b.in": 1})
    assert [(one["binding"], one["dead_dropped"], one["balanced"]) for one in books] == [
        ("edge", 3, True),
        ("gone.out->b.in", 1, True),
    ]


def test_records_of_an_edge_that_comes_back_into_the_graph_are_delivered() -> None:
    bench = Bench([])
    bench.disk[1] = SpoolRecord("edge", Message("old", b"x"), 1)
    bench.tell(ev.Recovered([backlog("edge", 1, 1, 1)], (), 0))
    assert len(bench.router.orphans) == 1
    assert bench.settle_down(bench.install(edge())) == ["old"]
    assert not stores(bench.wait(2.0))
