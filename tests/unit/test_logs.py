"""The daemon's log: what repeats itself is counted, and nothing else is kept from its reader."""

from __future__ import annotations

import io
import logging

from gateway.logs import MOST_ALIKE, PERIOD_S, CalmHandler, Repeats


def line(subject: str, what: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("gateway", level, "", 0, "edge %s: dead letter: %s", (subject, what), None)


def written(repeats: Repeats, records: list[logging.LogRecord], now: float) -> list[str]:
    return [record.getMessage() for record in records if repeats.takes(record, now)]


def test_a_flood_of_one_kind_is_written_ten_times_and_counted_after_a_minute() -> None:
    repeats = Repeats()
    flood = [line("a->b", f"bad {number}") for number in range(300)]
    assert len(written(repeats, flood, 1.0)) == MOST_ALIKE
    assert list(repeats.told(1.0 + PERIOD_S - 1)) == []
    (told,) = repeats.told(1.0 + PERIOD_S)
    assert told.getMessage() == f"edge a->b: dead letter: bad 299 (and {300 - MOST_ALIKE - 1} more like it)"
    assert told.levelno == logging.ERROR
    assert len(written(repeats, flood, 1.0 + PERIOD_S)) == MOST_ALIKE


def test_another_subject_and_another_kind_are_written_meanwhile() -> None:
    repeats = Repeats()
    written(repeats, [line("a->b", "bad")] * 300, 1.0)
    assert repeats.takes(line("c->d", "bad"), 1.0)
    assert repeats.takes(line("a->b", "bad", logging.WARNING), 1.0)


def test_information_is_never_held_back() -> None:
    assert len(written(Repeats(), [line("participant", "says", logging.INFO)] * 300, 1.0)) == 300


def test_what_was_only_counted_is_said_at_the_end() -> None:
    stream = io.StringIO()
    handler = CalmHandler(stream)
    for number in range(MOST_ALIKE + 1):
        handler.emit(line("a->b", f"bad {number}"))
    assert f"bad {MOST_ALIKE}" not in stream.getvalue()
    handler.close()
    assert stream.getvalue().splitlines()[-1] == f"edge a->b: dead letter: bad {MOST_ALIKE}"
