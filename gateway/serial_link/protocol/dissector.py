"""Bytes of a line in words: for ``gateway monitor``, for captures, for anybody who looks over the board's shoulder.

A listener has no request of its own to compare answers with; alignment is found by trying where commands make sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import ARGUMENTS, EVENT_ID, Command, Wire, decode, packet_of_event, sent
from gateway.serial_link.protocol.commandformat import (
    EVENTS,
    EXTENSION_REPLY_OF,
    FROM_BOARD,
    REPLIES,
    CommandKind,
    DebugLevel,
    DebugPoint,
    point_text,
)
from gateway.serial_link.protocol.extensions import CHECKSUM_BYTES, Extension, checksum
from gateway.serial_link.protocol.iip_values import error_name
from gateway.serial_link.protocol.replies import judge_packet


class LineDirection(StrEnum):
    """Which way bytes go, seen from the host."""

    TO_BOARD = ">"
    FROM_BOARD = "<"


OPEN = "open"
"""The kind that an opening has in descriptions: on the wire it is a text."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a board's numbers mean, as far as it is known."""

    nodes: Mapping[int, str] = field(default_factory=dict)
    components: Mapping[int, str] = field(default_factory=dict)
    _inports: Mapping[tuple[int, int], str] = field(default_factory=dict)
    _outports: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, library: ComponentLibrary, nodes: Mapping[str, int] | None = None) -> Names:
        """The names of a graph whose nodes have these numbers; without ``nodes``, those of their order (section 7.2)."""
        numbers = nodes or {node.id: number for number, node in enumerate(graph.nodes, 1)}
        inports, outports = {}, {}
        for node in graph.nodes:
            component = library.component(node.component)
            inports.update({(numbers[node.id], port.number): port.id for port in component.inports})
            outports.update({(numbers[node.id], port.number): port.id for port in component.outports})
        kinds = {component.number: name for name, component in library.by_name.items()}
        return cls({number: name for name, number in numbers.items()}, kinds, inports, outports)

    def node(self, number: int) -> str:
        """A node's name, or ``node 3``."""
        return self.nodes.get(number, f"node {number}")

    def inport(self, node: int, port: int) -> str:
        """``lamp.in``, or ``node 3 port 0``."""
        return self._port(node, port, self._inports)

    def outport(self, node: int, port: int) -> str:
        """The same for an outport."""
        return self._port(node, port, self._outports)

    def _port(self, node: int, port: int, known: Mapping[tuple[int, int], str]) -> str:
        name = known.get((node, port))
        return f"{self.node(node)}.{name}" if name else f"{self.node(node)} port {port}"


NAMELESS = Names()


class Dissector:
    """One direction of a line -> commands, and the bytes between that make none. Joins in at any moment.

    Whether commands have checksums is found out by looking: from an answer that turns them on, or from checksums that fit.
    """

    def __init__(self, wire: Wire, way: LineDirection) -> None:
        self._wire = wire
        self._way = way
        self._rest = b""
        self._aligned = False
        self._checks = False
        self._last = b""
        """A command taken for one without a checksum; the byte behind it may tell otherwise."""

    def feed(self, data: bytes) -> list[Command | bytes]:
        """What is whole now, in order; bytes that are no part of a command stand as bytes."""
        self._rest += data
        found: list[Command | bytes] = []
        garbage = bytearray()
        while (size := self._size_here()) is not None:
            if size:
                if garbage:
                    found.append(bytes(garbage))
                    garbage.clear()
                found.append(self._take(size))
            elif self._last and not checksum(self._last + self._rest[:1]):
                self._checks, self._last, self._rest = True, b"", self._rest[1:]
            else:
                self._aligned, self._last = False, b""
                garbage += self._rest[:1]
                self._rest = self._rest[1:]
        if garbage:
            found.append(bytes(garbage))
        return found

    def flush(self) -> list[Command | bytes]:
        """The line is silent: what is left is judged as it is."""
        size = len(self._rest)
        if size in (self._wire.size, self._wire.size + CHECKSUM_BYTES):
            checks = size != self._wire.size
            if self._is_checked(self._rest) if checks else self._makes_sense(self._rest):
                self._checks = checks
                return [self._take(size)]
        rest, self._rest = self._rest, b""
        self._aligned = self._aligned and not rest
        return [rest] if rest else []

    def _take(self, size: int) -> Command:
        self._aligned = True
        unit = decode(self._wire, self._rest[: self._wire.size])
        self._last = self._rest[:size] if size == self._wire.size else b""
        self._rest = self._rest[size:]
        if unit.kind in (CommandKind.EXTENDED, CommandKind.EXTEND):
            self._checks = bool(unit.args[0] & Extension.CHECKSUM)
        return unit

    def _size_here(self) -> int | None:
        """Bytes of the command that begins here; 0: none does; None: that can't be told yet."""
        size, rest = self._wire.size, self._rest
        if len(rest) < size:
            return None
        if self._checks and not self._ends_checks(rest[:size]):
            if len(rest) < size + CHECKSUM_BYTES:
                return None
            if self._is_checked(rest[: size + CHECKSUM_BYTES]):
                return size + CHECKSUM_BYTES
        # Out of step, the command behind must make sense too, if some of it is there already.
        second = b"" if self._aligned and not self._checks else rest[size : 2 * size]
        if 0 < len(second) < size:
            return None
        if self._makes_sense(rest[:size]) and (not second or self._makes_sense(second)):
            self._checks = False
            return size
        return self._size_checked()

    def _size_checked(self) -> int:
        """The same where a command without a checksum makes no sense, or what is behind it."""
        size, rest = self._wire.size + CHECKSUM_BYTES, self._rest
        behind = rest[size : 2 * size]
        if self._is_checked(rest[:size]) and (len(behind) < size or self._is_checked(behind)):
            self._checks = True
            return size
        return 0

    def _is_checked(self, data: bytes) -> bool:
        size = self._wire.size
        return len(data) == size + CHECKSUM_BYTES and not checksum(data) and self._makes_sense(data[:size])

    def _ends_checks(self, data: bytes) -> bool:
        """An opening never has a checksum, nor has its answer, nor what a board says that has restarted."""
        if self._way is LineDirection.TO_BOARD:
            return data.startswith(self._wire.magic)
        unit = decode(self._wire, data)
        restarted = unit.kind == CommandKind.DEBUG_MESSAGE and unit["point"] == DebugPoint.PROGRAM_START
        return unit.kind == CommandKind.COMMUNICATION_OPEN or (restarted and unit.request_id == EVENT_ID)

    def _makes_sense(self, data: bytes) -> bool:
        if self._way is LineDirection.TO_BOARD:
            return data.startswith(self._wire.magic) or decode(self._wire, data).kind in _TO_BOARD
        unit = decode(self._wire, data)
        if unit.kind not in FROM_BOARD:
            return False
        kind = CommandKind(unit.kind)
        if self._wire.request_ids and (kind in EVENTS) != (unit.request_id == EVENT_ID):
            return False
        if kind is CommandKind.PACKET_SENT:
            event = sent(self._wire, unit.args)
            return event.node > 0 and judge_packet(event.kind, event.data)[0]
        return kind in _FREE or not any(unit.args[len(ARGUMENTS[kind]) :])


_FREE = frozenset({CommandKind.PONG, CommandKind.IO_VALUE_CHANGED, CommandKind.SET_IO_VALUE_COMPLETED}) | frozenset(
    {CommandKind.SEND_PACKET_DONE, *EXTENSION_REPLY_OF.values()}
)
"""What a board says with arguments that have no names."""

_TO_BOARD = frozenset({*REPLIES, CommandKind.SET_IO_VALUE})


def fields(wire: Wire, way: LineDirection, unit: Command, names: Names = NAMELESS) -> dict[str, Any]:
    """A command as plain data with a stable shape: ``direction``, ``kind``, ``request_id``, and what belongs to the kind."""
    found: dict[str, Any] = {"direction": "to board" if way is LineDirection.TO_BOARD else "from board"}
    if way is LineDirection.TO_BOARD and _is_opening(wire, unit):
        return {**found, "kind": OPEN, **({"request_id": unit.args[-1]} if wire.request_ids else {})}
    try:
        kind = CommandKind(unit.kind)
    except ValueError:
        return {**found, "kind": f"unknown {unit.kind}", "arguments": unit.args.hex()}
    found["kind"] = kind.name.lower()
    if wire.request_ids and not (way is LineDirection.FROM_BOARD and unit.request_id == EVENT_ID and kind in EVENTS):
        found["request_id"] = unit.request_id
    return {**found, **_details(wire, kind, unit, names)}


def _is_opening(wire: Wire, unit: Command) -> bool:
    head = bytes((unit.request_id, unit.kind)) if wire.request_ids else bytes((unit.kind,))
    return (head + unit.args).startswith(wire.magic)


def _details(wire: Wire, kind: CommandKind, unit: Command, names: Names) -> dict[str, Any]:
    match kind:
        case CommandKind.PACKET_SENT:
            event = sent(wire, unit.args)
            packet = packet_of_event(event.kind, event.data)
            return {"port": names.outport(event.node, event.port), **_value(event.kind, packet)}
        case CommandKind.SEND_PACKET:
            packet = packet_of_event(unit["type"], unit.args[3:7])
            return {"port": names.inport(unit["node"], unit["port"]), **_value(unit["type"], packet)}
        case CommandKind.SEND_PACKET_DONE:
            return {"port": names.inport(unit["node"], unit["port"]), "type": _type_name(unit["type"])}
        case CommandKind.CREATE_COMPONENT | CommandKind.NODE_ADDED:
            number = unit["component"]
            node = {"node": names.node(unit["node"])} if kind is CommandKind.NODE_ADDED else {}
            return {"component": names.components.get(number, f"component {number}"), **node}
        case (
            CommandKind.CONNECT_NODES
            | CommandKind.DISCONNECT_NODES
            | CommandKind.NODES_CONNECTED
            | CommandKind.NODES_DISCONNECTED
        ):
            src, tgt = names.outport(unit["src"], unit["src_port"]), names.inport(unit["tgt"], unit["tgt_port"])
            return {"edge": f"{src} -> {tgt}"}
        case CommandKind.SUBSCRIBE_TO_PORT | CommandKind.PORT_SUBSCRIPTION_CHANGED:
            return {"port": names.outport(unit["node"], unit["port"]), "on": bool(unit["enable"])}
        case CommandKind.REMOVE_NODE | CommandKind.NODE_REMOVED:
            return {"node": names.node(unit["node"])}
        case CommandKind.DEBUG_MESSAGE:
            return {"level": _level_name(unit["level"]), "point": point_text(unit["point"])}
        case CommandKind.CONFIGURE_DEBUG | CommandKind.DEBUG_CHANGED:
            return {"level": _level_name(unit["level"])}
        case CommandKind.ERROR:
            return {"code": unit["code"], "point": point_text(unit["code"])}
        case CommandKind.NETWORK_STATUS:
            return {"running": bool(unit["running"])}
        case CommandKind.PING | CommandKind.PONG:
            return {"arguments": unit.args.hex()}
    return {"arguments": unit.args.hex()} if any(unit.args) else {}


def _value(kind: int, packet: Packet | None) -> dict[str, Any]:
    if packet is None:
        return {"type": _type_name(kind)}
    if packet.type is PacketType.ERROR:
        return {"type": "error", "value": error_name(int(packet.value or 0))}
    return {"type": _type_name(kind), "value": packet.value}


def _type_name(kind: int) -> str:
    return PacketType(kind).name.lower() if kind in list(PacketType) else f"type {kind}"


def _level_name(level: int) -> str:
    return DebugLevel(level).name.lower() if level in list(DebugLevel) else str(level)


def describe(wire: Wire, way: LineDirection, unit: Command, names: Names = NAMELESS) -> str:
    """A command in one line of words, as ``< packet sent thermo.out: 2154 (integer)``."""
    said = fields(wire, way, unit, names)
    words = [f"{way} {str(said['kind']).replace('_', ' ')}"]
    for key in ("port", "edge", "component", "node", "level", "point", "arguments"):
        if key in said:
            words.append(f"as {said[key]}" if key == "node" and "component" in said else str(said[key]))
    if "on" in said:
        words.append("on" if said["on"] else "off")
    if "running" in said:
        words.append("running" if said["running"] else "stopped")
    text = " ".join(words)
    if "value" in said:
        text += f": {_shown(said['value'])} ({said['type']})"
    elif "type" in said:
        text += f" ({said['type']})"
    return f"{text} #{said['request_id']}" if "request_id" in said else text


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
