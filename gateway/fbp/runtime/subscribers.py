"""What every backend keeps: who listens to what happens, and which client wants which edges told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from gateway.fbp.runtime.backend import Change, Ends, Listener

log = logging.getLogger(__name__)


class Listeners:
    """Tells everybody what happens, in order. A listener that fails harms no other."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell this one too, until the function that is returned is called."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def tell(self, change: Change) -> None:
        """Something happened."""
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception:  # the others must hear of it all the same
                log.exception("a listener failed at %s", type(change).__name__)


class Subscribers:
    """Which edges of which graph any client wants told."""

    def __init__(self) -> None:
        self._by_client: dict[str, dict[str, frozenset[Ends] | None]] = {}

    def set(self, client: str, graph_id: str, edges: Collection[Ends] | None) -> None:
        """From now on ``client`` wants these edges of a graph (None: all of them)."""
        wanted = self._by_client.setdefault(client, {})
        if edges is None or edges:
            wanted[graph_id] = None if edges is None else frozenset(edges)
        else:
            wanted.pop(graph_id, None)
        if not wanted:
            del self._by_client[client]

    def drop(self, client: str) -> None:
        """A client is gone."""
        self._by_client.pop(client, None)

    def wants(self, graph_id: str, ends: Ends) -> bool:
        """Whether somebody wants an edge."""
        for graphs in self._by_client.values():
            edges = graphs.get(graph_id, frozenset())
            if edges is None or ends in edges:
                return True
        return False
