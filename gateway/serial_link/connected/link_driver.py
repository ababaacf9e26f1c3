"""A link on a port: feeds the core with bytes and time, carries out what it wants sent, hands its answers to who asked.

No task of its own: everything happens in the loop's callbacks, so that a reading costs one wake-up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.errors import BoardRefused, ConnectFailed, ConnectionLost, GatewayError, GraphError, RequestTimeout
from gateway.serial_link.connected.deadline_timer import DeadlineTimer
from gateway.serial_link.ports.tty import Port
from gateway.serial_link.protocol.codec import Command
from gateway.serial_link.protocol.commandformat import CommandKind, DebugLevel, DebugPoint, point_text
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import (
    DebugReported,
    Desynced,
    GaveUp,
    LinkEvent,
    LinkRequestFailed,
    Opened,
    PacketSent,
    Replied,
    RequestToken,
)

log = logging.getLogger(__name__)

HEARD_KEPT = 32
"""Bytes of what a port says before it is known to be a board, kept to tell what is on it."""

OnAnswer: TypeAlias = Callable[[Replied | LinkRequestFailed], None]
OnPackets: TypeAlias = Callable[[Sequence[PacketSent]], None]


class LinkDriver:
    """One open port with its link. ``name`` begins the lines of errors, as ``device attic``.

    ``on_packets`` gets what subscribed ports send, as much of it at once as came in one piece; ``on_desync`` the reason when
    alignment is lost (the link opens again by itself), ``on_lost`` the reason when the line is gone or the board stays silent.
    """

    def __init__(
        self,
        port: Port,
        link: Link,
        name: str,
        *,
        on_packets: OnPackets = lambda events: None,
        on_desync: Callable[[str], None] = lambda reason: None,
        on_lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.link = link
        self.heard = bytearray()
        self.heard_bytes = 0
        self._port = port
        self._name = name
        self._on_packets, self._on_desync, self._on_lost = on_packets, on_desync, on_lost
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[int] = self._loop.create_future()
        self._waiting: dict[RequestToken, OnAnswer] = {}
        self._alarm = DeadlineTimer(lambda: None if self._gone else self.link.deadline, self._tick)
        self._gone = ""
        port.listen(self._bytes, self.lose)

    @property
    def is_over(self) -> bool:
        """Whether the line is gone, or was closed."""
        return bool(self._gone)

    # -- what others do --------------------------------------------------------------------------------------------

    async def open(self) -> int:
        """Open the link; returns the number of tries. ``ConnectFailed`` if nothing answers, ``ConnectionLost``."""
        self._renew()
        self.link.start(time.monotonic())
        self._carry_on()
        return await self.opened()

    async def opened(self) -> int:
        """Wait until the link is open (again)."""
        return await asyncio.shield(self._opened)

    def use(self, link: Link) -> None:
        """Speak by another link from now on: the same line at another wire generation."""
        self.link = link

    async def ask(self, unit: Command) -> Command:
        """One request and its answer. ``RequestTimeout``, ``BoardRefused``, ``ConnectionLost``; ``GraphError`` when the
        host's own model did not let it pass, so that the board never saw it.
        """
        answer: asyncio.Future[Command] = self._loop.create_future()

        def answered(event: Replied | LinkRequestFailed) -> None:
            if answer.done():
                return
            if isinstance(event, Replied):
                answer.set_result(event.command)
            else:
                answer.set_exception(self._failure(unit, event))

        self.request(unit, answered)
        return await answer

    def request(self, unit: Command, on_answer: OnAnswer) -> None:
        """The same without waiting. ``ConnectionLost`` when the line is gone or opens again just now."""
        if self._gone or not self.link.is_open:
            raise ConnectionLost(self._name, self._gone or "the link opens again")
        token = self.link.request(unit, time.monotonic())
        self._waiting[token] = on_answer
        self._carry_on()

    def lose(self, reason: str) -> None:
        """The line is gone: everybody who waits is told, and ``on_lost`` too."""
        if self._gone:
            return
        self.close(reason)
        self._on_lost(reason)

    def close(self, reason: str = "closed") -> None:
        """Close the port; whoever waits for an answer is told. Doing it twice is harmless."""
        self._gone = self._gone or reason
        self._alarm.cancel()
        self._port.close()
        waiting, self._waiting = self._waiting, {}
        for token, on_answer in waiting.items():
            on_answer(LinkRequestFailed(token, self._gone))
        self._fail_opening(ConnectionLost(self._name, self._gone))

    # -- the core's turn -------------------------------------------------------------------------------------------

    def _bytes(self, data: bytes) -> None:
        self._alarm.heard = True
        if not self.link.is_open:
            self.heard_bytes += len(data)
            self.heard += data[: HEARD_KEPT - len(self.heard)] if len(self.heard) < HEARD_KEPT else b""
        self.link.receive(data, time.monotonic())
        self._carry_on()

    def _carry_on(self) -> None:
        """Deliver what happened, send what is to be sent, sleep until the next deadline."""
        while events := self.link.events():
            packets: list[PacketSent] = []
            for event in events:
                if type(event) is PacketSent:
                    packets.append(event)
                    continue
                if packets:
                    self._on_packets(packets)
                    packets = []
                self._deliver(event)
            if packets:
                self._on_packets(packets)
        data = self.link.data_to_send()
        if data:
            self._port.write(data)
        self._alarm.set()

    def _tick(self) -> None:
        self.link.tick(time.monotonic())
        self._carry_on()

    def _deliver(self, event: LinkEvent) -> None:
        match event:
            case Replied() | LinkRequestFailed():
                on_answer = self._waiting.pop(event.token, None)
                if on_answer is not None:
                    on_answer(event)
            case Opened():
                if not self._opened.done():
                    self._opened.set_result(event.tries)
            case Desynced():
                self._renew()
                self._on_desync(event.reason)
            case GaveUp():
                self._gave_up(event.reason)
            case DebugReported():
                level = logging.INFO if event.level <= DebugLevel.ERROR else logging.DEBUG
                log.log(level, "%s: the board reports: %s", self._name, point_text(event.point))

    def _gave_up(self, reason: str) -> None:
        """At the first opening that is for the caller to judge; later the line is lost."""
        if self.link.counters.opens:
            self.lose(f"silent: {reason}")
        else:
            self._fail_opening(ConnectFailed(self._name, reason))

    def _renew(self) -> None:
        if self._opened.done():
            if not self._opened.cancelled():
                self._opened.exception()  # looked at: nobody may have waited for it
            self._opened = self._loop.create_future()

    def _fail_opening(self, problem: ConnectFailed | ConnectionLost) -> None:
        if not self._opened.done():
            self._opened.set_exception(problem)
            self._opened.exception()

    def _failure(self, unit: Command, event: LinkRequestFailed) -> GatewayError:
        kind = CommandKind(unit.kind).name.lower().replace("_", " ")
        if event.here is not None:
            return event.here if isinstance(event.here, GraphError) else GraphError(self._name, f"{kind}: {event.here}")
        if self._gone:
            return ConnectionLost(self._name, self._gone)
        if (
            event.code is not None and event.code != DebugPoint.BAD_CHECKSUM
        ):  # which is the line's refusal, not the board's
            return BoardRefused(self._name, kind, event.code, event.reason)
        return RequestTimeout(self._name, kind, event.reason)
