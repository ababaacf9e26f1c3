"""Our firmware says what stock firmware was heard to say, byte for byte; and where stock is wrong, what is right."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.model.packet import PacketType
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint
from tests.support.anyboard import AnyBoard
from tests.support.firmware import HostEnd, host_end

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "microflo-0.6.json").read_text())
OTHERWISE = {
    "boot-output": "our firmware keeps the answers of its own graph to itself",
    "device-made-kinds": "needs a component that was made for the capture",
    "device-made-pointer": "the same",
    "resync-while-closed": "stock firmware loses openings; ours are found, see test_link",
    "resync-while-open": "the same",
    "resync-by-shifting-magic": "the same",
}
SCENARIOS = [scenario for scenario in VECTORS["scenarios"] if scenario["name"] not in OTHERWISE]
EMBEDDED = bytes.fromhex(
    "6d6963726f666c6f3101 02160000000000000000 030a0000000000000000 040f0100000000000000"
    "050b0900000000000000 06140000000000000000 070e0000000000000000"
)
UNO = "tty-uno"
"""The board that has real inputs, which a host can't set."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_a_captured_conversation_is_repeated_byte_for_byte(our_board: AnyBoard, scenario: dict[str, Any]) -> None:
    with host_end(our_board.link) as host:
        started(host)
        if scenario["name"] in ("open-ping-status", "debug-levels"):
            host.write(EMBEDDED)
            host.read(len(EMBEDDED))
        for asked, answers in exchanges(scenario):
            host.write(asked)
            wanted = b"".join(ours(asked, answers, simulates_io=our_board.link.name != UNO))
            assert host.read(len(wanted)).hex(" ") == wanted.hex(" ")
        assert host.quiet(0.05)


def started(host: HostEnd) -> None:
    """Nothing is left of what the board said at its start."""
    host.write(b"microflo1\xc8")
    while host.read(1) != b"\xc8":
        pass
    assert host.read(9)[0] == CommandKind.COMMUNICATION_OPEN
    host.write(bytes((1, CommandKind.END)).ljust(10, b"\0"))
    assert host.read(10)[1] == CommandKind.TRANSMISSION_ENDED


def exchanges(scenario: dict[str, Any]) -> Iterator[tuple[bytes, list[bytes]]]:
    """What the host wrote, and what stock firmware said before the host wrote again."""
    asked, answers = b"", list[bytes]()
    for frame in scenario["frames"]:
        data = bytes.fromhex(frame["hex"])
        if frame["dir"] == "device->host":
            answers.append(data)
            continue
        if asked:
            yield asked, answers
        asked, answers = data, []
    yield asked, answers


def ours(asked: bytes, answers: list[bytes], *, simulates_io: bool) -> list[bytes]:
    """The same, corrected as docs/firmware.md says."""
    request_id, kind, arguments = asked[0], asked[1], asked[2:]
    if asked.startswith(b"microflo1") or len(asked) != 10:
        return answers
    if kind == CommandKind.SEND_PACKET and answers[0][1] == CommandKind.SEND_PACKET_DONE:
        return packet(request_id, arguments, answers)
    if kind == CommandKind.SET_IO_VALUE:
        if arguments[0] not in (1, 2):
            return [error(request_id, DebugPoint.UNKNOWN_IO_TYPE)]
        if not simulates_io:
            return [error(request_id, DebugPoint.IO_OPERATION_NOT_IMPLEMENTED)]
        return [bytes((request_id, CommandKind.SET_IO_VALUE_COMPLETED)) + arguments[:6].ljust(8, b"\0")]
    if kind == CommandKind.CONNECT_NODES and arguments[3] == 99:
        return [error(request_id, DebugPoint.INVALID_PORT)]
    if kind not in list(range(10, 26)) or kind == CommandKind.COMMUNICATION_OPEN:
        return [error(request_id, 9 if kind <= 118 else 10)]  # at every debug level
    return answers


def packet(request_id: int, arguments: bytes, answers: list[bytes]) -> list[bytes]:
    """A float stays a float, a byte keeps its value, and a type that is none is refused."""
    node, port, kind = arguments[:3]
    if kind not in set(PacketType):
        return [error(request_id, DebugPoint.PARSER_UNKNOWN_PACKET_TYPE)]
    if kind not in (PacketType.FLOAT, PacketType.BYTE):
        return answers
    data = arguments[3:7] if kind == PacketType.FLOAT else arguments[3:4].ljust(4, b"\0")
    done = bytes((request_id, CommandKind.SEND_PACKET_DONE, node, port, kind)).ljust(10, b"\0")
    return [done, bytes((0, CommandKind.PACKET_SENT, node, port, 0, kind)) + data]


def error(request_id: int, code: int) -> bytes:
    return struct.pack("<BBB7x", request_id, CommandKind.ERROR, code)


@pytest.mark.parametrize("hazard", VECTORS["hazards"], ids=lambda hazard: hazard["name"])
def test_what_crashes_or_damages_stock_firmware_is_refused_and_the_board_lives(
    our_board: AnyBoard, hazard: dict[str, Any]
) -> None:
    with host_end(our_board.link) as host:
        started(host)
        for frame in hazard["frames"]:
            if frame["dir"] == "host->device":
                host.write(bytes.fromhex(frame["hex"]))
        host.write(bytes((99, CommandKind.PING)).ljust(10, b"\0"))
        heard = b""
        while not heard.endswith(bytes((99, CommandKind.PONG)).ljust(10, b"\0")):
            heard += host.read(10)
        if "to removed target" not in hazard["name"]:  # there, the edge went with its target
            assert any(heard[at + 1] == CommandKind.ERROR for at in range(0, len(heard), 10)), heard.hex(" ", 10)
