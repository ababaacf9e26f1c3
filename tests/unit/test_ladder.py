"""The recovery ladder: each rung in its turn, and patience with a board that stays silent."""

from __future__ import annotations

from itertools import pairwise

from gateway.serial_link.connected.core.recovery import Recovery, Rung


def climb(ladder: Recovery, until_s: float, every_s: float = 5.0) -> list[tuple[float, Rung]]:
    """All attempts on a board that never answers, with a supervisor that asks every few seconds."""
    now, attempts = 0.0, []
    while now < until_s:
        now += ladder.wait_s(now)
        attempts.append((now, ladder.attempt(now)))
        now += 1.2
        ladder.failed(now)
        now += every_s
    return attempts


def test_every_third_attempt_in_a_row_resets_the_board() -> None:
    rungs = [rung for _, rung in climb(Recovery(), 60.0)]
    assert rungs[:7] == [
        Rung.REOPEN,
        Rung.REOPEN,
        Rung.REOPEN,
        Rung.DTR_RESET,
        Rung.REOPEN,
        Rung.REOPEN,
        Rung.DTR_RESET,
    ]


def test_after_ten_silent_minutes_one_attempt_a_minute_is_the_most() -> None:
    times = [now for now, _ in climb(Recovery(), 4000.0) if now > 610]
    assert all(later - earlier > 59.9 for earlier, later in pairwise(times))
    assert len(times) > 50


def test_an_answer_is_a_new_start() -> None:
    ladder = Recovery()
    climb(ladder, 1000.0)
    ladder.answered()
    assert ladder.wait_s(1001.0) == 0
    assert ladder.attempt(1001.0) is Rung.REOPEN


def test_where_it_is_asked_for_every_second_reset_is_one_of_the_usb_device() -> None:
    ladder, rungs = Recovery(), []
    for number in range(13):
        rungs.append(ladder.attempt(float(number), reauthorises=True))
        ladder.failed(float(number))
    assert [number for number, rung in enumerate(rungs) if rung is Rung.DTR_RESET] == [3, 9]
    assert [number for number, rung in enumerate(rungs) if rung is Rung.REAUTHORISE] == [6, 12]
