"""The asyncio way to be a participant: receive on inports, send on outports, stay connected and announced.

``serve_participant`` keeps everything going. What was sent is confirmed by the broker before a later ``ack`` takes
effect: results first, then the acknowledgement. A lost connection costs neither what was sent nor what was taken: the
first is sent again, the second comes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ConfigError, DeliveryDeferred, DeliveryRefused, GatewayError
from gateway.model.address import Address, amqp_queue, mqtt
from gateway.model.discovery import DISCOVERY_QUEUE
from gateway.model.message import Delivery, Message, Outcome
from gateway.participant.broker import Broker
from gateway.participant.core.definition import PortName, announcement, complete_definition, decode, encode, seat
from gateway.supervise import Backoff, ConnectionReport, keep_connected
from gateway.transport import Session

log = logging.getLogger(__name__)

WINDOW = 64
"""Messages taken per inport and not yet settled; with more, the broker keeps the rest."""

IN_FLIGHT = 64
"""Sends not yet confirmed by the broker; the next one waits."""

HEARTBEATS_PER_PERIOD = 2.2
RETRY_S = 0.5
FLUSH_TIMEOUT_S = 5.0
LONGEST_DELAY_S = 5.0
"""A participant without its broker is of no use: it tries again soon."""


def discovery_period_s() -> float:
    """Seconds of the discovery period: ``MSGFLO_DISCOVERY_PERIOD``, else 60."""
    text = os.environ.get("MSGFLO_DISCOVERY_PERIOD", "60")
    try:
        period = float(text)
    except ValueError:
        period = 0.0
    if not period > 0:
        raise ConfigError("MSGFLO_DISCOVERY_PERIOD", "", f"must be a number of seconds, not {text!r}")
    return period


@dataclass(eq=False, slots=True)
class Incoming:
    """A message that arrived on an inport. ``data`` is what its JSON says, or the bytes if it is none."""

    port: PortName
    body: bytes
    data: Any
    is_json: bool
    delivery: Delivery
    _owner: AsyncParticipant = field(repr=False)
    settled: bool = False

    def ack(self) -> None:
        """It is dealt with. Takes effect once everything sent before is confirmed."""
        self._settle(accepted=True)

    def nack(self) -> None:
        """It can't be dealt with: to the dead letters of the inport (AMQP); on MQTT it is gone."""
        self._settle(accepted=False)

    def _settle(self, *, accepted: bool) -> None:
        if not self.settled:
            self.settled = True
            self._owner.queue(_Settle(self.delivery, accepted))


@dataclass(eq=False, slots=True)
class _Send:
    address: Address
    message: Message
    done: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class _Settle:
    delivery: Delivery
    accepted: bool


class AsyncParticipant:
    """A participant while ``serve_participant`` keeps it. Iterate it for messages; ``send`` results."""

    def __init__(self, definition: Mapping[str, Any], role: str, broker: Broker, *, window: int = WINDOW) -> None:
        self.definition = complete_definition(definition, role, secrets.token_hex(4))
        self.seat = seat(self.definition, broker.transport)
        self.connected = asyncio.Event()
        self._broker = broker
        self._window = window
        self._period_s = discovery_period_s()
        self._waiting: deque[_Send | _Settle] = deque()
        self._unconfirmed: dict[int, _Send] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._arrived: asyncio.Queue[Incoming] = asyncio.Queue()
        self._epoch = 0

    async def send(self, outport: str, data: Any) -> None:
        """Send on an outport; returns when the broker has confirmed. Waits while there is no broker."""
        await self.post(outport, data)

    def post(self, outport: str, data: Any) -> asyncio.Future[None]:
        """Send on an outport without waiting; the future is done when the broker has confirmed.

        ``PortUnknown`` for an outport that isn't there; ``TypeError`` or ``ValueError`` for data that is no JSON.
        """
        message = Message(id=secrets.token_hex(16), body=encode(data), content_type=_content_type(data))
        send = _Send(self.seat.outport(outport), message, asyncio.get_running_loop().create_future())
        send.done.add_done_callback(_look_at)
        self.queue(send)
        return send.done

    def queue(self, op: _Send | _Settle) -> None:
        """Take something to tell the broker, in this order."""
        self._waiting.append(op)
        self._idle.clear()
        self._news.set()

    async def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until everything sent is confirmed; whether that came true in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def __aiter__(self) -> AsyncIterator[Incoming]:
        while True:
            message = await self._arrived.get()
            if self._broker.repeats and message.delivery.epoch != self._epoch:
                continue  # the broker gives it again, on the connection that lives now
            yield message

    # -- while connected -------------------------------------------------------------------------------------------

    async def serve(self, session: Session) -> None:
        """Everything that happens on one connection, until it is lost."""
        self._epoch = session.epoch
        await self._broker.make_ports(session, self.seat)
        for address in self.seat.inports:
            await session.subscribe(address, self._window)
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self.connected.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(session), name=f"participant:{self.seat.role}:reader")
                group.create_task(self._write(session), name=f"participant:{self.seat.role}:writer")
                group.create_task(self._announce(session), name=f"participant:{self.seat.role}:announcer")
        finally:
            self.connected.clear()

    async def _read(self, session: Session) -> None:
        async for delivery in session.deliveries():
            port = self.seat.inports.get(delivery.source)
            if port is None:
                await session.settle(delivery, Outcome.RELEASED)
                continue
            data, is_json = decode(delivery.message.body)
            self._arrived.put_nowait(Incoming(port, delivery.message.body, data, is_json, delivery, self))

    async def _write(self, session: Session) -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        sending: set[asyncio.Task[None]] = set()
        others: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                while self._waiting:
                    op = self._waiting.popleft()
                    if isinstance(op, _Send):
                        self._unconfirmed[id(op)] = op
                        await slots.acquire()
                        task = group.create_task(self._publish(session, op, slots), name="participant:publish")
                        sending.add(task)
                        task.add_done_callback(sending.discard)
                    else:
                        task = group.create_task(self._settle(session, op, tuple(sending)), name="participant:settle")
                        others.add(task)
                        task.add_done_callback(others.discard)
                    task.add_done_callback(lambda _: self._look_idle(sending, others))
                self._look_idle(sending, others)
                self._news.clear()
                await self._news.wait()

    def _look_idle(self, *busy: set[asyncio.Task[None]]) -> None:
        if not self._waiting and not self._unconfirmed and not any(busy):
            self._idle.set()

    async def _publish(self, session: Session, send: _Send, slots: asyncio.Semaphore) -> None:
        try:
            while True:
                try:
                    await session.publish(send.address, send.message)
                except DeliveryDeferred as exc:
                    log.debug("%s: %s", self.seat.role, exc)
                    await asyncio.sleep(RETRY_S)
                    continue
                except DeliveryRefused as exc:
                    self._over(send, exc)
                    return
                self._over(send, None)
                return
        finally:
            slots.release()

    async def _settle(self, session: Session, op: _Settle, earlier: tuple[asyncio.Task[None], ...]) -> None:
        if earlier:
            await asyncio.wait(earlier)
        if op.accepted:
            await session.settle(op.delivery, Outcome.ACCEPTED)
        else:
            await self._broker.refuse(session, op.delivery)

    def _over(self, send: _Send, problem: GatewayError | None) -> None:
        self._unconfirmed.pop(id(send), None)
        if send.done.done():
            return  # whoever sent it waits no longer
        if problem is None:
            send.done.set_result(None)
        else:
            send.done.set_exception(problem)

    async def _announce(self, session: Session) -> None:
        body = announcement(self.definition)
        target = mqtt(DISCOVERY_QUEUE) if self._broker.transport == "mqtt" else amqp_queue(DISCOVERY_QUEUE)
        while True:
            now_ms = int(time.time() * 1000)  # by it a coordinator that comes later knows how old it is
            message = Message(id=secrets.token_hex(16), body=body, content_type="application/json", time_ms=now_ms)
            try:
                await session.publish(target, message)
            except (DeliveryDeferred, DeliveryRefused) as exc:
                log.warning("%s: could not announce itself: %s", self.seat.role, exc)
            await asyncio.sleep(self._period_s / HEARTBEATS_PER_PERIOD)


def _look_at(done: asyncio.Future[None]) -> None:
    """A refused result that nobody waits for is said at least once."""
    if not done.cancelled() and (problem := done.exception()) is not None:
        log.error("a result could not be sent: %s", problem)


def _content_type(data: Any) -> str:
    return "application/octet-stream" if isinstance(data, bytes | bytearray) else "application/json"


@asynccontextmanager
async def serve_participant(
    definition: Mapping[str, Any], role: str, broker: Broker, *, window: int = WINDOW
) -> AsyncIterator[AsyncParticipant]:
    """A participant, connected and announced while the block runs; what was sent is flushed at its end."""
    participant = AsyncParticipant(definition, role, broker, window=window)
    report = ConnectionReport(broker.transport)
    problem: Exception | None = None
    async with asyncio.TaskGroup() as group:
        link = group.create_task(
            keep_connected(broker.connector, participant.serve, Backoff(LONGEST_DELAY_S), report),
            name=f"participant:{role}:link",
        )
        try:
            yield participant
            await participant.flush()
        except Exception as exc:  # noqa: BLE001 - the block's own error leaves as it is, not wrapped in a group
            problem = exc
        finally:
            link.cancel()
    if problem is not None:
        raise problem
