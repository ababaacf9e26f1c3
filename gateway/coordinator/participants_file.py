"""Who was seen in earlier runs, so that edges bind at once after a restart instead of at the next announcement."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.files import write_file_safely
from gateway.model.participant import Participant

log = logging.getLogger(__name__)


def load_participants(path: Path) -> tuple[Participant, ...]:
    """The participants of the file. A missing or damaged file is an empty one: the next announcements fill it."""
    try:
        return tuple(msgspec.json.decode(path.read_bytes(), type=list[Participant]))
    except FileNotFoundError:
        return ()
    except (ValueError, OSError) as exc:  # no JSON, no such list, or no UTF-8
        log.warning("participants: %s can't be read (%s); it will be made anew", path, exc)
        return ()


def save_participants(path: Path, participants: Iterable[Participant]) -> None:
    """Rewrite the file. A disk that can't take it is no reason to stop: the file is a convenience."""
    try:
        write_file_safely(path, msgspec.json.encode(list(participants)))
    except OSError as exc:
        log.warning("participants: %s can't be written: %s", path, exc)
