"""Where a paired board stands, and what happened to it: what ``gateway devices`` shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.model.participant import BoardState
from gateway.serial_link.protocol.extensions import NONE, BoardCounts, Extension, names
from gateway.serial_link.protocol.link_events import LinkCounters

TRANSITIONS: dict[BoardState, frozenset[BoardState]] = {
    BoardState.ABSENT: frozenset({BoardState.OPENING, BoardState.BACKING_OFF, BoardState.REFUSED}),
    BoardState.OPENING: frozenset(
        {BoardState.ABSENT, BoardState.UPLOADING, BoardState.RUNNING, BoardState.BACKING_OFF, BoardState.REFUSED}
    ),
    BoardState.UPLOADING: frozenset(
        {BoardState.ABSENT, BoardState.OPENING, BoardState.RUNNING, BoardState.BACKING_OFF, BoardState.REFUSED}
    ),
    BoardState.RUNNING: frozenset(
        {BoardState.ABSENT, BoardState.OPENING, BoardState.UPLOADING, BoardState.BACKING_OFF}
    ),
    BoardState.BACKING_OFF: frozenset({BoardState.ABSENT, BoardState.OPENING, BoardState.REFUSED}),
    BoardState.REFUSED: frozenset({BoardState.ABSENT, BoardState.OPENING, BoardState.BACKING_OFF}),
}
"""Which state may follow which. RUNNING is only ever reached through an opening: a board is never trusted without one."""


@dataclass(slots=True)
class BoardCounters:
    """What went through, and the rungs of the recovery ladder that were needed, since the gateway started."""

    readings: int = 0
    readings_dropped: int = 0
    readings_unsubscribed: int = 0
    readings_lost: int = 0
    """Packets that a board with numbered packets sent, and that never came."""
    commands: int = 0
    commands_refused: int = 0
    connects: int = 0
    uploads: int = 0
    handshakes: int = 0
    reopens: int = 0
    dtr_resets: int = 0
    usb_reauthorisations: int = 0


@dataclass(slots=True)
class BoardStatus:
    """State, reason, and since when (seconds since 1970). ``on_change`` is told of every change."""

    on_change: Callable[[], None] = lambda: None
    state: BoardState = BoardState.ABSENT
    reason: str = ""
    since: float = field(default_factory=time.time)
    counters: BoardCounters = field(default_factory=BoardCounters)
    extensions: Extension = NONE
    """What this connection's line has beyond the stock protocol."""
    counts: BoardCounts | None = None
    """What the board itself has counted, when it last told; None where it can't."""
    failed_negotiations: int = 0
    """In a row: so often the line fell silent when extensions were turned on."""
    negotiated_with: bytes = b""
    """What the board told of itself when they last were."""
    _link: Counter[str] = field(default_factory=Counter)
    _live: LinkCounters | None = None

    def enter(self, state: BoardState, reason: str = "") -> None:
        """Go to ``state``. Staying where we are for the same reason is no change."""
        if (state, reason) == (self.state, self.reason):
            return
        assert state is self.state or state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        if state is not self.state:
            self.since = time.time()
        self.state, self.reason = state, reason
        self.on_change()

    def begin(self, counters: LinkCounters) -> None:
        """A connection begins, whose link counts here."""
        self._live = counters
        self.counts = None

    def begin_anew(self) -> None:
        """It may be another board, or have another firmware: what it could do, and could not, is to be found out again."""
        self.failed_negotiations = 0
        self.counts = None

    def end(self) -> None:
        """The connection is over: what its link counted is kept."""
        self._link.update(self._counted_now())
        self._live = None
        self.extensions = NONE

    def _counted_now(self) -> dict[str, int]:
        return {name: getattr(self._live, name) for name in LinkCounters.__slots__} if self._live is not None else {}

    def counted(self) -> dict[str, int]:
        """All counters in one table."""
        own = {name: getattr(self.counters, name) for name in BoardCounters.__slots__}
        now = self._counted_now()
        return own | {f"link_{name}": self._link[name] + now.get(name, 0) for name in LinkCounters.__slots__}


def board_entry(record: Any, status: BoardStatus) -> dict[str, Any]:
    """One board as ``gateway devices --json`` prints it: a stable shape."""
    return {
        "id": record.id,
        "role": record.role,
        "port": record.path,
        "baud": record.baud,
        "wire": record.wire,
        "managed": record.managed,
        "state": str(status.state),
        "reason": status.reason,
        "since": round(status.since, 3),
        "extensions": list(names(status.extensions)),
        "board_counters": None if status.counts is None else asdict(status.counts),
    }
