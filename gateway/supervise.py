"""Keeping what comes and goes connected: backoff, the loop around a connection, one visitor's failure for itself."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from gateway.errors import AccessRefused, Conflict, EndedOnPurpose, NotFound, TransportDown, Unplugged
from gateway.transport import Connector, Session

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when the one that started it dies. Linux only."""

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
LONGEST_LOCAL_DELAY_S = 5.0
STABLE_AFTER_S = 60.0
UNPLUGGED_DELAY_S = 0.2


class Backoff:
    """Full jitter, doubling from 1 s to ``longest_s``, back to the start only after a connection that lasted.

    A core: the caller says what time it is. ``draw`` gives numbers in 0..1.
    """

    def __init__(self, longest_s: float = LONGEST_DELAY_S, draw: Callable[[], float] = random.random) -> None:
        self._longest_s = longest_s
        self._draw = draw
        self._ceiling_s = FIRST_DELAY_S
        self._up_since: float | None = None

    def succeeded(self, now: float) -> None:
        """A connection came up at ``now``."""
        self._up_since = now

    def failed(self, now: float, *, at_slowest: bool = False) -> float:
        """A connection failed or ended at ``now``; returns the seconds to wait before the next attempt."""
        if self._up_since is not None and now - self._up_since >= STABLE_AFTER_S:
            self._ceiling_s = FIRST_DELAY_S
        self._up_since = None
        if at_slowest:
            return self._longest_s
        ceiling, self._ceiling_s = self._ceiling_s, min(self._ceiling_s * 2, self._longest_s)
        return ceiling * (0.1 + 0.9 * self._draw())


class ConnectionState(StrEnum):
    """What a connection is doing."""

    CONNECTING = "connecting"
    UP = "up"
    BACKING_OFF = "backing_off"
    QUARANTINED = "quarantined"


@dataclass(slots=True)
class ConnectionReport:
    """A connection as ``gateway status`` shows it. ``since`` is in seconds since 1970."""

    name: str
    state: ConnectionState = ConnectionState.CONNECTING
    reason: str = ""
    since: float = 0.0
    attempts: int = 0
    connects: int = 0

    def now(self, state: ConnectionState, reason: str = "") -> None:
        """Enter ``state``."""
        if (state, reason) != (self.state, self.reason) or not self.since:
            self.state, self.reason, self.since = state, reason, time.time()


Serve = Callable[[Session], Awaitable[None]]


async def keep_connected(connector: Connector, serve: Serve, backoff: Backoff, report: ConnectionReport) -> None:
    """Connect, serve, and try again for ever. Only cancellation ends it.

    ``TransportDown`` is everyday life. Any other exception is a bug in this visitor: logged with its traceback,
    shown in the report, and tried again at the slowest pace, so that it never takes the others down.
    """
    episode = Episode(connector.name)

    async def connection() -> None:
        async with connector.connect() as session:
            backoff.succeeded(time.monotonic())
            report.connects += 1
            report.now(ConnectionState.UP)
            episode.over()
            await serve(session)
            raise TransportDown(connector.name, "the session ended")

    while True:
        report.now(ConnectionState.CONNECTING if not report.attempts else report.state, report.reason)
        report.attempts += 1
        try:
            # A task of its own: a TaskGroup of which a task fails may leave a request to cancel behind on the task that it
            # ran in (CPython's issue 116720), which must not be taken for one of ours.
            await _to_its_end(connection(), connector.name)
        except* (TransportDown, NotFound, Conflict) as group:
            problem = first_leaf(group)
            delay = backoff.failed(time.monotonic(), at_slowest=isinstance(problem, AccessRefused))
            if isinstance(problem, Unplugged | EndedOnPurpose):
                delay = min(delay, UNPLUGGED_DELAY_S)
            report.now(ConnectionState.BACKING_OFF, str(problem))
            episode.failure(problem)
        except* Exception as group:
            delay = backoff.failed(time.monotonic(), at_slowest=True)
            report.now(ConnectionState.QUARANTINED, f"a bug: {first_leaf(group)!r}")
            log.exception("%s: quarantined after an unexpected error", connector.name, exc_info=group)
        _heed_cancellation()
        await asyncio.sleep(delay)


async def _to_its_end(connection: Coroutine[Any, Any, None], name: str) -> None:
    """Run a connection as a task. A library that cancels its own tasks may end it so: that is no wish of ours to end."""
    task = asyncio.create_task(connection, name=f"connection:{name}")
    try:
        await task
    except asyncio.CancelledError:
        me = asyncio.current_task()
        if not task.cancelled() or (me is not None and me.cancelling()):
            raise
        raise TransportDown(name, "was given up underneath") from None


async def to_the_end(work: Coroutine[Any, Any, Result], name: str) -> Result:
    """Do what would leave two places different if it ended half-way: who is cancelled meanwhile waits for its end.

    What comes of it then, good or bad, is told to nobody: it must leave things right by itself.
    """
    task = asyncio.create_task(work, name=name)
    given_up = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            given_up = True
    if given_up:
        await asyncio.gather(task, return_exceptions=True)  # else asyncio complains that nobody looked at it
        raise asyncio.CancelledError
    return task.result()


def _heed_cancellation() -> None:
    """A TaskGroup that is cancelled while one of its tasks fails raises the failure alone: the end would be missed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception in a group."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


class Episode:
    """One stretch of trouble in the log: the first failure is a warning, repeats are debug, the end is one info."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began: float | None = None

    def failure(self, problem: BaseException) -> None:
        """Something failed."""
        text = str(problem)
        line = text if text.startswith(self._name) else f"{self._name}: {text}"
        if isinstance(problem, EndedOnPurpose):
            log.info("%s; connecting again", line)
            return
        if self._began is None:
            self._began = time.monotonic()
            log.warning("%s; trying again", line)
        else:
            log.debug("%s", line)

    def over(self) -> None:
        """It works again."""
        if self._began is None:
            log.info("%s: connected", self._name)
        else:
            log.info("%s: connected again after %.1f s", self._name, time.monotonic() - self._began)
        self._began = None


def signal_name(number: int) -> str:
    """What people call a signal, for a process that it ended. Those for real time have no names of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def dying_with(parent: int) -> Callable[[], None] | None:
    """What a child does before its program (``preexec_fn``): it asks the kernel for SIGTERM when the thread that started it
    is gone, and where the process ``parent`` is gone already, it ends. None where the kernel knows no such thing.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # no Linux
        return None

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
