"""Files that are never half written: aside, synced, renamed, and the directory synced too. And texts, read whole."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_file_safely(path: Path, data: bytes, *, keep_previous: str = "", mode: int = 0o600) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves the old file or the new one, whole.

    ``keep_previous`` is a suffix under which the replaced file stays (``.1``). What a link points to is replaced, not the
    link. ``OSError`` means nothing changed.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EISDIR if path.is_dir() else errno.EINVAL, "is no file that could be replaced", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous:
            _keep(path, path.with_name(path.name + keep_previous))
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise
    sync_directory(path.parent)


def write_output(path: Path, data: bytes) -> None:
    """Write where a user wants it, in a directory that is there: a file as a whole, a device or pipe straight."""
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as stream:
            stream.write(data)
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
    write_file_safely(path, data, mode=0o644)


LARGEST_TEXT = 16 << 20
"""Bytes of a file that is read whole; more is another sort of file, or one without end."""

LARGEST_REQUEST = 1 << 20
"""Bytes of a request to the daemon, which does nothing else while it works on a graph: seconds, with thousands of nodes."""

LARGEST_SECRETS = 64 << 10
"""Bytes of a file with a password, or with the secrets of clients."""


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """What is in a file. ``OSError`` whose ``strerror`` says in plain words why that is nothing for us."""
    with path.open("rb") as file:
        return _bytes_from(file, most)


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """The UTF-8 text of a file, without the mark that some editors put before it. Line ends are as they are.

    ``OSError`` whose ``strerror`` says in plain words why there is none.
    """
    with path.open("rb") as file:
        return text_from(file, most)


def _bytes_from(stream: BinaryIO, most: int) -> bytes:
    data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"longer than {most} bytes")
    return data


def text_from(stream: BinaryIO, most: int = LARGEST_TEXT) -> str:
    """The rest of a stream, as ``read_text``."""
    data = _bytes_from(stream, most)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise OSError(errno.EILSEQ, f"no UTF-8 text: {exc.reason} at byte {exc.start}") from None


def _keep(path: Path, previous: Path) -> None:
    """Give the present file a second name: a link, so that it is at its own place at every moment."""
    with suppress(FileNotFoundError):
        spare = previous.with_name(f".{previous.name}.link")
        with suppress(FileNotFoundError):
            spare.unlink()
        os.link(path, spare)
        os.replace(spare, previous)


def make_private_directory(path: Path) -> None:
    """A directory that only we can enter, made if it isn't there. ``PermissionError`` if somebody else made it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(path, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{path} is not a directory of ours that nobody else can enter")


def is_private(path: Path, *owners: int) -> bool:
    """Whether this is a directory of one of these users (by number) that nobody else can enter."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in owners and not found.st_mode & 0o077


def sync_directory(path: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_served(path: Path) -> bool:
    """Whether this is a socket that somebody listens on. One that was left behind by a crash is not."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)  # that: too many wait in line
    return False
