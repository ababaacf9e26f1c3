"""The file that says how far streams were taken."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

from gateway.amqp.core.stream_offsets import StreamOffsets
from gateway.files import write_file_safely

log = logging.getLogger(__name__)

SAVE_S = 5.0
"""How often it is written while messages are taken. After a crash those of so long come again, under the same ids."""


class StreamOffsetsFile:
    """Of one connector, over all its sessions. A file that can't be read or written costs duplicates, never a message."""

    def __init__(self, path: Path | None) -> None:
        self.places = StreamOffsets()
        self._path = path
        self._told = ""
        self._writing = threading.Lock()  # a thread goes on where the task that waited for it was cancelled
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            self.places.read(path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            log.warning("amqp: %s can't be read (%s); streams are taken from their beginning", path, exc)

    async def keep(self) -> None:
        """Write it now and then, while there is news."""
        while True:
            await asyncio.sleep(SAVE_S)
            await self.save()

    async def save(self) -> None:
        """Write it now, if there is news."""
        data = self.places.news()
        if self._path is None or data is None:
            return
        try:
            await asyncio.to_thread(self._write, self._path, data)
        except OSError as exc:
            if self._told != str(exc):
                log.warning("amqp: %s can't be written: %s; trying again", self._path, exc.strerror)
            self._told = str(exc)
        else:
            self.places.written(data)
            self._told = ""

    def _write(self, path: Path, data: bytes) -> None:
        with self._writing:
            write_file_safely(path, data)
