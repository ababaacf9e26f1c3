"""What a board with our firmware tells of itself (docs/firmware.md): written into a build, read by the gateway.

The board gives a stream of bytes in pieces of seven: 14 bytes of head (size and CRC of the document, the board's id,
flags, what was wrong with the built-in graph), then the document in CBOR. Stock firmware knows none of this.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway.errors import RemoteProtocolError
from gateway.formats import cbor
from gateway.model.component import Component, ComponentLibrary
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.port import Direction, PortDef, PortRef
from gateway.serial_link.protocol.codec import Command, command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.json_values import check_scale

VERSION = 1
"""Of the document. A reader takes any that is not newer."""

MARKER = b"mfdescr1"
"""Stands before size, CRC and document in the image of a firmware, so that a file can be asked what is in it."""

HEAD_SIZE = 14
MOST_BYTES = 16 * 1024
"""Of a document: about 2500 requests. Our largest build has 1 KiB."""

OWN_GRAPH = 1
"""Flag: the graph on the board is still the one that is built in."""

TYPES = ("any", "bang", "boolean", "integer", "number")
"""Types of ports, by the number that stands in the document; another type stands there as text."""


@dataclass(frozen=True, slots=True)
class FirmwareLimits:
    """What the build has room for; ``receive_bytes`` is what a host may send before it waits for an answer."""

    nodes: int
    messages: int
    outports: int
    receive_bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What is the same for every board with this build. ``ports`` says of exported ports what the graph can't."""

    firmware: str
    version: str
    board: str
    library: ComponentLibrary
    limits: FirmwareLimits
    graph: Graph | None = None
    ports: Mapping[str, PortDef] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """A board's answer. ``id`` in hex is no other board's; ``own_graph``: the built-in graph still is what it has.

    ``start_problem`` is the debug point at which the built-in graph was wrong, 0 where it was not.
    """

    id: str
    description: Description
    own_graph: bool = False
    start_problem: int = 0


# -- writing ---------------------------------------------------------------------------------------------------------


def encode_description(description: Description) -> bytes:
    """The document as it is built into a firmware."""
    limits = description.limits
    document: dict[str, Any] = {
        "v": VERSION,
        "firmware": [description.firmware, description.version],
        "board": description.board,
        "limits": [limits.nodes, limits.messages, limits.outports, limits.receive_bytes],
        "components": [
            [component.number, component.name, _ports(component.inports), _ports(component.outports)]
            for component in sorted(description.library.by_name.values(), key=lambda component: component.number)
        ],
    }
    if description.graph is not None:
        document["graph"] = _graph(description.graph, description)
    return cbor.dumps(document)


def _ports(ports: Sequence[PortDef]) -> list[Any]:
    """Name after name, with the type behind each where it is not "any"; a port's number is its place."""
    return [
        port.id if port.type == "any" else [port.id, _type(port.type)]
        for port in sorted(ports, key=lambda port: port.number)
    ]


def _type(name: str) -> int | str:
    return TYPES.index(name) if name in TYPES else name


def _graph(graph: Graph, description: Description) -> dict[str, Any]:
    library = description.library
    numbers = {node.id: number for number, node in enumerate(graph.nodes, 1)}

    def place(ref: PortRef, direction: Direction) -> list[int]:
        component = library.component(graph.node(ref.node).component)
        return [numbers[ref.node], component.port(direction, ref.port).number]

    def export(entry: Export, direction: Direction) -> list[Any]:
        said = description.ports.get(entry.name)
        meaning = [] if said is None else [_type(said.type), said.scale, said.unit]
        return [entry.name, *place(entry.ref, direction), *meaning]

    edges = [[*place(edge.src, Direction.OUT), *place(edge.tgt, Direction.IN)] for edge in graph.edges]
    return {
        "name": graph.name,
        "nodes": [[node.id, library.component(node.component).number] for node in graph.nodes],
        "edges": bytes(number for edge in edges for number in edge),
        "iips": [[*place(iip.tgt, Direction.IN), iip.data] for iip in graph.iips],
        "in": [export(entry, Direction.IN) for entry in graph.inports],
        "out": [export(entry, Direction.OUT) for entry in graph.outports],
    }


def image_block(document: bytes) -> bytes:
    """What is built into a firmware: the marker, size and CRC of the document, the document."""
    checksum = binascii.crc_hqx(document, 0xFFFF)
    return MARKER + len(document).to_bytes(2, "little") + checksum.to_bytes(2, "little") + document


def document_in(image: bytes) -> bytes | None:
    """The document in the image of a firmware; None where there is none that is whole."""
    at = image.find(MARKER)
    while at >= 0:
        start = at + len(MARKER)
        size, checksum = (int.from_bytes(image[start + n : start + n + 2], "little") for n in (0, 2))
        document = image[start + 4 : start + 4 + size]
        if len(document) == size and size and binascii.crc_hqx(document, 0xFFFF) == checksum:
            return document
        at = image.find(MARKER, at + 1)
    return None


# -- reading ---------------------------------------------------------------------------------------------------------


class DescriptionReader:
    """Asks a board for its description, piece by piece, in any order of calls that a link makes of it.

    ``known`` is a document that was read before: where the board's checksum is the same, only the head is asked for.
    """

    def __init__(self, known: bytes = b"") -> None:
        self._known = known
        self._data = bytearray()
        self._ended = False

    def next_command(self) -> Command | None:
        """The next request, or None at the end."""
        if self._ended or self._complete():
            return None
        low, high = len(self._data) % 256, len(self._data) // 256
        return command(CommandKind.DESCRIBE, offset_low=low, offset_high=high)

    def accept(self, reply: Command) -> None:
        """The board's answer to it. ``RemoteProtocolError`` if that is none, or the size can't be."""
        if reply.kind != CommandKind.DESCRIPTION:
            raise RemoteProtocolError(f"answer {reply.kind} to a request for the description")
        size = reply["size"]
        piece = reply.args[1 : 1 + size]
        if size > 7 or len(piece) != size:
            raise RemoteProtocolError(f"a piece of {size} bytes of the description")
        self._data += piece
        self._ended = size == 0
        if len(self._data) >= 2 and self._size > MOST_BYTES:
            raise RemoteProtocolError(f"a description of {self._size} bytes; at most {MOST_BYTES} are read")

    @property
    def _size(self) -> int:
        return int.from_bytes(self._data[:2], "little")

    @property
    def _checksum(self) -> int:
        return int.from_bytes(self._data[2:4], "little")

    def _complete(self) -> bool:
        if len(self._data) < HEAD_SIZE:
            return False
        is_known = len(self._known) == self._size and binascii.crc_hqx(self._known, 0xFFFF) == self._checksum
        return is_known or len(self._data) >= HEAD_SIZE + self._size

    def document(self) -> bytes:
        """The document, to be kept for next time. ``RemoteProtocolError`` if it is damaged or not whole."""
        if not self._complete():
            raise RemoteProtocolError("the board's description has no end")
        document = bytes(self._data[HEAD_SIZE : HEAD_SIZE + self._size])
        if len(document) < self._size:
            return self._known
        if binascii.crc_hqx(document, 0xFFFF) != self._checksum:
            raise RemoteProtocolError("the board's description came damaged")
        return document

    def result(self) -> SelfDescription:
        """What the board told. ``RemoteProtocolError`` if it is no description that we can read."""
        document = self.document()
        return SelfDescription(
            id=self._data[4:12].hex(),
            description=decode_description(document),
            own_graph=bool(self._data[12] & OWN_GRAPH),
            start_problem=self._data[13],
        )


def decode_description(document: bytes) -> Description:
    """A document back to what was written. ``RemoteProtocolError`` names what is wrong with it."""
    try:
        fields = cbor.loads(document)
        if fields["v"] > VERSION:
            raise RemoteProtocolError(f"the board's description has version {fields['v']}; we read up to {VERSION}")
        library = ComponentLibrary.of(_component(*entry) for entry in fields["components"])
        told = fields.get("graph")
        graph = _read_graph(told, library) if told is not None else None
        return Description(
            firmware=str(fields["firmware"][0]),
            version=str(fields["firmware"][1]),
            board=str(fields["board"]),
            library=library,
            limits=FirmwareLimits(*(int(number) for number in fields["limits"][:4])),
            graph=graph,
            ports=MappingProxyType(_meanings(told) if told is not None else {}),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise RemoteProtocolError(f"the board's description can't be read: {type(exc).__name__}: {exc}") from exc


def _component(number: int, name: str, inports: Sequence[Any], outports: Sequence[Any]) -> Component:
    return Component(
        name=str(name),
        number=int(number),
        inports=tuple(_read_port(entry, at, Direction.IN) for at, entry in enumerate(inports)),
        outports=tuple(_read_port(entry, at, Direction.OUT) for at, entry in enumerate(outports)),
    )


def _read_port(entry: Any, number: int, direction: Direction) -> PortDef:
    name, kind = (entry, 0) if isinstance(entry, str) else entry
    return PortDef(id=str(name), direction=direction, number=number, type=_read_type(kind))


def _read_type(kind: int | str) -> str:
    return TYPES[kind] if isinstance(kind, int) else str(kind)


def _read_graph(told: Mapping[str, Any], library: ComponentLibrary) -> Graph:
    by_number = {component.number: component for component in library.by_name.values()}
    nodes = [Node(str(name), by_number[number].name) for name, number in told["nodes"]]

    def ref(node: int, port: int, direction: Direction) -> PortRef:
        component = library.component(nodes[_place(node)].component)
        ports = component.inports if direction is Direction.IN else component.outports
        return PortRef(nodes[_place(node)].id, ports[port].id)

    flat = bytes(told["edges"])
    edges = [
        Edge(ref(src, src_port, Direction.OUT), ref(tgt, tgt_port, Direction.IN))
        for src, src_port, tgt, tgt_port in zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    ]
    iips = [Iip(ref(node, port, Direction.IN), data) for node, port, data in told["iips"]]
    return Graph(
        name=str(told["name"]),
        nodes=tuple(nodes),
        order=(*edges, *iips),
        inports=tuple(Export(str(e[0]), ref(e[1], e[2], Direction.IN)) for e in told["in"]),
        outports=tuple(Export(str(e[0]), ref(e[1], e[2], Direction.OUT)) for e in told["out"]),
    )


def _place(node: int) -> int:
    if node < 1:
        raise ValueError(f"node {node}")
    return node - 1


def _meanings(told: Mapping[str, Any]) -> dict[str, PortDef]:
    found = {}
    for key, direction in (("in", Direction.IN), ("out", Direction.OUT)):
        for entry in told[key]:
            if len(entry) < 6:
                continue
            name, _node, number, kind, scale, unit = entry[:6]
            if scale is not None:
                check_scale(scale := float(scale))
            found[str(name)] = PortDef(str(name), direction, int(number), _read_type(kind), "", scale, str(unit))
    return found
