"""When ports are read: at once while a board speaks rarely; while it speaks without a pause, together every few milliseconds.

A line at 115200 baud brings a command in 0.87 ms. Taken one by one, each wakes the loop and goes its way to the brokers
alone, at two or three times of what it costs among others. Adapters on USB hold bytes back for 1 to 16 ms anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

TICK_S = 0.004
"""How often ports are read that speak without a pause: so much later a reading is taken, at most."""

MANY = 16
WINDOW_S = 0.032
"""More reads than that in so long are speaking without a pause: more than 500 a second."""

ANSWER_S = 0.01
"""After a write what comes is an answer, however many reads it takes: a UART without a buffer brings it byte by byte."""

PIECE = 1024
"""A read that brings so many bytes was worth its wake-up: what comes in such pieces needs no waiting."""

QUIET_TICKS = 4
"""A port that had nothing to say for so many ticks is read at once again."""

Read = Callable[[], int]
"""Takes what is there, and returns how many bytes that were."""


@dataclass(slots=True, eq=False)
class _Port:
    fd: int
    read: Read
    since: float = float("-inf")
    reads: int = 0
    """Since then; no more than ``WINDOW_S`` ago."""
    quiet: int = 0
    written: float = float("-inf")


class ReadBatching:
    """Shared by ports of one loop, by their descriptors. Everything is called from the loop's thread.

    A port is either watched by the loop or read by the clock. It is forgotten before its descriptor is closed, which may
    happen while it is read.
    """

    def __init__(self) -> None:
        self._ports: dict[int, _Port] = {}
        self._by_clock: dict[int, _Port] = {}
        self._ticking = False

    def watch(self, loop: asyncio.AbstractEventLoop, fd: int, read: Read) -> None:
        """From now on, call ``read`` when there is something to read; whoever was called before is no more."""
        self.forget(fd)
        self._loop = loop
        port = self._ports[fd] = _Port(fd, read)
        loop.add_reader(fd, self._readable, port)

    def at_once(self, fd: int) -> None:
        """An answer is awaited: what comes next is not kept waiting."""
        port = self._ports.get(fd)
        if port is not None:
            port.reads = 0
            port.written = self._loop.time()
            self._watch_again(port)

    def forget(self, fd: int) -> None:
        """Read it no more. Doing it twice is harmless."""
        if self._ports.pop(fd, None) is not None and self._by_clock.pop(fd, None) is None:
            self._loop.remove_reader(fd)

    def _readable(self, port: _Port) -> None:
        now, taken = self._loop.time(), port.read()
        if taken >= PIECE or now - port.written <= ANSWER_S:
            port.reads = 0
            return
        if port.reads == 0 or now - port.since > WINDOW_S:
            port.since, port.reads = now, 0
        port.reads += 1
        if port.reads > MANY and self._ports.get(port.fd) is port:
            port.reads = port.quiet = 0
            self._loop.remove_reader(port.fd)
            self._by_clock[port.fd] = port
            self._tick_later()

    def _watch_again(self, port: _Port) -> None:
        if self._by_clock.pop(port.fd, None) is not None:
            self._loop.add_reader(port.fd, self._readable, port)

    def _tick_later(self) -> None:
        if self._by_clock and not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._tick_later()
        for port in self._by_clock.values():
            self._loop.call_soon(self._turn, port)  # each by itself: what goes wrong with one is no other's

    def _turn(self, port: _Port) -> None:
        if self._by_clock.get(port.fd) is not port:
            return
        taken = port.read()
        port.quiet = 0 if taken else port.quiet + 1
        if (taken >= PIECE or port.quiet >= QUIET_TICKS) and self._by_clock.get(port.fd) is port:
            self._watch_again(port)
