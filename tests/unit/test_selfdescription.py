"""What a board tells of itself: written, cut into pieces, read; and never more than an error for what is no description."""

from __future__ import annotations

import binascii
from contextlib import suppress
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RemoteProtocolError
from gateway.model.component import Component, ComponentLibrary
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.port import Direction, PortDef, PortRef
from gateway.serial_link.description.self_description import (
    Description,
    DescriptionReader,
    FirmwareLimits,
    decode_description,
    encode_description,
)
from gateway.serial_link.protocol.codec import Command
from gateway.serial_link.protocol.commandformat import CommandKind

ID = bytes(range(1, 9))


def port(name: str, direction: Direction, number: int = 0, kind: str = "any") -> PortDef:
    return PortDef(name, direction, number, kind)


CLOCK = Component("Timer", 23, (port("interval", Direction.IN, 0, "integer"),), (port("out", Direction.OUT),))
SENSOR = Component(
    "Sensor",
    30,
    (port("trigger", Direction.IN, 0, "bang"), port("pin", Direction.IN, 1, "odd")),
    (port("out", Direction.OUT, 0, "integer"),),
)
GRAPH = Graph(
    "thermometer",
    (Node("clock", "Timer"), Node("sensor", "Sensor")),
    (
        Edge(PortRef("clock", "out"), PortRef("sensor", "trigger")),
        Iip(PortRef("clock", "interval"), "1000"),
        Iip(PortRef("sensor", "pin"), 3),
    ),
    outports=(Export("temp", PortRef("sensor", "out")),),
)
DESCRIPTION = Description(
    "microflo-gateway",
    "1.2",
    "Arduino Uno",
    ComponentLibrary.of((CLOCK, SENSOR)),
    FirmwareLimits(49, 48, 96, 120),
    GRAPH,
    {"temp": PortDef("temp", Direction.OUT, 0, "number", "", 0.01, "°C")},
)


def stream(document: bytes, *, crc: int | None = None, flags: int = 1) -> bytes:
    """What a board says, byte after byte."""
    checked = binascii.crc_hqx(document, 0xFFFF) if crc is None else crc
    return len(document).to_bytes(2, "little") + checked.to_bytes(2, "little") + ID + bytes((flags, 0)) + document


def read(data: bytes, reader: DescriptionReader) -> int:
    """Answer every request from ``data``; how many there were."""
    count = 0
    while (unit := reader.next_command()) is not None:
        at = unit["offset_low"] + 256 * unit["offset_high"]
        piece = data[at : at + 7]
        reader.accept(Command(9, CommandKind.DESCRIPTION, bytes((len(piece),)) + piece.ljust(7, b"\0")))
        count += 1
    return count


def test_what_was_written_is_read() -> None:
    reader = DescriptionReader()
    read(stream(encode_description(DESCRIPTION)), reader)
    told = reader.result()
    assert told.id == ID.hex()
    assert told.own_graph
    assert told.description == DESCRIPTION


def test_a_document_that_is_kept_saves_asking_for_it() -> None:
    document = encode_description(DESCRIPTION)
    reader = DescriptionReader(known=document)
    assert read(stream(document, flags=0), reader) == 2
    assert reader.result().description == DESCRIPTION
    assert not reader.result().own_graph


def test_a_changed_document_is_read_anew() -> None:
    old, new = (encode_description(replace(DESCRIPTION, version=version)) for version in ("1.2", "1.3"))
    reader = DescriptionReader(known=old)
    assert read(stream(new), reader) > 2
    assert reader.result().description.version == "1.3"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        stream(b"")[:9],
        stream(encode_description(DESCRIPTION))[:-1],
        stream(encode_description(DESCRIPTION), crc=1),
        stream(cbor2.dumps([1, 2])),
        stream(cbor2.dumps({"v": 2})),
        stream(cbor2.dumps({"v": "x"})),
        stream(b"\xff"),
    ],
)
def test_what_is_no_description_is_an_error_of_the_board(data: bytes) -> None:
    reader = DescriptionReader()
    read(data, reader)
    with pytest.raises(RemoteProtocolError, match="description"):
        reader.result()


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_nothing_can_be_divided_by_is_an_error_of_the_board(scale: float) -> None:
    odd = replace(DESCRIPTION, ports={"temp": replace(DESCRIPTION.ports["temp"], scale=scale)})
    with pytest.raises(RemoteProtocolError, match="makes no sense"):
        decode_description(encode_description(odd))


def test_a_description_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(RemoteProtocolError, match="at most"):
        read(b"\xff\xff" + bytes(100), DescriptionReader())


def test_an_answer_of_another_kind_is_an_error() -> None:
    reader = DescriptionReader()
    reader.next_command()
    with pytest.raises(RemoteProtocolError):
        reader.accept(Command(9, CommandKind.PONG, bytes(8)))


@given(st.data())
def test_no_damage_to_a_document_is_more_than_an_error(data: st.DataObject) -> None:
    document = bytearray(encode_description(DESCRIPTION))
    for at in data.draw(st.lists(st.integers(0, len(document) - 1), min_size=1, max_size=4)):
        document[at] = data.draw(st.integers(0, 255))
    with suppress(RemoteProtocolError):  # it may still be one; nothing else may come of it
        decode_description(bytes(document))
