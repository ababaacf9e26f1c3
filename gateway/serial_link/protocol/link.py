"""The host's end of the MicroFlo protocol: open, request, reply, keepalive. Bytes and time in, bytes and events out.

Opening is a walk over the phases (``phasewalk``), and a ping behind it proves that both directions are aligned. Requests
have the ids 128 to 199: none is a command (10..25), a reply (19, 100..118) or the id of an open.

One request is in flight, the rest wait: a board's receive buffer holds six commands, and the 8-byte wires have no ids,
so that an answer is known by its kind and by what it repeats. Nothing on the wire tells a damaged command from a good
one; whatever no board can send means that alignment is lost: every request fails, and the link opens again. Boards with
our own firmware offer more (``extensions``): with checksums what is damaged is left out, with credit several requests fly.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.checksum_framer import ChecksumFramer
from gateway.serial_link.protocol.codec import EVENT_ID, Command, Wire
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint, point_text
from gateway.serial_link.protocol.credit import Credit, CreditLimits
from gateway.serial_link.protocol.exchange import SHIFTED, Exchange
from gateway.serial_link.protocol.extensions import Extension
from gateway.serial_link.protocol.framer import Framer
from gateway.serial_link.protocol.link_events import (
    RESTARTED,
    DebugReported,
    Desynced,
    GaveUp,
    IoChanged,
    LinkCounters,
    LinkEvent,
    LinkOptions,
    LinkRequestFailed,
    Opened,
    PacketSent,
    RequestToken,
)
from gateway.serial_link.protocol.opening import PhaseWalk
from gateway.serial_link.protocol.replies import judge_packet
from gateway.serial_link.protocol.request_queue import Pending

_BRACKETS = frozenset({PacketType.BRACKET_START, PacketType.BRACKET_END})
_PACKET_SENT = int(CommandKind.PACKET_SENT)
"""As a plain number: it is compared with for every command."""


class LinkState(Enum):
    """Where the conversation stands."""

    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()


class Link:
    """One board's protocol state. No method raises for what the peer did; only for misuse by the caller.

    With a ``model`` no command is sent that it refuses: such a request fails with the model's reason.
    """

    def __init__(self, wire: Wire, options: LinkOptions | None = None, model: BoardModel | None = None) -> None:
        self.wire = wire
        self.counters = LinkCounters()
        self.model = model
        self._options = options or LinkOptions()
        self._dialogue = Exchange(wire, self._options, model, self.counters)
        self._requests = self._dialogue.requests
        self._framer: Framer | ChecksumFramer = Framer(wire)
        self._wide = wire.event_bytes == 4
        self._walk = PhaseWalk(wire, self._options.open_step_s, self._options.open_tries)
        self._state = LinkState.CLOSED
        self._hunting = False
        self._held: DebugReported | None = None
        self._tail: ChecksumFramer | None = None
        """Between the loss of step and the next opening: it tells what is whole all the same, by its checksum."""
        self._last_byte = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests may be made."""
        return self._state is LinkState.OPEN

    @property
    def room(self) -> int:
        """How many more requests may be made now."""
        return self._options.queue_limit - len(self._requests.queue) if self.is_open else 0

    @property
    def active(self) -> Extension:
        """Extensions that both sides have agreed on since the opening."""
        return self._dialogue.active

    @property
    def credit(self) -> Credit | None:
        """What each side may send, where the board has credit turned on."""
        return self._dialogue.credit

    def limit_credit(self, limits: CreditLimits) -> None:
        """What flow control has to keep to, if the board turns it on; otherwise granting is left to the caller."""
        self._dialogue.limits = limits

    @property
    def window(self) -> int:
        """How many packets fly together now."""
        if not self.wire.request_ids:
            return 1
        return self._options.window if self._requests.window is None else self._requests.window

    # -- what the caller does ----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin to open. What is in the receive buffer is hunted through, not trusted."""
        self._begin_opening(now)

    def request(self, unit: Command, now: float) -> RequestToken:
        """Queue a request; its id is given here. ``LocalProtocolError`` when not open, or too many wait."""
        return self._dialogue.ask(unit, now)

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the board."""
        self.counters.bytes_in += len(data)
        self._last_byte = now
        while self._state is not LinkState.CLOSED:
            framer = self._right_framer()
            if self._hunting and isinstance(framer, Framer):
                self._last_packets(data, now)
                if not framer.hunt(data, self._walk.wanted):
                    return
                self._verify(now)
                data = b""
            if not self._units(framer, data, now):
                return
            data = b""

    def _last_packets(self, data: bytes, now: float) -> None:
        """A board that opens again at our wish, and not at its own, goes on reporting until it has read the opening."""
        if self._tail is None:
            return
        for request_id, kind, args in self._tail.units(data.partition(self._walk.wanted)[0]):
            if kind == CommandKind.PACKET_SENT and not request_id:
                self._packet(args, now, True)

    def _right_framer(self) -> Framer | ChecksumFramer:
        """With checksums or without, as was agreed; the bytes that nobody looked at go over to the new one."""
        checks = self._requests.checked
        if checks is not isinstance(self._framer, ChecksumFramer):
            old = self._framer
            self.counters.garbage_bytes += old.garbage
            self._framer = (ChecksumFramer if checks else Framer)(self.wire, old.take_rest())
        return self._framer

    def _units(self, framer: Framer | ChecksumFramer, data: bytes, now: float) -> bool:
        """Take what is whole. True if it ended because what follows is to be cut in another way."""
        units = framer.units(data)
        checks = isinstance(framer, ChecksumFramer)
        for request_id, kind, args in units:
            if kind == _PACKET_SENT and not request_id:
                self._packet(args, now)
                if not self._hunting:
                    continue
            else:
                self._take(Command(request_id or EVENT_ID, kind, args), now)
            if self._hunting or self._requests.checked is not checks:
                # Alignment is lost: what is behind this is no command, but may hold the answer to an open.
                if isinstance(framer, Framer):
                    framer.give_back(units)
                return True
        if isinstance(framer, ChecksumFramer):
            self.counters.bad_checksums += framer.take_damaged()
            if framer.out_of_step:
                self._lost("nothing whole came for long", now)
                return True
        return False

    def tick(self, now: float) -> None:
        """Time has come to ``deadline``."""
        if self._requests.head is not None and now >= self._requests.deadline:
            self._timed_out(now)
        if self._state is LinkState.OPENING and self._requests.head is None and now >= self._walk.due:
            self._open_try(now)
        if self._state is not LinkState.OPEN:
            return
        look_at = self._dialogue.look_at
        if self._framer.partial and now >= self._last_byte + self._options.frame_timeout_s:
            self._half_a_command(now)
        elif look_at is not None and now >= look_at:
            self._dialogue.look_again(now)
        elif self._requests.head is None and now >= self._dialogue.last_answer + self._options.keepalive_s:
            self._dialogue.keep_alive(now)

    def _half_a_command(self, now: float) -> None:
        if isinstance(self._framer, ChecksumFramer):
            self._framer.drop_partial()  # the next good command is found all the same
            self.counters.bad_checksums += self._framer.take_damaged()
        else:
            self._lost(f"{self._framer.partial} bytes of a command, and then silence", now)

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due; None: nothing to wait for."""
        if self._state is LinkState.CLOSED:
            return None
        if self._state is LinkState.OPENING:
            return self._requests.deadline if self._requests.head is not None else self._walk.due
        if self._requests.head is not None:
            due = self._requests.deadline
        else:
            due = self._dialogue.last_answer + self._options.keepalive_s
            look_at = self._dialogue.look_at
            due = due if look_at is None else min(due, look_at)
        return min(due, self._last_byte + self._options.frame_timeout_s) if self._framer.partial else due

    def data_to_send(self) -> bytes:
        """Bytes for the board, once: each command is whole in one call, so that our death can't cut it."""
        data = bytes(self._dialogue.out)
        self._dialogue.out.clear()
        self.counters.bytes_out += len(data)
        return data

    def events(self) -> list[LinkEvent]:
        """What happened since the last call."""
        events, self._dialogue.events = self._dialogue.events, []
        return events

    # -- opening -----------------------------------------------------------------------------------------------

    def _begin_opening(self, now: float, *, in_step: bool = False) -> None:
        self._state = LinkState.OPENING
        self._hunting = True
        self._held = None
        self._dialogue.opening()
        self._framer.reset()
        self._walk.begin(in_step=in_step)
        self._open_try(now)

    def _open_try(self, now: float) -> None:
        self._hunting = True
        data = self._walk.step(now)
        if data is None:
            self._state = LinkState.CLOSED
            self._framer.reset()
            self._tell(GaveUp(f"no answer to {self._walk.tries} openings"))
            return
        self._dialogue.out += data

    def _verify(self, now: float) -> None:
        """An answer to an open was found. Only a ping behind it proves that no later try has shifted the board again."""
        self._hunting = False
        self._dialogue.transmit(Pending(None, self._requests.ping()), now)

    def _opened(self, now: float) -> None:
        self._state = LinkState.OPEN
        self._tail = None
        self._dialogue.opened(now)
        self.counters.garbage_bytes += self._framer.garbage
        self._framer.garbage = 0
        self.counters.opens += 1
        self._requests.late(self._walk.open_id)  # tries that came late may be answered behind this one
        self._tell(Opened(self._walk.tries))

    # -- what comes from the board ------------------------------------------------------------------------------

    def _packet(self, args: bytes, now: float, is_last: bool = False) -> None:
        """``is_last``: with a checksum still, from before an opening. Behind its answer nothing has one, nor a number."""
        node, port, marks = args[0], args[1], args[2]
        if self._wide:  # as codec.sent, without its tuples
            kind, data = args[3], args[4:8]
        else:
            kind, data = args[4], args[5:7]
        good, packet = judge_packet(kind, data)
        dialogue = self._dialogue
        numbered = is_last or dialogue.numbered
        if not good or not node or (marks > 1 and self._wide and not numbered):
            self._lost("a packet event that no board sends", now)
        elif self._state is LinkState.OPEN or self._tail is not None:
            if self._held is not None:
                packet = self._explained(kind, packet)
            self.counters.packets += 1
            if packet is None:
                self.counters.unreadable_packets += 1
            dialogue.events.append(PacketSent(node, port, kind, packet, marks >> 1 if numbered else 0))
            if dialogue.credit is not None:
                dialogue.credit.packet()
                if dialogue.credit.due():
                    dialogue.send_next(now)

    def _explained(self, kind: int, packet: Packet | None) -> Packet | None:
        """NOT_IMPLEMENTED right before a packet belongs to it: a byte's value is unknown, a bracket needs no comment."""
        if kind == PacketType.BYTE or kind > PacketType.ERROR:
            self._held, packet = None, None
        elif kind in _BRACKETS and not self.wire.request_ids:
            self._held = None
        self._let_go()
        return packet

    def _let_go(self) -> None:
        if self._held is not None:
            self._tell(self._held)
            self._held = None

    def _take(self, unit: Command, now: float) -> None:
        self._let_go()
        unit = self._dialogue.room_told(unit)
        if unit.request_id == EVENT_ID and unit.kind == CommandKind.DEBUG_MESSAGE:
            self._debug(unit, now)
        elif unit.request_id == EVENT_ID and unit.kind == CommandKind.IO_VALUE_CHANGED:
            value = int.from_bytes(unit.args[2:6], "little", signed=True)
            self._tell(IoChanged(unit.args[0], unit.args[1], value))
        elif self._requests.answers_head(unit) or self._dialogue.answers_later(unit, now):
            self._answered(unit, now)
        elif self._requests.is_late(unit, repeated=self._walk.repeated, opening=self._state is LinkState.OPENING):
            self.counters.late_replies += 1
        elif unit.kind == CommandKind.COMMUNICATION_OPEN:
            self._lost(RESTARTED, now)  # the answers of its embedded graph
        else:
            self._lost(f"id {unit.request_id}, kind {unit.kind} can't come from a board", now)

    def _debug(self, unit: Command, now: float) -> None:
        level, point = unit.args[0], unit.args[1]
        if not level or any(unit.args[2:]):
            self._lost("a debug message that no board sends", now)
            return
        if self._state is not LinkState.OPEN:
            return  # the board's comments on the tries that were off phase
        head = self._requests.head
        if head is not None and head.token is not None and self._dialogue.refuses(head, point, self._last_byte):
            return
        if point in SHIFTED:
            self._lost(f"the board read a shifted command ({point_text(point)})", now)
            return
        if point == DebugPoint.PROGRAM_START:  # which our own firmware sends when it restarts
            self._lost(RESTARTED, now)
            return
        if (
            point == DebugPoint.BAD_CHECKSUM
        ):  # it obeys nothing until it is opened again, so nothing of what flies either
            self.counters.commands_damaged += 1
            self._lost("the board got a damaged command, and did not obey it", now, code=DebugPoint.BAD_CHECKSUM)
            return
        self.counters.debug_messages += 1
        if point == DebugPoint.NOT_IMPLEMENTED:
            self._held = DebugReported(level, point)
        else:
            self._tell(DebugReported(level, point))

    # -- answers, and their absence ----------------------------------------------------------------------------

    def _answered(self, unit: Command, now: float) -> None:
        over = self._dialogue.answered(unit, now)
        if over is None:
            return
        if over.token is None and self._state is LinkState.OPENING:
            self._opened(now)
        elif unit.kind == CommandKind.TRANSMISSION_ENDED:
            self._state = LinkState.CLOSED
            self._dialogue.opening()
            self._hunting = True
        self._dialogue.send_next(now)

    def _timed_out(self, now: float) -> None:
        pending = self._requests.landed(now)
        self._requests.late(pending.unit.request_id)
        if self._state is LinkState.OPENING:
            self._hunting = True  # a try that came late has shifted the board again
            self._walk.false_hope()
            return
        self.counters.timeouts += 1
        if pending.token is None:
            self._lost(
                f"no answer to the {'keepalive' if pending.unit.kind == CommandKind.PING else pending.name}", now
            )
            return
        self._tell(LinkRequestFailed(pending.token, f"no reply to {pending.name}"))
        if self._options.reopen_on_timeout or not self.wire.request_ids:
            self._lost(f"no reply to {pending.name}", now, silent=pending)
        else:
            self._dialogue.send_next(now)

    def _lost(self, reason: str, now: float, code: int | None = None, silent: Pending | None = None) -> None:
        """Alignment can't be trusted: fail what waits, and open again. ``silent`` is a request that was told as failed."""
        if self._state is LinkState.OPENING:
            self._requests.give_up()
            self._hunting = True  # what was found was no answer: hunt on, the walk goes on at its own pace
            return
        self.counters.desyncs += 1
        self.counters.garbage_bytes += self.wire.size
        self._dialogue.give_up(f"alignment was lost: {reason}", code, restarted=reason == RESTARTED, silent=silent)
        self._tell(Desynced(reason))
        checks = isinstance(self._framer, ChecksumFramer) and reason != RESTARTED
        self._tail = ChecksumFramer(self.wire, self._framer.take_rest()) if checks else None
        self._begin_opening(now, in_step=checks)

    def _tell(self, event: LinkEvent) -> None:
        self._dialogue.events.append(event)
