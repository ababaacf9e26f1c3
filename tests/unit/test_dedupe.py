"""The window of what a target port was given."""

from __future__ import annotations

from gateway.routing.core.dedupe import DedupeWindow


def test_the_oldest_of_a_port_is_forgotten_first() -> None:
    window = DedupeWindow(3)
    for name in "abcd":
        window.add(("port", name))
    assert [name for name in "abcd" if ("port", name) in window] == ["b", "c", "d"]


def test_ports_are_told_apart() -> None:
    window = DedupeWindow()
    window.add(("one", "a"))
    assert ("two", "a") not in window


def test_a_busy_port_never_pushes_out_what_is_remembered_for_a_quiet_one() -> None:
    window = DedupeWindow(100)
    for number in range(20):
        window.add(("quiet", str(number)))
    for number in range(10_000):
        window.add(("busy", str(number)))
    assert all(("quiet", str(number)) in window for number in range(20))
    assert len(window) == 100


def test_the_same_message_again_takes_no_room() -> None:
    window = DedupeWindow(2)
    for name in "aabbaabb":
        window.add(("port", name))
    assert len(window) == 2
