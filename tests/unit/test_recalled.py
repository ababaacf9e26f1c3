"""What comes back from the disk: its age, and whether it still may pass its edge."""

from __future__ import annotations

import pytest

from gateway.model.message import MAX_HOPS, Message
from gateway.routing.core import events as ev
from gateway.routing.core.ledger import binding_entries
from gateway.routing.core.table import RouteTable
from gateway.spool.core.record import SpoolRecord
from tests.support.routing import CLOUD, Bench, backlog, edge, published

LARGE = Message("large", b"x" * 100)
LIMIT = 50


def requeued(bench: Bench, *messages: Message, binding: str = "edge") -> list[ev.Effect]:
    """A person gives these dead letters another try."""
    records = []
    for message in messages:
        bench.last_seq += 1
        records.append(SpoolRecord(binding, message, bench.last_seq))
        bench.disk[bench.last_seq] = records[-1]
    return bench.tell(ev.Requeued(records))


def dead(bench: Bench) -> list[tuple[str, str]]:
    return [(one.message.id, one.last_error.partition(":")[0]) for one in bench.disk.values() if one.dead]


def balances(bench: Bench) -> bool:
    lane = bench.lane()
    return lane.counters.balance == lane.pending and (bool(lane.pending) or not lane.bytes)


def test_a_dead_letter_that_is_too_large_for_its_edge_stays_dead_when_it_is_requeued() -> None:
    bench = Bench([edge(max_message_bytes=LIMIT)])
    effects = requeued(bench, Message("small", b"x"), LARGE)
    assert bench.settle_down(effects) == ["small"]
    assert dead(bench) == [("large", "too large")]
    assert balances(bench)


def test_the_same_where_it_comes_from_the_disk_later() -> None:
    bench = Bench([edge(max_message_bytes=LIMIT)], up=(), in_memory=2)
    for number in range(9):
        bench.settle_down(bench.deliver(str(number)))
    bench.settle_down(requeued(bench, LARGE, Message("last", b"x")))
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == [*map(str, range(9)), "last"]
    assert dead(bench) == [("large", "too large")]
    assert balances(bench)


def test_the_same_where_it_was_requeued_while_no_gateway_ran() -> None:
    bench = Bench([edge(max_message_bytes=LIMIT)])
    bench.disk = {1: SpoolRecord("edge", LARGE, 1), 2: SpoolRecord("edge", Message("b", b"y"), 2)}
    effects = bench.tell(ev.Recovered([backlog("edge", 2, 2, 101)], (), 0))
    assert bench.settle_down(effects) == ["b"]
    assert dead(bench) == [("large", "too large")]
    assert balances(bench)


def test_what_has_no_form_that_the_edge_wants_stays_dead_and_what_has_one_gets_it() -> None:
    bench = Bench([edge(content_type="application/json")])
    good = Message("good", b"\x15", content_type="application/cbor")
    bad = Message("bad", b"\xff\xff", content_type="application/cbor")
    effects = requeued(bench, good, bad)
    assert [one.message.body for one in effects if isinstance(one, ev.Publish)] == [b"21"]
    bench.settle_down(effects)
    assert dead(bench) == [("bad", "is marked as CBOR and is none")]
    assert balances(bench)


def test_a_loop_is_not_begun_anew_by_a_requeue() -> None:
    bench = Bench([edge()])
    assert not published(requeued(bench, Message("round", b"x", hops=MAX_HOPS)))
    assert dead(bench) == [("round", "loop")]


def test_what_is_too_large_goes_to_the_edges_dead_letter_where_it_has_one() -> None:
    bench = Bench([edge(target=CLOUD, max_message_bytes=LIMIT)])
    effects = requeued(bench, LARGE)
    assert [one.target.name for one in effects if isinstance(one, ev.Publish)] == ["dead-cloud.in"]
    bench.settle_down(effects)
    assert not bench.disk


def test_a_dead_letter_under_way_to_its_place_may_be_larger_than_its_edge_takes() -> None:
    bench = Bench([edge(target=CLOUD, max_message_bytes=LIMIT)], up=())
    bench.settle_down(bench.deliver("large", body=LARGE.body))
    after = Bench(bench.bindings, up=("amqp",), disk=dict(bench.disk), last_seq=bench.last_seq)
    effects = after.tell(ev.Recovered([backlog("edge!dead", 1, bench.last_seq, 100)], (), 0))
    assert after.settle_down(effects) == ["large"]
    assert not after.disk


# -- ages --------------------------------------------------------------------------------------------------------------


def oldest(bench: Bench) -> float:
    (entry,) = binding_entries(bench.router, RouteTable.of(bench.bindings), bench.now)
    return float(entry["oldest_s"])


def test_the_oldest_of_what_waits_from_before_the_start_is_shown_while_its_target_is_away() -> None:
    bench = Bench([edge()], up=(), now=100.0)
    for seq in range(1, 600):
        bench.disk[seq] = SpoolRecord("edge", Message(str(seq), b"x"), seq, born=10.0 + seq / 100)
    effects = bench.tell(ev.Recovered([backlog("edge", 599, 599, 599)], (), 0))
    assert [effect.limit for effect in effects if isinstance(effect, ev.Fetch)] == [1], "and no more than that one"
    bench.settle_down(effects)
    bench.now = 110.0
    assert oldest(bench) == pytest.approx(100.0, abs=0.1)
    assert bench.lane().pending == 599


def test_when_the_oldest_is_thrown_away_the_next_one_is() -> None:
    bench = Bench([edge()], up=(), now=100.0)
    for seq in range(1, 4):
        bench.disk[seq] = SpoolRecord("edge", Message(str(seq), b"x"), seq, born=10.0 * seq)
    bench.settle_down(bench.tell(ev.Recovered([backlog("edge", 3, 3, 3)], (), 0)))
    bench.settle_down(bench.tell(ev.Removed([("edge", 1, 1)])))
    assert oldest(bench) == 80.0


def test_after_a_restart_of_the_machine_a_trusted_time_of_measurement_tells_the_age() -> None:
    bench = Bench([edge()], up=(), now=50.0)
    wall_ms = 1_700_000_000_000
    message = Message("a", b"x", time_ms=wall_ms - 3_600_000, clock_trusted=True)
    bench.disk[1] = SpoolRecord("edge", message, 1, born=None)
    bench.settle_down(bench.tell(ev.Recovered([backlog("edge", 1, 1, 1)], (), wall_ms)))
    assert oldest(bench) == 3_600.0
