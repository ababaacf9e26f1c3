"""What a port tells -> one stable identity of the board on it, and the short id under which we keep it.

In this order: the id the board tells of itself; the USB serial number if no other port that is present has the same; the
by-id name; the by-path name; for a pty or a network port the given name. Never ``/dev/ttyUSB0``: the kernel gives that
name to whoever comes first. All that is known is kept, so that a lost fact does not lose the board.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

IdentityKind = Literal["board", "usb", "by-id", "by-path", "path"]

LONGEST_STEM = 12
"""Letters of an id that are taken from what people may know; the hash behind them makes it unique."""

_NOT_IN_ID = re.compile(r"[^a-z0-9]+")
_KERNEL_NAME = re.compile(r"/dev/(tty(USB|ACM|XRUSB|S|AMA|O|mxc|SAC|PS|UL)\d+|serial\d+|cuau\d+)")
_SCHEME = re.compile(r"[a-z][a-z0-9+]*://")


class PortFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one port. Empty: not known. ``path`` is where it is now, or the name that was given for it."""

    path: str
    board_id: str = ""
    usb_serial: str = ""
    usb_vid: int = 0
    usb_pid: int = 0
    product: str = ""
    maker: str = ""
    by_id: str = ""
    by_path: str = ""
    is_pty: bool = False

    @property
    def usb_key(self) -> str:
        """What a USB device tells of itself: vendor, product and serial number; empty without a number."""
        return f"{self.usb_vid:04x}:{self.usb_pid:04x}:{self.usb_serial}" if self.usb_serial else ""

    @property
    def is_named(self) -> bool:
        """Whether the given name itself is all there is: a pty, a network port."""
        return self.is_pty or is_network(self.path)


class Identity(msgspec.Struct, frozen=True):
    """By which of its facts a board is recognised."""

    kind: IdentityKind
    value: str


def is_network(path: str) -> bool:
    """Whether this names a port elsewhere (``tcp://host:port``), not a file."""
    return _SCHEME.match(path) is not None


def identify(port: PortFacts, present: Iterable[PortFacts] = ()) -> Identity | None:
    """The identity of the board on ``port``; None when there is nothing stable to know it by.

    ``present`` are all ports that are there now: a serial number that two of them have says nothing.
    """
    others = [other for other in present if other.path != port.path]
    if port.board_id:
        return Identity("board", port.board_id)
    if port.is_named:
        return Identity("path", port.path)
    if port.usb_key and all(other.usb_key != port.usb_key for other in others):
        return Identity("usb", port.usb_key)
    if port.by_id and all(other.by_id != port.by_id for other in others):
        return Identity("by-id", port.by_id)
    if port.by_path:
        return Identity("by-path", port.by_path)
    if not _KERNEL_NAME.fullmatch(port.path):
        return Identity("path", port.path)
    return None


def fact(port: PortFacts, kind: IdentityKind) -> str:
    """What ``port`` tells for a kind of identity; empty if nothing."""
    match kind:
        case "board":
            return port.board_id
        case "usb":
            return port.usb_key
        case "by-id":
            return port.by_id
        case "by-path":
            return port.by_path
    return port.path


def recognise(identity: Identity, known: PortFacts, present: Iterable[PortFacts]) -> PortFacts | None:
    """The port on which the board of this identity is now; None if it is not there.

    Where several ports tell the same (clones with one serial number), the place the board was last seen at decides; where
    that doesn't either, none is taken for it: a board is never mistaken for another.
    """
    ports = list(present)
    if identity.kind == "board":
        return _by_place(known, ports)
    found = [port for port in ports if fact(port, identity.kind) == identity.value and _same_kind(port, known)]
    if len(found) > 1:
        found = [port for port in found if port.by_path and port.by_path == known.by_path]
    return found[0] if len(found) == 1 else None


def _by_place(known: PortFacts, present: list[PortFacts]) -> PortFacts | None:
    """A board tells its own id only when it is asked: until then the best of the other facts says where to ask."""
    silent = msgspec.structs.replace(known, board_id="")
    other = identify(silent)
    return recognise(other, silent, present) if other is not None else None


def _same_kind(port: PortFacts, known: PortFacts) -> bool:
    """A place in the USB tree may have another sort of board on it now."""
    return (port.usb_vid, port.usb_pid) == (known.usb_vid, known.usb_pid)


NOWHERE = PortFacts(path="")
"""Of a board whose place another one has taken: nobody knows where it is, until it is paired again."""


def is_another(before: Identity, now: Identity) -> bool:
    """Whether what is in a board's place now is another board. Only who told an id can be known not to be there."""
    return before.kind == "board" and now != before


def device_id(identity: Identity) -> str:
    """A short id for files, topics and commands: a few letters that people may know, and a hash of the identity."""
    digest = hashlib.sha256(f"{identity.kind}\n{identity.value}".encode()).hexdigest()[:6]
    tail = (
        identity.value.rpartition(":")[2] if identity.kind == "usb" else identity.value.rstrip("/").rpartition("/")[2]
    )
    stem = _NOT_IN_ID.sub("-", tail.lower()).strip("-")[:LONGEST_STEM].rstrip("-")
    return f"{stem}-{digest}" if stem else f"board-{digest}"
