"""A byte stream from a board -> aligned commands. There is no marker on the wire: alignment is inferred.

Before the link is open, bytes are *hunted* for one certain frame (the open reply with our id); boot-loader chatter and
the answers of an embedded graph fall through. After it, every ``wire.size`` bytes are one command, and one that no
board can send means that alignment is lost (reference: microflo-protocol, section 9.3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from gateway.serial_link.protocol.codec import EVENT_ID, Command, Wire
from gateway.serial_link.protocol.commandformat import EVENTS, FROM_BOARD

Unit = tuple[int, int, bytes]
"""Request id (0 where the wire has none), kind, argument bytes."""


class Framer:
    """Cuts what arrives into commands. ``garbage`` counts the bytes that were no part of one."""

    def __init__(self, wire: Wire, rest: bytes = b"") -> None:
        self._size = wire.size
        # One struct call for a whole read: half the cost of slices (0.2 us a command on the machine of the benchmarks).
        # The 8-byte wires have no id: the empty field in its place is as false as id 0.
        self._struct = struct.Struct("<BB8s" if wire.request_ids else "<0sB7s")
        self._rest = rest
        self.garbage = 0

    def reset(self) -> None:
        """Throw away what is half received."""
        self.garbage += len(self._rest)
        self._rest = b""

    def hunt(self, data: bytes, wanted: bytes) -> bool:
        """Look for the frame ``wanted`` anywhere in the stream; what follows it is aligned.

        Returns whether it was found; then ``receive(b"")`` gives the commands behind it. Keeps no more than a frame.
        """
        data = self._rest + data
        at = data.find(wanted)
        if at < 0:
            kept = min(len(data), len(wanted) - 1)
            self.garbage += len(data) - kept
            self._rest = data[len(data) - kept :]
            return False
        self.garbage += at
        self._rest = data[at + len(wanted) :]
        return True

    def units(self, data: bytes) -> Iterator[Unit]:
        """The whole commands that are there now, as plain tuples; what is left waits for the rest."""
        if self._rest:
            data = self._rest + data
        whole = len(data) // self._size * self._size
        self._rest = data[whole:]
        return self._struct.iter_unpack(data[:whole])

    def receive(self, data: bytes) -> list[Command]:
        """The same as ``Command``s."""
        return [Command(request_id or EVENT_ID, kind, args) for request_id, kind, args in self.units(data)]

    def give_back(self, units: Iterator[Unit]) -> None:
        """Units that were not looked at yet are bytes again: their alignment is not trusted any more."""
        self._rest = b"".join(self._struct.pack(*unit) for unit in units) + self._rest

    @property
    def partial(self) -> int:
        """Bytes of a command that is not whole yet."""
        return len(self._rest)

    def take_rest(self) -> bytes:
        """What was not looked at, for another framer."""
        rest, self._rest = self._rest, b""
        return rest


def plausible(wire: Wire, unit: Command, expected: Callable[[Command], bool]) -> bool:
    """Whether a board can have sent this: an event with id 0, or an answer that somebody is waiting for."""
    if unit.kind not in FROM_BOARD:
        return False
    if unit.request_id == EVENT_ID and unit.kind in EVENTS:
        return True
    return expected(unit)
