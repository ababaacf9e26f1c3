"""A line's bytes with their times, as text: what ``--record`` writes and ``gateway simulate --replay`` plays.

The first line names the format and the line; then one line a read or write: seconds since the start, ``>`` to the board or
``<`` from it, the bytes in hex. ``!`` is a remark. A file may end in the middle of a line: its writer was killed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.errors import ConfigError
from gateway.serial_link.protocol.codec import WIRES, Command, Wire
from gateway.serial_link.protocol.dissector import Dissector, LineDirection

VERSION = 1
MOST_BYTES = 256 * 1024 * 1024
"""Of one recording: three days of a busy 115200-baud line. Then it ends, and says so."""

LARGEST_CAPTURE = MOST_BYTES + 1024 * 1024
"""Bytes of a file, with its first line and its last."""

_HEAD = re.compile(r"# gateway capture (\d+) wire=(\S+) baud=(\d+) name=(.*)")
_LINE = re.compile(r"(\d+\.\d+) ([<>!]) (.*)")


@dataclass(frozen=True, slots=True)
class CaptureLine:
    """Bytes that went one way at once, or (without ``way``) a remark. ``time`` in seconds since the start."""

    time: float
    way: LineDirection | None
    data: bytes = b""
    remark: str = ""

    def __str__(self) -> str:
        mark, rest = (self.way, self.data.hex()) if self.way else ("!", " ".join(self.remark.split()))
        return f"{self.time:.6f} {mark} {rest}"


@dataclass(frozen=True, slots=True)
class Capture:
    """A whole capture."""

    wire: Wire
    baud: int
    name: str
    lines: tuple[CaptureLine, ...]


def capture_head(wire: Wire, baud: int, name: str) -> str:
    """The first line of a capture."""
    return f"# gateway capture {VERSION} wire={wire.name} baud={baud} name={name}"


def parse_capture(text: str, source: str) -> Capture:
    """Read a capture; ``ConfigError`` names the line. A last line without its end is left out."""
    whole, _, torn = text.rpartition("\n")
    rows = whole.splitlines() if whole else [torn]
    head = _HEAD.fullmatch(rows[0]) if rows else None
    if head is None:
        raise ConfigError(source, "line 1", "no capture of a line: it begins with '# gateway capture'")
    if int(head[1]) > VERSION:
        raise ConfigError(source, "line 1", f"written by a newer gateway (version {head[1]}; this one knows {VERSION})")
    if head[2] not in WIRES:
        raise ConfigError(source, "line 1", f"unknown wire generation {head[2]}; known are {', '.join(WIRES)}")
    lines = tuple(_parse_line(row, f"line {at}", source) for at, row in enumerate(rows[1:], 2) if row.strip())
    return Capture(WIRES[head[2]], int(head[3]), head[4], lines)


def _parse_line(row: str, place: str, source: str) -> CaptureLine:
    found = _LINE.fullmatch(row)
    if found is None:
        raise ConfigError(source, place, f"no line of a capture: {row[:40]!r}")
    if found[2] == "!":
        return CaptureLine(float(found[1]), None, remark=found[3])
    try:
        return CaptureLine(float(found[1]), LineDirection(found[2]), bytes.fromhex(found[3]))
    except ValueError:
        raise ConfigError(source, place, f"no bytes in hex: {found[3][:40]!r}") from None


def capture_commands(capture: Capture) -> Iterator[tuple[float, LineDirection, Command]]:
    """The commands of both directions in their order, each at the time at which it was whole."""
    listeners = {way: Dissector(capture.wire, way) for way in LineDirection}
    for line in capture.lines:
        if line.way is None:
            continue
        for found in listeners[line.way].feed(line.data):
            if isinstance(found, Command):
                yield line.time, line.way, found
    last = capture.lines[-1].time if capture.lines else 0.0
    for way, listener in listeners.items():
        for found in listener.flush():
            if isinstance(found, Command):
                yield last, way, found
