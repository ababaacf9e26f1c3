"""Flow control with a board that knows it (docs/firmware.md): neither side sends what the other has no room for.

From the board: it reports packets only while it has credit, which is filled up when half of it is used. To the board: it
tells with every answer how many packets its queue has room for, and of that a share is left to its own graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.serial_link.protocol.codec import Command, command
from gateway.serial_link.protocol.commandformat import CommandKind

MOST_IN_FLIGHT = 8
"""More would not be faster: the line is busy all the time with half as many."""

LOOK_AGAIN_S = 0.05
"""A board without room is asked for it so often."""


@dataclass(frozen=True, slots=True)
class CreditLimits:
    """``packets`` is how many the board may report before we grant more: with 11 bytes each less than what a kernel keeps
    for a reader who is late (4095 bytes). ``in_flight`` requests fit into its receive buffer, ``reserve`` places of its
    queue are left to its graph.
    """

    packets: int = 256
    in_flight: int = 1
    reserve: int = 12

    @classmethod
    def of(cls, receive_bytes: int, messages: int, command_bytes: int) -> CreditLimits:
        """For a board with a receive buffer of so many bytes, and so many places in its queue."""
        fit = receive_bytes // command_bytes
        return cls(in_flight=max(1, min(MOST_IN_FLIGHT, fit)), reserve=max(1, messages // 4))


class Credit:
    """What each side may still send, since credit was turned on."""

    def __init__(self, limits: CreditLimits) -> None:
        self._limits = limits
        self._left = 0
        self._room = 0
        self._asked = False

    @property
    def left(self) -> int:
        """Packets that the board may still report, as far as we know."""
        return self._left

    @property
    def room(self) -> int:
        """Packets that its queue had room for when it last said so."""
        return self._room

    def packet(self) -> None:
        """The board has reported one."""
        self._left = max(0, self._left - 1)

    def due(self) -> bool:
        """Whether it is time to grant more."""
        return not self._asked and self._left <= self._limits.packets // 2

    def grant(self) -> Command:
        """The request that fills the credit up. Its answer also tells what room there is."""
        self._asked = True
        count = max(0, self._limits.packets - self._left)  # after an answer that was lost there may be more
        return command(CommandKind.GRANT, count_low=count % 256, count_high=count // 256)

    def granted(self, reply: Command) -> None:
        """The answer: exactly so many packets may come behind it. What was lost on the way is made up for here."""
        self._left = reply["count_low"] | reply["count_high"] << 8
        self._room = reply["room"]
        self._asked = False

    def answer_lost(self) -> None:
        """The answer to a grant was damaged: ask again, to know what there is."""
        self._asked, self._left = False, 0

    def taken(self, room: int) -> None:
        """The board has taken a packet, and had room for so many more then."""
        self._room = room

    def lets_fly(self, flying: int) -> bool:
        """Whether one more packet may be sent, with so many requests in flight that count for packets."""
        return self._room - flying > self._limits.reserve
