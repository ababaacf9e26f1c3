"""Counts what a board sent and nobody got, by the numbers of its packets (docs/firmware.md)."""

from __future__ import annotations

LAST = 127
"""Numbers go from 1 to this one and round again: a gap of 127 packets or a multiple of it can't be seen."""


class SequenceGaps:
    """The packets of one board, in the order in which they came."""

    def __init__(self) -> None:
        self._last: int | None = None

    @property
    def counting(self) -> bool:
        """Whether a number has come, so that the next ones can be missed."""
        return self._last is not None

    def reset(self) -> None:
        """The board counts anew, or threw away what waited: the next number is as good as any."""
        self._last = None

    def feed(self, sequence: int) -> int:
        """How many packets are missing right before this one. 0 is a packet that came without a number, but has one."""
        if self._last is None:
            self._last = sequence or None
            return 0
        expected = self._last % LAST + 1
        self._last = sequence or expected
        return (self._last - expected) % LAST
