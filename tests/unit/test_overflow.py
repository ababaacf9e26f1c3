"""Every overflow policy, exact to the message: at the edge's own limits, and where the spool is full."""

from __future__ import annotations

import pytest

from gateway.model.binding import DeliveryMode, OverflowPolicy
from gateway.routing.core import events as ev
from gateway.spool.core.record import RECORD_BYTES
from tests.support.routing import CLOUD, Bench, edge, kinds, settled, stored, stores

OLDEST, NEWEST = OverflowPolicy.DROP_OLDEST, OverflowPolicy.DROP_NEWEST
BLOCK, LETTER = OverflowPolicy.BLOCK, OverflowPolicy.DEAD_LETTER
NAMES = [f"{number:02}" for number in range(40)]


@pytest.mark.parametrize("in_memory", [2, 16, 256])
@pytest.mark.parametrize(("policy", "kept"), [(OLDEST, NAMES[-10:]), (NEWEST, NAMES[:10])])
def test_the_edges_count_is_exact(policy: OverflowPolicy, kept: list[str], in_memory: int) -> None:
    bench = Bench([edge(max_pending=10, overflow=policy)], up=(), in_memory=in_memory)
    log = []
    for name in NAMES:
        effects = bench.deliver(name)
        log += settled(effects)
        bench.settle_down(effects)
    assert bench.lane().counters.dropped == 30
    assert bench.lane().counters.balance == bench.lane().pending == 10
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == kept


@pytest.mark.parametrize(("policy", "kept"), [(OLDEST, NAMES[-5:]), (NEWEST, NAMES[:5])])
def test_the_edges_bytes_are_exact(policy: OverflowPolicy, kept: list[str]) -> None:
    bench = Bench([edge(max_pending_bytes=54, overflow=policy)], up=(), in_memory=2)
    for name in NAMES:
        bench.settle_down(bench.deliver(name, body=b"ten bytes."))
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == kept


def test_the_oldest_make_room_for_a_large_one_as_many_as_it_takes() -> None:
    bench = Bench([edge(max_pending_bytes=50, overflow=OLDEST)], up=())
    for name in NAMES[:5]:
        bench.settle_down(bench.deliver(name, body=b"ten bytes."))
    bench.settle_down(bench.deliver("large", body=b"x" * 25))
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == [*NAMES[3:5], "large"]


def test_one_that_is_larger_than_the_edge_is_dead_and_harms_no_other() -> None:
    bench = Bench([edge(max_pending_bytes=50, overflow=OLDEST)], up=())
    bench.settle_down(bench.deliver("small"))
    bench.commit(bench.deliver("huge", body=b"x" * 51))
    assert [record.message.id for record in bench.disk.values() if record.dead] == ["huge"]
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["small"]


def test_what_is_too_much_goes_to_the_dead_letter() -> None:
    bench = Bench([edge(max_pending=2, overflow=LETTER)], up=())
    for name in NAMES[:5]:
        bench.settle_down(bench.deliver(name))
    assert [record.message.id for record in bench.disk.values() if record.dead] == NAMES[2:5]
    assert bench.lane().counters.dead == 3


def test_block_loses_nothing_whatever_the_limit() -> None:
    bench = Bench([edge(max_pending=2, overflow=BLOCK)], up=(), in_memory=2)
    for name in NAMES:
        bench.settle_down(bench.deliver(name))
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == NAMES


def full(bench: Bench, room: int, log: list[ev.Effect]) -> list[ev.Effect]:
    """The disk has room for so many bytes more and says so, until what is asked for fits; what happened then."""
    found: list[ev.Effect] = []
    todo = list(log)
    while todo:
        effect = todo.pop(0)
        found.append(effect)
        if isinstance(effect, ev.Forget):
            room += sum(RECORD_BYTES + 2 for _ in effect.seqs)
        elif isinstance(effect, ev.Fetch):
            todo += bench.fetch([effect])
        elif isinstance(effect, ev.StoreRecords):
            wanted = sum(record.size for record in effect.records)
            if wanted > room:
                todo += bench.tell(ev.StoreRefused(effect.token, "full", full=True, room=room))
            else:
                room -= wanted
                todo += bench.commit([effect])
    return found


ROOM = 10 * (RECORD_BYTES + 2)


@pytest.mark.parametrize("in_memory", [2, 256])
@pytest.mark.parametrize(("policy", "kept"), [(OLDEST, NAMES[-10:]), (NEWEST, NAMES[:10])])
def test_a_full_spool_is_exact(policy: OverflowPolicy, kept: list[str], in_memory: int) -> None:
    bench = Bench([edge(overflow=policy)], up=(), in_memory=in_memory)
    room = ROOM
    for start in range(0, len(NAMES), 8):  # eight come while the disk is busy
        log = [effect for name in NAMES[start : start + 8] for effect in bench.deliver(name)]
        full(bench, room, log)
        room = ROOM - len(bench.disk) * (RECORD_BYTES + 2)
        while (deadline := bench.router.deadline) is not None:
            full(bench, room, bench.wait(max(0.0, deadline - bench.now)))
            room = ROOM - len(bench.disk) * (RECORD_BYTES + 2)
    assert bench.lane().counters.dropped == 30
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == kept


def test_block_waits_unsettled_until_the_spool_has_room_again() -> None:
    bench = Bench([edge(mode=DeliveryMode.STORED, overflow=BLOCK)], up=())
    (store,) = stores(bench.deliver("a"))
    assert bench.tell(ev.StoreRefused(store.token, "full", full=True)) == []
    again = bench.wait(1.0)
    assert stored(again) == ["a"]
    assert settled(bench.commit(again)) == ["a"]


def test_a_full_spool_sends_to_the_dead_letter_what_an_edge_wants_there() -> None:
    bench = Bench([edge(target=CLOUD, mode=DeliveryMode.STORED, overflow=LETTER)])
    (store,) = stores(bench.deliver("a"))
    letter = bench.tell(ev.StoreRefused(store.token, "full", full=True))
    assert kinds(letter) == ["Publish"]
    assert settled(bench.tell(ev.Confirmed(1))) == ["a"]


def test_a_full_spool_never_drops_what_is_in_flight() -> None:
    bench = Bench([edge(overflow=NEWEST)], window=1)
    (publish,) = bench.deliver("a")
    (store,) = stores(bench.wait(1.0))
    assert bench.tell(ev.StoreRefused(store.token, "full", full=True)) == []
    assert isinstance(publish, ev.Publish)
    assert settled(bench.tell(ev.Confirmed(publish.ref))) == ["a"]
    assert bench.lane().counters.dropped == 0
