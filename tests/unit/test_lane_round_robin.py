"""Round robin across the border: the next live one with free capacity, failure to the next, then the dead letter."""

from __future__ import annotations

from gateway.model.address import Address, mqtt, serial
from gateway.model.binding import Binding, BindingKind, Contract, DeliveryMode
from gateway.routing.core import events as ev
from tests.support.routing import SOURCE, Bench, kinds, settled, stored, stores

BOARDS = (serial("b1", "in"), serial("b2", "in"), serial("b3", "in"))
UP = ("serial:b1", "serial:b2", "serial:b3")


def shared(*targets: Address, **contract: object) -> Binding:
    made = Contract(**contract)  # type: ignore[arg-type]
    return Binding("edge", SOURCE, None, made, BindingKind.ROUNDROBIN, targets=targets)


def given(effects: list[ev.Effect]) -> list[tuple[str, str]]:
    return [(one.target.target[-2:], one.message.id) for one in effects if isinstance(one, ev.Publish)]


def ref(effects: list[ev.Effect]) -> int:
    return next(one.ref for one in effects if isinstance(one, ev.Publish))


def test_each_message_goes_to_one_in_turn() -> None:
    bench = Bench([shared(*BOARDS)], up=UP)
    sent = [one for name in "abcd" for one in bench.deliver(name)]
    assert given(sent) == [("b1", "a"), ("b2", "b"), ("b3", "c"), ("b1", "d")]


def test_a_board_that_is_busy_is_passed_over() -> None:
    bench = Bench([shared(*BOARDS[:2])], up=UP)
    first = [bench.deliver(name) for name in "abcd"]
    assert given(bench.deliver("e")) == []
    assert given(bench.tell(ev.Confirmed(ref(first[1])))) == [("b2", "e")]


def test_a_board_that_is_away_is_passed_over_and_what_it_had_goes_to_the_next() -> None:
    bench = Bench([shared(*BOARDS[:2])], up=UP)
    bench.deliver("a")
    assert given(bench.tell(ev.TargetDown("serial:b1"))) == [("b2", "a")]
    assert given(bench.deliver("b")) == [("b2", "b")]


def test_the_edge_spills_only_when_the_last_one_is_away() -> None:
    bench = Bench([shared(*BOARDS[:2])], up=UP)
    bench.deliver("a")
    assert stored(bench.tell(ev.TargetDown("serial:b1"))) == []
    down = bench.tell(ev.TargetDown("serial:b2"))
    assert stored(down) == ["a"]
    assert settled(bench.commit(down)) == ["a"]


def test_a_refusal_goes_to_the_next_one_at_once_and_when_all_refused_to_the_dead_letter() -> None:
    bench = Bench([shared(*BOARDS[:2], deadletter=mqtt("grave"))], up=(*UP, "mqtt"))
    sent = bench.deliver("a")
    sent = bench.tell(ev.Refused(ref(sent), "out of range", permanent=True))
    assert given(sent) == [("b2", "a")]
    letter = bench.tell(ev.Refused(ref(sent), "out of range", permanent=True))
    assert [str(one.target) for one in letter if isinstance(one, ev.Publish)] == ["mqtt:grave"]


def test_a_board_that_never_answers_does_not_stop_the_others() -> None:
    bench = Bench([shared(*BOARDS[:2])], up=UP)
    sent = bench.deliver("a")
    assert given(bench.tell(ev.Deferred(ref(sent), "no answer", counts=True))) == [("b2", "a")]
    assert given(bench.deliver("b")) != []


def test_one_that_fails_everywhere_is_dead_after_max_attempts() -> None:
    bench = Bench([shared(*BOARDS[:2], max_attempts=3, mode=DeliveryMode.STORED)], up=UP)
    sent = bench.commit(bench.deliver("a"))
    tried = []
    while given(sent):
        tried += given(sent)
        sent = bench.tell(ev.Deferred(ref(sent), "no answer", counts=True))
        if kinds(sent) == ["RecordAttempts"]:  # both are asked now, and a pause begins
            sent = bench.wait(1.0)
    assert len(tried) == 3
    assert kinds(sent) == ["Bury", "AnnounceDead"]


def test_brokers_and_boards_may_share_the_work() -> None:
    bench = Bench([shared(BOARDS[0], Address("amqp", "workers.in"))], up=(*UP, "amqp"))
    sent = [one for name in "ab" for one in bench.deliver(name)]
    assert given(sent) == [("b1", "a"), ("qp", "b")]


def test_a_member_more_takes_its_turn_without_a_restart() -> None:
    bench = Bench([shared(*BOARDS[:2])], up=UP)
    bench.install(shared(*BOARDS))
    sent = [one for name in "abc" for one in bench.deliver(name)]
    assert {board for board, _ in given(sent)} == {"b1", "b2", "b3"}
    assert not stores(sent)
