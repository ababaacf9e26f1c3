"""Who takes part, and when somebody is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.coordinator.core.registry import MOST_OF_A_ROLE, UNCONFIRMED_EXPIRY_S, Registry
from gateway.coordinator.participants_file import load_participants, save_participants
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef


def somebody(queue: str = "a/in", transport: str = "mqtt") -> Participant:
    return Participant("a-1", "a", "Some", transport, (PortDef("in", Direction.IN, queue=queue),))


def test_a_heartbeat_changes_nothing_but_a_new_queue_does() -> None:
    registry = Registry(600.0)
    assert registry.heard(somebody(), 0.0).appeared
    assert not registry.heard(somebody(), 30.0).matters
    assert registry.heard(somebody("a/other"), 60.0).ports_changed
    assert registry.role("a")[0].inports[0].queue == "a/other"


def test_silence_for_longer_than_the_expiry_makes_it_gone_but_not_forgotten() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0)
    assert registry.expire(600.0) == ()
    assert [one.id for one in registry.expire(600.1)] == ["a-1"]
    assert registry.expire(700.0) == ()
    assert registry.is_gone(registry.role("a")[0])
    assert registry.heard(somebody(), 800.0).appeared
    assert not registry.is_gone(registry.role("a")[0])


def test_who_was_ended_here_is_gone_at_once_and_appears_again_when_heard() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0)
    registry.leave("a")
    assert registry.is_gone(registry.role("a")[0])
    assert registry.heard(somebody(), 1.0).appeared


def test_who_was_started_anew_under_another_id_takes_the_place_of_the_one_before() -> None:
    registry = Registry(600.0)
    registry.heard(replace(somebody(), id="a-1"), 0.0)
    registry.heard(replace(somebody("a/other"), id="a-2"), 0.0)
    for start in range(1, 100):
        registry.heard(replace(somebody(), id=f"a-1-{start}"), start * 3600.0)
        registry.expire(start * 3600.0)
    day = [one.id for one in registry.role("a")]
    assert len(day) < 30  # those of the last day, and who has no successor
    registry.heard(replace(somebody(), id="a-1-99"), 500_000.0)
    registry.expire(500_000.0)
    assert [one.id for one in registry.role("a")] == ["a-1-99", "a-2"]
    assert registry.is_gone(registry.role("a")[1])


def test_who_is_gone_and_has_no_successor_is_not_forgotten() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0)
    registry.expire(1_000_000.0)
    registry.expire(2_000_000.0)
    assert [one.id for one in registry.role("a")] == ["a-1"]


def test_the_same_id_on_two_transports_is_two_participants() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0)
    registry.heard(somebody(transport="amqp"), 0.0)
    assert len(registry.role("a")) == 2


def test_those_remembered_bind_at_once_and_expire_when_they_stay_silent() -> None:
    registry = Registry(600.0)
    registry.remember([somebody()], 100.0)
    assert registry.role("a")
    assert [one.id for one in registry.expire(701.0)] == ["a-1"]


def test_who_is_only_remembered_appears_when_it_is_heard() -> None:
    registry = Registry(600.0)
    registry.remember([somebody()], 0.0)
    assert not registry.is_here(registry.role("a")[0])
    assert registry.heard(somebody(), 5.0).appeared
    assert registry.is_here(registry.role("a")[0])
    assert not registry.heard(somebody(), 10.0).appeared


def announced_at(*times: float, ttl_s: float = 0.0) -> Registry:
    registry = Registry(600.0)
    for time in times:
        registry.heard(replace(somebody(), ttl_s=ttl_s), time)
    return registry


def test_who_misses_two_and_a_half_of_its_own_periods_is_late_until_it_is_heard_again() -> None:
    registry = announced_at(0.0, 0.1, 27.0, 54.0)  # libraries announce twice at the start
    assert registry.grow_late(54.0 + 67.0) == ()
    assert [one.id for one in registry.grow_late(54.0 + 68.0)] == ["a-1"]
    assert registry.grow_late(130.0) == ()
    assert registry.state(registry.role("a")[0]) == "late"
    assert not registry.heard(somebody(), 131.0).matters
    assert registry.state(registry.role("a")[0]) == "alive"


def test_who_announces_itself_once_is_never_late_only_gone() -> None:
    registry = announced_at(0.0)
    assert registry.grow_late(599.0) == ()
    assert len(registry.expire(601.0)) == 1
    assert registry.state(registry.role("a")[0]) == "gone"


def test_a_ttl_of_its_own_counts_instead_of_the_gateways() -> None:
    assert len(announced_at(0.0, ttl_s=5.0).expire(5.1)) == 1
    assert announced_at(0.0, ttl_s=86_400.0).expire(80_000.0) == ()


def test_announcements_that_a_broker_kept_for_us_make_nobody_late() -> None:
    registry = announced_at(1.0, 1.001, 1.002, 1.003)
    assert registry.grow_late(500.0) == ()
    assert registry.period_s(registry.role("a")[0]) == 0


def test_the_next_look_is_when_the_first_may_be_late_or_gone() -> None:
    assert Registry(600.0).deadline() is None
    assert announced_at(0.0).deadline() == 600.0
    assert announced_at(0.0, 10.0, 20.0).deadline() == 45.0
    assert announced_at(0.0, 10.0, 20.0, ttl_s=15.0).deadline() == 35.0


def test_the_time_that_somebody_was_gone_is_no_period_of_its_announcements() -> None:
    registry = announced_at(0.0, 10.0, 20.0)
    registry.expire(700.0)
    registry.heard(somebody(), 3000.0)
    assert registry.period_s(registry.role("a")[0]) == 10.0


def test_who_is_only_known_from_a_queue_that_had_filled_up_binds_and_is_gone_unless_it_is_heard_soon() -> None:
    registry = Registry(600.0)
    heard = registry.heard(somebody(), 0.0, alive=False)
    assert heard.appeared
    assert not registry.is_here(heard.participant)
    assert registry.state(heard.participant) == "unconfirmed"
    assert registry.deadline() == UNCONFIRMED_EXPIRY_S
    assert registry.expire(UNCONFIRMED_EXPIRY_S) == ()
    assert registry.expire(UNCONFIRMED_EXPIRY_S + 1) == (heard.participant,)
    assert registry.state(heard.participant) == "gone"


def test_the_next_heartbeat_confirms_who_was_only_known_from_a_queue() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0, alive=False)
    assert registry.heard(somebody(), 27.0).appeared
    assert registry.is_here(registry.role("a")[0])
    assert registry.expire(600.0) == ()
    assert registry.state(registry.role("a")[0]) == "alive"


def test_what_lay_in_a_queue_neither_revives_nor_refreshes_but_its_ports_are_newer() -> None:
    registry = Registry(600.0)
    registry.heard(somebody(), 0.0)
    heard = registry.heard(somebody("a/other"), 590.0, alive=False)
    assert (heard.appeared, heard.ports_changed) == (False, True)
    assert registry.is_here(heard.participant)
    assert [one.id for one in registry.expire(601.0)] == ["a-1"]
    assert not registry.heard(somebody("a/other"), 602.0, alive=False).appeared
    assert registry.is_gone(registry.role("a")[0])


def test_who_takes_from_the_queue_of_its_inport_is_there_the_latest_first() -> None:
    registry = Registry(600.0)
    for number in range(4):
        registry.heard(replace(somebody("w.IN", "amqp"), id=f"w{number}"), 0.0, alive=False)
    registry.heard(replace(somebody("w.IN", "amqp"), id="w1"), 0.0, alive=False)
    registry.heard(replace(somebody("w.IN", "amqp"), id="w3"), 1.0)
    registry.heard(Participant("source", "s", "Some", "amqp"), 0.0, alive=False)
    assert registry.doubtful_queues() == ("w.IN",)
    assert registry.confirm("w.IN", 1, 2.0) == (), "that is w3, which was heard"
    assert [one.id for one in registry.confirm("w.IN", 2, 2.0)] == ["w1"]
    assert [one.id for one in registry.confirm("w.IN", 9, 2.0)] == ["w0", "w2"]
    assert registry.doubtful_queues() == ()


def test_a_flood_of_new_ids_does_not_grow_without_bound_and_spares_those_of_the_graph() -> None:
    registry = Registry(600.0, most=100)

    def comes(number: int, now: float) -> str:
        one = replace(somebody(f"q{number}"), id=f"id{number}", role=f"r{number}")
        if why := registry.make_room(one, lambda other: other.role == "r0"):
            return why
        registry.heard(one, now)
        return ""

    assert [comes(number, 0.0) for number in range(100)] == [""] * 100
    assert comes(100, 1.0) == "100 participants are known already"
    assert comes(5, 1.0) == "", "who is known is heard all the same"
    registry.expire(601.0)
    assert all(not comes(number, 602.0) for number in range(200, 290))
    assert len(registry.everyone()) <= 100
    assert registry.role("r0"), "gone, but the graph asks for it"
    assert registry.role("r5"), "still there"


def test_a_role_has_so_many_participants_and_no_more_but_new_starts_of_one_program_replace_old_ones() -> None:
    registry = Registry(600.0)
    for number in range(MOST_OF_A_ROLE):
        one = replace(somebody(f"q{number}"), id=f"id{number}")
        assert registry.make_room(one, lambda other: True) == ""
        registry.heard(one, float(number))
    stranger = replace(somebody("another"), id="another")
    assert registry.make_room(stranger, lambda other: True) == f"role a has {MOST_OF_A_ROLE} participants already"
    again = replace(somebody("q7"), id="q7-started-anew")
    assert registry.make_room(again, lambda other: True) == ""
    registry.heard(again, 1000.0)
    assert [one.id for one in registry.role("a")][6:9] == ["id6", "q7-started-anew", "id8"]


def test_a_flood_of_large_announcements_is_bounded_by_their_weight() -> None:
    registry = Registry(600.0, heaviest=100_000)
    taken = 0
    for number in range(100):
        ports = tuple(PortDef(f"p{port}", Direction.IN, queue=f"q{number}", description="x" * 900) for port in range(9))
        one = Participant(f"id{number}", f"r{number}", "Some", "mqtt", ports)
        if not registry.make_room(one, lambda other: False):
            registry.heard(one, 0.0)
            taken += 1
    assert 5 < taken < 12


@pytest.mark.parametrize("damaged", [b"[{", b"{}", b'[{"id":"\xff"}]'])
def test_a_damaged_file_of_participants_is_an_empty_one(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "participants.json"
    path.write_bytes(damaged)
    assert load_participants(path) == ()
    save_participants(path, [somebody()])
    assert load_participants(path) == (somebody(),)
