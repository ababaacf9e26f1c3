"""One AMQP connection shared by aio-pika and us: each frame to whom it belongs.

aio-pika's own library lets its user make the connection's transport (``transport_factory``). Ours looks at every frame's
head: channel 0, the connection's own (handshake, heartbeats, close), is aio-pika's; all others are ours. Both write whole
frames to one socket.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol, cast

from gateway.amqp.codec import frames
from gateway.errors import ConnectionLost, TransportDown

NAME = "amqp"

MOST_CHANNELS = 2047
"""What RabbitMQ allows on a connection unless told otherwise: so many sources at a time, less a few of our own."""

NO_CHANNEL_LEFT = 0
"""Our own code for that; the broker's begin at 300."""

RPC_TIMEOUT_S = 20.0
FEED_HEARTBEAT_S = 5.0


class ChannelRefused(TransportDown):
    """The broker closed a channel of ours. ``code`` and ``text`` are its words. Where nobody handles it: down."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(NAME, text)


class FrameHandler(Protocol):
    """Whoever owns a channel number."""

    def receive(self, kind: int, payload: bytes) -> None:
        """A frame of this channel."""

    def lost(self, problem: TransportDown) -> None:
        """The connection is gone."""


class AmqpConnection(asyncio.StreamReaderProtocol):
    """The connection's bytes. ``lost`` is done when it is gone; ``blocked`` says why the broker takes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(loop=loop)
        super().__init__(self.reader, loop=loop)
        self.lost: asyncio.Future[TransportDown] = loop.create_future()
        self.blocked = ""
        self.on_flow: Callable[[], None] = lambda: None
        self.channel_max = 0
        self.frame_max = 0
        self._loop = loop
        self._socket: asyncio.Transport | None = None
        self._rest = b""
        self._raw = False
        self._is_full = False  # asyncio has a "_paused" of its own
        self.close_code = 0
        self.reason = ""
        self._fed_at = 0.0
        self.heard_at = loop.time()
        self._handlers: dict[int, FrameHandler] = {}
        self._next_number = 1
        self._unsent: list[bytes] = []

    # -- the transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._socket = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: everybody who waits for something hears of it."""
        reason = self.reason or (f"connection lost: {exc}" if exc else "the broker closed the connection")
        problem = ConnectionLost(NAME, reason)
        if not self.lost.done():
            self.lost.set_result(problem)
        handlers, self._handlers = list(self._handlers.values()), {}
        for handler in handlers:
            handler.lost(problem)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has room again."""
        self._is_full = False
        super().resume_writing()
        self.on_flow()

    def data_received(self, data: bytes) -> None:
        """Frames, in whatever pieces they come."""
        if self._rest:
            data = self._rest + data
        if self._raw or data[0] not in frames.FRAME_KINDS:
            self._raw = True  # no AMQP frame: aio-pika says what it is
            self._rest = b""
            super().data_received(data)
            return
        done = 0
        others: list[bytes] = []
        try:
            for kind, channel, start, done in frames.split(data):
                handler = self._handlers.get(channel)
                if handler is not None:
                    handler.receive(kind, data[start + 7 : done - 1])
                elif channel == 0:
                    if kind == frames.METHOD:
                        self._control(data[start + 7 : done - 1])
                    others.append(data[start:done])
        except (ValueError, IndexError, struct.error) as exc:
            self.fail(f"the broker sent no AMQP: {exc}")
            return
        self._rest = data[done:]
        self._feed(others)

    def _feed(self, others: list[bytes]) -> None:
        """What is aio-pika's. It takes a connection without frames for a dead one, so it hears of ours too."""
        now = self.heard_at = self._loop.time()
        if not others and now - self._fed_at < FEED_HEARTBEAT_S:
            return
        self._fed_at = now
        super().data_received(b"".join(others) or frames.HEARTBEAT_FRAME)

    def _control(self, payload: bytes) -> None:
        name = frames.method_name(payload)
        if name == frames.CONNECTION_BLOCKED:
            self.blocked = frames.read_short_text(payload, 4)[0] or "no reason given"
            self.on_flow()
        elif name == frames.CONNECTION_UNBLOCKED:
            self.blocked = ""
            self.on_flow()
        elif name == frames.CONNECTION_CLOSE:
            self.close_code, text = frames.read_close(payload)
            self.reason = f"the broker closed the connection: {text} ({self.close_code})"

    def fail(self, reason: str) -> None:
        """Give the connection up."""
        self.reason = self.reason or reason
        if self._socket is not None:
            self._socket.abort()

    # -- for the channels ----------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether more may be published at the moment."""
        return not self._is_full and not self.blocked and not self.lost.done()

    def write(self, data: bytes) -> None:
        """Whole frames. Those of one turn of the loop leave together."""
        if not data:
            return
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(data)

    def flush(self) -> None:
        """Hand to the socket what waits for the end of this turn."""
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._socket is not None and not self._socket.is_closing():
            self._socket.write(data)

    def claim(self, handler: FrameHandler) -> int:
        """A free channel number, and its frames from now on. Numbers are used in turn, so one rarely comes back soon."""
        if self.lost.done():
            raise self.lost.result()
        last = self.channel_max or MOST_CHANNELS
        for _ in range(last):
            number = self._next_number
            self._next_number = number + 1 if number < last else 1
            if number not in self._handlers:
                self._handlers[number] = handler
                return number
        raise ChannelRefused(NO_CHANNEL_LEFT, f"the broker allows no more than {last} channels on a connection")

    def free(self, number: int) -> None:
        """The channel is closed."""
        self._handlers.pop(number, None)


class Channel:
    """One channel of ours. Subclasses say what its frames mean."""

    def __init__(self, wire: AmqpConnection) -> None:
        self.wire = wire
        self.number = wire.claim(self)
        self.open = False
        self._expected: frames.Method | None = None
        self._answer: asyncio.Future[bytes] | None = None

    async def start(self) -> None:
        """Open the channel."""
        await self.call(frames.CHANNEL_OPEN, b"\0", frames.CHANNEL_OPEN_OK)
        self.open = True

    async def call(self, name: frames.Method, arguments: bytes, reply: frames.Method) -> bytes:
        """A method that is answered; the answer's payload. ``ChannelRefused`` if the broker closes the channel."""
        if self.wire.lost.done():
            raise self.wire.lost.result()
        self._expected, self._answer = reply, asyncio.get_running_loop().create_future()
        self.wire.write(frames.method(self.number, name, arguments))
        try:
            async with asyncio.timeout(RPC_TIMEOUT_S):
                return await self._answer
        except TimeoutError:
            self.wire.fail(f"the broker did not answer for {RPC_TIMEOUT_S:.0f} s")
            raise ConnectionLost(NAME, "the broker does not answer") from None
        finally:
            self._expected, self._answer = None, None

    def close(self) -> None:
        """Close it in order. Its number is free again when the broker has answered."""
        if self.open and not self.wire.lost.done():
            self.open = False
            self.wire.write(frames.method(self.number, frames.CHANNEL_CLOSE, frames.close_arguments()))

    def receive(self, kind: int, payload: bytes) -> None:
        """A frame of this channel."""
        if kind != frames.METHOD:
            self.content(kind, payload)
            return
        name = frames.method_name(payload)
        if name == self._expected:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(payload)
        elif name == frames.CHANNEL_CLOSE_OK:
            self.wire.free(self.number)
        elif name == frames.CHANNEL_CLOSE:
            self._closed_by_broker(*frames.read_close(payload))
        elif name == frames.CHANNEL_FLOW:
            self.wire.write(frames.method(self.number, frames.CHANNEL_FLOW_OK, payload[4:5]))
        else:
            self.event(name, payload)

    def _closed_by_broker(self, code: int, text: str) -> None:
        self.wire.write(frames.method(self.number, frames.CHANNEL_CLOSE_OK))
        self.wire.free(self.number)
        self.open = False
        problem = ChannelRefused(code, text)
        told = self._answer is not None and not self._answer.done()
        if told and self._answer is not None:
            self._answer.set_exception(problem)
        self.refused(problem, told=told)

    def lost(self, problem: TransportDown) -> None:
        """The connection is gone."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(problem)
        self.gone(problem)

    # -- what subclasses fill in ---------------------------------------------------------------------------------------

    def content(self, kind: int, payload: bytes) -> None:
        """A header or body frame."""

    def event(self, name: frames.Method, payload: bytes) -> None:
        """A method that nobody called for."""

    def refused(self, problem: ChannelRefused, *, told: bool) -> None:
        """The broker closed this channel. ``told``: whoever waits for an answer hears it from that."""

    def gone(self, problem: TransportDown) -> None:
        """The connection is gone."""
