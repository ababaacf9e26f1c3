"""Cutting a stream into commands: hunting before the link is open, aligned units after it."""

from __future__ import annotations

import pytest

from gateway.serial_link.protocol.codec import W8_06, W10, Command
from gateway.serial_link.protocol.framer import Framer, plausible

WANTED = bytes.fromhex("c9130000000000000000")
EVENT = bytes.fromhex("00670100000705000000")


def test_the_wanted_frame_is_found_behind_a_boot_loaders_chatter() -> None:
    framer = Framer(W10)
    assert framer.hunt(b"avr boot 1.0\r\n" + WANTED + EVENT, WANTED)
    assert framer.receive(b"") == [Command(0, 103, EVENT[2:])]
    assert framer.garbage == 14


@pytest.mark.parametrize("at", range(len(WANTED)))
def test_the_wanted_frame_is_found_in_two_pieces(at: int) -> None:
    framer = Framer(W10)
    assert not framer.hunt(b"noise" + WANTED[:at], WANTED)
    assert framer.hunt(WANTED[at:], WANTED)


def test_hunting_through_a_streaming_board_keeps_less_than_a_frame() -> None:
    framer = Framer(W10)
    for _ in range(1000):
        framer.hunt(EVENT * 50, WANTED)
    assert framer.partial == len(WANTED) - 1
    assert framer.garbage == 1000 * 500 - framer.partial


def test_what_is_half_received_waits_and_can_be_thrown_away() -> None:
    framer = Framer(W8_06)
    assert framer.receive(b"\x67\1\0\1\0\7\5") == []
    assert framer.partial == 7
    framer.reset()
    assert (framer.partial, framer.garbage) == (0, 7)


def test_units_that_nobody_looked_at_become_bytes_again() -> None:
    framer = Framer(W10)
    units = framer.units(EVENT * 3 + b"\0\0")
    next(units)
    framer.give_back(units)
    assert framer.partial == 22
    assert framer.hunt(WANTED, WANTED)


@pytest.mark.parametrize(
    ("unit", "waited", "good"),
    [
        (Command(0, 103), False, True),
        (Command(130, 103), False, False),
        (Command(130, 114), True, True),
        (Command(130, 114), False, False),
        (Command(0, 13), True, False),
        (Command(0, 200), True, False),
    ],
)
def test_only_events_and_awaited_answers_come_from_a_board(unit: Command, waited: bool, good: bool) -> None:
    assert plausible(W10, unit, lambda asked: waited) is good
