"""A hundred thousand messages that nobody should send: all are answered, none makes much work, nothing breaks.

What counts is the work (calls within Python and out of it), which is the same on every machine; how long the slowest
takes is a figure of ``benchmarks.coordinator``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gateway.fbp.runtime.protocol_messages import Reply, render
from tests.support.strange_frames import largest_frames, small_session, strange_frames

MESSAGES = 100_000
MOST_CALLS = 5_000
MOST_CALLS_PER_BYTE = 4


@contextmanager
def counting_calls() -> Iterator[Callable[[], int]]:
    """How many calls began or ended since."""
    calls = 0

    def count(_frame: FrameType, _event: str, _arg: Any) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


def test_a_hundred_thousand_strange_messages_neither_break_nor_stall_a_session() -> None:
    session, most, before = small_session(), 0, 0
    frames = list(strange_frames(MESSAGES))
    with counting_calls() as calls:
        for text in frames:
            for item in session.receive(text):
                if isinstance(item, Reply):
                    render(item)
            most, before = max(most, calls() - before), calls()
    assert 0 < most < MOST_CALLS


def test_the_largest_frames_do_not_stall_a_session() -> None:
    session = small_session()
    for text in largest_frames():
        with counting_calls() as calls:
            (reply,) = session.receive(text)
            assert calls() < MOST_CALLS_PER_BYTE * len(text)
        assert isinstance(reply, Reply)
        assert reply.command == "error"
        assert len(render(reply)) < 2000
