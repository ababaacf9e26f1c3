"""One AMQP connection on the loop: its greeting, its heartbeats, its end, and each frame to the channel it belongs to."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol, cast

from gateway.amqp import frames
from gateway.amqp.greeting import PROTOCOL, Greeting
from gateway.errors import ConnectionLost, TransportDown

NAME = "amqp"

MOST_CHANNELS = 2047
"""What RabbitMQ allows on a connection unless told otherwise: so many sources at a time, less a few of our own."""

NO_CHANNEL_LEFT = 0
"""Our own code for that; the broker's begin at 300."""

RPC_TIMEOUT_S = 20.0


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


class Wire(asyncio.Protocol):
    """The connection's bytes. ``opened`` is done when the greeting is over, and says whether it ended well; ``lost`` is done
    when the connection is gone; ``blocked`` says why the broker takes nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, greeting: Greeting) -> None:
        self.greeting = greeting
        self.opened: asyncio.Future[bool] = loop.create_future()
        self.lost: asyncio.Future[TransportDown] = loop.create_future()
        self.blocked = ""
        self.on_flow: Callable[[], None] = lambda: None
        self.close_code = 0
        self.reason = ""
        self.heard_at = loop.time()
        self._loop = loop
        self._socket: asyncio.Transport | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._rest = b""
        self._is_full = False
        self._handlers: dict[int, FrameHandler] = {}
        self._next_number = 1
        self._unsent: list[bytes] = []

    @property
    def frame_max(self) -> int:
        """Bytes of the longest frame; 0 for no limit."""
        return self.greeting.frame_max

    # -- the transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._socket = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class
        self._socket.write(PROTOCOL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: everybody who waits for something hears of it."""
        if self._beating is not None:
            self._beating.cancel()
        where = "" if self.greeting.done else " in the middle of the greeting"
        self.reason = self.reason or (f"connection lost: {exc}" if exc else f"the broker closed the connection{where}")
        problem = ConnectionLost(NAME, self.reason)
        if not self.lost.done():
            self.lost.set_result(problem)
        if not self.opened.done():
            self.opened.set_result(False)
        handlers, self._handlers = list(self._handlers.values()), {}
        for handler in handlers:
            handler.lost(problem)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._is_full = False
        self.on_flow()

    def data_received(self, data: bytes) -> None:
        """Frames, in whatever pieces they come."""
        if self._rest:
            data = self._rest + data
        if data[0] not in frames.FRAME_KINDS:
            self.fail("no AMQP 0-9-1 is spoken there")
            return
        done = 0
        try:
            for kind, channel, start, done in frames.split(data):
                handler = self._handlers.get(channel)
                if handler is not None:
                    handler.receive(kind, data[start + 7 : done - 1])
                elif channel == 0 and kind == frames.METHOD:
                    self._control(data[start + 7 : done - 1])
        except (ValueError, IndexError, struct.error) as exc:
            self.fail(f"the broker sent no AMQP: {exc}")
            return
        self._rest = data[done:]
        self.heard_at = self._loop.time()

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
            self._send(frames.CONNECTION_CLOSE_OK)
            self._hang_up()
        elif name == frames.CONNECTION_CLOSE_OK:
            self._hang_up()
        else:
            self._greet(name, payload)

    def _greet(self, name: frames.Method, payload: bytes) -> None:
        try:
            answers = self.greeting.receive(name, payload)
        except ValueError as exc:
            self.fail(str(exc))
            return
        for answer, arguments in answers:
            self._send(answer, arguments)
        if self.greeting.done and not self.opened.done():
            self.opened.set_result(True)
            self._beat()

    def _beat(self) -> None:
        self.write(frames.HEARTBEAT_FRAME)
        self._beating = self._loop.call_later(self.greeting.heartbeat_s / 2, self._beat)

    def _send(self, name: frames.Method, arguments: bytes = b"") -> None:
        self.write(frames.method(0, name, arguments))

    def _hang_up(self) -> None:
        self.flush()
        if self._socket is not None:
            self._socket.close()

    async def end(self, within_s: float) -> None:
        """Say good-bye and wait for the answer, but not longer than that. The socket is closed in any case."""
        try:
            if self.greeting.done and not self.lost.done():
                self._send(frames.CONNECTION_CLOSE, frames.close_arguments())
                self.flush()
                await asyncio.wait([self.lost], timeout=within_s)
        finally:
            self.fail("closed")

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
        last = self.greeting.channel_max or MOST_CHANNELS
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

    def __init__(self, wire: Wire) -> None:
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
