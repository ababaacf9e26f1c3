"""How a board that does not answer is brought back, step by step, and how often that is tried. A core.

The rungs below this one are the session's: a request is sent again, the handshake is made again. Here: close and open
again; now and then with a reset by DTR, which most boards obey; where that was asked for, by taking the board's USB device
from the kernel and giving it back; and after ten minutes of silence once a minute at most.
"""

from __future__ import annotations

from enum import Enum, auto

SILENT_AFTER_S = 600.0
SLOWEST_S = 60.0
DTR_EVERY = 3
"""Each third attempt in a row begins with a reset: a board that is only slow must get its chance without."""

REAUTHORISE_EVERY = 6
"""Each second one of these takes the place of the reset: that has been tried then, and did not help."""


class Rung(Enum):
    """What the next attempt begins with."""

    REOPEN = auto()
    DTR_RESET = auto()
    REAUTHORISE = auto()


class Recovery:
    """One board's. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._silent_since: float | None = None
        self._last_attempt = 0.0

    def attempt(self, now: float, *, reauthorises: bool = False) -> Rung:
        """An attempt begins. ``reauthorises``: the board's USB device may be taken away and given back."""
        self._last_attempt = now
        if not self._failures or self._failures % DTR_EVERY:
            return Rung.REOPEN
        return Rung.REAUTHORISE if reauthorises and self._failures % REAUTHORISE_EVERY == 0 else Rung.DTR_RESET

    def failed(self, now: float) -> None:
        """The port opened, and the board did not answer."""
        self._failures += 1
        if self._silent_since is None:
            self._silent_since = now

    def answered(self) -> None:
        """The board is there (or was taken away): everything begins anew."""
        self._failures = 0
        self._silent_since = None

    def wait_s(self, now: float) -> float:
        """How long the next attempt must wait yet."""
        if self._silent_since is None or now - self._silent_since < SILENT_AFTER_S:
            return 0.0
        return max(0.0, self._last_attempt + SLOWEST_S - now)
