"""The gateway itself stands still for a while: what a board answered meanwhile is read before it is missed."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.probe import Probe
from gateway.serial_link.ports.tty import OnBytes, OnLost, Port, PortOptions, TtyPort, open_serial
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire, command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import LinkOptions
from gateway.serial_link.protocol.wire_detector import DetectedWire, WireDetector
from tests.support.boards import simulated

WAIT_S = 60.0
STALL_S = 0.8
"""Longer than any deadline of a request or of a command's second half."""

LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
"""The two differ in what they do first after a stall: timers, or what can be read."""


class StallingPort:
    """A port after whose writes of one kind of command the whole process stands still, once."""

    resets = False
    has_speed = False

    def __init__(self, port: Port, wire: Wire) -> None:
        assert isinstance(port, TtyPort)
        self._port = port
        self._at = 1 if wire.request_ids else 0
        self.stall_after: CommandKind | None = None
        self._answered = False
        self._nudge, self._nudged = socket.socketpair()
        asyncio.get_running_loop().add_reader(self._nudged, self._stall)

    def _stall(self) -> None:
        """Among the callbacks of what can be read: some loops look at their timers first after that."""
        self._nudged.recv(1)
        time.sleep(STALL_S)
        if not self._answered:
            select.select([self._port._fd], [], [], WAIT_S)  # the board may have stood still even longer

    def listen(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        def heard(data: bytes) -> None:
            self._answered = True
            on_bytes(data)

        self._port.listen(heard, on_lost)

    def write(self, data: bytes) -> None:
        self._port.write(data)
        if self.stall_after is not None and data[self._at] == self.stall_after:
            self.stall_after = None
            self._answered = False
            self._nudge.send(b"!")

    def set_baud(self, baud: int) -> None:
        self._port.set_baud(baud)

    async def reset(self) -> None:
        await self._port.reset()

    def close(self) -> None:
        self._port.close()
        asyncio.get_running_loop().remove_reader(self._nudged)
        self._nudge.close()
        self._nudged.close()


@contextmanager
def board_elsewhere(link: Path, wire: Wire) -> Iterator[None]:
    """A board that goes on while our own loop stands still."""
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with simulated(link, wire=wire):
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield
    finally:
        stop.set()
        thread.join()


@LOOPS
def test_an_answer_that_came_while_we_stood_still_is_no_silence(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def talk() -> None:
        port = StallingPort(await open_serial(str(tmp_path / "tty"), PortOptions()), W10)
        link = Link(W10, LinkOptions(open_tries=int(WAIT_S / LinkOptions().open_step_s)))
        conversation = LinkDriver(port, link, "board")
        try:
            await conversation.open()
            for kind in (CommandKind.PING, CommandKind.CLEAR_NODES):
                port.stall_after = kind
                await conversation.ask(command(kind))
        finally:
            conversation.close()
        assert (link.counters.timeouts, link.counters.desyncs, link.counters.opens) == (0, 0, 1)

    with board_elsewhere(tmp_path / "tty", W10), asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(talk())


@LOOPS
def test_a_board_is_not_taken_for_an_older_one_because_we_stood_still(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def look() -> None:
        port = StallingPort(await open_serial(str(tmp_path / "tty"), PortOptions()), W8_06)
        port.stall_after = CommandKind.GET_NETWORK_STATUS
        try:
            verdict = await Probe(port, WireDetector((115200,), (W8_06, W8_04)), "board").run()
        finally:
            port.close()
        assert isinstance(verdict, DetectedWire)
        assert verdict.wire is W8_06

    with board_elsewhere(tmp_path / "tty", W8_06), asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(look())
