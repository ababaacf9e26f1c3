"""What a strict board refuses that stock firmware takes, and then crashes on, forgets or writes outside of its memory."""

from __future__ import annotations

from gateway.serial_link.protocol.codec import Command
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint
from gateway.simulator.core.network import QUEUE_FULL, Network


class StrictRefusal(Exception):
    """A request can't be done. ``silent``: stock firmware has no answer to it, only a debug message."""

    def __init__(self, point: DebugPoint, *, silent: bool = False) -> None:
        self.point = point
        self.silent = silent


def check_strictly(network: Network, kind: CommandKind, unit: Command) -> None:
    """Raise ``StrictRefusal`` for a request that would do harm (reference: microflo-protocol, sections 5.3 and 6)."""
    match kind:
        case CommandKind.CREATE_COMPONENT:
            _require(unit["parent"] == 0, DebugPoint.ADD_NODE_INVALID_PARENT)
            _require(network.has_room, DebugPoint.OUT_OF_ROOM)
        case CommandKind.CONNECT_NODES:
            _require_nodes(network, unit["src"], unit["tgt"], DebugPoint.NETWORK_CONNECT_INVALID_NODES)
            _require_outport(network, unit["src"], unit["src_port"])
            _require_inport(network, unit["tgt"], unit["tgt_port"])
        case CommandKind.DISCONNECT_NODES:
            _require_nodes(network, unit["src"], unit["tgt"], DebugPoint.NETWORK_CONNECT_INVALID_NODES)
            _require_outport(network, unit["src"], unit["src_port"])
            edge = network.target_of(unit["src"], unit["src_port"])
            _require(edge == (unit["tgt"], unit["tgt_port"]), DebugPoint.NETWORK_CONNECT_INVALID_NODES)
        case CommandKind.SEND_PACKET:
            _require_nodes(network, unit["node"], unit["node"], DebugPoint.SEND_MESSAGE_INVALID_NODE)
            _require_inport(network, unit["node"], unit["port"])
            _require(not network.is_full, QUEUE_FULL)
        case CommandKind.CONNECT_SUBGRAPH_PORT:
            raise StrictRefusal(DebugPoint.SUBGRAPH_CONNECT_NOT_A_SUBGRAPH)


def _require(condition: bool, point: DebugPoint) -> None:
    if not condition:
        raise StrictRefusal(point)


def _require_nodes(network: Network, one: int, other: int, point: DebugPoint) -> None:
    _require(network.node(one) is not None and network.node(other) is not None, point)


def _require_outport(network: Network, number: int, port: int) -> None:
    node = network.node(number)
    _require(node is not None and port in node.outports, DebugPoint.INVALID_PORT)


def _require_inport(network: Network, number: int, port: int) -> None:
    node = network.node(number)
    _require(node is not None and port in node.inport_names, DebugPoint.INVALID_PORT)
