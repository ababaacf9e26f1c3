"""The daemon's log: one line a change, subject first, as text or as JSON objects. What repeats itself is counted."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

TEXT = "%(levelname)-7s %(message)s"
CHATTY = ("aiormq", "aio_pika", "amqtt", "transitions", "aiohttp.access")
"""Libraries whose own lines would say again, and worse, what ours say."""

MOST_ALIKE = 10
PERIOD_S = 60.0
"""So many warnings or errors of one kind about one subject are written in so long; the rest is counted. A flood of bad
messages must not fill a disk, nor hide what else happens."""


class JsonFormatter(logging.Formatter):
    """The same lines as objects: ``time`` in seconds since 1970, ``level``, ``logger``, ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        fields = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


@dataclass(slots=True)
class _Alike:
    since: float
    written: int = 0
    last: logging.LogRecord | None = None
    held_back: int = 0


class Repeats:
    """Which lines are written. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], _Alike] = {}

    def takes(self, record: logging.LogRecord, now: float) -> bool:
        """Whether this one is written. Information always is: it comes with changes, and from participants."""
        if record.levelno < logging.WARNING:
            return True
        subject = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        alike = self._kinds.setdefault((record.levelno, record.msg, str(subject)), _Alike(now))
        if alike.written < MOST_ALIKE:
            alike.written += 1
            return True
        alike.held_back += 1
        alike.last = record
        return False

    def told(self, now: float) -> Iterator[logging.LogRecord]:
        """The last line of each kind whose period is over, with the number of those that were not written."""
        while self._kinds:
            kind, alike = next(iter(self._kinds.items()))  # in the order of their beginning
            if now - alike.since < PERIOD_S:
                return
            del self._kinds[kind]
            if alike.last is not None:
                yield _with_count(alike.last, alike.held_back)


def _with_count(record: logging.LogRecord, count: int) -> logging.LogRecord:
    text = f"{record.getMessage()} (and {count - 1} more like it)" if count > 1 else record.getMessage()
    return logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)


class CalmHandler(logging.StreamHandler[Any]):
    """Writes to a stream what ``Repeats`` takes, and counts the rest."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or count it."""
        now = time.monotonic()
        self._tell(now)
        if self._repeats.takes(record, now):
            super().emit(record)

    def close(self) -> None:
        """Nothing more comes: what was only counted is said."""
        self._tell(float("inf"))
        super().close()

    def _tell(self, now: float) -> None:
        for record in self._repeats.told(now):
            super().emit(record)


def set_up_logging(level: str, style: Literal["text", "json"]) -> None:
    """Log to standard error: under systemd the journal adds the time, in a terminal the reader is there."""
    handler = CalmHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
