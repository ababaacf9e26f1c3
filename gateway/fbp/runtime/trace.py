"""A recording of what passed the edges of a graph, as a Flowtrace document."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import msgspec

from gateway.fbp.runtime import payloads
from gateway.fbp.runtime.backend import Data
from gateway.fbp.text.graph_json import to_json
from gateway.model.graph import Graph

BUFFER_BYTES = 256 * 1024
LARGEST_BUFFER_BYTES = 4 * 1024 * 1024
"""What all traces of one client may take; the oldest events go when there is no room."""


class Trace:
    """The newest events within a number of bytes."""

    def __init__(self, room: int = BUFFER_BYTES) -> None:
        self.room = room
        self._events: deque[bytes] = deque()
        self._bytes = 0

    def record(self, change: Data) -> None:
        """One message that passed."""
        payload = payloads.data(change)
        payload["time"] = datetime.fromtimestamp(change.time, UTC).isoformat()
        event = msgspec.json.encode({"protocol": "network", "command": "data", "payload": payload})
        self._events.append(event)
        self._bytes += len(event)
        while self._bytes > self.room:
            self._bytes -= len(self._events.popleft())

    def clear(self) -> None:
        """Forget what was recorded; go on recording."""
        self._events.clear()
        self._bytes = 0

    def dump(self, graph_id: str, graph: Graph) -> str:
        """The document as JSON text: the graph, and the events in order."""
        header = msgspec.json.encode({"metadata": {"type": "flowtrace"}, "graphs": {graph_id: to_json(graph)}}).decode()
        events = ",".join(event.decode() for event in self._events)
        return f'{{"header":{header},"events":[{events}]}}'
