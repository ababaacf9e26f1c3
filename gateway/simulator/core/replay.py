"""A board that says again what a real one said: answers by what is asked, events at the times of the capture."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway.serial_link.protocol.codec import W10, Command, Wire, command, encode
from gateway.serial_link.protocol.commandformat import (
    EVENTS,
    EXTENSION_REPLY_OF,
    REPLIES,
    REPLY_OF,
    CommandKind,
    DebugLevel,
    DebugPoint,
)
from gateway.serial_link.protocol.extensions import NONE, Extension, checked
from gateway.simulator.core.components import Pins
from gateway.simulator.core.our_firmware import MOST_CREDIT
from gateway.simulator.core.parser import OurParser, Parser

Recorded = tuple[float, bool, Command]
"""Time in seconds, whether it went to the board, and what."""

ROOM = 48
"""Packets that a played board says it has room for: it takes everything, and does nothing with it."""

_SAME_ARGUMENTS = frozenset({CommandKind.SUBSCRIBE_TO_PORT, CommandKind.CONFIGURE_DEBUG, CommandKind.REMOVE_NODE})


class ReplayBoard:
    """Plays ``recorded`` from the first opening on, and once. What was never asked in it gets a plain good answer, or none."""

    def __init__(self, wire: Wire, recorded: Iterable[Recorded], pins: Pins | None = None) -> None:
        self.wire = wire
        self.pins = pins or Pins()
        self.crashed = ""
        self.packets_in = 0
        self._out = bytearray()
        self._answers: dict[tuple[int, bytes], deque[Command]] = {}
        self._events: deque[tuple[float, Command]] = deque()
        self._known = NONE
        """What the recorded board knew beyond the stock protocol, where its host has asked for that."""
        self._sort(recorded)
        self._started_at: float | None = None
        self._active = NONE
        self._credit = 0
        self._played = 0
        self._now = 0.0
        self._parser = self._make_parser()

    def _make_parser(self) -> Parser | OurParser:
        """That of the firmware that was recorded."""

        def debug(level: DebugLevel, point: DebugPoint) -> None:
            """What is reported stands in the recording."""

        if not self._known:
            return Parser(self.wire, self._opened, self._execute, debug)
        return OurParser(self.wire, self._opened, self._execute, debug, self._damaged, self._checks)

    def _checks(self) -> bool:
        return Extension.CHECKSUM in self._active

    def _sort(self, recorded: Iterable[Recorded]) -> None:
        """Answers by their request, events by their time since the first of them all."""
        asked: dict[int, Command] = {}
        begin: float | None = None
        for time, to_board, unit in recorded:
            begin = time if begin is None else begin
            key = unit.request_id if self.wire.request_ids else 0
            if unit.kind == CommandKind.EXTENDED:
                self._known = Extension(unit["known"])
            if to_board:
                asked[key] = unit
            elif unit.kind in EVENTS:
                self._events.append((time - begin, unit))
            elif key in asked:
                request = asked.pop(key)
                self._answers.setdefault((request.kind, request.args), deque()).append(unit)

    # -- like a board ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the host."""
        self._now = now
        for byte in data:
            self._parser.feed(byte)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Say what is due."""
        while (due := self.deadline) is not None and due <= now:
            self._tell(self._events.popleft()[1])
            self._played += 1

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        if self._started_at is None or not self._events:
            return None
        return self._started_at + self._events[0][0]

    def data_to_send(self) -> bytes:
        """Bytes for the host, once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def statistics(self) -> dict[str, int]:
        """How much of the capture was played."""
        return {"played": self._played, "left": len(self._events)}

    def set_input(self, pin: int, value: int) -> None:
        """Nobody can change what was recorded."""

    # -- answers -----------------------------------------------------------------------------------------------

    def _say(self, unit: Command) -> None:
        data = encode(self.wire, unit)
        self._out += checked(data) if self._checks() else data

    def _tell(self, unit: Command) -> None:
        """An event of the recording, as this host has agreed on."""
        if unit.kind == CommandKind.DEBUG_MESSAGE and unit["point"] == DebugPoint.PROGRAM_START:
            self._agree(NONE)
        if unit.kind == CommandKind.PACKET_SENT:
            self._credit = max(0, self._credit - 1)
        self._say(unit if Extension.SEQUENCE in self._active else _without_number(unit))

    def _agree(self, active: Extension) -> None:
        self._active, self._credit = active, 0

    def _damaged(self) -> None:
        self._say(command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.ERROR, point=DebugPoint.BAD_CHECKSUM))

    def _opened(self, request_id: int) -> None:
        self._agree(NONE)
        self._say(command(CommandKind.COMMUNICATION_OPEN, request_id))
        if self._started_at is None:
            self._started_at = self._now

    def _execute(self, unit: Command) -> None:
        self.packets_in += unit.kind == CommandKind.SEND_PACKET
        answers = self._answers.get((unit.kind, unit.args))
        if unit.kind == CommandKind.PING:
            self._say(Command(unit.request_id, CommandKind.PONG, unit.args if self.wire.echoes_ping else b""))
        elif unit.kind == CommandKind.EXTEND and self._known:
            active = Extension(unit["wanted"]) & self._known
            self._say(command(CommandKind.EXTENDED, unit.request_id, active=int(active), known=int(self._known)))
            self._agree(active)
        elif unit.kind == CommandKind.GRANT and self._known:
            self._credit = min(MOST_CREDIT, self._credit + (unit["count_low"] | unit["count_high"] << 8))
            told = self._credit.to_bytes(2, "little") + bytes((ROOM,))
            self._say(Command(unit.request_id, CommandKind.GRANTED, told))
        elif answers:
            found = answers[0] if len(answers) == 1 else answers.popleft()
            self._say(Command(unit.request_id, found.kind, self._with_room(found)))
        elif unit.kind == CommandKind.COUNTERS and self._known:
            self._say(command(CommandKind.COUNTED, unit.request_id))
        elif unit.kind in _SAME_ARGUMENTS or (unit.kind in REPLY_OF and not any(unit.args)):
            self._say(Command(unit.request_id, REPLIES[CommandKind(unit.kind)], unit.args))
        elif unit.kind in EXTENSION_REPLY_OF and self.wire.request_ids:  # a description that was not read to its end
            unknown = DebugPoint.PARSER_UNKNOWN_COMMAND
            self._say(command(CommandKind.ERROR, unit.request_id, code=unknown))
        if unit.kind == CommandKind.END:
            self._parser.close()

    def _with_room(self, found: Command) -> bytes:
        """The answer to a packet tells what room there is for more, where that was agreed on."""
        if found.kind != CommandKind.SEND_PACKET_DONE or not self.wire.request_ids:
            return found.args
        return found.args[:3] + bytes((ROOM if Extension.CREDIT in self._active else 0,)) + found.args[4:]


def _without_number(unit: Command) -> Command:
    """A packet of a board that was not asked to number them: 10-byte wires only, whose third argument has the number."""
    if unit.kind != CommandKind.PACKET_SENT or unit.args[2] <= 1 or len(unit.args) < W10.argument_size:
        return unit
    return Command(unit.request_id, unit.kind, unit.args[:2] + bytes((unit.args[2] & 1,)) + unit.args[3:])
