"""What MsgFlo's command line tools do on a broker: announce, discover, wire, send one message, take some."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gateway.errors import DeliveryDeferred, DeliveryRefused, TransportDown, ValueUnfit
from gateway.model.address import Address, amqp_queue, mqtt
from gateway.model.binding import Binding
from gateway.model.discovery import DISCOVERY_QUEUE, parse_discovery
from gateway.model.message import Message, Outcome
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortRef
from gateway.participant.broker import Broker
from gateway.participant.client import LONGEST_DELAY_S
from gateway.participant.core.definition import Seat
from gateway.participant.core.msgflo_setup import Forwarding, Joint, QueueBinding, amqp_bindings, roles_of
from gateway.supervise import Backoff, ConnectionReport, keep_connected
from gateway.transport import Session

log = logging.getLogger(__name__)

CREDIT = 64
LOOK_AGAIN_S = 0.5


def queue_address(broker: Broker, name: str) -> Address:
    """A queue or topic by its name."""
    return mqtt(name) if broker.transport == "mqtt" else amqp_queue(name)


def new_message(body: bytes) -> Message:
    """A message of our own."""
    now_ms = int(time.time() * 1000)
    return Message(id=secrets.token_hex(16), body=body, content_type="application/json", time_ms=now_ms)


async def send_one(broker: Broker, queue: str, body: bytes) -> None:
    """Send a message to a queue; returns when the broker has confirmed it."""
    async with broker.connector.connect() as session:
        await session.publish(queue_address(broker, queue), new_message(body))


async def take_some(broker: Broker, queue: str, amount: int) -> list[bytes]:
    """Wait for ``amount`` messages of a queue, and take them. A queue that isn't there yet is waited for."""
    taken: list[bytes] = []
    address = queue_address(broker, queue)
    async with broker.connector.connect() as session:
        await session.subscribe(address, amount)
        async for delivery in session.deliveries():
            taken.append(delivery.message.body)
            await session.settle(delivery, Outcome.ACCEPTED)
            if len(taken) == amount:
                await session.unsubscribe(address)
                break
    return taken


async def announce(broker: Broker, messages: Mapping[str, bytes], every_s: float, said: Callable[[str], None]) -> None:
    """Send discovery messages, by id, again and again; with ``every_s`` 0 once. ``said`` hears each id once."""
    heard: set[str] = set()

    async def serve(session: Session) -> None:
        await broker.make_ports(session, Seat({}, {}, "register"))
        while True:
            for name, body in messages.items():
                try:
                    await session.publish(queue_address(broker, DISCOVERY_QUEUE), new_message(body))
                except (DeliveryDeferred, DeliveryRefused) as exc:
                    if not every_s:
                        raise
                    log.warning("%s: could not be announced: %s", name, exc)
                    continue
                if name not in heard:
                    heard.add(name)
                    said(name)
            if not every_s:
                return
            await asyncio.sleep(every_s)

    await _serve(broker, serve, forever=bool(every_s))


async def _serve(broker: Broker, serve: Callable[[Session], Awaitable[None]], *, forever: bool) -> None:
    """On one connection, or on every connection again."""
    if forever:
        await keep_connected(broker.connector, serve, Backoff(LONGEST_DELAY_S), ConnectionReport(broker.transport))
        return
    async with broker.connector.connect() as session:
        await serve(session)


class Discovered:
    """The participants that announced themselves, by role."""

    def __init__(self) -> None:
        self._by_id: dict[str, Participant] = {}

    def add(self, participant: Participant) -> None:
        """One that was heard."""
        self._by_id[participant.id] = participant

    def queues(self, ref: PortRef, is_inport: bool) -> Sequence[str]:
        """The queues of a port, of all participants of the role."""
        direction = Direction.IN if is_inport else Direction.OUT
        ports = (one.port(direction, ref.port) for one in self._by_id.values() if one.role == ref.node)
        return tuple(dict.fromkeys(port.queue for port in ports if port is not None))

    def missing(self, wires: Sequence[QueueBinding]) -> tuple[str, ...]:
        """The roles of wires that nobody has announced yet."""
        here = {participant.role for participant in self._by_id.values()}
        return tuple(role for role in roles_of(wires) if role not in here)


async def discover(broker: Broker, wires: Sequence[QueueBinding], timeout_s: float) -> Discovered:
    """Listen until every role of the wires was heard. ``TransportDown`` names those that weren't within the time."""
    found = Discovered()
    address = queue_address(broker, DISCOVERY_QUEUE)
    try:
        async with asyncio.timeout(timeout_s), broker.connector.connect() as session:
            await broker.make_ports(session, Seat({}, {}, "setup"))
            await session.subscribe(address, CREDIT)
            async for delivery in session.deliveries():
                try:
                    found.add(parse_discovery(delivery.message.body, broker.transport, 0.0))
                except ValueUnfit as exc:
                    log.warning("discovery: %s", exc)
                await session.settle(delivery, Outcome.ACCEPTED)
                if not found.missing(wires):
                    break
    except TimeoutError:
        missing = ", ".join(found.missing(wires))
        raise TransportDown("discovery", f"not heard within {timeout_s:g} s: {missing}; are they running?") from None
    return found


async def wire_up(broker: Broker, joints: Sequence[Joint], timeout_s: float) -> None:
    """Have an AMQP broker carry these; waits for exchanges and queues that their participants have yet to make."""
    async with broker.connector.connect() as session:
        await _declare(session, amqp_bindings(joints), timeout_s)


async def _declare(session: Session, bindings: Sequence[Binding], timeout_s: float) -> None:
    """``TransportDown`` names what is still missing when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        await session.declare(bindings)
        waiting: Mapping[str, str] = getattr(session, "waiting", {})
        if not waiting:
            return
        if time.monotonic() > deadline:
            problems = "; ".join(f"{edge}: {why}" for edge, why in waiting.items())
            raise TransportDown("setup", f"{problems} (start the participants first, or with --participants)")
        await asyncio.sleep(LOOK_AGAIN_S)


async def keep_wired(broker: Broker, joints: Sequence[Joint]) -> None:
    """For ever: on MQTT carry the messages, on AMQP wire again after every reconnection."""

    async def serve(session: Session) -> None:
        if broker.transport == "mqtt":
            await _forward(session, Forwarding(joints))
        await session.declare(amqp_bindings(joints))
        async for _ in session.deliveries():
            pass

    await _serve(broker, serve, forever=True)


async def _forward(session: Session, forwarding: Forwarding) -> None:
    for source in forwarding.sources:
        await session.subscribe(mqtt(source), CREDIT)
    async for delivery in session.deliveries():
        message = delivery.message
        outcome = Outcome.ACCEPTED
        for target in forwarding.next_targets(delivery.source.name):
            try:
                await session.publish(mqtt(target), message)
            except DeliveryRefused as exc:
                log.error("%s", exc)
            except DeliveryDeferred as exc:
                log.warning("%s", exc)
                outcome = Outcome.RELEASED
        await session.settle(delivery, outcome)
