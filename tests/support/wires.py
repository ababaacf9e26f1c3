"""Wires between a link and a board, on a clock of their own: whole, a byte at a time, slow, lossy, flipping, duplicating.

A wire takes bytes and gives them back when they are due. ``Bench`` puts a host's ``Link`` and a simulated ``Board`` at the
ends of two of them and lets time pass as fast as the machine can.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import LinkEvent
from gateway.simulator.core.board import Board


@dataclass
class WireFaults:
    """How bad a wire is. Rates are per byte, times in seconds."""

    drop: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    piecewise: bool = False
    """Bytes arrive one by one, each in a read of its own."""


WHOLE = WireFaults()
BYTE_AT_A_TIME = WireFaults(piecewise=True)


class Wire:
    """One direction. ``damaged`` lists when bytes were harmed."""

    def __init__(self, faults: WireFaults, seed: int, baud: int) -> None:
        self._faults = faults
        self._random = random.Random(seed)
        self._byte_s = 10 / baud
        self._free_at = 0.0
        self._arriving: deque[tuple[float, bytes]] = deque()
        self.damaged: list[float] = []
        self.healthy = False
        self.strikes: dict[int, int] = {}
        """Bits to turn over in bytes still to come, by their count from now on."""

    def put(self, data: bytes, now: float) -> None:
        """Bytes go in at one end."""
        if not data:
            return
        if self.strikes:
            data = self._struck(data)
        kept = data if self.healthy else self._harmed(data, now)
        start = max(now, self._free_at)
        jitter = self._random.uniform(0, self._faults.jitter_s)
        lag = self._faults.delay_s + jitter
        if self._faults.piecewise:
            for index, byte in enumerate(kept, 1):
                self._arriving.append((start + lag + index * self._byte_s, bytes((byte,))))
        elif kept:
            self._arriving.append((start + lag + len(kept) * self._byte_s, kept))
        self._free_at = start + jitter + len(data) * self._byte_s  # bytes never overtake each other

    def _struck(self, data: bytes) -> bytes:
        struck = bytes(byte ^ self.strikes.get(index, 0) for index, byte in enumerate(data))
        self.strikes = {index - len(data): mask for index, mask in self.strikes.items() if index >= len(data)}
        return struck

    def _harmed(self, data: bytes, now: float) -> bytes:
        kept = bytearray()
        for byte in data:
            luck = self._random.random()
            if luck < self._faults.drop:
                self.damaged.append(now)
                continue
            kept.append(byte)
            luck -= self._faults.drop
            if luck < self._faults.flip:
                kept[-1] ^= 1 << self._random.randrange(8)
                self.damaged.append(now)
            elif luck - self._faults.flip < self._faults.duplicate:
                kept.append(byte)
                self.damaged.append(now)
        return bytes(kept)

    @property
    def due(self) -> float | None:
        """When the next bytes come out."""
        return self._arriving[0][0] if self._arriving else None

    def take(self, now: float) -> list[bytes]:
        """What comes out by now, read by read."""
        out = []
        while self._arriving and self._arriving[0][0] <= now + 1e-9:
            out.append(self._arriving.popleft()[1])
        return out


@dataclass
class Bench:
    """A link and a board with a wire each way. ``make`` gives a board as it is after reset; a crashed one is replaced."""

    link: Link
    make: Callable[[], Board]
    faults: WireFaults = field(default_factory=WireFaults)
    seed: int = 1
    baud: int = 115200
    on_event: Callable[[LinkEvent, float], None] = lambda event, now: None

    def __post_init__(self) -> None:
        self.now = 0.0
        self.board = self.make()
        self.crashes = 0
        self.to_board = Wire(self.faults, self.seed, self.baud)
        self.to_host = Wire(self.faults, self.seed + 7919, self.baud)

    def run_until(self, end: float) -> None:
        """Let time pass, as far as there is something to do, up to ``end``."""
        self._settle()
        turns = 0
        while True:
            due = [self.link.deadline, self.board.deadline, self.to_board.due, self.to_host.due]
            times = [max(time, self.now) for time in due if time is not None]
            if not times or min(times) > end:
                self.now = end
                return
            turns = turns + 1 if min(times) == self.now else 0
            assert turns < 10_000, "time stands still"
            self.now = min(times)
            self._turn()

    def _turn(self) -> None:
        for data in self.to_board.take(self.now):
            self.board.receive(data, self.now)
        self.board.tick(self.now)
        for data in self.to_host.take(self.now):
            self.link.receive(data, self.now)
        self.link.tick(self.now)
        self._settle()

    def _settle(self) -> None:
        if self.board.crashed:
            self.crashes += 1
            self.board = self.make()
        for event in self.link.events():
            self.on_event(event, self.now)
        self.to_board.put(self.link.data_to_send(), self.now)
        self.to_host.put(self.board.data_to_send(), self.now)

    @property
    def damaged(self) -> list[float]:
        """When bytes were harmed, in either direction."""
        return sorted(self.to_board.damaged + self.to_host.damaged)
