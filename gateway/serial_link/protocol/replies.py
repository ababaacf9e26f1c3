"""What an answer must look like, given its request. The wire has no checksum: this, the zero padding and the few values
that events may have are all that tells a damaged command from a good one (reference: microflo-protocol, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import Command, Wire, packet_of_event
from gateway.serial_link.protocol.commandformat import EXTENSION_REPLY_OF, REPLIES, CommandKind, DebugPoint

_ANYWHERE = frozenset({DebugPoint.PARSER_UNKNOWN_COMMAND, DebugPoint.PARSER_INVALID_COMMAND, DebugPoint.NOT_SUPPORTED})
_EDGE = frozenset({DebugPoint.NETWORK_CONNECT_INVALID_NODES})

REFUSALS: Mapping[CommandKind, frozenset[DebugPoint]] = MappingProxyType(
    {
        **dict.fromkeys(CommandKind, _ANYWHERE),
        CommandKind.CREATE_COMPONENT: _ANYWHERE
        | {DebugPoint.ADD_NODE_INVALID_INSTANCE, DebugPoint.ADD_NODE_INVALID_PARENT},
        CommandKind.CONNECT_NODES: _ANYWHERE | _EDGE,
        CommandKind.DISCONNECT_NODES: _ANYWHERE | _EDGE,
        CommandKind.SEND_PACKET: _ANYWHERE
        | {DebugPoint.SEND_MESSAGE_INVALID_NODE, DebugPoint.PARSER_UNKNOWN_PACKET_TYPE},
        CommandKind.SUBSCRIBE_TO_PORT: _ANYWHERE
        | {DebugPoint.SUBSCRIBE_PORT_INVALID_NODE, DebugPoint.SUBSCRIBE_PORT_INVALID_PORT},
        CommandKind.REMOVE_NODE: _ANYWHERE
        | {DebugPoint.REMOVE_NODE_INVALID_INSTANCE, DebugPoint.REMOVE_NODE_INVALID_PARENT},
        CommandKind.CONNECT_SUBGRAPH_PORT: _ANYWHERE
        | {DebugPoint.SUBGRAPH_CONNECT_INVALID_NODES, DebugPoint.SUBGRAPH_CONNECT_NOT_A_SUBGRAPH},
        CommandKind.SET_IO_VALUE: _ANYWHERE
        | {
            DebugPoint.IO_OPERATION_NOT_IMPLEMENTED,
            DebugPoint.IO_FAILURE,
            DebugPoint.IO_INVALID_VALUE_SET,
            DebugPoint.UNKNOWN_IO_TYPE,
        },
    }
)
"""Debug points that a wire without ERROR answers sends in the place of one, by request (section 5.4).

Other points (NOT_IMPLEMENTED before a bracket, a component's own complaints) come from the running network.
"""

FALSE_SUCCESS: Mapping[int, DebugPoint] = MappingProxyType(
    {
        CommandKind.SEND_PACKET: DebugPoint.SEND_MESSAGE_INVALID_NODE,
        CommandKind.CONNECT_SUBGRAPH_PORT: DebugPoint.SUBGRAPH_CONNECT_NOT_A_SUBGRAPH,
    }
)
"""Refusals that the 8-byte wires follow with the good answer all the same (section 5.4)."""

_KEPT = frozenset(PacketType) - {PacketType.FLOAT}


def fits(wire: Wire, request: Command, kind: int, args: bytes) -> bool:
    """Whether this can be the answer to ``request``: kind, the repeated arguments, and zeros behind them."""
    if kind == CommandKind.ERROR:
        return wire.request_ids and args[0] > 0 and not any(args[1:])
    asked = CommandKind(request.kind)
    if asked is CommandKind.SET_IO_VALUE:
        return kind == CommandKind.SET_IO_VALUE_COMPLETED
    if kind != REPLIES[asked]:
        return False
    if asked in EXTENSION_REPLY_OF:
        return True
    given = request.args.ljust(wire.argument_size, b"\0")
    match asked:
        case CommandKind.PING:
            return not wire.echoes_ping or args == given
        case CommandKind.CREATE_COMPONENT:
            return args[0] == given[0] and args[1] > 0 and args[2] == given[1] and not any(args[3:])
        case CommandKind.GET_NETWORK_STATUS:
            return args[0] <= 1 and not any(args[1:])
        case CommandKind.SEND_PACKET:
            # W10 says void where it made void of a float or of a type that is none (section 4.2).
            same = args[2] == given[2] or (given[2] not in _KEPT and args[2] == PacketType.VOID)
            return args[:2] == given[:2] and same and not any(args[3:])
    return args == _repeated(asked, given).ljust(wire.argument_size, b"\0")


def _repeated(asked: CommandKind, given: bytes) -> bytes:
    match asked:
        case CommandKind.CONNECT_NODES | CommandKind.DISCONNECT_NODES:
            return bytes((given[0], given[2], given[1], given[3]))
        case CommandKind.SUBSCRIBE_TO_PORT:
            return given[:2] + bytes((given[2] != 0,))
        case CommandKind.CONNECT_SUBGRAPH_PORT:
            return given[:5]
        case CommandKind.CONFIGURE_DEBUG | CommandKind.REMOVE_NODE:
            return given[:1]
    return b""


@lru_cache(maxsize=4096)
def judge_packet(kind: int, data: bytes) -> tuple[bool, Packet | None]:
    """Whether an event can carry this type and data, and its packet; None for a type that can't be transferred.

    Values that a board can't send mean a damaged or shifted command. Readings repeat themselves, hence the cache.
    """
    if kind in (PacketType.INTEGER, PacketType.FLOAT):
        good = True
    elif kind == PacketType.BOOLEAN:
        good = data[0] <= 1 and not any(data[1:])
    elif kind in (PacketType.BYTE, PacketType.ERROR):
        good = not any(data[1:])
    else:
        # Void and brackets carry nothing; 0 to 2 are internal, 12 to 100 pointers: reported with data 0 (section 4.2).
        good = kind <= 100 and kind != 5 and not any(data)
    return good, packet_of_event(kind, data) if good else None
