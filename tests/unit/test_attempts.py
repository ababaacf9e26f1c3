"""A poison message gets so many attempts as its edge allows, and no fresh ones from a restart."""

from __future__ import annotations

from dataclasses import replace

from gateway.model.binding import DeliveryMode
from gateway.routing.core import events as ev
from tests.support.routing import Bench, backlog, edge, published, refs, stores

STORED = DeliveryMode.STORED
LONGEST_RETRY_S = 60.0


def refuse_all(bench: Bench, effects: list[ev.Effect], times: int) -> int:
    """The target refuses whatever it gets, so often at most; how often it was asked."""
    asked = 0
    todo = list(effects)
    while asked < times and (found := refs(todo)):
        asked += 1
        todo = bench.tell(ev.Refused(found[0], "poison", permanent=False))
        todo += bench.commit(todo)
        todo += bench.wait(LONGEST_RETRY_S)
        bench.commit(todo)
    return asked


def restarted(bench: Bench) -> Bench:
    """The next run of the gateway, with the same disk."""
    after = Bench(bench.bindings, up=(), disk=dict(bench.disk), last_seq=bench.last_seq)
    waiting = [record for record in bench.disk.values() if not record.dead]
    after.fetch(after.tell(ev.Recovered([backlog("edge", len(waiting), bench.last_seq)] if waiting else [], (), 0)))
    return after


def test_attempts_of_a_stored_message_count_on_after_a_restart() -> None:
    bench = Bench([edge(mode=STORED, max_attempts=5)])
    assert refuse_all(bench, bench.commit(bench.deliver("poison")), 3) == 3
    again = restarted(bench)
    assert refuse_all(again, again.tell(ev.TargetUp("mqtt")), 9) == 2
    assert [(one.dead, one.attempts) for one in again.disk.values()] == [(True, 5)]


def test_attempts_of_a_held_message_count_on_after_a_restart_once_it_is_on_disk() -> None:
    bench = Bench([edge(max_attempts=5)])
    assert refuse_all(bench, bench.deliver("poison"), 2) == 2
    assert [one.attempts for one in bench.disk.values()] == [2], "it went to the disk because nothing moved"
    again = restarted(bench)
    assert refuse_all(again, again.tell(ev.TargetUp("mqtt")), 9) == 3


def test_an_attempt_that_fails_while_the_record_is_written_is_not_forgotten() -> None:
    bench = Bench([edge(max_attempts=5)])
    (ref,) = refs(bench.deliver("poison"))
    asked = bench.wait(1.0)
    assert stores(asked)
    bench.tell(ev.Refused(ref, "poison", permanent=False))
    bench.commit(asked)
    assert [one.attempts for one in bench.disk.values()] == [1]


def test_a_failure_that_is_not_the_messages_own_costs_no_attempt_and_no_write() -> None:
    bench = Bench([edge(mode=STORED)])
    (ref,) = refs(bench.commit(bench.deliver("a")))
    effects = bench.tell(ev.Deferred(ref, "busy", counts=False))
    assert not [one for one in effects if isinstance(one, ev.RecordAttempts)]


def test_a_message_that_never_failed_costs_no_write_beyond_its_record() -> None:
    bench = Bench([edge(mode=STORED)])
    effects = bench.commit(bench.deliver("a"))
    assert not [one for one in effects if isinstance(one, ev.RecordAttempts)]


def test_a_dead_letter_that_is_requeued_gets_its_whole_allowance_again() -> None:
    bench = Bench([edge(mode=STORED, max_attempts=2)])
    refuse_all(bench, bench.commit(bench.deliver("poison")), 9)
    (dead,) = bench.disk.values()
    assert (dead.dead, dead.attempts) == (True, 2)
    bench.disk = {7: replace(dead, seq=7, dead=False, attempts=0, last_error="")}
    sent = bench.tell(ev.Requeued(list(bench.disk.values())))
    assert published(sent) == ["poison"]
    assert refuse_all(bench, sent, 9) == 2
