"""Graph + registry -> bindings. Pure: the same graph and the same participants give the same plan.

An edge whose target role was never seen becomes a binding without a target: it counts as down, and what mode allows
waits in the spool. An edge whose source was never seen has no address to take from, so it gives no binding, and the
plan says for whom it waits. An edge that can't work (a port that its participant doesn't have, a contract that nobody can
keep, a circle) is refused with the reason, and holds up no other: who announces nonsense harms himself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gateway.coordinator.core.delivery_contracts import EdgeSettings, contract_of
from gateway.coordinator.core.import_export import ImportExport
from gateway.coordinator.core.registry import Registry
from gateway.coordinator.core.wiring_nodes import WiringNode, check_wiring, find_circle, junctions, plain_edges
from gateway.errors import GraphError, PortUnknown
from gateway.model.address import Address, amqp_exchange, amqp_queue, intake_queue, mqtt, serial
from gateway.model.binding import Binding, BindingKind, Contract
from gateway.model.graph import Edge, Graph, Iip
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef, PortRef
from gateway.model.topic import topic_problem

Members: TypeAlias = Callable[[str], list[Participant]]


@dataclass(frozen=True, slots=True)
class PlannedIip:
    """Data for one inport of one participant; delivered once for every appearance of that participant."""

    participant: Participant
    address: Address
    iip: Iip


@dataclass(frozen=True, slots=True)
class Plan:
    """What the router and the brokers should do, what is still waited for (edge -> why), and what can't be."""

    bindings: tuple[Binding, ...]
    iips: tuple[PlannedIip, ...]
    waiting: Mapping[str, str]
    refused: Mapping[str, GraphError] = field(default_factory=dict)


class _Draft:
    """A plan in the making."""

    def __init__(self) -> None:
        self.bindings: dict[str, Binding] = {}
        self.waiting: dict[str, str] = {}
        self.refused: dict[str, GraphError] = {}
        self._of_graph: set[str] = set()

    def add(self, edge: str, bindings: Iterable[Binding]) -> None:
        """The bindings of an edge; those that come before its error are not made either."""
        try:
            made = list(bindings)
        except GraphError as exc:
            self.refused.setdefault(edge, exc)
            return
        for binding in made:
            self.bindings.setdefault(binding.id, binding)

    def graph_ends(self) -> None:
        """What is added from now on is no edge of the graph."""
        self._of_graph = set(self.bindings)

    def break_circles(self) -> None:
        """Of every circle the last edge of the graph is refused: the one that was added when it still was none."""
        while circle := find_circle(self.bindings.values()):
            order = {binding_id: number for number, binding_id in enumerate(self.bindings)}
            ours = [binding for binding in circle if binding.id in self._of_graph] or circle
            last = max(ours, key=lambda binding: order[binding.id])
            names = ", ".join(binding.label or binding.id for binding in circle)
            name = last.label or last.id
            self.refused[name] = GraphError(name, f"these edges forward in a circle, without end: {names}")
            del self.bindings[last.id]


@dataclass(frozen=True, slots=True)
class _End:
    """One participant's port as an end of an edge. ``suffix`` sets several participants of a role apart."""

    address: Address
    suffix: str

    @property
    def place(self) -> tuple[str, str]:
        """An AMQP inport's queue is bound to the exchange of its name: the two are one place."""
        return self.address.transport, self.address.name


class Planner:
    """Makes plans for one gateway. ``instance`` is part of the names of its queues."""

    def __init__(self, instance: str, settings: EdgeSettings, border: ImportExport | None = None) -> None:
        self._instance = instance
        self._settings = settings
        self.border = border or ImportExport(instance, settings)

    def plan(self, graph: Graph, registry: Registry, boards: Iterable[Participant]) -> Plan:
        """Everything the graph and the boards' own topics ask for."""
        known = list(boards)
        members = _members(registry, known)
        draft = _Draft()
        for edge in plain_edges(graph):
            draft.add(str(edge), self._edge(edge, members, draft.waiting))
        for junction in junctions(graph):
            self._junction(junction, members, registry, draft)
        draft.graph_ends()
        for board in known:
            for port in (*board.outports, *board.inports):
                draft.add(f"{board.role}.{port.id}", self._topic(board, port))
        draft.add("amqp.export, amqp.import", self.border.bindings(known, registry))
        draft.break_circles()
        return Plan(
            _retaining(draft.bindings.values(), known),
            tuple(_iips(graph, members, draft)),
            draft.waiting,
            draft.refused,
        )

    def _edge(self, edge: Edge, members: Members, waiting: dict[str, str]) -> Iterable[Binding]:
        sources = _ends(edge.src, Direction.OUT, members)
        targets = _ends(edge.tgt, Direction.IN, members)
        if not targets:
            waiting[str(edge)] = f"waits for role {edge.tgt.node}"
        if not sources:
            waiting[str(edge)] = f"waits for role {edge.src.node}"
            contract_of(edge, self._settings, amqp_queue(""))  # what is wrong whoever comes is said now
        for source in sources:
            for target in targets or (None,):
                by_broker = source.address.transport == "amqp" == (target.address.transport if target else "")
                contract = contract_of(edge, self._settings, source.address, by_broker=by_broker)
                binding = self._binding(edge, source, target, contract)
                if binding is not None:
                    yield binding

    def _junction(self, junction: WiringNode, members: Members, registry: Registry, draft: _Draft) -> None:
        """What meets in a wiring node. PubSub is plain edges from each source to each target."""
        letters = self._letters(junction, members, draft)
        targets = _shared_ends(junction, members, registry, draft)
        for edge in junction.sources:
            if not junction.targets:
                draft.waiting[str(edge)] = f"{junction.name} leads nowhere"
            elif junction.kind is BindingKind.PUBSUB:
                for onward in junction.targets:
                    whole = replace(edge, tgt=onward.tgt)
                    draft.add(str(whole), self._copies(whole, members, letters, draft.waiting))
            else:
                draft.add(str(edge), self._round_robin(edge, junction, members, targets, letters, draft.waiting))

    def _copies(
        self, edge: Edge, members: Members, letters: Address | None, waiting: dict[str, str]
    ) -> Iterable[Binding]:
        for binding in self._edge(edge, members, waiting):
            yield replace(binding, contract=_with_letters(binding.contract, letters))

    def _round_robin(
        self,
        edge: Edge,
        junction: WiringNode,
        members: Members,
        targets: Mapping[Address, int],
        letters: Address | None,
        waiting: dict[str, str],
    ) -> Iterable[Binding]:
        sources = _ends(edge.src, Direction.OUT, members)
        if not sources:
            waiting[str(edge)] = f"waits for role {edge.src.node}"
        for address, count in targets.items():
            if address.transport == "mqtt" and count > 1:
                waiting[str(edge)] = (
                    f"{count} participants share the topic {address.name}: each of them gets every message"
                )
        roles = ", ".join(dict.fromkeys(onward.tgt.node for onward in junction.targets))
        if not targets:
            waiting[str(edge)] = f"waits for role {roles}"
        for source in sources:
            binding_id = f"{edge.src}{source.suffix}->{edge.tgt}"
            addresses = tuple(address for address in targets if address != source.address)
            one = addresses[0] if len(addresses) == 1 else None
            by_broker = source.address.transport == "amqp" and one is not None and one.transport == "amqp"
            contract = contract_of(edge, self._settings, source.address, by_broker=by_broker)
            yield Binding(
                id=binding_id,
                src=source.address,
                tgt=one,
                contract=_with_letters(contract, letters),
                kind=BindingKind.ROUNDROBIN,
                intake=self._intake(binding_id) if source.address.transport == "amqp" and not by_broker else None,
                waits_for="" if addresses else roles,
                label=str(edge),
                targets=addresses if len(addresses) > 1 else (),
            )

    @staticmethod
    def _letters(junction: WiringNode, members: Members, draft: _Draft) -> Address | None:
        edge = junction.dead_letters
        if edge is None:
            return None
        try:
            ends = _ends(edge.tgt, Direction.IN, members)
        except GraphError as exc:
            draft.refused[str(edge)] = exc
            return None
        if not ends:
            draft.waiting[str(edge)] = f"waits for role {edge.tgt.node}"
        return ends[0].address if ends else None

    def _binding(self, edge: Edge, source: _End, target: _End | None, contract: Contract) -> Binding | None:
        if target is not None and source.place == target.place:
            return None  # equal queue names: connected as it is, forwarding would loop
        src_name, tgt_name = f"{edge.src}{source.suffix}", f"{edge.tgt}{target.suffix if target else ''}"
        binding_id = f"{src_name}->{tgt_name}"
        by_broker = source.address.transport == "amqp" == (target.address.transport if target else "")
        return Binding(
            id=binding_id,
            src=source.address,
            tgt=target.address if target else None,
            contract=contract,
            intake=self._intake(binding_id) if source.address.transport == "amqp" and not by_broker else None,
            waits_for="" if target else edge.tgt.node,
            label=str(edge),
        )

    def _intake(self, binding_id: str) -> Address:
        return intake_queue(self._instance, binding_id)

    def _topic(self, board: Participant, port: PortDef) -> Iterator[Binding]:
        """A board's MQTT topics are served whether or not an edge names them."""
        own, topic, name = serial(board.id, port.id), mqtt(port.queue), f"{board.role}.{port.id}"
        src, tgt = (own, topic) if port.direction is Direction.OUT else (topic, own)
        label = f"{name}->{topic}" if port.direction is Direction.OUT else f"{topic}->{name}"
        yield Binding(f"{src}->{tgt}", src, tgt, self._settings.of_port(src, port.delivery, name), label=label)


def _retaining(bindings: Iterable[Binding], boards: Iterable[Participant]) -> tuple[Binding, ...]:
    """What the ports' own topics retain. An edge of the graph between the same two ends brings its messages there first, and
    the port's own binding only duplicates: so both retain.
    """
    retained = {
        (serial(board.id, port.id), mqtt(port.queue)) for board in boards for port in board.outports if port.retained
    }
    return tuple(replace(one, retain=True) if (one.src, one.tgt) in retained else one for one in bindings)


def _with_letters(contract: Contract, letters: Address | None) -> Contract:
    """The dead letter edge of a wiring node holds unless the edge itself names a place."""
    return contract if letters is None or contract.deadletter is not None else replace(contract, deadletter=letters)


def _shared_ends(junction: WiringNode, members: Members, registry: Registry, draft: _Draft) -> dict[Address, int]:
    """Everyone who shares the work of a round robin, and how many participants have that queue: those that are alive, or
    all where nobody is.
    """
    if junction.kind is not BindingKind.ROUNDROBIN:
        return {}

    def living(role: str) -> list[Participant]:
        everyone = members(role)
        return [one for one in everyone if one.transport == "serial" or not registry.is_gone(one)] or everyone

    found: dict[Address, int] = {}
    for edge in junction.targets:
        try:
            _ends(edge.tgt, Direction.IN, members)  # names a port that is known not to exist
        except GraphError as exc:
            draft.refused[str(edge)] = exc
            continue
        for participant in living(edge.tgt.node):
            port = participant.port(Direction.IN, edge.tgt.port)
            if port is not None and _can_take(participant, port):
                address = port_address(participant, port, Direction.IN)
                found[address] = found.get(address, 0) + 1
    return found


def _members(registry: Registry, boards: list[Participant]) -> Members:
    """Role -> participants. Boards of ours first, in the order of their pairing; their own echoes on MQTT left out."""
    own = {board.id for board in boards}
    by_role: dict[str, list[Participant]] = {}
    for one in (*boards, *(other for other in registry.everyone() if other.id not in own)):
        by_role.setdefault(one.role, []).append(one)
    return lambda role: by_role.get(role, [])


def _ends(ref: PortRef, direction: Direction, members: Members) -> list[_End]:
    participants = members(ref.node)
    ends: list[_End] = []
    missing: Participant | None = None
    unfit = ""
    for participant in participants:
        port = participant.port(direction, ref.port)
        if port is None:
            missing = participant
            continue
        if direction is Direction.IN and not _can_take(participant, port):
            unfit = port.queue
            continue
        address = port_address(participant, port, direction)
        if all(end.address != address for end in ends):
            key = participant.id if participant.transport == "serial" else port.queue
            ends.append(_End(address, f"@{key}" if ends else ""))
    if unfit and not ends:
        raise GraphError(str(ref), f"its topic {unfit} is none to publish on")
    if missing is not None and not ends:
        ports = missing.inports if direction is Direction.IN else missing.outports
        known = ", ".join(port.id for port in ports) or "none"
        raise PortUnknown(str(ref), f"role {ref.node} has no {direction}port {ref.port} (it has: {known})")
    return ends


def _can_take(participant: Participant, inport: PortDef) -> bool:
    """Whether anything can be sent there: on MQTT topics with wildcards, and those of the broker itself, take nothing."""
    if participant.transport != "mqtt":
        return True
    return not topic_problem(inport.queue) and not inport.queue.startswith("$")


def port_address(participant: Participant, port: PortDef, direction: Direction) -> Address:
    """Where a participant's port is reached: a board directly, an AMQP outport by its exchange."""
    if participant.transport == "serial":
        return serial(participant.id, port.id)
    if participant.transport == "mqtt":
        return mqtt(port.queue)
    return amqp_exchange(port.queue) if direction is Direction.OUT else amqp_queue(port.queue)


def _iips(graph: Graph, members: Members, draft: _Draft) -> Iterator[PlannedIip]:
    for iip in graph.iips:
        try:
            _ends(iip.tgt, Direction.IN, members)
        except GraphError as exc:
            draft.refused[f"data -> {iip.tgt}"] = exc
            continue
        for participant in members(iip.tgt.node):
            port = participant.port(Direction.IN, iip.tgt.port)
            if port is not None and _can_take(participant, port):
                yield PlannedIip(participant, port_address(participant, port, Direction.IN), iip)


def implied_edges(graph: Graph, participants: Iterable[Participant]) -> Iterator[Edge]:
    """Edges that nobody drew, but that are there: an outport and an inport of two roles with one queue name."""
    drawn = {(edge.src.node, edge.src.port, edge.tgt.node, edge.tgt.port) for edge in graph.edges}
    inports: dict[tuple[str, str], dict[PortRef, None]] = {}
    outports: dict[PortRef, tuple[str, str]] = {}
    for one in participants:
        side = "mqtt" if one.transport == "serial" else one.transport
        for port in one.inports:
            inports.setdefault((side, port.queue), {})[PortRef(one.role, port.id)] = None
        for port in one.outports:
            outports[PortRef(one.role, port.id)] = (side, port.queue)
    for src, place in outports.items():
        for tgt in inports.get(place, ()):
            if (src.node, src.port, tgt.node, tgt.port) not in drawn:
                yield Edge(src, tgt)


def check_graph(graph: Graph, source: str) -> None:
    """Refuse what this coordinator can't carry, before anything starts, naming the place."""
    check_wiring(graph, source)
