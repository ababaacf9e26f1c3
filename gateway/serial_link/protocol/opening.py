"""How a board is opened that may already listen, at any phase: the openings, one by one.

A board that listens cuts its input every ten bytes (eight on the older wires) from wherever it happens to stand, so a
magic sent off-phase is read as two broken commands and swallowed. Hence the walk: magic, wait a step, one zero byte,
magic again; as many tries as a command has bytes reach every phase (reference: microflo-protocol, section 9.3).

Ids of opens are 200 and higher, and every other byte of the walk is zero, 49 or a letter, so that no window of it spells
a command (10..25); the answers of a board's embedded graph at boot (ids from 1) are never mistaken for ours.
"""

from __future__ import annotations

from gateway.serial_link.protocol.codec import EVENT_ID, Command, Wire, encode, opening
from gateway.serial_link.protocol.commandformat import CommandKind

FIRST_OPEN_ID, LAST_OPEN_ID = 200, 250

MOST_FALSE_HOPES = 6
"""Answers to an open that no proof followed, in one opening; each starts the tries anew."""


class PhaseWalk:
    """The tries of one opening. An id lasts for all of them: the answer to any proves the phase."""

    def __init__(self, wire: Wire, step_s: float, most_tries: int) -> None:
        self._wire = wire
        self._first_step_s = self._step_s = step_s
        self._most_tries = most_tries
        self._first_phase_tries = 1
        self.open_id = FIRST_OPEN_ID
        self.tries = 0
        self.repeated = False
        """More than one open went out, so that one may still be answered behind the one that was."""
        self.due = 0.0
        self._false_hopes = 0

    def begin(self, *, in_step: bool = False) -> None:
        """A new opening, with a new id. ``in_step``: the board is likely to be in phase, so that it was the opening or its
        answer that was damaged if none comes; then the second try is as the first.
        """
        self._first_phase_tries = 2 if in_step else 1
        self.open_id = FIRST_OPEN_ID if self.open_id >= LAST_OPEN_ID else self.open_id + 1
        self.tries = 0
        self.repeated = False
        self._false_hopes = 0
        self._step_s = self._first_step_s

    def step(self, now: float) -> bytes | None:
        """The bytes of the next try, or None when there was one too many. ``due`` is when the one after it may go."""
        if self.tries >= self._most_tries:
            return None
        self.repeated = self.tries > 0 or self._false_hopes > 0
        self.tries += 1
        self.due = now + self._step_s
        return (b"" if self.tries <= self._first_phase_tries else b"\0") + opening(self._wire, self.open_id)

    def false_hope(self) -> None:
        """An answer came, but the ping behind it was not answered: the tries begin anew.

        Once that may be damage. Twice it means that answers take longer than a step, so that the try after the good one
        spoils the phase again: the steps are longer from now on.
        """
        self._false_hopes += 1
        if self._false_hopes > MOST_FALSE_HOPES:
            return
        self.tries = 0
        if self._false_hopes > 1:
            self._step_s *= 2

    @property
    def wanted(self) -> bytes:
        """The answer, as it stands on the wire."""
        request_id = self.open_id if self._wire.request_ids else EVENT_ID
        return encode(self._wire, Command(request_id, CommandKind.COMMUNICATION_OPEN))
