"""Commands <-> bytes. The one module that host and simulator share.

A command is one fixed-size unit on the wire, zero padded, without delimiter, length or checksum (reference:
microflo-protocol, section 2). What differs between wire generations stands in ``Wire``; what differs between kinds of
command in ``ARGUMENTS``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from gateway.errors import LocalProtocolError, RemoteProtocolError
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.commandformat import CommandKind

EVENT_ID = 0
"""The request id of everything a board sends by itself (section 2.1)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire generation, and the whole table of what differs between them (sections 1 and 5.4).

    ``size`` in bytes; ``baud`` is what its stock firmware runs at.
    """

    name: str
    size: int
    magic: bytes
    request_ids: bool
    """Requests carry an id that the answer repeats, and a refusal is an ERROR answer."""
    baud: int
    event_bytes: int
    """Bytes of a packet's value that a PACKET_SENT event carries: with 2, integers are cut to 16 bits."""
    echoes_ping: bool
    has_status: bool
    """GET_NETWORK_STATUS exists."""
    keeps_debug_level: bool
    """CONFIGURE_DEBUG has an effect; otherwise the level stays ERROR for ever."""
    clear_stops: bool
    """CLEAR_NODES stops the network too."""
    setup_at_start: bool
    """START_NETWORK gives every component a Setup packet, which makes some of them forget their state."""
    last_known: int
    """Ids above it are reported as "invalid" commands, others that are no command as "unknown"."""

    @property
    def argument_size(self) -> int:
        """How many bytes of a command are arguments."""
        return self.size - (2 if self.request_ids else 1)


W10 = Wire("w10", 10, b"microflo1", True, 115200, 4, True, True, True, False, False, 118)
W8_06 = Wire("w8-0.6", 8, b"uC/Flo01", False, 115200, 2, False, True, False, False, False, 118)
W8_04 = Wire("w8-0.4", 8, b"uC/Flo01", False, 9600, 2, False, False, False, True, True, 117)

WIRES: Mapping[str, Wire] = MappingProxyType({wire.name: wire for wire in (W10, W8_06, W8_04)})


@dataclass(frozen=True, slots=True)
class Command:
    """One unit on the wire: the request id (0: event), the kind, and the argument bytes.

    ``kind`` is a plain number where it is none of ``CommandKind``: what comes from the wire may be anything. ``args``
    may be shorter than the wire's argument field; the rest is zero.
    """

    request_id: int
    kind: int
    args: bytes = b""

    def __getitem__(self, name: str) -> int:
        """The argument of this name, as ``ARGUMENTS`` has it for the kind; of a PACKET_SENT see ``sent``."""
        index = ARGUMENTS[CommandKind(self.kind)].index(name)
        return self.args[index] if index < len(self.args) else 0


_PACKET_IN = ("node", "port", "type")
_EDGE = ("src", "tgt", "src_port", "tgt_port")
_EDGE_REPLY = ("src", "src_port", "tgt", "tgt_port")
_SUBGRAPH = ("is_output", "subgraph", "subgraph_port", "child", "child_port")

ARGUMENTS: Mapping[CommandKind, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(CommandKind, ()),
        CommandKind.CREATE_COMPONENT: ("component", "parent"),
        CommandKind.CONNECT_NODES: _EDGE,
        CommandKind.SEND_PACKET: _PACKET_IN,
        CommandKind.CONFIGURE_DEBUG: ("level",),
        CommandKind.SUBSCRIBE_TO_PORT: ("node", "port", "enable"),
        CommandKind.CONNECT_SUBGRAPH_PORT: _SUBGRAPH,
        CommandKind.DISCONNECT_NODES: _EDGE,
        CommandKind.REMOVE_NODE: ("node",),
        CommandKind.NODE_ADDED: ("component", "node", "parent"),
        CommandKind.NODES_CONNECTED: _EDGE_REPLY,  # another order than in the request (section 5.1)
        CommandKind.PACKET_SENT: ("node", "port"),  # the rest differs between generations: ``sent``
        CommandKind.DEBUG_CHANGED: ("level",),
        CommandKind.DEBUG_MESSAGE: ("level", "point"),
        CommandKind.PORT_SUBSCRIPTION_CHANGED: ("node", "port", "enable"),
        CommandKind.SUBGRAPH_PORT_CONNECTED: _SUBGRAPH,
        CommandKind.ERROR: ("code",),
        CommandKind.SEND_PACKET_DONE: _PACKET_IN,
        CommandKind.NODES_DISCONNECTED: _EDGE_REPLY,
        CommandKind.NODE_REMOVED: ("node",),
        CommandKind.NETWORK_STATUS: ("running",),
        CommandKind.DESCRIBE: ("offset_low", "offset_high"),
        CommandKind.EXTEND: ("wanted",),
        CommandKind.GRANT: ("count_low", "count_high"),
        CommandKind.COUNTERS: ("page",),
        CommandKind.DESCRIPTION: ("size",),
        CommandKind.EXTENDED: ("active", "known"),
        CommandKind.GRANTED: ("count_low", "count_high", "room"),
    }
)
"""The names of the leading argument bytes, kind by kind (sections 5.1, 5.2). Packet data follow the named ones."""


def command(kind: CommandKind, request_id: int = EVENT_ID, data: bytes = b"", **arguments: int) -> Command:
    """A command from named arguments, each 0..255, and the ``data`` bytes that follow them.

    Raises ``LocalProtocolError`` for a name the kind doesn't have, a missing one, or a value that is no byte.
    """
    names = ARGUMENTS[kind]
    if set(arguments) != set(names):
        raise LocalProtocolError(f"{kind.name} takes {names or 'no arguments'}, not {tuple(arguments)}")
    try:
        return Command(request_id, kind, bytes(arguments[name] for name in names) + data)
    except ValueError:
        raise LocalProtocolError(f"{kind.name}: every argument is one byte, got {arguments}") from None


def encode(wire: Wire, unit: Command) -> bytes:
    """The bytes of a command, zero padded to the wire's size. ``LocalProtocolError`` if they don't fit."""
    if len(unit.args) > wire.argument_size:
        raise LocalProtocolError(f"{len(unit.args)} argument bytes don't fit into a {wire.name} command")
    if not 0 <= unit.request_id <= 255 or not 0 <= unit.kind <= 255:
        raise LocalProtocolError(f"request id {unit.request_id} or kind {unit.kind} is no byte")
    head = bytes((unit.request_id, unit.kind)) if wire.request_ids else bytes((unit.kind,))
    return (head + unit.args).ljust(wire.size, b"\0")


def decode(wire: Wire, data: bytes) -> Command:
    """One command from exactly ``wire.size`` bytes. Anything decodes; the framer judges whether it makes sense."""
    if len(data) != wire.size:
        raise LocalProtocolError(f"a {wire.name} command has {wire.size} bytes, not {len(data)}")
    if wire.request_ids:
        return Command(data[0], data[1], data[2:])
    return Command(EVENT_ID, data[0], data[1:])


def opening(wire: Wire, request_id: int) -> bytes:
    """The opening command: the magic, then the request id in the last byte where the wire has ids (section 2.1)."""
    return wire.magic + bytes((request_id,)) if wire.request_ids else wire.magic


_INT32 = struct.Struct("<i")
_FLOAT32 = struct.Struct("<f")


def packet_data(packet: Packet) -> bytes:
    """The payload bytes of a packet, little endian (section 4.1). ``LocalProtocolError`` for a float too large."""
    match packet.type, packet.value:
        case PacketType.INTEGER, int() as whole:
            return _INT32.pack(whole)
        case PacketType.FLOAT, float() as number:
            try:
                return _FLOAT32.pack(number)
            except OverflowError:
                raise LocalProtocolError(f"{number} does not fit into a 32-bit float") from None
        case _, None:
            return b""
        case _, value:
            return bytes((int(value),))


def packet_from(kind: int, data: bytes) -> Packet:
    """The packet of a type byte and its 4 data bytes, or the 2 of an event on the 8-byte wires (section 4.2).

    Raises ``RemoteProtocolError`` for a type that can't be transferred, and for a float in 2 bytes.
    """
    match kind:
        case PacketType.INTEGER:
            return Packet(PacketType.INTEGER, int.from_bytes(data, "little", signed=True))
        case PacketType.FLOAT if len(data) == _FLOAT32.size:
            return Packet(PacketType.FLOAT, _FLOAT32.unpack(data)[0])
        case PacketType.BOOLEAN:
            return Packet(PacketType.BOOLEAN, data[0] != 0)
        case PacketType.BYTE | PacketType.ERROR:
            return Packet(PacketType(kind), data[0])
        case PacketType.VOID | PacketType.BRACKET_START | PacketType.BRACKET_END:
            return Packet(PacketType(kind))
    raise RemoteProtocolError(f"packet type {kind} can't be transferred in {len(data)} bytes")


def send_packet(request_id: int, node: int, port: int, packet: Packet) -> Command:
    """SendPacket of one packet to a node's inport."""
    return command(CommandKind.SEND_PACKET, request_id, packet_data(packet), node=node, port=port, type=packet.type)


def set_io_value(kind: int, pin: int, value: int) -> Command:
    """SetIoValue of a simulated pin: ``kind`` 1 analog, 2 digital (section 11: a format of our own firmware)."""
    return Command(EVENT_ID, CommandKind.SET_IO_VALUE, bytes((kind, pin)) + _INT32.pack(value))


class Sent(NamedTuple):
    """A PACKET_SENT event. ``data`` has 4 bytes, or 2 on the 8-byte wires; ``has_target`` is a guess on those."""

    node: int
    port: int
    has_target: bool
    kind: int
    data: bytes


def sent(wire: Wire, args: bytes) -> Sent:
    """The parts of a PACKET_SENT event. Without a target the 8-byte wires repeat the source (section 5.2)."""
    if wire.event_bytes == 4:
        return Sent(args[0], args[1], args[2] != 0, args[3], args[4:8])
    return Sent(args[0], args[1], args[2:4] != args[:2], args[4], args[5:7])


def sent_arguments(wire: Wire, node: int, port: int, target: tuple[int, int] | None, packet: Packet) -> bytes:
    """The arguments of a PACKET_SENT event: what ``sent`` takes apart."""
    data = packet_data(packet)[: wire.event_bytes]
    if wire.event_bytes == 4:
        return bytes((node, port, target is not None, packet.type)) + data
    return bytes((node, port, *(target or (node, port)), packet.type)) + data


@lru_cache(maxsize=4096)
def packet_of_event(kind: int, data: bytes) -> Packet | None:
    """The packet in a PACKET_SENT event; None for a type that can't be transferred, or not in these bytes.

    Packets are frozen and readings repeat themselves: the same one is given again.
    """
    try:
        return packet_from(kind, data)
    except RemoteProtocolError:
        return None


def packet_sent(unit: Command, wire: Wire = W10) -> Packet | None:
    """The packet in a PACKET_SENT command; None where ``packet_of_event`` has none."""
    event = sent(wire, unit.args.ljust(wire.argument_size, b"\0"))
    return packet_of_event(event.kind, event.data)
