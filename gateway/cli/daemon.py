"""Talking to the running daemon through its control socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import CommandContext
from gateway.config.places import Places, find_places, is_aside
from gateway.errors import EXIT_UNREACHABLE, Conflict, GatewayError, TransportDown
from gateway.files import LARGEST_REQUEST, is_private

CONNECT_TIMEOUT_S = 5.0
ROOT = 0

ENDED = "the daemon ended in the middle of its answer"


class DaemonError(GatewayError):
    """The daemon answered with an error; its exit code becomes ours."""

    def __init__(self, text: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(text)


def find_daemon(here: CommandContext) -> Path | None:
    """The socket of the daemon to talk to: our own, else (without ``--state-dir``) the system's if we may open it."""
    for places in _candidates(here.places):
        try:
            _connect(places.socket).close()
        except OSError:
            continue
        if places is not here.places:
            click.echo(f"talking to the system's gateway ({places.state})", err=True)
        return places.socket
    return None


def _candidates(own: Places) -> Iterator[Places]:
    yield own
    if os.geteuid() != 0 and own.state == find_places(os.environ, is_root=False, home=Path.home()).state:
        yield find_places({}, is_root=True, home=Path.home())


def _connect(path: Path) -> socket.socket:
    if is_aside(path) and path.parent.exists() and not is_private(path.parent, os.geteuid(), ROOT):
        raise Conflict(f"control socket {path}: {path.parent} is not the gateway's own directory; who made it?")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def ask(here: CommandContext, op: str, *, timeout_s: float | None = 30.0, **params: Any) -> Iterator[Any]:
    """The items of one answer. ``TransportDown`` with the remedy when no daemon runs."""
    request = json.dumps({"op": op, **params}).encode() + b"\n"
    if len(request) > LARGEST_REQUEST:
        raise GatewayError(f"this would be a request of more than {LARGEST_REQUEST} bytes to the daemon")
    path = find_daemon(here)
    if path is None:
        raise TransportDown("daemon", f"no gateway runs on {here.places.state}; start it with: gateway run")
    with closing(_connect(path)) as connection:
        connection.settimeout(timeout_s)
        with connection.makefile("rb") as lines:
            try:
                connection.sendall(request)
                yield from _items(lines)
            except TimeoutError:
                raise DaemonError(f"the daemon gave no answer within {timeout_s:.0f} s", EXIT_UNREACHABLE) from None
            except ConnectionError:
                raise DaemonError(ENDED, EXIT_UNREACHABLE) from None


def _items(lines: Any) -> Iterator[Any]:
    for line in lines:
        reply = json.loads(line)
        if "item" in reply:
            yield reply["item"]
        elif "error" in reply:
            raise DaemonError(reply["error"], reply.get("exit", 1))
        else:
            return
    raise DaemonError(ENDED, EXIT_UNREACHABLE)


def ask_one(here: CommandContext, op: str, **params: Any) -> Any:
    """The one item of an answer."""
    items = list(ask(here, op, **params))
    return items[-1] if items else None
