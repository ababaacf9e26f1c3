"""Requests and answers of an open link: what may be sent now, what an answer means, and what both sides have agreed on.

Nothing here knows of bytes on the way in, or of how a link opens; ``Link`` does.
"""

from __future__ import annotations

from gateway.errors import BoardFull, GraphError, LocalProtocolError
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.codec import Command, Wire
from gateway.serial_link.protocol.commandformat import EXTENSION_REPLY_OF, REPLIES, CommandKind, DebugPoint, point_text
from gateway.serial_link.protocol.credit import LOOK_AGAIN_S, Credit, CreditLimits
from gateway.serial_link.protocol.extensions import NONE, Extension, extend
from gateway.serial_link.protocol.link_events import (
    LinkCounters,
    LinkEvent,
    LinkOptions,
    LinkRequestFailed,
    Replied,
    RequestToken,
)
from gateway.serial_link.protocol.replies import FALSE_SUCCESS, REFUSALS
from gateway.serial_link.protocol.request_queue import Pending, RequestQueue

SHIFTED = frozenset({DebugPoint.PARSER_UNKNOWN_COMMAND, DebugPoint.PARSER_INVALID_COMMAND})

_OF_EXTENSION = frozenset(EXTENSION_REPLY_OF.values())
_MAY_BE_UNKNOWN = frozenset({CommandKind.GET_NETWORK_STATUS, CommandKind.SET_IO_VALUE})
_LEAVES_GRAPH = frozenset(
    {CommandKind.SEND_PACKET, CommandKind.PING, CommandKind.GET_NETWORK_STATUS, *EXTENSION_REPLY_OF}
)


class Exchange:
    """One for a link. ``out`` are the bytes for the board, ``events`` what the caller is to be told."""

    def __init__(self, wire: Wire, options: LinkOptions, model: BoardModel | None, counters: LinkCounters) -> None:
        self.requests = RequestQueue(wire, options)
        self.out = bytearray()
        self.events: list[LinkEvent] = []
        self.is_open = False
        self.active = NONE
        """Extensions that are on."""
        self.numbered = False
        """The same of SEQUENCE, for speed: it is asked for with every packet."""
        self.credit: Credit | None = None
        self.limits: CreditLimits | None = None
        """Of the board, for flow control where it is turned on; None leaves granting to the caller."""
        self.last_answer = 0.0
        self._wire = wire
        self._options = options
        self._model = model
        self._counters = counters
        self._is_ours = False
        """The board has answered a request of our own extension."""
        self._held_at: float | None = None
        """Since when a packet waits for room on the board."""
        self._look_at = 0.0
        self._next_token = 0

    # -- from the caller -------------------------------------------------------------------------------------------

    def ask(self, unit: Command, now: float) -> RequestToken:
        """Queue a request. ``LocalProtocolError`` where that is no request for this board, or too many wait."""
        self._check(unit)
        self._next_token += 1
        token = RequestToken(self._next_token)
        if unit.kind == CommandKind.SET_IO_VALUE or (unit.kind in EXTENSION_REPLY_OF and not self._is_ours):
            self.requests.queue.append(Pending(token, self.requests.ping(), fenced=unit))
        else:
            self.requests.queue.append(Pending(token, unit))
        self.send_next(now)
        return token

    def _check(self, unit: Command) -> None:
        if not self.is_open:
            raise LocalProtocolError("a request before the link is open")
        if unit.kind not in REPLIES and unit.kind != CommandKind.SET_IO_VALUE:
            raise LocalProtocolError(f"command {unit.kind} is no request")
        if unit.kind == CommandKind.GET_NETWORK_STATUS and not self._wire.has_status:
            raise LocalProtocolError(f"{self._wire.name} boards can't tell whether their network runs")
        if unit.kind == CommandKind.EXTEND and not self._is_ours and unit["wanted"] & Extension.CHECKSUM:
            raise LocalProtocolError("checksums for a board that has not described itself")  # the ping behind has none
        if len(self.requests.queue) >= self._options.queue_limit:
            raise LocalProtocolError(f"more than {self._options.queue_limit} requests wait")

    def opening(self) -> None:
        """The link opens (again): the board turns every extension off with it."""
        self.is_open = self._is_ours = False
        self._held_at = None
        self._agree(NONE)

    def opened(self, now: float) -> None:
        """Requests may be made."""
        self.is_open = True
        self.last_answer = now

    # -- to the board ----------------------------------------------------------------------------------------------

    def send_next(self, now: float) -> None:
        """Send what may be sent."""
        if self.credit is not None and self.is_open and self.credit.due():
            self.requests.queue.appendleft(Pending(None, self.credit.grant()))
        while self.is_open and (pending := self.requests.next(self._has_room)) is not None:
            self._held_at = None
            try:
                if self._model is not None:
                    self._model.check(pending.asked)
            except (GraphError, LocalProtocolError) as exc:
                self._refuse_here(pending, exc)
                continue
            self.transmit(pending, now)
        if self.requests.waits_for_room(self._has_room) and self._held_at is None:
            self._held_at, self._look_at = now, now + LOOK_AGAIN_S

    def transmit(self, pending: Pending, now: float) -> None:
        """Send this one, whatever waits."""
        self.out += self.requests.launch(pending, now)
        self._counters.requests += 1

    def keep_alive(self, now: float) -> None:
        """Ask for a sign of life."""
        self._counters.pings += 1
        self.transmit(Pending(None, self.credit.grant() if self.credit is not None else self.requests.ping()), now)

    def _has_room(self, flying: int) -> bool:
        return self.credit is None or self.credit.lets_fly(flying)

    @property
    def look_at(self) -> float | None:
        """When a board that had no room for what waits is asked again."""
        return self._look_at if self._held_at is not None and self.requests.head is None else None

    def look_again(self, now: float) -> None:
        """It is time for that; what has waited for long is given up, and may be tried later."""
        assert self._held_at is not None
        assert self.credit is not None
        if now >= self._held_at + self._options.request_timeout_s:
            full = BoardFull("board", f"its queue has room for {self.credit.room} packets, kept for its own graph")
            self._refuse_here(self.requests.queue.popleft(), full)
            self._held_at = None
            self.send_next(now)
            return
        self._look_at = now + LOOK_AGAIN_S
        self.transmit(Pending(None, self.credit.grant()), now)

    def _refuse_here(self, pending: Pending, problem: GraphError | LocalProtocolError) -> None:
        assert pending.token is not None
        self._counters.refused_here += 1
        self.events.append(LinkRequestFailed(pending.token, str(problem), here=problem))

    # -- from the board --------------------------------------------------------------------------------------------

    def answered(self, unit: Command, now: float) -> Pending | None:
        """An answer to the oldest in flight. Returns that request if it is over now."""
        head = self.requests.head
        assert head is not None
        self.last_answer = now
        if head.fenced is not None and unit.kind != CommandKind.PONG:
            assert head.token is not None
            refused = unit.kind == CommandKind.ERROR
            head.outcome = self._refusal(head, unit["code"]) if refused else self._replied(head.token, unit)
            return None
        self.requests.landed(now)
        if head.token is not None:
            self._finish(head, head.token, unit)
        else:
            self._own(head, unit)
        return head

    def answers_later(self, unit: Command, now: float) -> bool:
        """Whether this is the answer to a request behind the oldest: on a line with checksums those before it failed."""
        passed = self.requests.land_before(unit, now) if self.requests.checked else []
        for pending in passed:
            if pending.token is not None:
                self.events.append(LinkRequestFailed(pending.token, f"the answer to {pending.name} was damaged"))
            elif self.credit is not None:
                self.credit.answer_lost()
        return bool(passed)

    def _own(self, head: Pending, reply: Command) -> None:
        """The answer to a request of the link's own."""
        if reply.kind == CommandKind.GRANTED and self.credit is not None:
            self._counters.grants += 1
            self.credit.granted(reply)
        elif reply.kind == CommandKind.EXTENDED:
            self._agree(Extension(reply["active"]))
        elif reply.kind == CommandKind.ERROR and head.unit.kind == CommandKind.GRANT:
            self.credit = None  # it offers credit, and knows no grant: without credit, then
            self.requests.queue.appendleft(Pending(None, extend(self.active & ~Extension.CREDIT)))

    def _finish(self, head: Pending, token: RequestToken, reply: Command) -> None:
        if head.fenced is not None:
            unknown = DebugPoint.PARSER_UNKNOWN_COMMAND
            self.events.append(head.outcome or LinkRequestFailed(token, "this firmware does not know it", code=unknown))
        elif reply.kind == CommandKind.ERROR:
            self.events.append(self._refusal(head, reply["code"]))
        elif head.refused is not None:
            self.events.append(self._refusal(head, head.refused))
        else:
            self._accepted(head, token, reply)

    def _accepted(self, head: Pending, token: RequestToken, reply: Command) -> None:
        self._counters.replies += 1
        try:
            if self._model is not None:
                self._model.accept(head.unit, reply)
        except GraphError as exc:
            self.events.append(LinkRequestFailed(token, str(exc), here=exc))
            return
        self.events.append(self._replied(token, reply))

    def _replied(self, token: RequestToken, reply: Command) -> Replied:
        self._is_ours = self._is_ours or reply.kind in _OF_EXTENSION
        if reply.kind == CommandKind.EXTENDED:
            self._agree(Extension(reply["active"]))
        return Replied(token, reply)

    def _agree(self, active: Extension) -> None:
        """From here on this is on, on both sides."""
        self.active = active
        self.requests.checked = Extension.CHECKSUM in active
        self.numbered = Extension.SEQUENCE in active
        limits = self.limits
        self.credit = Credit(limits) if limits is not None and Extension.CREDIT in active else None
        self.requests.window = limits.in_flight if limits is not None and self.credit is not None else None

    def room_told(self, unit: Command) -> Command:
        """A SEND_PACKET_DONE as stock firmware says it; with credit, its spare byte tells what room there is."""
        if unit.kind != CommandKind.SEND_PACKET_DONE or Extension.CREDIT not in self.active:
            return unit
        if self.credit is not None:
            self.credit.taken(unit.args[3])
        return Command(unit.request_id, unit.kind, unit.args[:3] + b"\0" + unit.args[4:])

    def refuses(self, head: Pending, point: int, now: float) -> bool:
        """Whether a debug message stands for an ERROR answer to the request in flight (section 5.4)."""
        asked = CommandKind(head.asked.kind)
        extension = asked in EXTENSION_REPLY_OF
        if (self._wire.request_ids and head.fenced is None and not extension) or point not in REFUSALS[asked]:
            return False
        if point in SHIFTED and not extension and asked not in _MAY_BE_UNKNOWN:
            return False  # every board knows the other commands
        if head.fenced is not None:
            head.outcome = self._refusal(head, point)
        elif FALSE_SUCCESS.get(asked) == point:
            head.refused = point  # the good answer comes all the same
        else:
            self.requests.landed(now)
            self.events.append(self._refusal(head, point))
            self.last_answer = now
            self.send_next(now)
        return True

    def _refusal(self, pending: Pending, code: int) -> LinkRequestFailed:
        assert pending.token is not None
        self._counters.refused += 1
        return LinkRequestFailed(pending.token, point_text(code), code=code)

    # -- the end of it ---------------------------------------------------------------------------------------------

    def give_up(self, reason: str, code: int | None, *, restarted: bool, silent: Pending | None) -> None:
        """Nothing that waits or flies will be answered. With checksums a board has obeyed nothing but what we sent, so its
        graph is still known if none of that could change it.
        """
        failed = self.requests.give_up()
        for pending in failed:
            if pending.token is not None:
                self.events.append(LinkRequestFailed(pending.token, reason, code=code))
        unknown = failed if silent is None else [silent, *failed]
        harmless = all(pending.asked.kind in _LEAVES_GRAPH for pending in unknown)
        if self._model is not None and (restarted or not harmless or not self.requests.checked):
            self._model.forget()
