"""Requests of a link: who waits, who flies, and which answer belongs to whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.serial_link.protocol.codec import EVENT_ID, Command, Wire, encode
from gateway.serial_link.protocol.commandformat import FROM_BOARD, CommandKind
from gateway.serial_link.protocol.extensions import checked
from gateway.serial_link.protocol.link_events import LinkEvent, LinkOptions, RequestToken
from gateway.serial_link.protocol.replies import fits

FIRST_REQUEST_ID, LAST_REQUEST_ID = 128, 199
"""None is a command (10..25), a reply (19, 100..118) or the id of an open (from 200)."""

REMEMBERED_IDS = 16
"""Ids of requests that lately timed out: a late answer to one is dropped, not taken for garbage."""

_PIPELINED = frozenset({CommandKind.SEND_PACKET, CommandKind.PING, CommandKind.GRANT})

HasRoom: TypeAlias = Callable[[int], bool]
"""Whether the board has room for one more packet behind so many requests in flight."""


@dataclass(slots=True)
class Pending:
    """A request that waits or flies. Without a token it is a ping of the link's own.

    ``fenced`` is a command that has no reply of its own: ``unit`` is the ping behind it, ``outcome`` what came before.
    """

    token: RequestToken | None
    unit: Command
    fenced: Command | None = None
    outcome: LinkEvent | None = None
    refused: int | None = None

    @property
    def asked(self) -> Command:
        """What the caller wanted."""
        return self.fenced or self.unit

    @property
    def name(self) -> str:
        """The same in plain words."""
        return CommandKind(self.asked.kind).name.lower().replace("_", " ")


class RequestQueue:
    """The queue and what is in flight. On the 8-byte wires one flies, and is known by what its answer repeats."""

    def __init__(self, wire: Wire, options: LinkOptions) -> None:
        self._wire = wire
        self._timeout_s = options.request_timeout_s
        self._plain_window = options.window if wire.request_ids else 1
        self.window: int | None = None
        """Requests in flight as the board's credit allows; None: as the options say."""
        self.checked = False
        """Every command has its checksum behind it."""
        self.queue: deque[Pending] = deque()
        self.flying: deque[Pending] = deque()
        self.deadline = 0.0
        """When the oldest in flight has failed: from the moment that it became the oldest."""
        self._late: deque[int] = deque(maxlen=REMEMBERED_IDS)
        self._late_pongs = 0
        self._next_id = FIRST_REQUEST_ID
        self._ping_number = 0

    @property
    def head(self) -> Pending | None:
        """The oldest in flight."""
        return self.flying[0] if self.flying else None

    def ping(self) -> Command:
        """A ping that no other resembles."""
        self._ping_number = (self._ping_number + 1) % 2**32
        args = self._ping_number.to_bytes(4, "little").ljust(self._wire.argument_size, b"\xa5")
        return Command(EVENT_ID, CommandKind.PING, args)

    def next(self, has_room: HasRoom) -> Pending | None:
        """Who may fly now. Packets fly together; everything else changes what may be sent next, and flies alone."""
        if not self.queue or self.waits_for_room(has_room):
            return None
        first = self.queue[0]
        if self.flying:
            together = first.unit.kind in _PIPELINED and self.flying[-1].unit.kind in _PIPELINED
            window = self._plain_window if self.window is None else self.window
            if len(self.flying) >= window or not together or first.fenced is not None:
                return None
        return self.queue.popleft()

    def waits_for_room(self, has_room: HasRoom) -> bool:
        """Whether a packet is next for which the board has no room."""
        return (
            bool(self.queue) and self.queue[0].unit.kind == CommandKind.SEND_PACKET and not has_room(len(self.flying))
        )

    def launch(self, pending: Pending, now: float) -> bytes:
        """The bytes of a request that flies from now on."""
        data = b""
        if pending.fenced is not None:
            pending.fenced = self._with_id(pending.fenced)
            data = self._bytes(pending.fenced)
        pending.unit = self._with_id(pending.unit)
        if not self.flying:
            self.deadline = now + self._timeout_s
        self.flying.append(pending)
        return data + self._bytes(pending.unit)

    def _bytes(self, unit: Command) -> bytes:
        data = encode(self._wire, unit)
        return checked(data) if self.checked else data

    def _with_id(self, unit: Command) -> Command:
        request_id, self._next_id = self._next_id, self._next_id + 1
        if self._next_id > LAST_REQUEST_ID:
            self._next_id = FIRST_REQUEST_ID
        return Command(request_id, unit.kind, unit.args)

    def answers_head(self, unit: Command) -> bool:
        """Whether this can be the answer to the oldest in flight."""
        head = self.head
        if head is None:
            return False
        return self._fits(head.unit, unit) or (head.fenced is not None and self._fits(head.fenced, unit))

    def land_before(self, unit: Command, now: float) -> list[Pending]:
        """Those in flight whose answers must have been lost on the way, because this one is to a later request.

        Only of use where checksums tell that it is whole, and that it was the answers that were damaged.
        """
        for place, pending in enumerate(self.flying):
            if place and self._fits(pending.unit, unit):
                return [self.landed(now) for _ in range(place)]
        return []

    def _fits(self, request: Command, unit: Command) -> bool:
        if self._wire.request_ids and unit.request_id != request.request_id:
            return False
        return fits(self._wire, request, unit.kind, unit.args)

    def landed(self, now: float) -> Pending:
        """The oldest in flight has its answer, or has failed."""
        pending = self.flying.popleft()
        self.deadline = now + self._timeout_s
        return pending

    def late(self, request_id: int) -> None:
        """An answer to this id may still come, and means nothing."""
        self._late.append(request_id)

    def give_up(self) -> list[Pending]:
        """Nothing waits or flies any more; who did."""
        failed = [*self.flying, *self.queue]
        for pending in self.flying:
            self.late(pending.unit.request_id)
            self._late_pongs += pending.unit.kind == CommandKind.PING
        self.flying.clear()
        self.queue.clear()
        return failed

    def is_late(self, unit: Command, *, repeated: bool, opening: bool) -> bool:
        """Whether this is an answer whose time has gone: to a request given up, or to an open that was ``repeated``."""
        if unit.kind not in FROM_BOARD:
            return False
        if self._wire.request_ids:
            of_head = self.head is not None and unit.request_id == self.head.unit.request_id
            return not of_head and (opening or unit.request_id in self._late)
        if unit.kind == CommandKind.PONG and self._late_pongs:
            self._late_pongs -= 1
            return True
        # Requests are never answered late here: after a time-out the link opens anew.
        return unit.kind == CommandKind.COMMUNICATION_OPEN and not any(unit.args) and repeated
