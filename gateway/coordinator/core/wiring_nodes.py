"""``msgflo/RoundRobin`` and ``msgflo/PubSub`` nodes: no participants, but how edges that meet in them are wired.

An edge into such a node is a source, one out of it a target, one out of its port ``DEADLETTER`` names where its dead
letters go (as MsgFlo reads it: the names of the other ports don't matter).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from gateway.errors import GraphError
from gateway.model.binding import Binding, BindingKind
from gateway.model.graph import Edge, Graph

WIRING: Mapping[str, BindingKind] = {
    "msgflo/RoundRobin": BindingKind.ROUNDROBIN,
    "msgflo/PubSub": BindingKind.PUBSUB,
}

DEADLETTER = "deadletter"


@dataclass(frozen=True, slots=True)
class WiringNode:
    """The edges that meet in one wiring node."""

    name: str
    kind: BindingKind
    sources: tuple[Edge, ...]
    targets: tuple[Edge, ...]
    dead_letters: Edge | None


def is_wiring(component: str) -> bool:
    """Whether a node of this component is wiring, and no process takes part for it."""
    return component in WIRING


def junctions(graph: Graph) -> Iterator[WiringNode]:
    """The wiring nodes with what meets in them."""
    for node in graph.nodes:
        kind = WIRING.get(node.component)
        if kind is None:
            continue
        outgoing = [edge for edge in graph.edges if edge.src.node == node.id]
        letters = [edge for edge in outgoing if edge.src.port.lower() == DEADLETTER]
        yield WiringNode(
            node.id,
            kind,
            tuple(edge for edge in graph.edges if edge.tgt.node == node.id),
            tuple(edge for edge in outgoing if edge.src.port.lower() != DEADLETTER),
            letters[0] if letters else None,
        )


def plain_edges(graph: Graph) -> Iterator[Edge]:
    """The edges between participants."""
    wiring = {node.id for node in graph.nodes if is_wiring(node.component)}
    return (edge for edge in graph.edges if edge.src.node not in wiring and edge.tgt.node not in wiring)


def check_wiring(graph: Graph, source: str) -> None:
    """``GraphError`` for wiring that means nothing, naming the place."""
    wiring = {node.id: node.component for node in graph.nodes if is_wiring(node.component)}
    for edge in graph.edges:
        if edge.src.node in wiring and edge.tgt.node in wiring:
            raise GraphError(f"{source}: {edge}", "joins two wiring nodes; connect the participants to one of them")
    for iip in graph.iips:
        if iip.tgt.node in wiring:
            raise GraphError(
                f"{source}: {iip.tgt}", f"{wiring[iip.tgt.node]} is wiring and takes no data; send it to a participant"
            )
    for junction in junctions(graph):
        letters = [
            edge for edge in graph.edges if edge.src.node == junction.name and edge.src.port.lower() == DEADLETTER
        ]
        if len(letters) > 1:
            raise GraphError(f"{source}: {letters[1]}", f"{junction.name} has a dead letter target already")


Place = tuple[str, str]
"""A transport and a name on it. An AMQP inport's queue and the exchange of its name are one place."""


def find_circle(bindings: Iterable[Binding]) -> list[Binding]:
    """Bindings that alone bring a message back to where it came from; none if there are no such.

    By queue names, whoever has them: a circle through a participant is feedback, and allowed, for its inport and its
    outport are two queues.
    """
    steps: dict[tuple[Place, Place], Binding] = {}
    before: dict[Place, set[Place]] = {}
    for binding in bindings:
        start = (binding.src.transport, binding.src.name)
        for end in binding.ends:
            place = (end.transport, end.name)
            steps.setdefault((start, place), binding)
            before.setdefault(place, set()).add(start)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as exc:
        places: list[Place] = exc.args[1]
        return list(dict.fromkeys(steps[pair] for pair in pairwise(places)))
    return []
