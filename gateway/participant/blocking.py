"""The familiar blocking class: ``BlockingParticipant(definition, role)`` with ``process``, ``send``, ``ack``, ``nack``.

The broker is served by an event loop in a thread of its own; ``process`` runs in another, one message after the other,
and may block. ``send`` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gateway.errors import GatewayError
from gateway.participant.broker import Broker, MakeBroker
from gateway.participant.client import WINDOW, AsyncParticipant, Incoming, serve_participant
from gateway.participant.core.definition import PortName, complete_definition
from gateway.supervise import first_leaf

log = logging.getLogger(__name__)

MOST_UNSENT = 1000
"""Sends that wait for the broker; the next ``send`` blocks its thread."""

LOOK_S = 0.5
"""How often a ``send`` that waits looks whether all has ended meanwhile."""

STOP_TIMEOUT_S = 5.0
"""How long the end waits for a ``process`` that is under way."""


class BlockingMessage:
    """What ``process`` gets. ``data`` is what the JSON says, or bytes if it is none; ``buffer`` the bytes."""

    def __init__(self, buffer: Any, data: Any, is_json: bool, incoming: Incoming | None = None) -> None:
        self.buffer = buffer
        self.data = data
        self.json = data if is_json else None
        self.incoming = incoming


class BlockingParticipant:
    """Derive from it, define ``process``, hand the class or an instance to ``main`` or ``run``.

    On AMQP every message is settled by ``ack`` or ``nack`` (dead letter), at the latest when ``WINDOW`` later ones were
    taken. On MQTT a message is settled when ``process`` returns. An exception in ``process`` is a nack.
    """

    def __init__(self, d: Mapping[str, Any], role: str) -> None:
        self.definition = complete_definition(d, role, secrets.token_hex(4))
        self._engine: _Seated | None = None

    def process(self, inport: PortName, inmsg: BlockingMessage) -> None:
        """Called with every message; define it."""
        raise NotImplementedError(f"{type(self).__name__} has no method process(inport, msg)")

    def send(self, outport: str, outdata: Any = None) -> None:
        """Send data on an outport. Before the participant runs there is nobody to send it: then it is nothing."""
        if self._engine is not None:
            self._engine.send(outport, outdata)

    def ack(self, msg: BlockingMessage) -> None:
        """The message is dealt with; what was sent before is confirmed first."""
        if self._engine is not None:
            self._engine.settle(msg, accept=True)

    def nack(self, msg: BlockingMessage) -> None:
        """The message can't be dealt with: to the dead letters of its inport."""
        if self._engine is not None:
            self._engine.settle(msg, accept=False)


class _Seated:
    """A participant of an engine that runs: the bridge between its thread and the loop."""

    def __init__(
        self, participant: BlockingParticipant, seated: AsyncParticipant, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.participant = participant
        self.seated = seated
        self._loop = loop
        self._room = threading.Semaphore(MOST_UNSENT)
        self._closed = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._open: deque[Incoming] = deque()
        self._warned = False
        self._turn = asyncio.Lock()
        role = participant.definition["role"]
        self._thread = threading.Thread(target=self._run, name=f"participant-{role}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (call := self._work.get()) is not None:
            call()

    def close(self) -> None:
        """No more work for the thread, and nobody waits to send any more."""
        self._closed = True
        self._work.put(None)

    def send(self, outport: str, data: Any) -> None:
        """From any thread; blocks while too many are unsent. Raises at once for a wrong port or data."""
        self.seated.seat.outport(outport)
        data = data if isinstance(data, bytes | bytearray) else json.loads(json.dumps(data, allow_nan=False))
        while not self._room.acquire(timeout=LOOK_S):
            if self._closed:
                return
        self._call(self._post, outport, data)

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    def _post(self, outport: str, data: Any) -> None:
        self.seated.post(outport, data).add_done_callback(lambda _: self._room.release())

    def settle(self, message: BlockingMessage, *, accept: bool) -> None:
        """From any thread."""
        if message.incoming is not None:
            self._call(message.incoming.ack if accept else message.incoming.nack)

    async def deliver(self, iips: Mapping[str, Any]) -> None:
        """The IIPs once connected, then messages for ever, one at a time."""
        await self.seated.connected.wait()
        ports = {port["id"]: PortName(port) for port in self.participant.definition["inports"]}
        for name, data in iips.items():
            await self._process(ports.get(name) or PortName({"id": name}), BlockingMessage(data, data, True))
        async for incoming in self.seated:
            message = BlockingMessage(incoming.body, incoming.data, incoming.is_json, incoming)
            async with self._turn:
                failed = await self._process(incoming.port, message)
                self._after(incoming, failed)

    async def finish(self) -> None:
        """Begin no further message; wait for the one under way, up to ``STOP_TIMEOUT_S``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._turn.acquire()

    async def _process(self, port: PortName, message: BlockingMessage) -> bool:
        """Whether it failed."""
        done: asyncio.Future[bool] = self._loop.create_future()

        def call() -> None:
            failed = False
            try:
                self.participant.process(port, message)
            except (Exception, SystemExit):  # the author's code: it ends this message, and never the thread in silence
                role = self.participant.definition["role"]
                log.exception("%s: process failed on a message of inport %s", role, port)
                failed = True
            self._call(_tell, done, failed)

        self._work.put(call)
        return await done

    def _after(self, incoming: Incoming, failed: bool) -> None:
        if failed:
            incoming.nack()
        elif incoming.delivery.source.transport == "mqtt":
            incoming.ack()
        elif not incoming.settled:
            self._open.append(incoming)
        while self._open and (self._open[0].settled or len(self._open) >= WINDOW):
            oldest = self._open.popleft()
            if not oldest.settled and not self._warned:
                self._warned = True
                role = self.participant.definition["role"]
                log.warning("%s: %d messages not acknowledged: the oldest are taken as done; call ack", role, WINDOW)
            oldest.ack()


def _tell(done: asyncio.Future[bool], failed: bool) -> None:
    if not done.done():
        done.set_result(failed)


class Engine:
    """Participants that run, in threads of their own. ``stop`` ends it; ``wait`` waits for that."""

    def __init__(
        self,
        participants: Sequence[BlockingParticipant],
        broker: str,
        make_broker: MakeBroker,
        iips: Mapping[str, Any] | None = None,
        on_connected: Callable[[], Any] | None = None,
    ) -> None:
        self.broker_url = broker
        self.participants = tuple(participants)
        self._brokers = [make_broker(broker, one.definition["id"]) for one in self.participants]
        self._iips = dict(iips or {})
        self._on_connected = on_connected
        self._to_connect = len(self.participants)
        self._done: list[Callable[[], Any]] = []
        self._ended = threading.Event()
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._unwanted = False
        self._thread = threading.Thread(target=self._run, name="participant-loop", daemon=True)
        self.problem: GatewayError | None = None

    def done_callback(self, callback: Callable[[], Any]) -> None:
        """Call this when the engine has ended."""
        self._done.append(callback)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Finish the message at hand, send what is unsent, disconnect. Returns at once; harmless when ended.

        Also before it runs: a signal may come at any moment.
        """
        self._unwanted = True
        if self._loop is not None and self._stop is not None and not self._ended.is_set():
            with suppress(RuntimeError):  # the loop has ended this very moment
                self._loop.call_soon_threadsafe(self._stop.set)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it has ended; whether it has."""
        return self._ended.wait(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except* GatewayError as group:
            problem = first_leaf(group)
            assert isinstance(problem, GatewayError)
            self.problem = problem
            log.error("%s", self.problem)
        finally:
            self._started.set()
            self._ended.set()
            for callback in self._done:
                callback()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self._unwanted:  # looked at behind the line above: who came before it could not reach the event
            self._stop.set()
        self._started.set()
        async with asyncio.TaskGroup() as group:
            for number, (participant, place) in enumerate(zip(self.participants, self._brokers, strict=True)):
                group.create_task(self._serve(participant, place), name=f"participant:{number}")

    async def _serve(self, participant: BlockingParticipant, broker: Broker) -> None:
        assert self._loop is not None
        assert self._stop is not None
        definition = participant.definition
        async with serve_participant(definition, definition["role"], broker) as seated, asyncio.TaskGroup() as group:
            telling = group.create_task(
                self._tell_connected(seated), name=f"participant:{definition['role']}:connected"
            )
            bridge = _Seated(participant, seated, self._loop)
            participant._engine = bridge
            delivering = group.create_task(bridge.deliver(self._iips), name=f"participant:{definition['role']}:process")
            try:
                await self._stop.wait()
                await bridge.finish()
            finally:
                participant._engine = None
                telling.cancel()
                delivering.cancel()
                bridge.close()

    async def _tell_connected(self, seated: AsyncParticipant) -> None:
        """Once, when the last of the participants is there for the first time."""
        await seated.connected.wait()
        self._to_connect -= 1
        if not self._to_connect and self._on_connected is not None:
            self._on_connected()
