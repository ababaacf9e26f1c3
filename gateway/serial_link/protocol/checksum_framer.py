"""Bytes from a board whose commands have a checksum -> commands. The counterpart of ``Framer`` for such a line.

A damaged command is left out, and the next one that is good is looked for byte by byte: alignment comes back by itself, so
that damage costs what was damaged and no more. Only when nothing good comes for long is the line out of step.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.serial_link.protocol.codec import EVENT_ID, Command, Wire, command, encode
from gateway.serial_link.protocol.commandformat import FROM_BOARD, CommandKind, DebugLevel, DebugPoint
from gateway.serial_link.protocol.extensions import CHECKSUM_BYTES, checksum
from gateway.serial_link.protocol.framer import Unit

MOST_SKIPPED = 8
"""Commands' worth of bytes without a good one among them after which the line is out of step."""


class ChecksumFramer:
    """One for as long as the checksum is on. ``rest`` are the bytes that came behind the answer which turned it on."""

    def __init__(self, wire: Wire, rest: bytes = b"") -> None:
        self._size = wire.size + CHECKSUM_BYTES
        # What a board says that has restarted: it knows of no checksum any more.
        restarted = command(CommandKind.DEBUG_MESSAGE, EVENT_ID, level=DebugLevel.INFO, point=DebugPoint.PROGRAM_START)
        self._restarted = encode(wire, restarted)
        self._data = rest
        self._at = 0
        self._skipped = 0
        self.garbage = 0
        self._damaged = 0

    @property
    def partial(self) -> int:
        """Bytes of a command that is not whole yet."""
        return len(self._data) - self._at

    @property
    def out_of_step(self) -> bool:
        """Whether nothing good has come for long."""
        return self._skipped >= MOST_SKIPPED * self._size

    def units(self, data: bytes) -> Iterator[Unit]:
        """The good commands that are there now; what was not asked for stays."""
        self._data = self._data[self._at :] + data
        self._at = 0
        return self._good()

    def _good(self) -> Iterator[Unit]:
        size = self._size
        while True:
            frame = self._data[self._at : self._at + size]
            if frame.startswith(self._restarted):
                self._at += len(self._restarted)
                yield _unit(frame)
            elif len(frame) < size:
                return
            elif checksum(frame) or frame[1] not in FROM_BOARD:
                self._skip(1)
            else:
                self._at += size
                self._skipped = 0
                yield _unit(frame)

    def _skip(self, count: int) -> None:
        self._damaged += not self._skipped
        self._skipped += count
        self.garbage += count
        self._at += count

    def drop_partial(self) -> None:
        """The rest of a command that has begun isn't coming."""
        if self.partial:
            self._skip(self.partial)
        self._skipped = 0

    def take_damaged(self) -> int:
        """Places where something good was missing, since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def reset(self) -> None:
        """Throw away what is half received."""
        self.garbage += self.partial
        self._data, self._at = b"", 0

    def receive(self, data: bytes) -> list[Command]:
        """The same as ``Command``s."""
        return [Command(request_id, kind, args) for request_id, kind, args in self.units(data)]

    def take_rest(self) -> bytes:
        """What was not looked at, for another framer."""
        rest, self._data, self._at = self._data[self._at :], b"", 0
        return rest


def _unit(frame: bytes) -> Unit:
    return frame[0], frame[1], frame[2:10]
