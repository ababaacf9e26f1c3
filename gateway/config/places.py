"""Where config, state and control socket are: one pair of places for the system, one for a user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel takes 107, and a name must still fit behind a relative prefix."""

SHARED = Path("/tmp")
"""Where a directory of our own is made for a socket whose path would be too long; everybody else can make one there too."""


def _aside(socket: Path) -> str:
    return f"gateway-{socket.stem.removeprefix('control-')}"


def is_aside(socket: Path) -> bool:
    """Whether this control socket had to move to a place where others could have made its directory before us."""
    return socket.parent == SHARED / _aside(socket)


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one gateway."""

    config: Path
    config_named: bool
    state: Path
    run: Path

    @property
    def socket(self) -> Path:
        """The control socket: its name carries a hash of the state directory, so that two daemons never meet."""
        digest = hashlib.sha256(str(self.state.absolute().resolve()).encode()).hexdigest()[:8]
        path = self.run / f"control-{digest}.sock"
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            return SHARED / _aside(path) / path.name
        return path

    @property
    def registry(self) -> Path:
        """The registry of paired boards."""
        return self.state / "devices.json"

    @property
    def spool(self) -> Path:
        """The spool's database."""
        return self.state / "spool.db"

    @property
    def graph(self) -> Path:
        """The coordinator's graph where the configuration names none."""
        return self.state / "graph.json"

    @property
    def lock(self) -> Path:
        """Held by the daemon of this state directory."""
        return self.state / "lock"


def find_places(
    environ: Mapping[str, str], *, is_root: bool, home: Path, config: str = "", state_dir: str = ""
) -> Places:
    """The places by command line, environment, and who runs it (root and services: the system's)."""
    named = config or environ.get("GATEWAY_CONFIG", "")
    chosen_state = state_dir or environ.get("GATEWAY_STATE_DIR", "") or environ.get("STATE_DIRECTORY", "")
    if is_root or "STATE_DIRECTORY" in environ:
        default_config = Path(environ.get("CONFIGURATION_DIRECTORY", "/etc/gateway")) / "gateway.toml"
        default_state = Path("/var/lib/gateway")
        run = Path(environ.get("RUNTIME_DIRECTORY", "/run/gateway"))
    else:
        default_config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "gateway" / "gateway.toml"
        default_state = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "gateway"
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        run = Path(runtime) / "gateway" if runtime else Path(chosen_state or default_state)
    return Places(
        config=Path(named) if named else default_config,
        config_named=bool(named),
        state=Path(chosen_state) if chosen_state else default_state,
        run=run,
    )
