"""How many messages of a live graph one client is shown: a sample where there are more than it could read."""

from __future__ import annotations

from collections.abc import Hashable

PER_EDGE = 25.0
PER_CLIENT = 200.0
"""Messages a second; as many may come at once."""

MOST_EDGES = 4096
"""Edges whose rate is remembered; beyond it all start anew."""


class Sampler:
    """Lets messages of each edge, and of all together, through up to a rate. A busy edge does not hide a quiet one."""

    def __init__(self, per_edge: float = PER_EDGE, per_client: float = PER_CLIENT) -> None:
        self._per_edge = per_edge
        self._all = _Bucket(per_client)
        self._edges: dict[Hashable, _Bucket] = {}
        self.left_out = 0

    def passes(self, edge: Hashable, now: float) -> bool:
        """Whether a message of this edge is shown at ``now`` (monotonic seconds)."""
        bucket = self._edges.get(edge)
        if bucket is None:
            if len(self._edges) >= MOST_EDGES:
                self._edges.clear()
            bucket = self._edges[edge] = _Bucket(self._per_edge)
        if bucket.has_one(now) and self._all.has_one(now):
            bucket.take()
            self._all.take()
            return True
        self.left_out += 1
        return False


class _Bucket:
    """Fills at ``rate`` a second, up to as much."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = rate
        self._at: float | None = None

    def has_one(self, now: float) -> bool:
        if self._at is not None:
            self._level = min(self._rate, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        return self._level >= 1.0

    def take(self) -> None:
        self._level -= 1.0
