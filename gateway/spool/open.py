"""Opening the spool as the configuration wants it, also where its file is damaged."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from gateway.config.schema import SpoolSection
from gateway.errors import SpoolCorrupt
from gateway.spool.sqlite import SqliteStore

log = logging.getLogger(__name__)

PARTS = ("", "-wal", "-shm")
"""The files of one database."""


def open_spool(path: Path, section: SpoolSection) -> SqliteStore:
    """The spool. ``SpoolCorrupt`` for a damaged one, unless the configuration says that it may be set aside."""
    try:
        return _open(path, section)
    except SpoolCorrupt as exc:
        if section.on_corrupt != "start_empty":
            raise
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for suffix in PARTS:
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        log.error("%s; set aside as %s, starting with an empty one (spool.on_corrupt)", exc, aside)
        return _open(path, section)


def _open(path: Path, section: SpoolSection) -> SqliteStore:
    return SqliteStore(
        path,
        max_bytes=section.max_bytes,
        disk_reserve_bytes=section.disk_reserve_bytes,
        max_dead_bytes=section.max_dead_bytes,
    )
