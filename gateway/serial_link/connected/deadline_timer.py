"""The timer of a core that waits for a board: nobody is called silent before what has arrived was read.

When the process stood still for a while (a slow disk, a suspended machine), deadlines are past although the answers lie in
the kernel's buffer, and some loops (uvloop) look at their timers before they read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TURN_S = 0.002
"""Time enough for the loop to look once at what can be read."""

MOST_TURNS = 16
"""A turn reads up to 4 KiB, and one in which something came is followed by another: but not for ever."""


class DeadlineTimer:
    """Calls ``tick`` when ``deadline`` (monotonic seconds; None: nothing is waited for) is past."""

    def __init__(self, deadline: Callable[[], float | None], tick: Callable[[], None]) -> None:
        self._deadline = deadline
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._turns = 0
        self.heard = False
        """To be set whenever bytes came."""

    def set(self) -> None:
        """The deadline may be another one. One that moved back leaves the timer, which looks again when it fires: that is
        cheaper than a new one.
        """
        deadline = self._deadline()
        if deadline is None or self._turns:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._fire)

    def cancel(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._turns = 0

    def _fire(self) -> None:
        self._timer = None
        deadline = self._deadline()
        if deadline is not None and deadline <= time.monotonic():
            if self._turns < MOST_TURNS and (not self._turns or self.heard):
                self._turns += 1
                self.heard = False
                self._timer = self._loop.call_later(TURN_S, self._fire)
                return
            self._turns = 0
            self._tick()
            return
        self._turns = 0
        self.set()
