"""A MicroFlo board: parser, commands and replies around its network. Bytes and time in, bytes out.

Stock behaviour of all three wire generations, byte for byte (reference: microflo-protocol, sections 4 to 6 and 9), except
that where stock firmware crashes or damages its memory the board stops, and ``crashed`` says which rule was broken. A
``strict`` board answers what is wrong with an error instead, and takes and reports what stock firmware can't.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import RemoteProtocolError
from gateway.model.component import Component, ComponentLibrary
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import (
    EVENT_ID,
    W10,
    Command,
    Wire,
    command,
    encode,
    packet_from,
    sent_arguments,
)
from gateway.serial_link.protocol.commandformat import EXTENSION_REPLY_OF, REPLY_OF, CommandKind, DebugLevel, DebugPoint
from gateway.serial_link.protocol.extensions import Extension, checked
from gateway.simulator.core.components import COMPONENTS, Pins, SimulatedComponent
from gateway.simulator.core.network import Crashed, Network
from gateway.simulator.core.our_firmware import OurFirmware, Told
from gateway.simulator.core.parser import OurParser, Parser
from gateway.simulator.core.strictness import StrictRefusal, check_strictly

MOST_TURNS = 64
"""Turns of the network in one ``tick``: a self-loop must not hold the process."""

_NOT_REPORTED = frozenset({PacketType.BYTE})
_BRACKETS = frozenset({PacketType.BRACKET_START, PacketType.BRACKET_END})


class Board:
    """One board from reset on. ``embedded`` is the command stream compiled into its firmware; ``kinds`` are the
    components that it can make, if the library has a number for them. ``told``: it offers what our own firmware does.
    """

    def __init__(
        self,
        library: ComponentLibrary,
        pins: Pins | None = None,
        *,
        wire: Wire = W10,
        embedded: bytes = b"",
        now: float = 0.0,
        max_nodes: int = 50,
        max_messages: int = 50,
        strict: bool = False,
        told: Told | None = None,
        kinds: Mapping[str, type[SimulatedComponent]] = COMPONENTS,
    ) -> None:
        self.pins = pins or Pins()
        self.crashed = ""
        self.packets_in = 0
        self.wire = wire
        self._strict = strict
        self._ours = OurFirmware(told) if told is not None else None
        self._out = bytearray()
        self._level: int = DebugLevel.ERROR
        self._executed = False
        self._by_number: dict[int, Component] = {
            component.number: component for name, component in library.by_name.items() if name in kinds
        }
        self.network = Network(
            self.pins,
            self._report,
            lambda point: self._debug(DebugLevel.ERROR, point),
            kinds=kinds,
            max_nodes=max_nodes,
            max_messages=max_messages,
            strict=strict,
            wakes=self._ours.wakes if self._ours is not None else None,
        )
        self._parser = self._make_parser()
        if embedded:
            self.receive(embedded, now)
            if strict:
                self._out.clear()  # answers to nobody
        if self._ours is not None:
            self._ours.own_graph = bool(embedded)
            self._parser.close()
            self._say(command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.INFO, point=DebugPoint.PROGRAM_START))

    def _make_parser(self) -> Parser | OurParser:
        ours = self._ours
        if ours is None:
            return Parser(self.wire, self._opened, self._execute, self._debug)

        def checks() -> bool:
            return Extension.CHECKSUM in ours.active

        return OurParser(self.wire, self._opened, self._execute, self._debug, self._damaged, checks)

    # -- bytes -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the host. A turn of the network comes after every whole command, as on a real board."""
        if self._ours is not None and data:
            self._ours.heard(now)
        for byte in data:
            if self.crashed:
                return
            try:
                self._parser.feed(byte)
                if self._executed:
                    self._executed = False
                    self.network.tick(now)
            except Crashed as exc:
                self.crashed = str(exc)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Let the network run until it is at rest, or for so many turns."""
        for _ in range(MOST_TURNS):
            due = self.network.deadline
            if self.crashed or due is None or due > now:
                return
            try:
                self.network.tick(now)
            except Crashed as exc:
                self.crashed = str(exc)

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""
        return None if self.crashed else self.network.deadline

    def data_to_send(self) -> bytes:
        """Bytes for the host, once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def statistics(self) -> dict[str, int]:
        """Packets that left each outport since the last clear, as ``NUMBER.PORT``."""
        return {f"{node}.{port}": count for (node, port), count in self.network.statistics.sent.items()}

    def set_input(self, pin: int, value: int) -> None:
        """Somebody outside changes an input pin."""
        self.pins.inputs[pin] = value

    # -- what the board says ---------------------------------------------------------------------------------------

    def _say(self, unit: Command) -> None:
        data = encode(self.wire, unit)
        self._out += checked(data) if self._ours is not None and Extension.CHECKSUM in self._ours.active else data

    def _debug(self, level: DebugLevel, point: DebugPoint) -> None:
        if level <= self._level:
            self._say(command(CommandKind.DEBUG_MESSAGE, EVENT_ID, level=level, point=point))

    def _damaged(self) -> None:
        """Nothing is obeyed from there on, until the host opens again."""
        if self._ours is not None:
            self._ours.bad_checksums += 1
        self._debug(DebugLevel.ERROR, DebugPoint.BAD_CHECKSUM)

    def _report(self, node: int, port: int, target: tuple[int, int] | None, packet: Packet, sequence: int) -> None:
        if not self._strict and self._is_unreported(packet):
            self._debug(DebugLevel.ERROR, DebugPoint.NOT_IMPLEMENTED)
            if packet.type in _NOT_REPORTED:
                packet = Packet(packet.type, 0)
        args = sent_arguments(self.wire, node, port, target, packet)
        if self._ours is not None:
            args = self._ours.reported(args, sequence)
        self._say(Command(EVENT_ID, CommandKind.PACKET_SENT, args))

    def _is_unreported(self, packet: Packet) -> bool:
        """Stock firmware can't report a byte's value, and complains of brackets on the older wires (section 4.2)."""
        return packet.type in _NOT_REPORTED or (packet.type in _BRACKETS and self.wire.event_bytes == 2)

    def _opened(self, request_id: int) -> None:
        if self._ours is not None:
            self._ours.opened()
        self._debug(DebugLevel.DETAILED, DebugPoint.MAGIC_MATCHED)
        self._say(command(CommandKind.COMMUNICATION_OPEN, request_id))

    # -- commands --------------------------------------------------------------------------------------------------

    def _execute(self, unit: Command) -> None:
        self._executed = True
        if self._ours is not None and unit.kind in EXTENSION_REPLY_OF:
            self._say(self._ours.answer(unit, self.network))
            self._ours.agree(unit)
            return
        try:
            kind = self._known(unit)
            if self._strict:
                check_strictly(self.network, kind, unit)
            arguments = self._obey(kind, unit)
        except StrictRefusal as refused:
            self._refuse(unit, refused)
            return
        self._answer(kind, unit, arguments)
        if self._ours is not None:
            self._ours.obeyed(kind)
        if kind is CommandKind.END:
            self._parser.close()

    def _known(self, unit: Command) -> CommandKind:
        if unit.kind > self.wire.last_known:
            raise StrictRefusal(DebugPoint.PARSER_INVALID_COMMAND, silent=True)
        if unit.kind == CommandKind.SET_IO_VALUE:
            if self._strict:
                return CommandKind.SET_IO_VALUE
            raise StrictRefusal(DebugPoint.IO_OPERATION_NOT_IMPLEMENTED, silent=True)
        if unit.kind not in REPLY_OF or (unit.kind == CommandKind.GET_NETWORK_STATUS and not self.wire.has_status):
            raise StrictRefusal(DebugPoint.PARSER_UNKNOWN_COMMAND, silent=True)
        return CommandKind(unit.kind)

    def _refuse(self, unit: Command, refused: StrictRefusal) -> None:
        """An ERROR answer where the wire has them, a debug message elsewhere, and for what has no answer at all."""
        if self._ours is not None:
            self._ours.refused_sends += refused.point == DebugPoint.QUEUE_FULL
        if self.wire.request_ids and (self._strict or not refused.silent):
            self._say(command(CommandKind.ERROR, unit.request_id, code=refused.point))
            return
        self._debug(DebugLevel.ERROR, refused.point)
        false_success = (DebugPoint.SEND_MESSAGE_INVALID_NODE, DebugPoint.SUBGRAPH_CONNECT_NOT_A_SUBGRAPH)
        if refused.point in false_success and not self._strict:  # only the older wires come here (section 5.4)
            kind = CommandKind(unit.kind)
            count = 3 if kind is CommandKind.SEND_PACKET else 5
            self._say(Command(unit.request_id, REPLY_OF[kind], unit.args[:count]))

    def _answer(self, kind: CommandKind, unit: Command, arguments: dict[str, int]) -> None:
        match kind:
            case CommandKind.SET_IO_VALUE:
                self._say(Command(unit.request_id, CommandKind.SET_IO_VALUE_COMPLETED, unit.args[:6]))
            case CommandKind.PING:
                self._say(Command(unit.request_id, CommandKind.PONG, unit.args if self.wire.echoes_ping else b""))
            case _:
                credit = self._ours is not None and Extension.CREDIT in self._ours.active
                room = bytes((self.network.room,)) if credit and kind is CommandKind.SEND_PACKET else b""
                self._say(command(REPLY_OF[kind], unit.request_id, room, **arguments))

    def _obey(self, kind: CommandKind, unit: Command) -> dict[str, int]:
        """Do it; the arguments of the reply."""
        match kind:
            case CommandKind.CLEAR_NODES:
                self.network.clear()
                self.network.running = self.network.running and not self.wire.clear_stops
            case CommandKind.END:
                self._debug(DebugLevel.DETAILED, DebugPoint.END_OF_TRANSMISSION)
            case CommandKind.START_NETWORK:
                self.network.start(setup=self.wire.setup_at_start)
            case CommandKind.STOP_NETWORK:
                self.network.running = False
            case CommandKind.GET_NETWORK_STATUS:
                return {"running": int(self.network.running)}
            case CommandKind.CONFIGURE_DEBUG:
                if self.wire.keeps_debug_level:
                    self._level = unit["level"]
                return {"level": unit["level"]}
            case CommandKind.CREATE_COMPONENT:
                return self._create(unit)
            case CommandKind.CONNECT_NODES | CommandKind.DISCONNECT_NODES:
                return self._edge(kind, unit)
            case CommandKind.SEND_PACKET:
                return self._packet(unit)
            case CommandKind.SUBSCRIBE_TO_PORT:
                return self._subscribe(unit)
            case CommandKind.REMOVE_NODE:
                if self.network.node(unit["node"]) is None:
                    raise StrictRefusal(DebugPoint.REMOVE_NODE_INVALID_INSTANCE)
                self.network.remove(unit["node"])
                return {"node": unit["node"]}
            case CommandKind.CONNECT_SUBGRAPH_PORT:
                return self._subgraph(unit)
            case CommandKind.SET_IO_VALUE:
                self.set_input(unit.args[1], int.from_bytes(unit.args[2:6], "little", signed=True))
        return {}

    def _create(self, unit: Command) -> dict[str, int]:
        component = self._by_number.get(unit["component"])
        if component is None:
            raise StrictRefusal(DebugPoint.ADD_NODE_INVALID_INSTANCE)
        if unit["parent"] > self.network.next_id:
            raise StrictRefusal(DebugPoint.ADD_NODE_INVALID_PARENT)
        self._debug(DebugLevel.DETAILED, DebugPoint.COMPONENT_CREATE_START)
        number = self.network.create(component)
        self._debug(DebugLevel.DETAILED, DebugPoint.COMPONENT_CREATE_END)
        return {"component": component.number, "node": number, "parent": unit["parent"]}

    def _edge(self, kind: CommandKind, unit: Command) -> dict[str, int]:
        ends = {name: unit[name] for name in ("src", "src_port", "tgt", "tgt_port")}
        if any(not 1 <= unit[end] <= self.network.next_id for end in ("src", "tgt")):
            raise StrictRefusal(DebugPoint.NETWORK_CONNECT_INVALID_NODES)
        if kind is CommandKind.CONNECT_NODES:
            if unit["tgt"] == self.network.next_id and not self.wire.request_ids:
                raise Crashed(f"connect: target node {unit['tgt']} is the next free one")
            self._debug(DebugLevel.DETAILED, DebugPoint.CONNECT_NODES_START)
            self.network.connect(unit["src"], unit["src_port"], unit["tgt"], unit["tgt_port"])
        else:
            self.network.disconnect(unit["src"], unit["src_port"])
        return ends

    def _packet(self, unit: Command) -> dict[str, int]:
        if not 1 <= unit["node"] <= self.network.next_id:
            raise StrictRefusal(DebugPoint.SEND_MESSAGE_INVALID_NODE)
        packet = self._received(unit["type"], unit.args[3:7].ljust(4, b"\0"))
        self.packets_in += 1
        self.network.push(unit["node"], unit["port"], packet)
        kind = packet.type if self.wire.request_ids else unit["type"]  # the older wires repeat what was asked
        return {"node": unit["node"], "port": unit["port"], "type": kind}

    def _received(self, kind: int, data: bytes) -> Packet:
        """What stock firmware makes of a packet from the host: a float and every unknown type become void."""
        if kind == PacketType.FLOAT and not self._strict:
            return Packet(PacketType.VOID)
        try:
            return packet_from(kind, data)
        except RemoteProtocolError:
            if self._strict:
                raise StrictRefusal(DebugPoint.PARSER_UNKNOWN_PACKET_TYPE) from None
            return Packet(PacketType.VOID)

    def _subscribe(self, unit: Command) -> dict[str, int]:
        node = self.network.node(unit["node"])
        if node is None:
            raise StrictRefusal(DebugPoint.SUBSCRIBE_PORT_INVALID_NODE)
        port = node.outports.get(unit["port"])
        if port is None:
            raise StrictRefusal(DebugPoint.SUBSCRIBE_PORT_INVALID_PORT)
        port.subscribed = bool(unit["enable"])
        return {"node": unit["node"], "port": unit["port"], "enable": int(port.subscribed)}

    def _subgraph(self, unit: Command) -> dict[str, int]:
        ends = (unit["subgraph"], unit["child"])
        if any(not 1 <= end <= self.network.next_id for end in ends):
            raise StrictRefusal(DebugPoint.SUBGRAPH_CONNECT_INVALID_NODES)
        if any(self.network.node(end) is None for end in ends):
            raise Crashed(f"subgraph port: node {ends} was removed or is the next free one")
        raise StrictRefusal(DebugPoint.SUBGRAPH_CONNECT_NOT_A_SUBGRAPH)
