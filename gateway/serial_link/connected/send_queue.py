"""Messages on their way to a board: a job is the packets of one message, and the packets of two never mix.

The packets are made when the turn of the message comes, so that numbers are those of the graph that runs then. A job that
has begun is carried to its end even if nobody waits for it any more: half an array would confuse the graph.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from gateway.errors import (
    BoardFull,
    ConnectionLost,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    LocalProtocolError,
)
from gateway.serial_link.connected.link_driver import OnAnswer
from gateway.serial_link.protocol.codec import Command
from gateway.serial_link.protocol.commandformat import DebugPoint
from gateway.serial_link.protocol.link_events import LinkRequestFailed, Replied

log = logging.getLogger(__name__)

MOST_JOBS = 32
"""Messages that wait in a session; whoever brings one more waits for a place, in order."""

MOST_REPEATS = 3
"""So often a message that the board got damaged is sent again at once; then it is for the sender to try later."""

MakeUnits: TypeAlias = Callable[[], Sequence[Command]]


@dataclass(slots=True)
class _Job:
    address: str
    message_id: str
    make: MakeUnits
    done: asyncio.Future[None]
    units: deque[Command] = field(default_factory=deque)
    """Not sent yet."""
    flying: int = 0
    answered: int = 0
    repeats: int = 0
    problem: DeliveryError | None = None
    damaged: bool = False
    """The board got some of it damaged, and obeyed nothing from there on."""

    @property
    def begun(self) -> bool:
        """Whether the board may have got some of it."""
        return bool(self.flying or self.answered)


class SendQueue:
    """One for a session. ``request`` sends a unit and calls back with the answer; ``window`` units fly together."""

    def __init__(
        self, name: str, request: Callable[[Command, OnAnswer], None], window: Callable[[], int] = lambda: 1
    ) -> None:
        self._name = name
        self._request = request
        self._window = window
        self._places = asyncio.Semaphore(MOST_JOBS)
        self._jobs: deque[_Job] = deque()
        self._active: list[_Job] = []
        self._flying = 0
        self._trusted = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._lost = ""

    async def send(self, address: str, message_id: str, make: MakeUnits) -> None:
        """Return when the board has answered all. ``DeliveryDeferred``, ``DeliveryRefused``, ``ConnectionLost``; and
        whatever ``DeliveryError`` ``make`` raises when it is asked for the packets.
        """
        async with self._places:
            if self._lost:
                raise ConnectionLost(self._name, self._lost)
            job = _Job(address, message_id, make, asyncio.get_running_loop().create_future())
            self._jobs.append(job)
            self._next()
            await job.done

    def trust(self) -> None:
        """The board runs what it should: send what waits."""
        self._trusted = True
        self._next()

    def distrust(self) -> None:
        """Alignment was lost, or the graph is being changed: hold back what waits."""
        self._trusted = False

    async def pause(self) -> None:
        """The same, and wait until the message that is on its way has arrived."""
        self._trusted = False
        await self._idle.wait()

    def lose(self, reason: str) -> None:
        """The line is gone: fail everything."""
        self._lost = self._lost or reason
        jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(ConnectionLost(self._name, reason))

    def _next(self) -> None:
        while self._flying < self._window():
            job = next((job for job in self._active if job.units), None) or (self._begin() if self._trusted else None)
            if job is None or not self._send_unit(job):
                return

    def _begin(self) -> _Job | None:
        """The next message may go. One address gets its messages one by one: a refused one is not overtaken."""
        busy = {job.address for job in self._active}
        while (job := next((job for job in self._jobs if job.address not in busy), None)) is not None:
            self._jobs.remove(job)
            if job.done.done():
                continue  # cancelled before its turn
            try:
                job.units.extend(job.make())
            except DeliveryError as exc:
                job.done.set_exception(exc)
                continue
            except Exception as exc:  # a bug at one message must not hold up the others for ever
                log.exception("%s: a message could not be made into packets", self._name)
                job.done.set_exception(DeliveryRefused(job.address, job.message_id, f"a bug: {exc!r}"))
                continue
            self._active.append(job)
            self._idle.clear()
            return job
        return None

    def _send_unit(self, job: _Job) -> bool:
        """Send the next unit. False: the link opens again, or what others ask has filled its queue. Then what waits does so
        until ``trust`` or ``lose``, or until something of ours is answered; where nothing is, the sender tries again.
        """
        begun = job.begun
        unit = job.units.popleft()
        job.flying += 1
        self._flying += 1
        try:
            self._request(unit, partial(self._answered, job))
        except ConnectionLost as exc:
            job.flying -= 1
            self._flying -= 1
            job.units.clear()
            if begun:
                self._fail(job, DeliveryDeferred(job.address, job.message_id, exc.reason, counts=True))
                self._settle(job)
            else:
                self._put_back(job)
            return False
        except LocalProtocolError as exc:
            job.flying -= 1
            self._flying -= 1
            if self._flying:
                job.units.appendleft(unit)
                return False
            self._fail(job, DeliveryDeferred(job.address, job.message_id, str(exc)))
            self._settle(job)
        return True

    def _answered(self, job: _Job, event: Replied | LinkRequestFailed) -> None:
        job.flying -= 1
        self._flying -= 1
        if isinstance(event, Replied):
            job.answered += 1
        else:
            job.damaged = job.damaged or event.code == DebugPoint.BAD_CHECKSUM
            self._fail(job, self._problem(job, event))
        self._settle(job)
        self._next()

    def _problem(self, job: _Job, event: LinkRequestFailed) -> DeliveryError:
        address, message_id, reason = job.address, job.message_id, event.reason
        # The latter are our firmware's: it has taken nothing.
        if isinstance(event.here, BoardFull) or event.code in (DebugPoint.QUEUE_FULL, DebugPoint.BAD_CHECKSUM):
            return DeliveryDeferred(address, message_id, reason)
        if event.here is not None:
            return DeliveryRefused(address, message_id, reason, permanent=False)
        if event.code is not None:
            return DeliveryRefused(address, message_id, f"the board refused it: {reason}", permanent=False)
        # It was under way when the board fell silent, so it may be what silenced it: that counts as an attempt.
        return DeliveryDeferred(address, message_id, reason, counts=True)

    def _fail(self, job: _Job, problem: DeliveryError) -> None:
        job.problem = job.problem or problem
        job.units.clear()

    def _settle(self, job: _Job) -> None:
        """Tell whoever waits, when nothing of the message is under way any more."""
        if job.units or job.flying:
            return
        if job.damaged and not job.answered and job.repeats < MOST_REPEATS:
            job.repeats += 1
            self._put_back(job)
            return
        self._active.remove(job)
        if not self._active:
            self._idle.set()
        if job.done.done():
            return
        if job.problem is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(job.problem)

    def _put_back(self, job: _Job) -> None:
        """Nothing of it has arrived: it begins anew when the board is trusted again."""
        job.problem, job.damaged = None, False
        self._active.remove(job)
        self._jobs.appendleft(job)
        if not self._active:
            self._idle.set()
