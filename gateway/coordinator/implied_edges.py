"""Edges that nobody drew, but that are there: two ports with one queue name (reference: msgflo, section 6).

They are shown to clients with the metadata ``implied``, never saved, and can't be taken out: only other queues part the ports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.planner import implied_edges
from gateway.errors import GraphError
from gateway.fbp.runtime.backend import Change, ImpliedEdge
from gateway.model.edits import AddEdge, ChangeEdge, Edit, RemoveEdge
from gateway.model.graph import Edge, Graph, Metadata

FLAG = "implied"
MARKED: Metadata = MappingProxyType({FLAG: True})


class ImpliedEdges:
    """The implied edges between the nodes of graphs, and what was told of them. ``tell`` is how clients hear of changes."""

    def __init__(self, coordinator: Coordinator, tell: Callable[[Change], None]) -> None:
        self._coordinator = coordinator
        self._tell = tell
        self._told: dict[str, dict[str, Edge]] = {}

    def of(self, graph: Graph) -> tuple[Edge, ...]:
        """The implied edges between nodes of a graph."""
        members = [one for one in self._coordinator.everyone() if graph.has_node(one.role)]
        return tuple(replace(edge, metadata=MARKED) for edge in implied_edges(graph, members))

    def along(self, graph: Graph) -> Graph:
        """A graph with its implied edges, to be looked at."""
        found = self.of(graph)
        return replace(graph, order=(*graph.order, *found)) if found else graph

    def refresh(self, graphs: Mapping[str, Graph], *, new: bool) -> None:
        """Tell which implied edges are no more, and with ``new`` which have come.

        While an edit is under way only the former: it is told first that an edge is not implied any more, and then that it
        is drawn, but that one is not drawn any more before that it is implied now.
        """
        for graph_id in [one for one in self._told if one not in graphs]:
            del self._told[graph_id]
        for graph_id, graph in graphs.items():
            there = {str(edge): edge for edge in self.of(graph)}
            told = self._told.setdefault(graph_id, {})
            for name in [name for name in told if name not in there]:
                self._tell(ImpliedEdge(graph_id, told.pop(name), there=False))
            for name in [name for name in there if new and name not in told]:
                told[name] = there[name]
                self._tell(ImpliedEdge(graph_id, there[name], there=True))

    def as_meant(self, graph: Graph, edit: Edit) -> Edit:
        """An edit as it is meant: whoever draws an implied edge draws it, and none is taken out. ``GraphError`` for that."""
        if isinstance(edit, AddEdge) and FLAG in edit.edge.metadata:
            drawn = {key: value for key, value in edit.edge.metadata.items() if key != FLAG}
            return AddEdge(replace(edit.edge, metadata=MappingProxyType(drawn)))
        if isinstance(edit, RemoveEdge | ChangeEdge):
            for edge in self.of(graph):
                if (edge.src, edge.tgt) == (edit.src, edit.tgt):
                    raise GraphError(
                        str(edge),
                        "is implied: both ports have one queue, and nothing is forwarded; other queues part them",
                    )
        return edit
