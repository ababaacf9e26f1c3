"""The router's counters as plain data: for ``status``, ``bindings`` and ``ledger``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.model.binding import DEAD_SUFFIX, edge_of
from gateway.routing.core.binding_queue import BindingQueue
from gateway.routing.core.router import Router
from gateway.routing.core.table import RouteTable


def binding_entries(router: Router, wanted: RouteTable, now: float) -> list[dict[str, Any]]:
    """One entry a binding: bytes of bodies, seconds. What is not ``wanted`` is only there until it is empty."""
    return [_binding_entry(lane, wanted, now) for lane in router.lanes]


def _is_wanted(lane: BindingQueue, wanted: RouteTable) -> bool:
    return lane.binding.id.removesuffix(DEAD_SUFFIX) in wanted.by_id


def _binding_entry(lane: BindingQueue, wanted: RouteTable, now: float) -> dict[str, Any]:
    oldest = min((item.born for item in lane.in_memory()), default=None)
    return {
        "id": lane.binding.id,
        "label": lane.binding.label or lane.binding.id,
        "source": str(lane.binding.source),
        "target": ", ".join(map(str, lane.targets)),
        "waits_for": lane.binding.waits_for,
        "in_graph": _is_wanted(lane, wanted),
        "mode": lane.contract.mode.value,
        "retain": lane.retain,
        "up": lane.up,
        "pending": lane.pending,
        "bytes": lane.bytes,
        "in_flight": len(lane.flying),
        "oldest_s": round(now - oldest, 1) if oldest is not None else 0,
        "last_error": lane.last_error,
        **asdict(lane.counters),
    }


def orphan_entries(router: Router) -> list[dict[str, Any]]:
    """Records that wait for a binding that nobody knows, by binding."""
    return [
        {"edge": edge_of(one.binding_id), "binding": one.binding_id, "records": one.records, "bytes": one.bytes}
        for one in router.orphans.backlogs.values()
    ]


def ledger_entries(router: Router, wanted: RouteTable, dead_dropped: Mapping[str, int]) -> list[dict[str, Any]]:
    """One entry a binding, and one for each that is not in the graph but has, or had, records on disk.

    ``opening`` + ``in`` = ``delivered`` + ``pending`` + ``expired`` + ``dead`` + ``dropped``; ``balanced`` says so.
    ``dead_dropped`` of the dead letters at rest, of this run and those before, went for newer ones; no part of the balance.
    """
    entries = [_ledger_entry(lane, wanted) for lane in router.lanes]
    waiting = {backlog.binding_id: backlog.records for backlog in router.orphans.backlogs.values()}
    known = {entry["binding"] for entry in entries}
    for binding_id in dict.fromkeys((*waiting, *dead_dropped)):
        if binding_id not in known:
            entry = dict.fromkeys(("opening", "in", "delivered", "pending", "expired", "dead", "dropped"), 0)
            entry |= {"opening": waiting.get(binding_id, 0), "pending": waiting.get(binding_id, 0)}
            name = edge_of(binding_id)
            names = {"edge": name, "binding": binding_id, "label": name, "in_graph": False}
            entries.append({**names, **entry, "balanced": True})
    return [{**entry, "dead_dropped": dead_dropped.get(entry["binding"], 0)} for entry in entries]


def _ledger_entry(lane: BindingQueue, wanted: RouteTable) -> dict[str, Any]:
    counters = lane.counters
    return {
        "edge": edge_of(lane.binding.id),
        "binding": lane.binding.id,
        "label": lane.binding.label or edge_of(lane.binding.id),
        "in_graph": _is_wanted(lane, wanted),
        "opening": counters.opening,
        "in": counters.accepted,
        "delivered": counters.delivered,
        "pending": lane.pending,
        "expired": counters.expired,
        "dead": counters.dead,
        "dropped": counters.dropped,
        "balanced": counters.balance == lane.pending,
    }
