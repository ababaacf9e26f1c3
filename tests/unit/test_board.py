"""The simulated board answers as real firmware did, byte for byte, in every wire generation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.fbp.text.graph_files import parse_graph
from gateway.model.component import ComponentLibrary
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.graph.upload import compile_stream
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire, decode, opening
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.simulator.core.board import Board
from gateway.simulator.core.components import COMPONENTS, SimulatedComponent, number
from tests.support.vectors import CAPTURES, each, frames, library

NOT_SIMULATED = {"device-made-pointer": "a pointer is no packet of ours"}
SCENARIOS = [entry for entry in each("scenarios") if entry.values[1]["name"] not in NOT_SIMULATED]


class ZKinds(SimulatedComponent):
    """The component that was made for the captures: sends what the number on its inport stands for."""

    def receive(self, port: str, packet: Packet, now: float) -> None:
        made = {
            1: Packet(PacketType.FLOAT, 2.5),
            2: Packet(PacketType.BYTE, 0xA5),
            4: Packet(PacketType.INTEGER, 0x11223344),
            6: Packet(PacketType.ERROR, 3),
            7: Packet(PacketType.FLOAT, -0.1),
            99: Packet(PacketType.VOID),
        }
        asked = number(packet)
        if asked in made:
            self.send("out", made[asked])
        elif asked == 8:
            for value in (100, 101, 102):
                self.send("out", Packet(PacketType.INTEGER, value))
        elif asked == 5:
            self.send("nowhere", packet)


def board_of(wire: Wire, **options: Any) -> Board:
    return Board(library(wire), wire=wire, kinds={**COMPONENTS, "ZKinds": ZKinds}, **options)


def booted(wire: Wire) -> Board:
    """As the captured firmware was when its captures began: a start graph of one node ran."""
    graph = '{"processes": {"a": {"component": "Forward"}}, "connections": []}'
    stream = compile_stream(parse_graph(graph, "g.json"), library(wire), wire, embedded=True)
    return board_of(wire, embedded=stream)


@pytest.mark.parametrize(("wire", "scenario"), SCENARIOS)
def test_a_captured_conversation_is_repeated_byte_for_byte(wire: Wire, scenario: dict[str, Any]) -> None:
    if scenario["name"] == "boot-output":
        assert frames(scenario, "device->host") == split(wire, booted(wire).data_to_send())
        return
    board = booted(wire) if scenario["name"] in ("open-ping-status", "debug-levels") else board_of(wire)
    board.data_to_send()
    expected, got = bytearray(), bytearray()
    now = 0.0
    for frame in scenario["frames"]:
        data = bytes.fromhex(frame["hex"])
        if "Invalid type" in (frame.get("note") or "") or "type Invalid" in (frame.get("note") or ""):
            continue  # a type that is no packet of ours
        if frame["dir"] == "host->device":
            board.receive(data, now)
            got += board.data_to_send()
        elif not (scenario["name"] == "device-made-kinds" and frame["hex"].startswith("0e72")):
            expected += data
            while len(got) < len(expected) and board.deadline is not None:
                now = max(now, board.deadline)
                board.tick(now)
                got += board.data_to_send()
            assert split(wire, got[: len(expected)]) == split(wire, expected)
    assert board.crashed == ""
    assert split(wire, got) == split(wire, expected)


def split(wire: Wire, data: bytes | bytearray) -> list[bytes]:
    return [bytes(data[at : at + wire.size]) for at in range(0, len(data), wire.size)]


@pytest.mark.parametrize(
    ("wire", "entry"), [entry for entry in each("graph_compilation") if "reference_tool" not in entry.values[1]]
)
def test_a_reference_stream_is_answered_as_real_firmware_did(wire: Wire, entry: dict[str, Any]) -> None:
    stream = entry.get("correct_embedded") or entry["reference_tool_embedded"]
    answers = entry.get("firmware_answers_to_correct") or entry["firmware_answers"]
    board = board_of(wire)
    for line in stream:
        board.receive(bytes.fromhex(line), 0.0)
    assert [unit.hex() for unit in split(wire, board.data_to_send())] == answers


@pytest.mark.parametrize("hazard", CAPTURES["w10"]["hazards"], ids=lambda hazard: hazard["name"])
def test_what_crashed_real_firmware_stops_the_board_with_the_rule(hazard: dict[str, Any]) -> None:
    board = board_of(W10)
    for data in frames(hazard, "host->device"):
        board.receive(data, 0.0)
    survived = ("port 99", "in port 5", "tgt next-free")  # it took the odd port number, or no target
    assert bool(board.crashed) != any(part in hazard["name"] for part in survived), hazard["outcome"]


@pytest.mark.parametrize("hazard", CAPTURES["w10"]["hazards"], ids=lambda hazard: hazard["name"])
def test_a_strict_board_answers_every_hazard_with_an_error_and_goes_on(hazard: dict[str, Any]) -> None:
    board = board_of(W10, strict=True)
    for data in frames(hazard, "host->device"):
        board.receive(data, 0.0)
    replies = split(W10, board.data_to_send())
    assert board.crashed == ""
    assert (
        replies[-1][1] == CommandKind.PONG or "port 50" in str(hazard) or replies[-1][1] == CommandKind.SEND_PACKET_DONE
    )
    harmless = hazard["name"] == "send over edge to removed target"  # it takes the edge away with the node
    assert harmless or CommandKind.ERROR in {reply[1] for reply in replies}


@pytest.mark.parametrize("wire", [W8_04, W8_06], ids=lambda wire: wire.name)
def test_an_edge_to_the_next_free_node_crashes_the_older_generations(wire: Wire) -> None:
    board = board_of(wire)
    create = bytes((11, library(wire).component("Forward").number, 0, 0, 0, 0, 0, 0))
    board.receive(opening(wire, 0) + create, 0.0)
    board.receive(bytes.fromhex("0c01020000000000"), 0.0)
    assert "next free" in board.crashed


def test_the_forty_ninth_waiting_message_loses_all_of_them_without_a_word() -> None:
    board = board_of(W10)
    board.receive(bytes.fromhex("6d6963726f666c6f3101050b090000000000000006100100010000000000"), 0.0)
    board.data_to_send()
    for _ in range(49):
        board.receive(bytes.fromhex("070d0100070100000000"), 0.0)
    assert all(reply[:2] == b"\x07\x72" for reply in split(W10, board.data_to_send()))
    board.receive(bytes.fromhex("08140000000000000000"), 0.0)
    assert [reply.hex() for reply in split(W10, board.data_to_send())] == ["08680000000000000000"]


def test_a_strict_board_refuses_the_forty_ninth_waiting_message() -> None:
    board = board_of(W10, strict=True)
    board.receive(bytes.fromhex("6d6963726f666c6f3101050b090000000000000006100100010000000000"), 0.0)
    board.data_to_send()
    for _ in range(49):
        board.receive(bytes.fromhex("070d0100070100000000"), 0.0)
    assert [reply[1] for reply in split(W10, board.data_to_send())] == [114] * 48 + [110]
    board.receive(bytes.fromhex("08140000000000000000"), 0.0)
    assert len(split(W10, board.data_to_send())) == 1 + 48


def test_a_strict_board_takes_and_reports_floats_and_bytes() -> None:
    board = board_of(W10, strict=True)
    board.receive(
        opening(W10, 1) + bytes.fromhex("020b0900000000000000 03100100010000000000 04140000000000000000"), 0.0
    )
    board.data_to_send()
    board.receive(bytes.fromhex("050d0100080000204000"), 0.0)
    board.receive(bytes.fromhex("060d0100042a00000000"), 0.0)
    assert [unit.hex() for unit in split(W10, board.data_to_send())] == [
        "05720100080000000000",
        "00670100000800002040",
        "06720100040000000000",
        "0067010000042a000000",
    ]


def test_a_strict_board_answers_what_it_does_not_know() -> None:
    board = board_of(W10, strict=True)
    board.receive(opening(W10, 1) + bytes.fromhex("02630000000000000000 03c80000000000000000"), 0.0)
    assert [unit.hex()[:6] for unit in split(W10, board.data_to_send())[1:]] == ["026e09", "036e0a"]


def test_a_strict_board_has_simulated_pins() -> None:
    board = board_of(W10, strict=True)
    board.receive(opening(W10, 1) + bytes.fromhex("02150105bc0200000000"), 0.0)
    assert split(W10, board.data_to_send())[1].hex() == "02700105bc0200000000"
    assert board.pins.inputs == {5: 700}


def test_the_oldest_generation_forgets_state_when_its_network_starts() -> None:
    board = board_of(W8_04)
    count = library(W8_04).component("Count").number
    board.receive(opening(W8_04, 0) + bytes((11, count, 0, 0, 0, 0, 0, 0)), 0.0)
    board.receive(
        bytes.fromhex("1001000100000000 1400000000000000 0d01000300000000 1400000000000000 0d01000300000000"), 0.0
    )
    values = [unit[6] for unit in split(W8_04, board.data_to_send()) if unit[0] == CommandKind.PACKET_SENT]
    assert values == [1, 1]


def test_ids_of_components_come_from_the_map() -> None:
    forward = library().component("Forward")
    board = Board(ComponentLibrary.of([replace(forward, number=77)]))
    board.receive(bytes.fromhex("6d6963726f666c6f3101050b4d00000000000000"), 0.0)
    assert decode(W10, board.data_to_send()[10:])["node"] == 1
