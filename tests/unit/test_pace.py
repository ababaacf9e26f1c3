"""When ports are read: on a loop whose clock goes as the test wants, and which calls only what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.serial_link.ports.read_batching import ANSWER_S, MANY, PIECE, QUIET_TICKS, TICK_S, WINDOW_S, ReadBatching

SOON_S = WINDOW_S / MANY / 4
RARELY_S = 0.02


class Loop:
    """Descriptors with bytes that wait, timers, and what is called soon."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watched: dict[int, Callable[[], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, call: Callable[..., None], *args: Any) -> None:
        assert fd not in self.watched
        self.watched[fd] = lambda: call(*args)

    def remove_reader(self, fd: int) -> None:
        del self.watched[fd]

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        self.timers.append((self.now + delay, lambda: call(*args)))

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.soon.append(lambda: call(*args))

    def turn(self) -> None:
        """One turn: timers that are due, then what is called soon. What one of them raises holds up no other."""
        due = [call for when, call in self.timers if when <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for call in due:
            call()
        soon, self.soon = self.soon, []
        for call in soon:
            try:
                call()
            except ZeroDivisionError:
                continue


class Line:
    """A port at a pace: what came over it, and what was read when."""

    def __init__(self, loop: Loop, pace: ReadBatching, fd: int) -> None:
        self.loop, self.pace, self.fd = loop, pace, fd
        self.waiting = 0
        self.reads: list[tuple[float, int]] = []
        self.when_read: Callable[[], None] = lambda: None
        pace.watch(cast("asyncio.AbstractEventLoop", loop), fd, self.read)

    def read(self) -> int:
        taken, self.waiting = self.waiting, 0
        self.reads.append((self.loop.now, taken))
        self.when_read()
        return taken

    def comes(self, size: int = 10) -> None:
        """Bytes from the board; the loop sees them where it looks."""
        self.waiting += size
        if self.fd in self.loop.watched:
            self.loop.watched[self.fd]()

    @property
    def is_watched(self) -> bool:
        return self.fd in self.loop.watched

    def speak(self, count: int, every_s: float, size: int = 10) -> None:
        for _ in range(count):
            self.loop.now += every_s
            self.loop.turn()
            self.comes(size)

    def wait(self, seconds: float) -> None:
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.now += TICK_S / 4
            self.loop.turn()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def pace() -> ReadBatching:
    return ReadBatching()


@pytest.fixture
def line(loop: Loop, pace: ReadBatching) -> Line:
    return Line(loop, pace, 5)


def test_who_speaks_rarely_is_read_at_once_for_ever(loop: Loop, line: Line) -> None:
    line.speak(100, RARELY_S)
    assert [taken for _, taken in line.reads] == [10] * 100
    assert loop.timers == []


def test_a_short_burst_is_read_at_once(loop: Loop, line: Line) -> None:
    for _ in range(5):
        line.speak(MANY, SOON_S)
        loop.now += WINDOW_S
    assert [taken for _, taken in line.reads] == [10] * MANY * 5
    assert line.is_watched


def test_who_speaks_without_a_pause_is_read_by_the_clock_and_not_later_than_a_tick(loop: Loop, line: Line) -> None:
    line.speak(MANY + 1, SOON_S)
    assert not line.is_watched
    line.reads.clear()
    began = loop.now
    line.speak(80, SOON_S)
    ticks = round((loop.now - began) / TICK_S)
    assert ticks - 1 <= len(line.reads) <= ticks
    assert sum(taken for _, taken in line.reads) + line.waiting == 800
    assert all(
        after - before <= TICK_S + SOON_S for (before, _), (after, _) in zip(line.reads, line.reads[1:], strict=False)
    )


def test_reads_that_come_unevenly_count_as_well(loop: Loop, line: Line) -> None:
    while line.is_watched and len(line.reads) < 100:
        line.speak(3, SOON_S)
        loop.now += WINDOW_S / 8
    assert not line.is_watched


def test_who_falls_silent_is_watched_again_and_the_clock_stands_still(loop: Loop, line: Line) -> None:
    line.speak(MANY + 1, SOON_S)
    line.wait(TICK_S * (QUIET_TICKS + 2))
    assert line.is_watched
    assert loop.timers == []
    line.speak(3, RARELY_S)
    assert [taken for _, taken in line.reads[-3:]] == [10, 10, 10]


def test_answers_that_come_byte_by_byte_are_read_at_once_however_long_they_are(
    loop: Loop, pace: ReadBatching, line: Line
) -> None:
    for _ in range(50):
        pace.at_once(line.fd)
        line.speak(25, 85e-6, 1)
    assert [taken for _, taken in line.reads] == [1] * 25 * 50
    line.speak(round(ANSWER_S / SOON_S) + MANY, SOON_S)
    assert not line.is_watched


def test_others_are_read_at_once_meanwhile(loop: Loop, pace: ReadBatching, line: Line) -> None:
    other = Line(loop, pace, 6)
    line.speak(MANY + 1, SOON_S)
    other.comes()
    assert other.reads == [(loop.now, 10)]
    assert (line.is_watched, other.is_watched) == (False, True)


def test_all_that_speak_without_a_pause_are_read_in_one_turn(loop: Loop, pace: ReadBatching) -> None:
    lines = [Line(loop, pace, fd) for fd in range(4)]
    for _ in range(MANY + 1):
        loop.now += SOON_S
        for line in lines:
            line.comes()
    for line in lines:
        line.reads.clear()
        line.comes()
    loop.now += TICK_S
    loop.turn()
    assert [line.reads for line in lines] == [[(loop.now, 10)]] * 4
    assert len(loop.timers) == 1


def test_an_answer_that_is_awaited_is_taken_at_once(loop: Loop, pace: ReadBatching, line: Line) -> None:
    line.speak(MANY + 1, SOON_S)
    line.comes()
    pace.at_once(line.fd)
    assert line.is_watched
    line.reads.clear()
    line.speak(MANY, SOON_S)
    assert [taken for _, taken in line.reads] == [20, *[10] * (MANY - 1)]


def test_what_comes_in_large_pieces_is_not_kept_waiting(loop: Loop, line: Line) -> None:
    line.speak(MANY * 3, SOON_S, PIECE)
    assert line.is_watched
    line.speak(MANY + 1, SOON_S)
    assert not line.is_watched
    line.speak(1, TICK_S, PIECE)
    line.wait(TICK_S)
    assert line.is_watched


def test_who_is_forgotten_is_read_no_more(loop: Loop, pace: ReadBatching) -> None:
    watched, by_clock = Line(loop, pace, 1), Line(loop, pace, 2)
    by_clock.speak(MANY + 1, SOON_S)
    for line in (watched, by_clock):
        line.reads.clear()
        pace.forget(line.fd)
        pace.forget(line.fd)
        line.comes()
    by_clock.wait(TICK_S * 2)
    assert (watched.reads, by_clock.reads) == ([], [])
    assert (loop.watched, loop.timers) == ({}, [])


@pytest.mark.parametrize("spoken", [MANY - 1, MANY, MANY + 3])
def test_a_port_may_be_closed_while_it_is_read(loop: Loop, pace: ReadBatching, spoken: int) -> None:
    line = Line(loop, pace, 1)
    line.speak(spoken, SOON_S)
    line.when_read = lambda: pace.forget(line.fd)
    line.comes()
    line.wait(TICK_S * 2)
    assert line.reads[-1][1]
    assert (loop.watched, loop.timers) == ({}, [])


def test_a_descriptor_that_is_opened_anew_is_another_port(loop: Loop, pace: ReadBatching) -> None:
    old = Line(loop, pace, 1)
    old.speak(MANY + 1, SOON_S)
    old.comes()
    loop.now += TICK_S
    ((_, tick),) = loop.timers
    loop.timers.clear()
    tick()  # the old one's turn is to come
    pace.forget(1)
    new, before = Line(loop, pace, 1), len(old.reads)
    loop.turn()
    assert (len(old.reads), new.reads, new.is_watched) == (before, [], True)


@pytest.mark.parametrize("spoken", [1, MANY + 1])
def test_nothing_is_left_of_a_port_that_was_listened_to_anew(loop: Loop, pace: ReadBatching, spoken: int) -> None:
    Line(loop, pace, 1).speak(spoken, SOON_S)
    anew = Line(loop, pace, 1)
    anew.comes()
    assert [taken for _, taken in anew.reads] == [10]
    pace.forget(1)
    anew.wait(TICK_S * 2)
    assert (loop.watched, loop.timers) == ({}, [])


def test_what_goes_wrong_with_one_port_holds_up_no_other(loop: Loop, pace: ReadBatching) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    lines = [Line(loop, pace, 1), Line(loop, pace, 2)]
    for line in lines:
        line.speak(MANY + 1, SOON_S)
    lines[0].when_read = fails
    for _ in range(3):
        for line in lines:
            line.reads.clear()
            line.comes()
        lines[1].wait(TICK_S * 1.5)
        assert all(line.reads for line in lines)
