"""Literals of graphs, against what the reference tool makes of them; what it would cut short is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import ValueUnfit
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import W8_04, Wire, packet_data
from gateway.serial_link.protocol.iip_values import literal_packets
from tests.support.vectors import each


@pytest.mark.parametrize(("wire", "entry"), each("initial_packet_literals"))
def test_a_literal_becomes_the_packets_of_the_reference_or_is_refused(wire: Wire, entry: dict[str, Any]) -> None:
    if "null" in entry["literal"] and wire is W8_04:
        return  # that tool crashes on it; the board would take a void
    if entry.get("rejected") or entry.get("ours") == "refused":
        with pytest.raises(ValueUnfit):
            literal_packets(entry["literal"])
        return
    packets = literal_packets(entry["literal"])
    assert [(packet.type, packet_data(packet).ljust(4, b"\0").hex()) for packet in packets] == [
        (expected["type_id"], expected["data"]) for expected in entry["packets"]
    ]


@pytest.mark.parametrize("text", ["9.9", "1e3", "12abc", "- 5", "5 6", "0x", "٣", "1_000", "⁵"])
def test_text_with_anything_behind_its_number_is_refused(text: str) -> None:
    with pytest.raises(ValueUnfit):
        literal_packets(text)


def test_json_data_of_a_graph_go_by_their_own_type() -> None:
    assert literal_packets(False) == (Packet(PacketType.BOOLEAN, False),)
    assert literal_packets(0) == (Packet(PacketType.INTEGER, 0),)
    assert literal_packets(None) == (Packet(PacketType.VOID),)


def test_arrays_nest_only_so_deep() -> None:
    with pytest.raises(ValueUnfit, match="deeper"):
        literal_packets("[" * 100 + "]" * 100)
