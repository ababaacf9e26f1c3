"""Finding out on a real port what speaks there: the shell around ``WireDetector``."""

from __future__ import annotations

import asyncio
import time

from gateway.errors import ConnectionLost
from gateway.serial_link.connected.deadline_timer import DeadlineTimer
from gateway.serial_link.ports.tty import Port
from gateway.serial_link.protocol.wire_detector import DetectedWire, NothingFound, SwitchBaud, WireDetector

Verdict = DetectedWire | NothingFound


class Probe:
    """One search on one port, by the loop's callbacks."""

    def __init__(self, port: Port, detector: WireDetector, name: str) -> None:
        self._port = port
        self._detector = detector
        self._name = name
        self._verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._alarm = DeadlineTimer(lambda: None if self._verdict.done() else self._detector.deadline, self._tick)

    async def run(self) -> Verdict:
        """What was found. ``ConnectionLost`` if the port goes meanwhile."""
        self._port.listen(self._bytes, self._lost)
        self._detector.start(time.monotonic())
        self._carry_on()
        try:
            return await self._verdict
        finally:
            self._alarm.cancel()

    def _bytes(self, data: bytes) -> None:
        self._alarm.heard = True
        if not self._verdict.done():
            self._detector.receive(data, time.monotonic())
            self._carry_on()

    def _tick(self) -> None:
        self._detector.tick(time.monotonic())
        self._carry_on()

    def _lost(self, reason: str) -> None:
        if not self._verdict.done():
            self._verdict.set_exception(ConnectionLost(self._name, reason))

    def _carry_on(self) -> None:
        for event in self._detector.events():
            if isinstance(event, SwitchBaud):
                self._port.set_baud(event.baud)
            elif not self._verdict.done():
                self._verdict.set_result(event)
        if data := self._detector.data_to_send():
            self._port.write(data)
        self._alarm.set()
