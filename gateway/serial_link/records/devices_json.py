"""The registry of paired boards on disk, and each board's own directory with its graph and component map."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.errors import ConfigError, GatewayError
from gateway.files import read_bytes, write_file_safely
from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.records.profile import PortMeaning

VERSION = 1
PREVIOUS = ".1"
GRAPH_FBP, GRAPH_JSON, COMPONENTS, DESCRIPTION = "graph.fbp", "graph.json", "components.json", "description.cbor"
FILES = (GRAPH_FBP, GRAPH_JSON, COMPONENTS, DESCRIPTION)
"""What may lie in a board's directory."""


class BoardRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One paired board. ``path`` is where it was last; ``boot_wait_s`` and ``usb_reauthorise`` None take the configured.

    ``graph`` is the file in the board's directory that has it (the board's own description, if that is where it comes
    from); empty for a watched board without a graph. A *managed* board gets it after every opening, unless ``keep_running``.
    """

    id: str
    role: str
    identity: Identity
    known: PortFacts
    path: str
    baud: int
    wire: str
    graph: str = ""
    managed: bool = False
    keep_running: bool = False
    usb_reauthorise: bool | None = None
    boot_wait_s: float | None = None
    dtr: bool = True
    ports: Mapping[str, PortMeaning] = msgspec.field(default_factory=dict)


class _Document(msgspec.Struct, frozen=True):
    version: int
    checksum: str
    devices: msgspec.Raw


@dataclass(frozen=True, slots=True)
class DevicesFile:
    """``devices.json``: written aside, synced, renamed; the generation before stays as ``devices.json.1``."""

    path: Path

    def load(self) -> tuple[BoardRecord, ...]:
        """The paired boards. A missing file is fine; ``ConfigError`` with the way back for a damaged one."""
        try:
            data = read_bytes(self.path)
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise ConfigError(str(self.path), "", f"the registry of boards can't be read: {exc.strerror}") from exc
        try:
            return self._parse(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            raise ConfigError(
                str(self.path), "", f"the registry of boards is damaged ({exc}){self._way_back()}"
            ) from exc

    def _parse(self, data: bytes) -> tuple[BoardRecord, ...]:
        if not data:
            raise ValueError("zero bytes")
        document = msgspec.json.decode(data, type=_Document)
        if document.version > VERSION:
            raise ValueError(f"version {document.version}, written by a newer gateway")
        devices = bytes(document.devices)
        if _checksum(msgspec.json.format(devices, indent=-1)) != document.checksum:
            raise ValueError("its checksum is wrong")
        return msgspec.json.decode(devices, type=tuple[BoardRecord, ...])

    def _way_back(self) -> str:
        previous = self.path.with_name(self.path.name + PREVIOUS)
        with suppress(OSError, msgspec.MsgspecError, ValueError):
            self._parse(read_bytes(previous))
            return f"; restore the one before: cp {previous} {self.path}"
        return "; there is no good one before it: move it away, and pair the boards again"

    def save(self, records: Iterable[BoardRecord]) -> None:
        """Replace the file. ``GatewayError`` if that can't be done: then nothing changed."""
        devices = msgspec.json.encode(tuple(records))
        document = _Document(VERSION, _checksum(devices), msgspec.Raw(devices))
        text = msgspec.json.format(msgspec.json.encode(document), indent=1)
        try:
            write_file_safely(self.path, text + b"\n", keep_previous=PREVIOUS)
        except OSError as exc:
            raise GatewayError(f"{self.path}: the registry of boards can't be written: {exc.strerror}") from exc


def _checksum(devices: bytes) -> str:
    return f"sha256:{hashlib.sha256(devices).hexdigest()}"


@dataclass(frozen=True, slots=True)
class BoardDirectory:
    """``boards/ID``: the graph that runs on a board, as it was given, and the component map of its firmware."""

    path: Path

    def save(self, files: Mapping[str, bytes | None]) -> None:
        """Keep these, in this order; None is one to keep no longer. ``GatewayError`` if that can't be done."""
        try:
            for name, data in files.items():
                if data is None:
                    (self.path / name).unlink(missing_ok=True)
                else:
                    write_file_safely(self.path / name, data)
        except OSError as exc:
            raise GatewayError(f"{self.path}: can't be written: {exc.strerror}") from exc

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def data(self, name: str) -> bytes:
        """One of the files. ``ConfigError`` if it isn't there any more."""
        try:
            return read_bytes(self.path / name)
        except OSError as exc:
            raise ConfigError(str(self.path / name), "", "can't be read; pair the board again") from exc

    def text(self, name: str) -> str:
        """The same as text."""
        try:
            return self.data(name).decode()
        except UnicodeDecodeError as exc:
            raise ConfigError(str(self.path / name), "", "is no text; pair the board again") from exc

    def remove(self) -> None:
        """Forget everything."""
        with suppress(OSError):
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()


async def written(write: Callable[[], None], then: Callable[[], None]) -> None:
    """``write`` in a worker thread, for a disk may be slow; ``then`` once it has succeeded.

    A cancellation waits for both: what is on the disk and what we take for true never differ.
    """
    writing = asyncio.get_running_loop().run_in_executor(None, write)
    given_up = False
    while not writing.done():
        try:
            await asyncio.wait((writing,))
        except asyncio.CancelledError:
            given_up = True
    try:
        writing.result()
        then()
    finally:
        if given_up:
            raise asyncio.CancelledError
