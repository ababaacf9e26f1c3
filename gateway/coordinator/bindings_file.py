"""The edges as they were carried last, so that those taken out of the graph while the gateway was stopped are undone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.files import write_file_safely
from gateway.model.binding import Binding

log = logging.getLogger(__name__)


class BindingsFile:
    """One file, rewritten when its content changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""

    def load(self) -> tuple[Binding, ...]:
        """The bindings of the run before. A missing or damaged file is an empty one: then nothing is undone."""
        try:
            self._written = self._path.read_bytes()
            return tuple(msgspec.json.decode(self._written, type=list[Binding]))
        except FileNotFoundError:
            return ()
        except (ValueError, OSError) as exc:  # no JSON, no such list, or no UTF-8
            log.warning("edges: %s can't be read (%s); it will be made anew", self._path, exc)
            return ()

    def save(self, bindings: Iterable[Binding]) -> None:
        """Rewrite it if it is not so already. A disk that can't take it is no reason to stop."""
        data = msgspec.json.encode(list(bindings))
        if data == self._written:
            return
        try:
            write_file_safely(self._path, data)
        except OSError as exc:
            log.warning("edges: %s can't be written: %s", self._path, exc)
            return
        self._written = data
