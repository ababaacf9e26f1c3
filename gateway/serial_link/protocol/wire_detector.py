"""Which wire generation and speed a board speaks, found out by what answers (reference: microflo-protocol, section 1).

At each speed the openings of both shapes are walked through every phase, because a board's parser may still be open from
the host before: it would take the other generation's opening for shifted commands (no window of either spells one). The
8-byte generations share their opening; the command that only one of them knows tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire, command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import (
    GaveUp,
    LinkOptions,
    LinkRequestFailed,
    Opened,
    Replied,
    options_for,
)

USUAL_BAUDS = (115200, 9600)
THOROUGH_BAUDS = (115200, 9600, 57600, 38400, 19200)

MOST_S = 14.0
"""How long it may take, so that pairing ends within 15 s."""

ROUNDS = 3
"""Every speed and shape is tried so often, if time allows: a board may still be in its boot loader at first."""

HEARD_KEPT = 64


@dataclass(frozen=True, slots=True)
class SwitchBaud:
    """The port must be at this speed before anything more is written."""

    baud: int


@dataclass(frozen=True, slots=True)
class DetectedWire:
    """A board answered. It is open; a new ``Link`` of this generation may be started on the line."""

    wire: Wire
    baud: int


@dataclass(frozen=True, slots=True)
class NothingFound:
    """Nobody answered. ``heard_bytes`` came nevertheless, in all; ``heard`` is how they began, by speed."""

    heard_bytes: int
    heard: dict[int, bytes]


DetectorEvent: TypeAlias = SwitchBaud | DetectedWire | NothingFound


class WireDetector:
    """Bytes and time in, bytes and a verdict out. ``wires`` limits the search: one that is configured is not guessed.

    It ends after ``most_s``; after ``silent_s``, if given, where nothing at all was heard.
    """

    def __init__(
        self,
        bauds: Sequence[int] = USUAL_BAUDS,
        wires: Sequence[Wire] = (W10, W8_06, W8_04),
        *,
        most_s: float = MOST_S,
        silent_s: float | None = None,
    ) -> None:
        self._bauds = tuple(bauds)
        self._wires = tuple(wires)
        self._most_s = most_s
        self._silent_s = most_s if silent_s is None else silent_s
        self._plan = self._attempts()
        self._link: Link | None = None
        self._baud = 0
        self._began = 0.0
        self._round = 0
        self._events: list[DetectorEvent] = []
        self._out = bytearray()
        self._heard: dict[int, bytes] = {}
        self.heard_bytes = 0

    def _attempts(self) -> Iterator[tuple[int, int, Wire]]:
        shapes = [wire for wire in (W10, W8_06) if any(wire.magic == wanted.magic for wanted in self._wires)]
        for number in range(ROUNDS):
            for baud in self._bauds:
                for shape in shapes:
                    yield number, baud, shape

    def start(self, now: float) -> None:
        """Begin. The port's speed is set by the first event."""
        self._began = now
        self._next_attempt(now)

    def _is_late(self, now: float) -> bool:
        """Who says anything has more time than who is silent: on a busy machine a board may stand still at first.

        And so may we: everything is tried once before a port counts as silent.
        """
        is_silent = not self.heard_bytes and self._round > 0
        return now >= self._began + (self._silent_s if is_silent else self._most_s)

    def _next_attempt(self, now: float) -> None:
        self._gather()
        attempt = next(self._plan, None)
        if attempt is None or self._is_late(now):
            self._link = None
            self._events.append(NothingFound(self.heard_bytes, dict(self._heard)))
            return
        self._round, baud, wire = attempt
        if baud != self._baud:
            self._baud = baud
            self._events.append(SwitchBaud(baud))
        timing = options_for(wire, baud)
        # A closed parser loses two openings to its own error state, an open one needs as many as a command has bytes.
        tries = wire.size + 2
        self._link = Link(wire, LinkOptions(timing.request_timeout_s, open_step_s=timing.open_step_s, open_tries=tries))
        self._link.start(now)

    # -- bytes and time ----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the port."""
        self.heard_bytes += len(data)
        kept = self._heard.get(self._baud, b"")
        self._heard[self._baud] = (kept + data)[:HEARD_KEPT]
        if self._link is not None:
            self._link.receive(data, now)
            self._judge(now)

    def tick(self, now: float) -> None:
        """Time has come to ``deadline``."""
        if self._link is not None:
            self._link.tick(now)
            self._judge(now)

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None: the verdict is there."""
        return self._link.deadline if self._link is not None else None

    def data_to_send(self) -> bytes:
        """Bytes for the port, once; take them after ``events``, because they are meant for the speed named there."""
        self._gather()
        data = bytes(self._out)
        self._out.clear()
        return data

    def events(self) -> list[DetectorEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _gather(self) -> None:
        if self._link is not None:
            self._out += self._link.data_to_send()

    # -- what answers mean -------------------------------------------------------------------------------------

    def _judge(self, now: float) -> None:
        assert self._link is not None
        link = self._link
        for event in link.events():
            match event:
                case Opened() if link.wire is W10:
                    self._found(W10)
                case Opened() if W8_06 not in self._wires or W8_04 not in self._wires:
                    self._found(W8_06 if W8_06 in self._wires else W8_04)
                case Opened():
                    link.request(command(CommandKind.GET_NETWORK_STATUS), now)
                case Replied():
                    self._found(W8_06)
                case LinkRequestFailed(code=code) if code is not None or link.counters.timeouts:
                    self._found(W8_04)  # it says that it doesn't know, or has no words for that: built without debug
                case GaveUp():
                    self._next_attempt(now)
            if self._link is not link:
                return
        if self._is_late(now):
            self._plan = iter(())
            self._next_attempt(now)

    def _found(self, wire: Wire) -> None:
        self._gather()
        self._link = None
        self._events.append(DetectedWire(wire, self._baud))
