"""The AMQP side of the daemon: who listens to discovery messages there, and what is announced there."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from gateway.errors import DeliveryError
from gateway.model.address import amqp_queue
from gateway.model.discovery import DISCOVERY_QUEUE, render_discovery
from gateway.model.message import Delivery, Message
from gateway.model.participant import Participant
from gateway.routing.pump import Pump

if TYPE_CHECKING:
    from gateway.amqp.transport import AmqpSession

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How often we look whether somebody else's coordinator came to the ``fbp`` queue; and how long nothing has to come from it
before we ask whether anything is still there.
"""

PERIODS = 2.2
JITTER = 0.1

Discover = Literal["on", "off", "auto"]


FRESH_MS = 60_000
"""A message that lay in the queue and says that it is younger than this is from somebody who is there."""


class AmqpDiscovery:
    """Serves one AMQP session after the other. ``heard`` gets the body of every discovery message, and whether its sender
    is there: what lay in the queue when we came to it may be of any age.
    """

    def __init__(
        self,
        pump: Pump,
        discover: Discover,
        period_s: float,
        heard: Callable[[bytes, bool], None],
        exported: Callable[[], Sequence[Participant]],
        doubtful: Callable[[], Sequence[str]],
        taken: Callable[[str, int], None],
    ) -> None:
        """``doubtful`` are queues of those who may not be there; ``taken`` is told how many take from one."""
        self._pump = pump
        self._discover = discover
        self._period_s = period_s
        self._heard = heard
        self._exported = exported
        self._doubtful, self._taken = doubtful, taken
        self._changed = asyncio.Event()
        self._listening = False
        self._session: AmqpSession | None = None
        self._told_yielding = False
        self._old = 0
        self._drained = asyncio.Event()

    def change(self) -> None:
        """Boards or participants changed: announce what is exported now."""
        self._changed.set()

    @property
    def blocked(self) -> str:
        """Why the broker takes no messages although it is connected; empty while it does."""
        return self._session.blocked if self._session is not None else ""

    @property
    def waiting(self) -> dict[str, str]:
        """Edges for which something on the broker is missing, and what."""
        return self._session.waiting if self._session is not None else {}

    async def serve(self, session: AmqpSession) -> None:
        """One connection."""
        self._session = session
        try:
            await self._serve(session)
        finally:
            self._session = None

    async def _serve(self, session: AmqpSession) -> None:
        await session.declare_discovery()
        await self._declare_exports(session)
        others, waiting = await session.queue_counts(DISCOVERY_QUEUE)
        if self._discover == "on" or (self._discover == "auto" and not others):
            self._listen(0 if others else waiting)
        elif self._discover == "auto":
            self._yield()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump.serve(session, "amqp"), name="amqp:pump")
                group.create_task(self._announce(session), name="amqp:announce")
                group.create_task(self._look_for_life(session), name="amqp:alive")
                if self._discover == "auto":
                    group.create_task(self._share(session), name="amqp:discovery")
        finally:
            self._deafen()

    def _listen(self, old: int) -> None:
        """Take the discovery messages; so many of them are in the queue already."""
        self._listening = True
        self._old = old
        if not old:
            self._drained.set()
        self._told_yielding = False
        self._pump.tap(amqp_queue(DISCOVERY_QUEUE), self._tap)

    def _deafen(self) -> None:
        if self._listening:
            self._listening = False
            self._pump.untap(amqp_queue(DISCOVERY_QUEUE), self._tap)

    def _tap(self, delivery: Delivery) -> None:
        is_old = self._old > 0 or delivery.redelivered
        self._heard(delivery.message.body, not is_old or abs(time.time() * 1000 - delivery.message.time_ms) < FRESH_MS)
        if self._old:
            self._old -= 1
            if not self._old:
                self._drained.set()

    async def _look_for_life(self, session: AmqpSession) -> None:
        """Whoever announced himself before we came, and takes from his inport, is there."""
        while True:
            await self._old_are_heard(session)
            for queue in self._doubtful():
                self._taken(queue, await session.consumer_count(queue))

    async def _old_are_heard(self, session: AmqpSession) -> None:
        """Return when all that lay in the queue was heard, or no more of it is there: it may expire, or others may take it."""
        while True:
            before = self._old
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._drained.wait()
                    self._drained.clear()
                    return
            if before and before == self._old and not (await session.queue_counts(DISCOVERY_QUEUE))[1]:
                self._old = 0
                return

    def _yield(self) -> None:
        if not self._told_yielding:
            self._told_yielding = True
            log.info("amqp: another coordinator takes the discovery messages of queue %s; left to it", DISCOVERY_QUEUE)

    async def _share(self, session: AmqpSession) -> None:
        """Two consumers would each hear half of the announcements: leave when another comes, come back when it is gone."""
        while True:
            await asyncio.sleep(LOOK_S * random.uniform(1 - JITTER, 1 + JITTER))
            count, waiting = await session.queue_counts(DISCOVERY_QUEUE)
            if self._listening and count > 1:
                self._deafen()
                self._yield()
            elif not self._listening and not count:
                log.info("amqp: nobody takes the discovery messages of queue %s any more; taking them", DISCOVERY_QUEUE)
                self._listen(waiting)

    async def _declare_exports(self, session: AmqpSession) -> None:
        for participant in self._exported():
            await session.declare_export(
                [port.queue for port in participant.inports], [port.queue for port in participant.outports]
            )

    async def _announce(self, session: AmqpSession) -> None:
        """Exported participants, now and again; only while somebody else listens, or the queue would grow for ever."""
        declared: set[str] = set()
        while True:
            self._changed.clear()
            exported = self._exported()
            queues = {port.queue for participant in exported for port in (*participant.inports, *participant.outports)}
            if queues - declared:
                await self._declare_exports(session)
                declared = queues
            if exported and await session.consumer_count(DISCOVERY_QUEUE) > int(self._listening):
                for participant in exported:
                    now_ms = int(time.time() * 1000)
                    message = Message(uuid.uuid4().hex, render_discovery(participant), "application/json", now_ms)
                    with suppress(DeliveryError):  # said again with the next round
                        await session.publish(amqp_queue(DISCOVERY_QUEUE), message)
            wait_s = self._period_s / PERIODS * random.uniform(1 - JITTER, 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
