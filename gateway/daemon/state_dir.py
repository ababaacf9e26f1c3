"""The state directory: one daemon at a time, and an identity that a cloned card does not share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.config.schema import Secret
from gateway.errors import ConfigError, Conflict, GatewayError
from gateway.files import LARGEST_SECRETS, read_text, write_file_safely

MACHINE_ID = Path("/etc/machine-id")


@contextmanager
def locked(state: Path, lock: Path) -> Iterator[None]:
    """Hold the state directory, which is made if it isn't there. ``Conflict`` if a daemon (or pairing) holds it."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise GatewayError(
            f"state directory {state}: {exc.strerror}; choose another with --state-dir, or run as its owner"
        ) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"state directory {state}: a gateway runs on it already{_holder(descriptor)}; stop it, or use --state-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    with suppress(OSError, ValueError):
        return f" (process {int(os.pread(descriptor, 32, 0))})"
    return ""


def instance_id(state: Path) -> str:
    """The id of this gateway, made once and kept in the state directory."""
    path = state / "instance-id"
    with suppress(OSError, UnicodeDecodeError):
        known = path.read_text("ascii").strip()
        if known:
            return known
    made = uuid.uuid4().hex
    write_file_safely(path, f"{made}\n".encode())
    return made


def client_id(instance: str, state: Path) -> str:
    """A stable client id: of instance id and machine id, so that a cloned card does not fight its twin."""
    machine = ""
    with suppress(OSError):
        machine = MACHINE_ID.read_text().strip()
    digest = hashlib.sha256(f"{instance_id(state)}{machine}".encode()).hexdigest()[:10]
    return f"gateway-{instance}-{digest}"


def secret(text: str, file: str, key: str) -> Secret:
    """A secret from the configuration itself or from its ``…_file``. ``ConfigError`` names the key."""
    if not file:
        return Secret(text)
    try:
        return Secret(read_text(Path(file), LARGEST_SECRETS).rstrip("\r\n"))
    except OSError as exc:
        raise ConfigError(file, key, f"can't be read: {exc.strerror}") from exc
