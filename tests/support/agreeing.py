"""A host that agrees on everything our firmware offers, after each opening, and keeps books; on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gateway.model.packet import Packet
from gateway.serial_link.protocol.codec import W10, Command, command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.credit import CreditLimits
from gateway.serial_link.protocol.extensions import WANTED, count_page, extend
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import (
    Desynced,
    LinkEvent,
    LinkRequestFailed,
    Opened,
    PacketSent,
    Replied,
    options_for,
)
from gateway.serial_link.protocol.sequence_gaps import SequenceGaps
from tests.support.wires import WHOLE, Bench

BAUD = 115200
FEW = CreditLimits(packets=16)
"""Little credit: it is granted anew every eight packets."""


class Agreeing:
    """One host at one end of a good wire, and at the other what ``make`` gives. ``more`` is asked behind the agreement."""

    def __init__(self, make: Callable[[], Any], *more: Command) -> None:
        self.link = Link(W10, options_for(W10, BAUD))
        self.link.limit_credit(FEW)
        self.packets: list[Packet | None] = []
        self.failures: list[str] = []
        self.lost = self.desyncs = 0
        self.on_desync: Callable[[], None] = lambda: None
        self._more = more
        self._gaps = SequenceGaps()
        self._steps: Iterator[Command] = iter(())
        self.bench = Bench(self.link, make, WHOLE, 1, BAUD, on_event=self.on_event)
        self.link.start(0.0)

    def on_event(self, event: LinkEvent, now: float) -> None:
        match event:
            case Opened():
                self._steps = self._agreement()
                self._ask(now)
            case Replied():
                self._ask(now)
            case LinkRequestFailed():
                self.failures.append(event.reason)
                self._ask(now)
            case Desynced():
                self.desyncs += 1
                self.on_desync()
            case PacketSent():
                self.packets.append(event.packet)
                self.lost += self._gaps.feed(event.sequence)

    def _ask(self, now: float) -> None:
        unit = next(self._steps, None)
        if unit is not None and self.link.is_open:
            self.link.request(unit, now)

    def _agreement(self) -> Iterator[Command]:
        yield command(CommandKind.DESCRIBE, offset_low=0, offset_high=0)
        yield extend(WANTED)
        yield count_page(0)
        yield command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=0, enable=1)
        yield from self._more
