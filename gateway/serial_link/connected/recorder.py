"""``gateway run --record``: what passes on boards' lines, written down as it passes, to be played by ``gateway simulate``.

For looking into a board's troubles: each read and write costs a write to a file, in the gateway's own loop.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TextIO

from gateway.errors import Conflict, GatewayError
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.protocol.capture_format import MOST_BYTES, CaptureLine, capture_head
from gateway.serial_link.protocol.codec import WIRES
from gateway.serial_link.protocol.dissector import LineDirection

log = logging.getLogger(__name__)

SUFFIX = ".capture"


class Recorder:
    """``place`` is a directory, which gets a file a board, or a file of its own (``.capture``) for the one board there is."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._is_file = place.suffix == SUFFIX and not place.is_dir()
        self._recordings: list[_Recording] = []
        if self._is_file and place.exists():
            raise Conflict(f"{place}: is there already; name another file to record to")
        directory = place.parent if self._is_file else place
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise GatewayError(f"{directory}: can't be made: {exc.strerror}") from exc

    def follow(self, connector: BoardConnector) -> None:
        """Record a board from now on."""
        if self._is_file and self._recordings:
            log.warning("device %s: is not recorded: --record %s is for one board", connector.record.role, self._place)
            return
        self._recordings.append(_Recording(self._path(connector), connector))

    def _path(self, connector: BoardConnector) -> Path:
        if self._is_file:
            return self._place
        name = f"{connector.record.role}-{connector.record.id}"
        path, number = self._place / f"{name}{SUFFIX}", 1
        while path.exists():
            number += 1
            path = self._place / f"{name}-{number}{SUFFIX}"
        return path

    def close(self) -> None:
        """Close the files."""
        for recording in self._recordings:
            recording.close()


class _Recording:
    def __init__(self, path: Path, connector: BoardConnector) -> None:
        self._path = path
        self._connector = connector
        self._file: TextIO | None = None
        self._started = time.monotonic()
        self._left = MOST_BYTES
        self._remove = connector.line.add(self._tell)

    def _tell(self, way: LineDirection, data: bytes) -> None:
        now = time.monotonic() - self._started
        text = f"{CaptureLine(now, way, data)}\n"
        try:
            if self._file is None:
                self._file = self._begun()
            self._left -= len(text)
            if self._left >= 0:
                self._file.write(text)
                return
            self._file.write(f"{CaptureLine(now, None, remark='the recording is full')}\n")
            self._end(f"{MOST_BYTES} bytes are written")
        except OSError as exc:
            self._end(f"can't be written: {exc.strerror}")

    def _begun(self) -> TextIO:
        record = self._connector.record
        file = self._path.open("x", encoding="utf-8", buffering=1)  # a line at once: a crash loses none
        file.write(f"{capture_head(WIRES[record.wire], record.baud, record.role)}\n")
        log.info("device %s: recording to %s", record.role, self._path)
        return file

    def _end(self, why: str) -> None:
        log.warning("%s: the recording ends: %s", self._path, why)
        self.close()

    def close(self) -> None:
        self._remove()
        if self._file is not None:
            self._file.close()
            self._file = None
