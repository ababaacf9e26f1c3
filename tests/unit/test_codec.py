"""Commands and bytes, against everything that was captured from real firmware."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import LocalProtocolError, RemoteProtocolError
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import (
    W8_06,
    W10,
    WIRES,
    Command,
    Wire,
    command,
    decode,
    encode,
    opening,
    packet_data,
    packet_from,
    packet_sent,
    send_packet,
    sent,
)
from gateway.serial_link.protocol.commandformat import CommandKind
from tests.support.vectors import CAPTURES, each, frames

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


@pytest.mark.parametrize(("wire", "scenario"), each("scenarios"))
def test_every_captured_frame_survives_decoding_and_encoding(wire: Wire, scenario: dict[str, Any]) -> None:
    for direction in ("host->device", "device->host"):
        for data in frames(scenario, direction):
            if len(data) == wire.size:
                assert encode(wire, decode(wire, data)) == data


@pytest.mark.parametrize(("wire", "scenario"), each("scenarios"))
def test_captured_openings_are_ours(wire: Wire, scenario: dict[str, Any]) -> None:
    for data in frames(scenario, "host->device"):
        if data.startswith(wire.magic) and len(data) == wire.size:
            assert opening(wire, data[-1]) == data


def test_a_packet_event_reads_as_its_capture_is_labelled() -> None:
    seen = set()
    for name, capture in CAPTURES.items():
        wire = WIRES[name]
        for scenario in capture["scenarios"]:
            for frame in scenario["frames"]:
                note = frame.get("note") or ""
                if "PacketSent" not in note:
                    continue
                unit = decode(wire, bytes.fromhex(frame["hex"]))
                event = sent(wire, unit.args)
                words = note.replace("id 0 ", "").split()
                assert f"node {event.node} port {event.port}" in note
                assert words[-1] == event.data.hex()
                seen.add((name, words[-3]))
                if "Pointer" not in note and "Invalid" not in note and not (wire is not W10 and "Float" in note):
                    packet = packet_sent(unit, wire)
                    assert packet is not None
                    assert packet.type.name.title().replace("_", "") == words[-3]
                else:
                    assert packet_sent(unit, wire) is None
    assert {kind for name, kind in seen if name == "w10"} >= {"Void", "Integer", "Float", "Byte", "Error", "Invalid"}


@pytest.mark.parametrize(
    ("value", "data"), [(0, "0000"), (-1, "ffff"), (70000 - 65536, "7011"), (-32768, "0080")], ids=str
)
def test_the_older_wires_carry_the_low_16_bits_of_an_integer(value: int, data: str) -> None:
    unit = decode(W8_06, bytes.fromhex(f"670100020007{data}"))
    assert packet_sent(unit, W8_06) == Packet(PacketType.INTEGER, value)


def test_without_a_target_the_older_wires_name_the_source_again() -> None:
    assert not sent(W8_06, bytes.fromhex("03000300060100")).has_target
    assert sent(W8_06, bytes.fromhex("01000200060100")).has_target


@pytest.mark.parametrize(
    "packet",
    [
        Packet(PacketType.VOID),
        Packet(PacketType.BOOLEAN, True),
        Packet(PacketType.BYTE, 200),
        Packet(PacketType.INTEGER, -100000),
        Packet(PacketType.FLOAT, 2.5),
        Packet(PacketType.BRACKET_START),
        Packet(PacketType.ERROR, 7),
    ],
    ids=lambda packet: packet.type.name,
)
def test_a_packet_reads_back_from_its_own_data(packet: Packet) -> None:
    assert packet_from(packet.type, packet_data(packet).ljust(4, b"\0")) == packet


@EVERY_WIRE
def test_arguments_stand_at_the_same_offsets_in_every_generation(wire: Wire) -> None:
    unit = send_packet(7, 1, 2, Packet(PacketType.INTEGER, 210))
    data = encode(wire, unit)
    assert data[wire.size - wire.argument_size :].startswith(bytes.fromhex("010207d2000000"))
    assert len(data) == wire.size
    assert decode(wire, data)["port"] == 2


@EVERY_WIRE
@pytest.mark.parametrize("unit", [Command(256, 10), Command(0, 300), Command(0, 10, b"123456789")])
def test_what_does_not_fit_is_refused_before_it_is_sent(wire: Wire, unit: Command) -> None:
    with pytest.raises(LocalProtocolError):
        encode(wire, unit)


def test_a_command_needs_exactly_its_arguments_and_each_is_a_byte() -> None:
    with pytest.raises(LocalProtocolError):
        command(CommandKind.REMOVE_NODE)
    with pytest.raises(LocalProtocolError):
        command(CommandKind.REMOVE_NODE, node=256)


def test_pointers_and_short_floats_can_not_be_read() -> None:
    with pytest.raises(RemoteProtocolError):
        packet_from(12, b"\0\0\0\0")
    with pytest.raises(RemoteProtocolError):
        packet_from(PacketType.FLOAT, b"\0\0")
