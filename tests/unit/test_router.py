"""Who lets go of a message, and when: held, spilled, stored, volatile; duplicates; refusals; targets that go and come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.address import Address, serial
from gateway.model.binding import DeliveryMode
from gateway.model.message import MAX_HOPS, Message
from gateway.routing.core import events as ev
from tests.support.routing import (
    CLOUD,
    NO_LETTERS,
    Bench,
    edge,
    forgotten,
    kinds,
    published,
    refs,
    settled,
    stored,
    stores,
)

HELD, STORED, VOLATILE = DeliveryMode.HELD, DeliveryMode.STORED, DeliveryMode.VOLATILE


# -- modes -------------------------------------------------------------------------------------------------------------


def test_held_is_published_at_once_and_settled_after_the_confirmation_without_the_disk() -> None:
    bench = Bench([edge()])
    sent = bench.deliver("a")
    assert kinds(sent) == ["Publish"]
    done = bench.tell(ev.Confirmed(refs(sent)[0]))
    assert kinds(done) == ["Settle"]


def test_stored_is_committed_then_settled_then_published_then_forgotten() -> None:
    bench = Bench([edge(mode=STORED)])
    asked = bench.deliver("a")
    assert kinds(asked) == ["StoreRecords"]
    committed = bench.commit(asked)
    assert kinds(committed) == ["Settle", "Publish"]
    assert kinds(bench.tell(ev.Confirmed(refs(committed)[0]))) == ["Forget"]
    assert not bench.disk


def test_held_is_spilled_when_its_target_is_down_and_settled_after_the_commit() -> None:
    bench = Bench([edge()], up=())
    asked = bench.deliver("a")
    assert kinds(asked) == ["StoreRecords"]
    assert settled(bench.commit(asked)) == ["a"]


def test_volatile_is_settled_at_once_and_lost_where_the_target_is_down() -> None:
    bench = Bench([edge(mode=VOLATILE)])
    sent = bench.deliver("a")
    assert kinds(sent) == ["Publish", "Settle"]
    bench.tell(ev.TargetDown("mqtt"))
    assert kinds(bench.deliver("b")) == ["Settle"]
    assert (bench.lane().counters.dropped, bench.lane().pending) == (2, 0)


def test_volatile_never_touches_the_disk_and_is_bounded() -> None:
    bench = Bench([edge(mode=VOLATILE)], window=2)
    sent = [effect for name in "abc" for effect in bench.deliver(name)]
    assert published(sent) == ["a", "b"]
    assert not stores(bench.wait(5.0))
    assert settled(sent) == ["a", "b", "c"]


def test_a_volatile_message_that_passed_too_many_gateways_goes_no_further() -> None:
    bench = Bench([edge(mode=VOLATILE)])
    assert kinds(bench.deliver("a", hops=MAX_HOPS)) == ["Settle"]
    assert bench.lane().last_error == "loop: the message passed too many gateways"
    assert bench.lane().counters.dropped == 1


def test_a_volatile_message_comes_in_the_form_its_edge_wants() -> None:
    bench = Bench([edge(mode=VOLATILE, content_type="application/cbor")])
    sent = bench.deliver("a", body=b"21", content_type="application/json")
    assert [effect.message.body for effect in sent if isinstance(effect, ev.Publish)] == [b"\x15"]


def test_a_message_that_no_edge_takes_is_settled() -> None:
    bench = Bench([edge()])
    assert settled(bench.deliver("a", Address("mqtt", "elsewhere"))) == ["a"]


def test_a_retained_message_passes_only_an_edge_that_wants_the_latest() -> None:
    bench = Bench([edge("plain"), edge("latest", CLOUD, latest=True)])
    sent = bench.deliver("a", retain=True)
    assert [effect.target for effect in sent if isinstance(effect, ev.Publish)] == [CLOUD]


# -- several edges -----------------------------------------------------------------------------------------------------


def test_a_source_is_told_when_the_last_target_has_it() -> None:
    bench = Bench([edge("one"), edge("two", CLOUD)])
    first, second = refs(bench.deliver("a"))
    assert settled(bench.tell(ev.Confirmed(second))) == []
    assert settled(bench.tell(ev.Confirmed(first))) == ["a"]


def test_edges_that_are_both_down_spill_in_one_write() -> None:
    bench = Bench([edge("one"), edge("two", CLOUD)], up=())
    asked = bench.deliver("a")
    assert [len(store.records) for store in stores(asked)] == [2]
    assert settled(bench.commit(asked)) == ["a"]


# -- spilling ----------------------------------------------------------------------------------------------------------


def test_what_is_in_flight_spills_when_the_target_is_lost_in_order() -> None:
    bench = Bench([edge()], window=2)
    for name in "abc":
        bench.deliver(name)
    down = bench.tell(ev.TargetDown("mqtt"))
    assert stored(down) == ["a", "b", "c"]
    assert settled(bench.commit(down)) == ["a", "b", "c"]


def test_a_confirmation_from_before_the_loss_means_nothing_any_more() -> None:
    bench = Bench([edge()])
    (ref,) = refs(bench.deliver("a"))
    bench.commit(bench.tell(ev.TargetDown("mqtt")))
    assert bench.tell(ev.Confirmed(ref)) == []
    assert len(bench.disk) == 1


def test_held_messages_spill_after_a_second_without_progress_and_not_before() -> None:
    bench = Bench([edge()], window=1)
    bench.deliver("a")
    bench.deliver("b")
    assert bench.router.deadline == 1.0
    assert stored(bench.wait(0.9)) == []
    assert stored(bench.wait(0.1)) == ["a", "b"]


def test_a_slow_target_that_makes_progress_keeps_its_window_in_memory() -> None:
    bench = Bench([edge()], window=4)
    sent = [ref for name in "abcd" for ref in refs(bench.deliver(name))]
    bench.now = 0.8
    bench.tell(ev.Confirmed(sent[0]))
    assert stored(bench.wait(0.5)) == []


def test_what_waits_behind_a_full_window_spills_after_a_second_even_if_the_target_makes_progress() -> None:
    bench = Bench([edge()], window=1)
    first = refs(bench.deliver("a"))
    for name in "bcd":
        bench.deliver(name)
    bench.now = 0.9
    bench.tell(ev.Confirmed(first[0]))
    assert stored(bench.wait(0.2)) == ["b", "c", "d"]


def test_order_holds_from_held_over_spilled_and_drained_to_held_again() -> None:
    bench = Bench([edge()], window=2, in_memory=2)
    log = list(bench.deliver("a")) + bench.deliver("b")
    log = bench.tell(ev.TargetDown("mqtt"))
    for name in "cdefg":
        log += bench.deliver(name)
    bench.settle_down(log)
    assert len(bench.disk) == 7
    sent = bench.settle_down(bench.tell(ev.TargetUp("mqtt")))
    assert sent == list("abcdefg")
    assert bench.lane().spooled is False
    assert kinds(bench.deliver("h")) == ["Publish"]


def test_new_messages_of_a_draining_edge_go_behind_the_spool() -> None:
    bench = Bench([edge()], window=1)
    bench.tell(ev.TargetDown("mqtt"))
    bench.settle_down(bench.deliver("a") + bench.deliver("b"))
    up = bench.tell(ev.TargetUp("mqtt"))
    assert published(up) == ["a"]
    assert kinds(bench.deliver("c")) == ["StoreRecords"]


def test_most_of_a_backlog_stays_on_disk_while_it_drains() -> None:
    bench = Bench([edge()], window=4, in_memory=8)
    bench.tell(ev.TargetDown("mqtt"))
    for number in range(200):
        bench.settle_down(bench.deliver(f"{number}"))
    most = 0
    todo = bench.tell(ev.TargetUp("mqtt"))
    sent: list[str] = []
    while todo:
        most = max(most, len(list(bench.lane().in_memory())))
        effect = todo.pop(0)
        if isinstance(effect, ev.Publish):
            sent.append(effect.message.id)
            todo += bench.tell(ev.Confirmed(effect.ref))
        else:
            todo += bench.fetch([effect])
    assert sent == [str(number) for number in range(200)]
    assert most <= 4 + 8 + 8


def test_a_disk_that_gives_nothing_is_asked_again_a_second_later() -> None:
    bench = Bench([edge()], up=(), in_memory=1)
    for name in "abcd":
        bench.settle_down(bench.deliver(name))
    up = bench.tell(ev.TargetUp("mqtt"))
    assert kinds(up) == ["Publish", "Fetch"]
    assert bench.tell(ev.FetchFailed("edge", "disk trouble")) == []
    assert bench.lane().last_error == "disk trouble"
    assert kinds(bench.wait(1.0)) == ["Fetch"]


# -- disk trouble ------------------------------------------------------------------------------------------------------


def test_a_stored_edge_waits_while_the_disk_is_in_trouble_and_heals_by_itself() -> None:
    bench = Bench([edge(mode=STORED)])
    (store,) = stores(bench.deliver("a"))
    assert bench.tell(ev.StoreRefused(store.token, "disk trouble", full=False)) == []
    again = bench.wait(1.0)
    assert stored(again) == ["a"]
    assert settled(bench.commit(again)) == ["a"]


def test_a_held_edge_needs_no_disk_where_its_target_is_back() -> None:
    bench = Bench([edge()], up=())
    (store,) = stores(bench.deliver("a"))
    bench.tell(ev.StoreRefused(store.token, "disk trouble", full=False))
    (ref,) = refs(bench.tell(ev.TargetUp("mqtt")))
    assert settled(bench.tell(ev.Confirmed(ref))) == ["a"]


def test_a_lane_has_one_write_under_way_so_that_a_refused_one_keeps_its_place() -> None:
    bench = Bench([edge(mode=STORED)])
    (first,) = stores(bench.deliver("a"))
    assert bench.deliver("b") == []
    bench.tell(ev.StoreRefused(first.token, "disk trouble", full=False))
    assert bench.deliver("c") == []
    assert stored(bench.wait(1.0)) == ["a", "b", "c"]


# -- duplicates --------------------------------------------------------------------------------------------------------


def test_a_duplicate_of_what_is_under_way_is_settled_together_with_it() -> None:
    bench = Bench([edge()])
    (ref,) = refs(bench.deliver("a"))
    assert bench.deliver("a") == []
    assert settled(bench.tell(ev.Confirmed(ref))) == ["a", "a"]
    assert bench.lane().counters.duplicates == 1


def test_a_duplicate_of_what_is_committed_is_settled_and_not_taken_again() -> None:
    bench = Bench([edge(mode=STORED)])
    bench.commit(bench.deliver("a"))
    assert kinds(bench.deliver("a")) == ["Settle"]


def test_a_duplicate_of_a_dead_letter_that_rests_in_the_spool_is_no_second_one() -> None:
    """Its source gives it again where the connection was lost before it was settled there."""
    bench = Bench([edge(max_message_bytes=3)])
    assert bench.settle_down(bench.deliver("a", body=b"long")) == []
    assert kinds(bench.deliver("a", body=b"long")) == ["Settle"]
    counters = bench.lane().counters
    assert (len(bench.disk), counters.dead, counters.duplicates) == (1, 1, 1)


def test_the_same_message_passes_to_two_target_ports() -> None:
    bench = Bench([edge("one"), edge("two", CLOUD)])
    assert published(bench.deliver("a")) == ["a", "a"]


def test_two_edges_into_one_port_give_it_a_message_once() -> None:
    other = Address("amqp", "other")
    bench = Bench([edge("one"), edge("two", source=other)])
    (ref,) = refs(bench.deliver("a"))
    assert bench.deliver("a", other) == []
    assert settled(bench.tell(ev.Confirmed(ref))) == ["a", "a"]


def test_what_was_committed_before_a_restart_is_known_after_it() -> None:
    bench = Bench([edge(mode=STORED)])
    asked = bench.deliver("a")
    seen = [key for store in stores(asked) for record in store.records for key in record.seen]
    later = Bench([edge(mode=STORED)])
    later.tell(ev.Recovered([], seen, 0))
    assert kinds(later.deliver("a")) == ["Settle"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_message_is_dead_after_max_attempts_and_not_before() -> None:
    bench = Bench([edge(max_attempts=3, mode=STORED)])
    sent = bench.commit(bench.deliver("a"))
    for _ in range(2):
        bench.tell(ev.Refused(refs(sent)[0], "no such value", permanent=False))
        sent = bench.wait(31.0)
    assert kinds(bench.tell(ev.Refused(refs(sent)[0], "no such value", permanent=False))) == ["Bury", "AnnounceDead"]
    assert bench.lane().counters.refused == 1


def test_what_can_never_succeed_is_dead_at_once() -> None:
    bench = Bench([edge()])
    (ref,) = refs(bench.deliver("a"))
    asked = bench.tell(ev.Refused(ref, "out of range", permanent=True))
    assert [(record.dead, record.last_error) for record in stores(asked)[0].records] == [(True, "out of range")]
    rest = bench.commit(asked)
    assert kinds(rest) == ["Bury", "AnnounceDead", "Settle"]
    assert bench.lane().counters.dead == 1


def test_a_failure_that_is_not_the_messages_doing_never_counts() -> None:
    bench = Bench([edge(max_attempts=1, mode=STORED)])
    sent = bench.commit(bench.deliver("a"))
    for _ in range(20):
        (ref,) = refs(sent)
        bench.tell(ev.Deferred(ref, "busy", counts=False))
        sent = bench.wait(31.0)
    assert published(sent) == ["a"]


def test_a_timeout_that_may_be_the_messages_doing_counts() -> None:
    bench = Bench([edge(max_attempts=2, mode=STORED)])
    sent = bench.commit(bench.deliver("a"))
    bench.tell(ev.Deferred(refs(sent)[0], "no answer", counts=True))
    dead = bench.tell(ev.Deferred(refs(bench.wait(1.0))[0], "no answer", counts=True))
    assert kinds(dead) == ["Bury", "AnnounceDead"]


def test_an_edge_backs_off_longer_each_time_until_the_target_takes_something() -> None:
    bench = Bench([edge(mode=STORED)])
    sent = bench.commit(bench.deliver("a"))
    waits = []
    for _ in range(4):
        bench.tell(ev.Deferred(refs(sent)[0], "busy", counts=False))
        deadline = bench.router.deadline
        assert deadline is not None
        waits.append(deadline - bench.now)
        sent = bench.wait(deadline - bench.now)
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_a_message_that_passed_too_many_gateways_is_dead_with_the_reason_loop() -> None:
    bench = Bench([edge()])
    (store,) = stores(bench.deliver("a", hops=MAX_HOPS))
    assert store.records[0].last_error.startswith("loop")


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_a_dead_letter_of_an_amqp_queue_goes_to_its_dead_exchange_and_is_settled_when_that_has_it() -> None:
    bench = Bench([edge(target=CLOUD)])
    (ref,) = refs(bench.deliver("a"))
    letter = bench.tell(ev.Refused(ref, "poison", permanent=True))
    assert [(str(one.target), one.message.reason) for one in letter if isinstance(one, ev.Publish)] == [
        ("amqp:dead-cloud.in (exchange)", "poison")
    ]
    assert settled(bench.tell(ev.Confirmed(refs(letter)[0]))) == ["a"]


def test_the_record_of_a_dead_letter_stays_until_the_letter_is_delivered() -> None:
    bench = Bench([edge(target=CLOUD, mode=STORED)])
    (ref,) = refs(bench.commit(bench.deliver("a")))
    letter = bench.tell(ev.Refused(ref, "poison", permanent=True))
    assert forgotten(letter) == []
    assert forgotten(bench.tell(ev.Confirmed(refs(letter)[0]))) == [1]


def test_the_record_of_a_dead_letter_is_replaced_where_its_exchange_is_away() -> None:
    grave = Address("serial", "grave.in")
    bench = Bench([edge(target=CLOUD, mode=STORED, deadletter=grave)])
    (ref,) = refs(bench.commit(bench.deliver("a")))
    asked = bench.tell(ev.Refused(ref, "poison", permanent=True))
    assert kinds(asked) == ["StoreRecords"]
    assert forgotten(bench.commit(asked)) == [1]
    assert [record.binding_id for record in bench.disk.values()] == ["edge!dead"]


def test_a_dead_letter_that_is_refused_rests_in_the_spool() -> None:
    bench = Bench([edge(target=CLOUD)])
    letter = bench.tell(ev.Refused(refs(bench.deliver("a"))[0], "poison", permanent=True))
    rest = bench.commit(bench.tell(ev.Refused(refs(letter)[0], "no such exchange", permanent=True)))
    assert kinds(rest) == ["Bury", "AnnounceDead", "Settle"]


# -- targets and tables ------------------------------------------------------------------------------------------------


def test_an_edge_whose_target_was_never_seen_spills_and_delivers_when_it_is_known() -> None:
    bench = Bench([edge(target=None)])
    bench.settle_down(bench.deliver("a"))
    assert published(bench.install(edge())) == ["a"]


def test_a_target_under_another_address_gets_what_waits_for_the_edge() -> None:
    bench = Bench([edge()])
    bench.deliver("a")
    moved = bench.install(edge(target=CLOUD))
    assert [effect.target for effect in moved if isinstance(effect, ev.Publish)] == [CLOUD]


def test_a_removed_edge_keeps_its_records_until_they_are_delivered() -> None:
    bench = Bench([edge()], up=())
    bench.settle_down(bench.deliver("a"))
    bench.install()
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["a"]
    assert not bench.disk


def test_boards_are_targets_of_their_own() -> None:
    bench = Bench([edge("one", serial("attic", "in")), edge("two", serial("shed", "in"))], up=("serial:attic",))
    sent = bench.deliver("a")
    assert [str(effect.target) for effect in sent if isinstance(effect, ev.Publish)] == ["serial:attic.in"]
    assert stored(sent) == ["a"]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_message_that_is_too_large_is_dead_with_a_reason_that_names_the_key() -> None:
    bench = Bench([edge(max_message_bytes=4)])
    (store,) = stores(bench.deliver("a", body=b"12345"))
    assert "max_message_bytes" in store.records[0].last_error


def test_latest_keeps_only_the_newest_of_what_waits_and_settles_the_others_with_it() -> None:
    bench = Bench([edge(latest=True)], up=())
    first = bench.deliver("a")
    bench.deliver("b")
    bench.deliver("c")
    second = bench.commit(first)
    assert (settled(second), stored(second)) == ([], ["c"])
    assert settled(bench.commit(second)) == ["a", "b", "c"]
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["c"]
    assert bench.lane().counters.dropped == 2


def test_latest_forgets_the_value_before_only_when_the_new_one_is_on_disk() -> None:
    bench = Bench([edge(latest=True)], up=())
    bench.commit(bench.deliver("a"))
    asked = bench.deliver("b")
    assert forgotten(asked) == []
    assert forgotten(bench.commit(asked)) == [1]
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["b"]


def test_a_thousand_values_that_were_superseded_leave_no_trace_in_the_newest() -> None:
    bench = Bench([edge(latest=True)], up=())
    for number in range(1000):
        asked = bench.deliver(f"value {number}")
        bench.commit(asked)
    (store,) = stores(asked)
    assert store.records[0].seen == ((str(NO_LETTERS), "value 999"),)
    assert settled(bench.deliver("value 0")) == ["value 0"]


def test_a_dead_letter_that_is_requeued_late_hides_no_record_behind_it() -> None:
    bench = Bench([edge()], up=(), in_memory=16)
    for name in ("a", "b", "c"):
        bench.commit(bench.deliver(name))
    late = replace(bench.disk[3], seq=2)
    bench.disk = {1: bench.disk[1], 2: replace(late, message=Message("again", b"again")), 3: bench.disk[3]}
    bench.tell(ev.Requeued([bench.disk[2]]))
    assert set(bench.settle_down(bench.tell(ev.TargetUp("mqtt")))) >= {"a", "c"}


def test_ttl_drops_what_waited_too_long_and_counts_it() -> None:
    bench = Bench([edge(ttl_s=5.0)], up=())
    bench.settle_down(bench.deliver("old"))
    bench.now = 3.0
    bench.settle_down(bench.deliver("young"))
    assert forgotten(bench.wait(3.0)) == [1]
    assert bench.lane().counters.expired == 1
    assert bench.settle_down(bench.tell(ev.TargetUp("mqtt"))) == ["young"]


def test_an_idle_router_waits_for_nothing() -> None:
    bench = Bench([edge(str(number)) for number in range(100)])
    bench.settle_down(bench.deliver("a"))
    bench.wait(2.0)
    assert bench.router.deadline is None


@pytest.mark.parametrize("mode", [HELD, STORED])
def test_the_books_balance(mode: DeliveryMode) -> None:
    bench = Bench([edge(mode=mode)], window=2)
    for name in "abcdef":
        bench.settle_down(bench.deliver(name), confirm=name < "d")
    counters = bench.lane().counters
    assert counters.balance == bench.lane().pending == 3
    assert (counters.accepted, counters.delivered) == (6, 3)
