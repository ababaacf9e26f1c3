"""JSON on ports <-> packets of a board: types, scale, arrays, errors, and what can't be sent."""

from __future__ import annotations

import json
import struct

import pytest

from gateway.errors import ValueUnfit
from gateway.fbp.text.graph_files import parse_graph
from gateway.model.packet import Packet, PacketType
from gateway.model.port import Direction, PortDef
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire
from gateway.serial_link.protocol.json_values import Collector, to_packets
from tests.support.vectors import library

START, END = Packet(PacketType.BRACKET_START), Packet(PacketType.BRACKET_END)


def port(kind: str = "any", scale: float | None = None, direction: Direction = Direction.OUT) -> PortDef:
    return PortDef("p", direction, type=kind, scale=scale)


def integer(value: int) -> Packet:
    return Packet(PacketType.INTEGER, value)


@pytest.mark.parametrize(
    ("kind", "scale", "body", "packets"),
    [
        ("integer", None, "5", [integer(5)]),
        ("integer", None, "5.0", [integer(5)]),
        ("number", 0.01, "21.54", [integer(2154)]),
        ("number", 0.01, "-0.07", [integer(-7)]),
        ("number", 0.1, "0.3", [integer(3)]),
        ("number", 1000, "70000", [integer(70)]),
        ("boolean", None, "true", [Packet(PacketType.BOOLEAN, True)]),
        ("bang", None, '"anything"', [Packet(PacketType.VOID)]),
        ("any", None, "null", [Packet(PacketType.VOID)]),
        (
            "any",
            None,
            "[1,[true],[]]",
            [START, integer(1), START, Packet(PacketType.BOOLEAN, True), END, START, END, END],
        ),
        ("any", None, '{"error":"InvalidInput","message":"x"}', [Packet(PacketType.ERROR, 4)]),
        ("any", None, '{"error":"Nope"}', [Packet(PacketType.ERROR, 7)]),
        ("any", None, '"12"', [integer(12)]),
    ],
)
def test_a_value_becomes_the_packets_of_its_port(
    kind: str, scale: float | None, body: str, packets: list[Packet]
) -> None:
    assert to_packets(port(kind, scale, Direction.IN), body.encode()) == tuple(packets)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("integer", "21.5", "is a fraction, which the firmware can't take; pair the port with a scale"),
        ("any", "21.5", "scale it to a whole number"),
        ("integer", "2147483648", "outside of"),
        ("integer", "true", "takes a number"),
        ("integer", '"5"', "takes a number"),
        ("boolean", "1", "takes true or false"),
        ("any", '"word"', "there is no text on a board"),
        ("any", '{"a":1}', "can't be a packet"),
        ("any", "{", "takes JSON"),
        ("any", "\xff", "takes JSON"),
        ("any", "", "takes JSON, not an empty message"),
        ("any", "\x1b[2J", r"takes JSON, not \x1b[2J"),
        ("any", json.dumps([1] * 60), "would overflow the board's queue"),
        ("any", "[" * 5000 + "]" * 5000, "takes JSON"),
        ("integer", "9" * 400, "outside of"),
        ("any", f'"{"9" * 5000}"', "outside of"),
        ("any", f'"0x{"f" * 5000}"', "outside of"),
        ("any", json.dumps("[" * 5000), "no valid JSON"),
    ],
)
def test_what_a_board_can_not_take_is_refused_with_the_reason(kind: str, body: str, says: str) -> None:
    with pytest.raises(ValueUnfit) as raised:
        to_packets(port(kind, direction=Direction.IN), body.encode("latin-1"))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("packet", "scale", "body"),
    [
        (integer(2154), 0.01, 21.54),
        (integer(2154), None, 2154),
        (integer(3), 0.1, 0.3),
        (integer(3), 10, 30),
        (Packet(PacketType.BOOLEAN, False), None, False),
        (Packet(PacketType.VOID), None, None),
        (Packet(PacketType.FLOAT, 2.5), None, 2.5),
        (Packet(PacketType.BYTE, 200), None, 200),
    ],
)
def test_a_packet_becomes_the_value_in_the_ports_unit(packet: Packet, scale: float | None, body: object) -> None:
    said = Collector().feed(port(scale=scale), packet)
    assert said is not None
    assert json.loads(said) == body


@pytest.mark.parametrize(
    ("kind", "body", "packet"),
    [
        ("number", "21.54", Packet(PacketType.FLOAT, 21.54)),
        ("number", "21", Packet(PacketType.INTEGER, 21)),
        ("any", "-0.5", Packet(PacketType.FLOAT, -0.5)),
    ],
)
def test_firmware_that_takes_floats_gets_them(kind: str, body: str, packet: Packet) -> None:
    assert to_packets(port(kind), body.encode(), floats=True) == (packet,)


@pytest.mark.parametrize(("kind", "body"), [("integer", "21.5"), ("number", "1e39"), ("any", "-4e38")])
def test_what_does_not_fit_is_refused_by_firmware_with_floats_too(kind: str, body: str) -> None:
    with pytest.raises(ValueUnfit):
        to_packets(port(kind), body.encode(), floats=True)


@pytest.mark.parametrize("number", [21.54, 0.1, -1e-7, 3.4e38, 123456.79, 109.488625, 0.0])
def test_a_float_comes_back_with_the_digits_it_had(number: float) -> None:
    on_the_wire = struct.unpack("<f", struct.pack("<f", number))[0]
    found = Collector().feed(port("number"), Packet(PacketType.FLOAT, on_the_wire))
    assert found is not None
    assert struct.pack("<f", json.loads(found)) == struct.pack("<f", number)
    assert len(found) <= 14


def test_an_error_has_its_name_and_one_above_seven_its_number() -> None:
    said = [json.loads(Collector().feed(port(), Packet(PacketType.ERROR, code)) or b"") for code in (4, 200)]
    assert [error["error"] for error in said] == ["InvalidInput", "Unknown 200"]
    assert all(error["message"] for error in said)


def test_brackets_nest_and_are_collected_port_by_port() -> None:
    collector, one, other = Collector(), port(), PortDef("q", Direction.OUT)
    for packet in (START, START, integer(1), END):
        assert collector.feed(one, packet) is None
    assert collector.feed(other, integer(9)) == b"9"
    for packet in (START, integer(2), END):
        assert collector.feed(one, packet) is None
    assert collector.feed(one, END) == b"[[1],[2]]"


def test_a_bracket_end_without_its_start_is_an_error_event() -> None:
    assert b"InvalidInput" in (Collector().feed(port(), END) or b"")


def test_an_array_that_never_ends_is_given_up_and_what_follows_is_read() -> None:
    collector = Collector()
    collector.feed(port(), START)
    said = [collector.feed(port(), integer(1)) for _ in range(1100)]
    errors = [body for body in said if body and b"error" in body]
    assert len(errors) == 1
    assert said[-1] == b"1"


@pytest.mark.parametrize(("wire", "kind"), [(W10, "integer"), (W8_06, "int16"), (W8_04, "int16")], ids=str)
def test_what_the_older_wires_cut_is_typed_so(wire: Wire, kind: str) -> None:
    graph = parse_graph("a(Count) OUT -> IN b(Constrain)\nINPORT=a.IN:GO\nOUTPORT=b.OUT:LIMITED", "g.fbp")
    said = {
        "limited": PortDef("limited", Direction.OUT, type="integer"),
        "go": PortDef("go", Direction.IN, type="integer"),
    }
    names = NodeIds.predicted(graph, library(wire), said, wire)
    (outport,), (inport,) = names.outports(), names.inports()
    assert (outport.type, inport.type) == (kind, "integer")
