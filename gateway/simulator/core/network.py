"""The network of a board: nodes, edges, the message queue, ticks (reference: microflo-protocol, sections 5.3, 6 and 8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.model.component import Component
from gateway.model.packet import Packet
from gateway.serial_link.protocol.commandformat import DebugPoint
from gateway.simulator.core.components import COMPONENTS, Pins, SimulatedComponent

QUEUE_FULL = DebugPoint.QUEUE_FULL
"""What strict firmware says of a message that finds no room."""


class Crashed(Exception):
    """What would crash or damage stock firmware: the rule that was broken, in plain words."""


@dataclass(slots=True)
class _Outport:
    target: int = 0
    target_port: int = 0
    subscribed: bool = False


@dataclass(slots=True)
class SimulatedNode:
    """One instance. ``outports`` by number."""

    component: Component
    behaviour: SimulatedComponent
    outports: dict[int, _Outport]
    inport_names: dict[int, str]


@dataclass(frozen=True, slots=True)
class _Message:
    packet: Packet
    source: int = 0
    source_port: int = 0
    target: int = 0
    target_port: int = 0
    sequence: int = 0


@dataclass(slots=True)
class Statistics:
    """What left each outport since the last clear, by (node, port)."""

    sent: dict[tuple[int, int], int] = field(default_factory=dict)


Report = Callable[[int, int, tuple[int, int] | None, Packet, int], None]
"""A packet left a subscribed outport: node, port, target node and port if it has one, packet, its number (1 to 127)."""

Wakes = Callable[[float], float | None]
"""From when on packets may be reported, if that was asked for now; where it is later, the network stands still until then."""

LAST_SEQUENCE = 127

Complain = Callable[[DebugPoint], None]
"""The network reports something at level Error."""


class Network:
    """Nodes are numbered from 1; a number is never used again until ``clear``. Limits are those of the build."""

    def __init__(
        self,
        pins: Pins,
        report: Report,
        complain: Complain = lambda point: None,
        *,
        kinds: Mapping[str, type[SimulatedComponent]] = COMPONENTS,
        max_nodes: int = 50,
        max_messages: int = 50,
        strict: bool = False,
        wakes: Wakes | None = None,
    ) -> None:
        self.pins = pins
        self.reported = 0
        """Packets of subscribed ports since the start."""
        self.lost = 0
        """Packets that found the queue full; counted by a strict network only."""
        self._wakes = wakes
        self._sequence = 0
        self._complain = complain
        self._kinds = kinds
        self._strict = strict
        self.running = False
        self.statistics = Statistics()
        self._report = report
        self._max_nodes = max_nodes
        self._max_messages = max_messages
        self._nodes: dict[int, SimulatedNode] = {}
        self._next = 1
        self._queue: deque[_Message] = deque()
        self._now = 0.0

    # -- commands --------------------------------------------------------------------------------------------------

    @property
    def next_id(self) -> int:
        """The number of the node that is made next."""
        return self._next

    @property
    def is_full(self) -> bool:
        """Whether one more waiting message would be one too many."""
        return len(self._queue) >= self._max_messages - 2

    @property
    def room(self) -> int:
        """How many more messages may wait."""
        return max(0, self._max_messages - 2 - len(self._queue))

    @property
    def has_room(self) -> bool:
        """Whether one more node fits."""
        return self._next < self._max_nodes

    def start(self, *, setup: bool) -> None:
        """Run. With ``setup`` every node is told so first, and some forget their state."""
        self.running = True
        if setup:
            for node in self._nodes.values():
                node.behaviour.setup()

    def clear(self) -> None:
        """No nodes, no messages; running or stopped as before."""
        self._nodes.clear()
        self._queue.clear()
        self._next = 1
        self.statistics = Statistics()
        self.pins.writes.clear()

    def node(self, number: int) -> SimulatedNode | None:
        """The node, or None where it was removed or never was."""
        return self._nodes.get(number)

    def create(self, component: Component) -> int:
        """A new node's number."""
        if self._next >= self._max_nodes:
            raise Crashed(f"node {self._next}: the build has room for {self._max_nodes - 1}, and its memory is damaged")
        number = self._next
        self._next += 1
        kind = self._kinds[component.name]
        names = {port.id: port.number for port in component.outports}

        def send(port: str, packet: Packet) -> None:
            if port in names:
                self._emit(number, names[port], packet)
            else:
                self._complain(DebugPoint.COMPONENT_SEND_INVALID_PORT)

        self._nodes[number] = SimulatedNode(
            component,
            kind(send, self.pins),
            {port.number: _Outport() for port in component.outports},
            {port.number: port.id for port in component.inports},
        )
        return number

    def connect(self, src: int, src_port: int, tgt: int, tgt_port: int) -> None:
        """One target an outport; a second one replaces it."""
        port = self._outport(src, src_port, "connect")
        port.target, port.target_port = (tgt, tgt_port) if self.node(tgt) else (0, 0)

    def target_of(self, src: int, src_port: int) -> tuple[int, int] | None:
        """Where an outport leads; None where it is not connected."""
        port = self._outport(src, src_port, "look")
        return (port.target, port.target_port) if port.target else None

    def disconnect(self, src: int, src_port: int) -> None:
        """Whatever the outport had goes, and its subscription."""
        port = self._outport(src, src_port, "disconnect")
        port.target, port.subscribed = 0, False

    def _outport(self, number: int, port: int, what: str) -> _Outport:
        node = self._nodes.get(number)
        if node is None:
            raise Crashed(f"{what}: source node {number} was removed or is the next free one")
        if port not in node.outports:
            raise Crashed(f"{what}: outport {port} of node {number} is out of range: memory outside is written")
        return node.outports[port]

    def remove(self, number: int) -> None:
        """Edges into it stay in stock firmware: the next packet over one of them crashes. A strict one takes them away."""
        del self._nodes[number]
        if self._strict:
            for node in self._nodes.values():
                for port in node.outports.values():
                    if port.target == number:
                        port.target = port.target_port = 0
            self._queue = deque(message for message in self._queue if number not in (message.source, message.target))

    def push(self, number: int, port: int, packet: Packet) -> None:
        """A packet from the host. It waits while the network is stopped."""
        self._enqueue(_Message(packet, target=number, target_port=port))

    # -- running ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """One turn: what is due, then what was queued before; what that emits waits for the next turn."""
        if not self.running:
            return
        self._now = now
        if self._wakes is not None:
            if not self._deliver_while_it_may(now, self._wakes):
                return
        else:
            batch, self._queue = self._queue, deque()
            for message in batch:
                self._deliver(message)
        for node in list(self._nodes.values()):
            due = node.behaviour.due
            if due is not None and now >= due:
                node.behaviour.tick(now)

    def _deliver_while_it_may(self, now: float, wakes: Wakes) -> bool:
        """What was queued before this turn. False: the host's credit is used up, and everything stands still."""
        for _ in range(len(self._queue)):
            if self._queue[0].sequence and wakes(now) != now:
                return False
            self._deliver(self._queue.popleft())
        return True

    @property
    def deadline(self) -> float | None:
        """When the next turn has something to do; None while stopped or at rest. 0: at once."""
        if not self.running:
            return None
        if self._queue:
            return self._wakes(0.0) if self._wakes is not None and self._queue[0].sequence else 0.0
        return min(
            (node.behaviour.due for node in self._nodes.values() if node.behaviour.due is not None), default=None
        )

    def _deliver(self, message: _Message) -> None:
        if message.source:
            node = self._nodes.get(message.source)
            port = node.outports.get(message.source_port) if node else None
            if port is not None and port.subscribed:
                target_of = (message.target, message.target_port) if message.target else None
                self._report(message.source, message.source_port, target_of, message.packet, message.sequence)
        if not message.target:
            return
        target = self._nodes.get(message.target)
        if target is None:
            raise Crashed(f"a packet for node {message.target}, which was removed or never was")
        name = target.inport_names.get(message.target_port)
        if name is not None:
            target.behaviour.receive(name, message.packet, self._now)
        else:
            target.behaviour.receive_odd(message.packet)

    def _emit(self, number: int, port_number: int, packet: Packet) -> None:
        port = self._nodes[number].outports[port_number]
        key = (number, port_number)
        self.statistics.sent[key] = self.statistics.sent.get(key, 0) + 1
        if port.subscribed:  # numbered before it can be lost, so that the host sees the gap
            self.reported += 1
            self._sequence = self._sequence % LAST_SEQUENCE + 1
        sequence = self._sequence if port.subscribed else 0
        self._enqueue(_Message(packet, number, port_number, port.target, port.target_port, sequence))

    def _enqueue(self, message: _Message) -> None:
        if self._strict and self.is_full:
            self.lost += 1
            self._complain(QUEUE_FULL)
            return
        self._queue.append(message)
        if len(self._queue) >= self._max_messages - 1:
            self._queue.clear()  # the ring looks empty to the firmware: all are lost, and nobody is told (section 6)
