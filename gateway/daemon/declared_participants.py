"""AMQP participants that a file declares: where the discovery queue is somebody else's, nobody can listen in on it.

``amqp.import`` has two kinds of entries: roles or globs, and ``ROLE=FILE.yaml`` with MsgFlo's foreign participant format.
"""

from __future__ import annotations

import asyncio
import glob
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigError, ValueUnfit
from gateway.files import read_text
from gateway.library.core.foreign import parse_foreign
from gateway.model.discovery import parse_discovery

KEY = "amqp.import"
SUFFIXES = (".yaml", ".yml")
PERIODS = 2.2
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class DeclaredParticipants:
    """What ``amqp.import`` asks for. ``globs`` covers the declared roles too; ``announcements`` speak for those."""

    globs: tuple[str, ...] = ()
    announcements: tuple[bytes, ...] = ()

    async def keep_announcing(self, heard: Callable[[bytes], None], period_s: float) -> None:
        """Let ``heard`` have every announcement again and again, so that they never expire. Until cancelled."""
        while True:
            for body in self.announcements:
                heard(body)
            await asyncio.sleep(period_s / PERIODS * random.uniform(1 - JITTER, 1))


def read_imports(entries: Sequence[str]) -> DeclaredParticipants:
    """The entries with their files. ``ConfigError`` names the file and the key that is wrong in it."""
    globs: list[str] = []
    announcements: list[bytes] = []
    for entry in entries:
        role, equals, file = entry.partition("=")
        if not equals or not file.endswith(SUFFIXES):
            globs.append(entry)
            continue
        if not role:
            raise ConfigError(KEY, entry, "write ROLE=FILE.yaml")
        globs.append(glob.escape(role))
        announcements.append(_announcement(role, file))
    return DeclaredParticipants(tuple(globs), tuple(announcements))


def _announcement(role: str, file: str) -> bytes:
    try:
        text = read_text(Path(file))
    except OSError as exc:
        raise ConfigError(file, KEY, f"can't be read: {exc.strerror}") from exc
    body = parse_foreign(text, file, role).announcement()
    try:
        parse_discovery(body, "amqp", 0.0)
    except ValueUnfit as exc:
        raise ConfigError(file, "", str(exc)) from exc
    return body
