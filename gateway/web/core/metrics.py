"""The status document as metrics, in the text form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_EDGE_COUNTERS: Mapping[str, str] = {
    "accepted": "Messages taken from the edge's source.",
    "delivered": "Messages that the edge's target confirmed.",
    "deferred": "Attempts after which a message has to wait.",
    "duplicates": "Messages that were taken before.",
    "spilled": "Messages that went to the disk because the target was away or slow.",
    "expired": "Messages that became too old while they waited.",
    "dropped": "Messages that the edge's limits left no room for.",
    "dead": "Messages that came to rest as dead letters.",
}

_EDGE_GAUGES: Mapping[str, str] = {
    "pending": "Messages that wait for the edge's target.",
    "in_flight": "Messages sent and not confirmed yet.",
    "oldest_s": "Age of the oldest message that waits, in seconds.",
}

_SPOOL_GAUGES: Mapping[str, str] = {
    "records": "Messages on disk.",
    "dead": "Dead letters on disk.",
    "bytes": "Bytes of messages on disk.",
    "dead_bytes": "Bytes of dead letters on disk.",
    "dead_dropped": "Dead letters that were dropped for newer ones since the start.",
    "slowest_commit_s": "The slowest commit so far, in seconds.",
    "without_edge": "Messages on disk whose edge is not in the graph.",
    "in_memory": "Messages under way that are in memory only.",
}

_SECONDS = {"oldest_s": "oldest_seconds", "slowest_commit_s": "slowest_commit_seconds"}


@dataclass(slots=True)
class _Family:
    name: str
    kind: str
    text: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        self.samples.append((labels, value))

    def lines(self) -> Iterator[str]:
        if self.samples:
            yield f"# HELP {self.name} {self.text}"
            yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{self.name}{f'{{{inside}}}' if inside else ''} {_number(value)}"


def render_metrics(status: Mapping[str, Any], extra: Mapping[str, float] | None = None) -> str:
    """The metrics of a status document. ``extra`` are further gauges, by names without the prefix."""
    families = [
        *_gateway(status.get("gateway") or {}),
        *_links(status.get("links") or []),
        *_boards(status.get("boards") or []),
        *_edges(status.get("edges") or []),
        *_others(status),
    ]
    for name, value in (extra or {}).items():
        family = _Family(f"gateway_{name}", "gauge", "")
        family.text = name.replace("_", " ").capitalize() + "."
        family.add(value)
        families.append(family)
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _gateway(entry: Mapping[str, Any]) -> Iterable[_Family]:
    info = _Family("gateway_info", "gauge", "Which gateway this is; always 1.")
    info.add(1, instance=str(entry.get("instance", "")), version=str(entry.get("version", "")))
    start = _Family("gateway_start_time_seconds", "gauge", "When it started, in seconds since 1970.")
    start.add(float(entry.get("since") or 0.0))
    return info, start


def _links(entries: Iterable[Mapping[str, Any]]) -> Iterable[_Family]:
    up = _Family("gateway_link_up", "gauge", "Whether a broker or board is connected.")
    blocked = _Family("gateway_link_blocked", "gauge", "Whether a connected broker takes no messages.")
    connects = _Family("gateway_link_connects_total", "counter", "How often it was connected.")
    attempts = _Family("gateway_link_attempts_total", "counter", "How often it was tried.")
    for entry in entries:
        name = str(entry["name"])
        up.add(1.0 if entry["state"] == "up" else 0.0, link=name)
        blocked.add(1.0 if entry.get("blocked") else 0.0, link=name)
        connects.add(entry["connects"], link=name)
        attempts.add(entry["attempts"], link=name)
    return up, blocked, connects, attempts


def _boards(entries: Iterable[Mapping[str, Any]]) -> Iterable[_Family]:
    running = _Family("gateway_board_running", "gauge", "Whether a paired board runs its graph.")
    for entry in entries:
        state = str(entry.get("state", ""))
        running.add(1.0 if state == "running" else 0.0, board=str(entry.get("id", "")), role=str(entry.get("role", "")))
    return (running,)


def _edges(entries: Iterable[Mapping[str, Any]]) -> Iterable[_Family]:
    counters = {name: _Family(f"gateway_edge_{name}_total", "counter", text) for name, text in _EDGE_COUNTERS.items()}
    gauges = {
        name: _Family(f"gateway_edge_{_SECONDS.get(name, name)}", "gauge", text) for name, text in _EDGE_GAUGES.items()
    }
    for entry in entries:
        for name, family in (counters | gauges).items():
            if name in entry:
                family.add(entry[name], edge=str(entry["id"]))
    return [*counters.values(), *gauges.values()]


def _others(status: Mapping[str, Any]) -> Iterable[_Family]:
    spool = status.get("spool") or {}
    families = []
    for name, text in _SPOOL_GAUGES.items():
        family = _Family(f"gateway_spool_{_SECONDS.get(name, name)}", "gauge", text)
        if name in spool:
            family.add(spool[name])
        families.append(family)
    healthy = _Family("gateway_spool_healthy", "gauge", "Whether the disk takes messages.")
    healthy.add(0.0 if spool.get("problem") else 1.0)
    waiting = _Family("gateway_edges_waiting", "gauge", "Edges of the graph that wait for a role.")
    waiting.add(len(status.get("waiting") or {}))
    left_out = _Family("gateway_edges_refused", "gauge", "Edges of the graph that can't be.")
    left_out.add(len(status.get("refused") or {}))
    discovery = status.get("discovery") or {}
    heard = _Family("gateway_discovery_heard_total", "counter", "Discovery messages understood.")
    heard.add(discovery.get("heard", 0))
    refused = _Family("gateway_discovery_refused_total", "counter", "Discovery messages refused.")
    refused.add(sum((discovery.get("refused") or {}).values()))
    return [*families, healthy, waiting, left_out, heard, refused]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def not_ready(status: Mapping[str, Any]) -> str:
    """Why the gateway can't do its work; empty if it can. A broker that is away is everyday life."""
    return str((status.get("spool") or {}).get("problem") or "")
