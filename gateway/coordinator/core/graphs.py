"""The graphs of the coordinator's runtime: the main one, and those that clients make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import GraphError
from gateway.model.graph import Graph

MOST_GRAPHS = 64
"""Graphs besides the main one: test suites make them and leave them behind. They live until the gateway ends."""


@dataclass(slots=True)
class HeldGraph:
    """A graph, and since when (seconds since 1970) its network has been started or stopped; 0: it never was."""

    graph: Graph
    started: bool = False
    since: float = 0.0


def make_room(graphs: dict[str, HeldGraph], main: str, new: str) -> None:
    """See to it that there may be one more graph: stopped and empty ones go first, they are what tests leave behind.

    ``GraphError`` if there are too many.
    """
    if new in graphs or len(graphs) <= MOST_GRAPHS:
        return
    for graph_id, held in graphs.items():
        if graph_id != main and not held.started and not held.graph.nodes:
            del graphs[graph_id]
            return
    raise GraphError(new, f"there are {MOST_GRAPHS} graphs already; empty one with graph:clear, or restart the gateway")


def union(graphs: Iterable[Graph]) -> Graph:
    """The nodes, edges and IIPs of several graphs as one."""
    parts = list(graphs)
    if len(parts) == 1:
        return parts[0]
    return Graph(
        name=parts[0].name if parts else "",
        nodes=tuple(node for part in parts for node in part.nodes),
        order=tuple(entry for part in parts for entry in part.order),
    )
