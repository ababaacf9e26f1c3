"""From a graph to what has to be wired between queues (reference: msgflo, sections 3 and 4).

A core. ``msgflo/RoundRobin`` nodes are wiring themselves: what goes in goes to one consumer of the target queue, and
what is nacked there goes to the queue at the node's port ``deadletter``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle

from gateway.model.address import amqp_exchange, amqp_queue
from gateway.model.binding import Binding, BindingKind, Contract
from gateway.model.graph import Graph
from gateway.model.port import PortRef

ROUND_ROBIN = "msgflo/RoundRobin"
WIRING = (ROUND_ROBIN, "msgflo/PubSub")
DEAD_LETTER_PORT = "deadletter"


class QueueBindingKind(StrEnum):
    """How messages are shared out; a dead letter wire goes from an inport to where its refused messages go."""

    PUBSUB = "pubsub"
    ROUNDROBIN = "roundrobin"
    DEADLETTER = "deadletter"


@dataclass(frozen=True, slots=True)
class QueueBinding:
    """One wish: everything from ``src`` to ``tgt``."""

    kind: QueueBindingKind
    src: PortRef
    tgt: PortRef


def wires_of(graph: Graph) -> tuple[QueueBinding, ...]:
    """The wires of a graph: plain edges in its order, then those of each RoundRobin, dead letters first."""
    wiring = {node.id for node in graph.nodes if node.component in WIRING}
    plain = [
        QueueBinding(QueueBindingKind.PUBSUB, edge.src, edge.tgt)
        for edge in graph.edges
        if edge.src.node not in wiring and edge.tgt.node not in wiring
    ]
    shared = [wire for node in graph.nodes if node.id in wiring for wire in _through(graph, node.id, node.component)]
    return (*plain, *shared)


def _through(graph: Graph, node: str, component: str) -> Iterator[QueueBinding]:
    sources = [edge.src for edge in graph.edges if edge.tgt.node == node]
    targets = [edge.tgt for edge in graph.edges if edge.src.node == node and edge.src.port.lower() != DEAD_LETTER_PORT]
    dead = [edge.tgt for edge in graph.edges if edge.src.node == node and edge.src.port.lower() == DEAD_LETTER_PORT]
    kind = QueueBindingKind.ROUNDROBIN if component == ROUND_ROBIN else QueueBindingKind.PUBSUB
    for target in targets:
        yield from (QueueBinding(QueueBindingKind.DEADLETTER, target, letter) for letter in dead)
        yield from (QueueBinding(kind, source, target) for source in sources)


def roles_of(wires: Iterable[QueueBinding]) -> tuple[str, ...]:
    """The roles at the ends of wires, each once."""
    return tuple(dict.fromkeys(role for wire in wires for role in (wire.src.node, wire.tgt.node)))


QueuesOf = Callable[[PortRef, bool], Sequence[str]]
"""From a port, and whether it is an inport, to the queues of all participants that have it."""


def static_queues(ref: PortRef, _: bool) -> Sequence[str]:
    """MsgFlo's naming rule for those who name no queue: ``role.PORT``."""
    return (f"{ref.node}.{ref.port.upper()}",)


@dataclass(frozen=True, slots=True)
class Joint:
    """A wire between queues. ``targets`` has several queues where each message goes to one of them."""

    kind: QueueBindingKind
    source: str
    targets: tuple[str, ...]


def joints_of(wires: Iterable[QueueBinding], queues: QueuesOf) -> tuple[Joint, ...]:
    """Wires between the queues of the participants there are: all of a role get a copy, or share."""
    joints: dict[Joint, None] = {}
    for wire in wires:
        for source in queues(wire.src, wire.kind is QueueBindingKind.DEADLETTER):
            targets = tuple(dict.fromkeys(queues(wire.tgt, True)))
            groups = [targets] if wire.kind is QueueBindingKind.ROUNDROBIN else [(target,) for target in targets]
            joints.update((Joint(wire.kind, source, group), None) for group in groups if group)
    return tuple(joints)


def joint_lines(joints: Iterable[Joint]) -> list[str]:
    """How ``msgflo-setup`` tells them, tab for tab."""
    names = {
        QueueBindingKind.PUBSUB: "PUBSUB: ",
        QueueBindingKind.ROUNDROBIN: "ROUNDROBIN:",
        QueueBindingKind.DEADLETTER: "DEADLETTER:",
    }
    return [f"{names[joint.kind]}\t {joint.source} -> {target}" for joint in joints for target in joint.targets]


def amqp_bindings(joints: Sequence[Joint]) -> list[Binding]:
    """Joints as edges that an AMQP broker carries itself: from exchange to queue, nacked messages to another queue."""
    letters = {joint.source: joint.targets[0] for joint in joints if joint.kind is QueueBindingKind.DEADLETTER}
    made = []
    for joint in joints:
        if joint.kind is QueueBindingKind.DEADLETTER:
            continue
        for target in joint.targets:
            letter = letters.get(target)
            contract = Contract(deadletter=amqp_queue(letter) if letter else None)
            name = f"{joint.source}->{target}"
            kind = BindingKind.ROUNDROBIN if joint.kind is QueueBindingKind.ROUNDROBIN else BindingKind.PUBSUB
            made.append(Binding(name, amqp_exchange(joint.source), amqp_queue(target), contract, kind, label=name))
    return made


class Forwarding:
    """Where messages of an MQTT topic go: a copy to each target, or to one of several in turn."""

    def __init__(self, joints: Iterable[Joint]) -> None:
        self._turns: dict[str, list[Iterator[str]]] = {}
        for joint in joints:
            targets = [target for target in joint.targets if target != joint.source]
            if joint.kind is not QueueBindingKind.DEADLETTER and targets:
                self._turns.setdefault(joint.source, []).append(cycle(targets))

    @property
    def sources(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return tuple(self._turns)

    def next_targets(self, source: str) -> list[str]:
        """The topics that this message of ``source`` goes to."""
        return [next(turn) for turn in self._turns.get(source, ())]


def iips_by_role(graph: Graph) -> Mapping[str, Mapping[str, object]]:
    """The IIPs of each node: port -> data, the last one wins."""
    found: dict[str, dict[str, object]] = {}
    for iip in graph.iips:
        found.setdefault(iip.tgt.node, {})[iip.tgt.port] = iip.data
    return found
