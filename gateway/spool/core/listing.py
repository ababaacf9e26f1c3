"""Records as people see them: what ``gateway spool --json`` prints."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any

from gateway.errors import Conflict, NotFound
from gateway.model.binding import edge_of
from gateway.spool.core.record import SpoolRecord


def entry(record: SpoolRecord) -> dict[str, Any]:
    """One record without its body. ``time_ms`` is when it was measured, 0 if nobody knows."""
    message = record.message
    return {
        "seq": record.seq,
        "edge": edge_of(record.binding_id),
        "binding": record.binding_id,
        "id": message.id,
        "bytes": len(message.body),
        "content_type": message.content_type,
        "time_ms": message.time_ms,
        "attempts": record.attempts,
        "dead": record.dead,
        "reason": record.last_error or message.reason,
    }


def whole_entry(record: SpoolRecord) -> dict[str, Any]:
    """One record with everything: the body as text where it is UTF-8, else as base64."""
    message = record.message
    try:
        body = {"body": message.body.decode("utf-8")}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(message.body).decode("ascii")}
    return {
        **entry(record),
        "origin": message.origin,
        "hops": message.hops,
        "clock_trusted": message.clock_trusted,
    } | body


def concerns(record: SpoolRecord, edge: str) -> bool:
    """Whether a record belongs to an edge (as ``a.out->b.in``) or binding; an empty name means all."""
    return not edge or edge in (record.binding_id, edge_of(record.binding_id))


NAMED = 8
"""Edges that are named where none was found."""


def edge_meant(name: str, labels: Mapping[str, str], stored: Collection[str]) -> str:
    """The edge or binding that a person names: as the graph writes it, by its id, or as ``gateway bindings`` shows it.

    ``labels`` are what bindings are shown as, by their ids; ``stored`` the ids of bindings that have records. ``Conflict``
    where several are shown under that name, ``NotFound`` where there is none.
    """
    if any(name in (one, edge_of(one)) for one in (*labels, *stored)):
        return name
    found = [binding_id for binding_id, label in labels.items() if label == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise Conflict(f"edge {name}: {len(found)} are shown under this name; name one by its id: {', '.join(found)}")
    known = list(dict.fromkeys((*labels.values(), *map(edge_of, stored))))
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    raise NotFound(f"edge {name}: there is none (there are: {', '.join(known[:NAMED]) or 'no edges'}{more})")
