"""One status document from counters and states: what ``gateway status --json`` prints, and metrics are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.spool.core.store import Usage

VERSION = 1
"""The version of the document's shape; raised when a key changes its meaning or goes."""


class ProcessStatus(Protocol):
    """A participant's process as its keeper reports it. ``since`` is in seconds since 1970, ``pid`` 0 without one."""

    role: str
    command: tuple[str, ...]
    pid: int
    starts: int
    since: float
    reason: str

    @property
    def state(self) -> str:
        """starting, running, backing_off or stopped."""


def process_entry(process: ProcessStatus) -> dict[str, Any]:
    """One participant's process."""
    return {
        "role": process.role,
        "state": str(process.state),
        "pid": process.pid,
        "starts": process.starts,
        "since": process.since,
        "reason": process.reason,
        "command": list(process.command),
    }


class ConnectionStatus(Protocol):
    """A connection as its supervisor reports it. ``since`` is in seconds since 1970."""

    name: str
    reason: str
    since: float
    attempts: int
    connects: int

    @property
    def state(self) -> str:
        """connecting, up, backing_off or quarantined."""


def link_entry(link: ConnectionStatus, blocked: str = "") -> dict[str, Any]:
    """One connection. ``blocked`` says why it takes no messages although it is up."""
    return {
        "name": link.name,
        "state": str(link.state),
        "reason": link.reason,
        "blocked": blocked,
        "since": link.since,
        "attempts": link.attempts,
        "connects": link.connects,
    }


def spool_entry(usage: Usage, orphans: Sequence[Mapping[str, Any]], unsafe: int) -> dict[str, Any]:
    """The spool. ``orphans`` are records that nothing carries, by binding; ``in_memory`` those under way off the disk."""
    return {
        "records": usage.records,
        "dead": usage.dead,
        "bytes": usage.bytes,
        "dead_bytes": usage.dead_bytes,
        "dead_dropped": sum(usage.dead_dropped.values()),
        "commits": usage.commits,
        "slowest_commit_s": round(usage.slowest_commit_s, 4),
        "problem": usage.problem,
        "without_edge": sum(entry["records"] for entry in orphans),
        "orphans": [dict(entry) for entry in orphans],
        "in_memory": unsafe,
    }


def document(
    *,
    gateway: Mapping[str, Any],
    links: Sequence[ConnectionStatus],
    blocked: Mapping[str, str],
    boards: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, Any]],
    waiting: Mapping[str, str],
    refused: Mapping[str, str],
    spool: Mapping[str, Any],
    discovery: Mapping[str, Any],
    processes: Sequence[ProcessStatus],
    http_url: str,
) -> dict[str, Any]:
    """The whole document, as plain data. ``blocked`` tells by link why it takes no messages although it is up,
    ``waiting`` and ``refused`` by edge what it waits for and why it can't be. ``http_url`` is where editors connect.
    """
    return {
        "status_version": VERSION,
        "gateway": dict(gateway),
        "links": [link_entry(link, blocked.get(link.name, "")) for link in links],
        "boards": [dict(board) for board in boards],
        "edges": [dict(edge) for edge in edges],
        "waiting": dict(waiting),
        "refused": dict(refused),
        "spool": dict(spool),
        "discovery": dict(discovery),
        "processes": [process_entry(process) for process in processes],
        "http": {"url": http_url},
    }
