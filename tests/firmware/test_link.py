"""The gateway's own link on every kind of board: the simulator, and our firmware as machine code."""

from __future__ import annotations

from random import Random

import pytest

from gateway.model.graph import Export, Graph, Node
from gateway.model.packet import Packet, PacketType
from gateway.model.port import PortRef
from gateway.serial_link.protocol.codec import command, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint
from gateway.serial_link.protocol.extensions import Extension, checked
from gateway.serial_link.protocol.link_events import DebugReported, Desynced
from gateway.simulator.core.board import Board
from gateway.simulator.core.our_firmware import Told
from tests.firmware.conftest import Fresh
from tests.support.anyboard import AnyBoard, warm
from tests.support.firmware import HostEnd, host_end, library, thermometer

START, END, VOID = (Packet(kind) for kind in (PacketType.BRACKET_START, PacketType.BRACKET_END, PacketType.VOID))
PING = command(CommandKind.PING, 0, b"\1\2\3\4\5\6\7\x08")
MAGIC = b"microflo1"
UNITS = [
    bytes(head).ljust(10, b"\0")
    for head in ((1, CommandKind.PING, 7), (2, CommandKind.END), (3, CommandKind.EXTEND, Extension.CHECKSUM), (4, 99))
]
PIECES = [b"\0", b"m", b"mm", b"micro", MAGIC, b"microflo2", MAGIC + b"\xc9", *UNITS, *map(checked, UNITS)]
"""Of streams that a board may hear: openings and commands, whole and in pieces, with checksums and without."""


def integer(value: int) -> Packet:
    return Packet(PacketType.INTEGER, value)


def forward() -> Graph:
    """One node that sends on what it gets."""
    port = PortRef("echo", "out")
    return Graph("echo", (Node("echo", "Forward"),), outports=(Export("out", port),))


def test_a_board_opens_and_gives_a_ping_back(board: AnyBoard) -> None:
    with host_end(board.link) as host:
        host.open()
        assert host.good(PING).args == PING.args


def test_a_reading_comes_and_a_pin_is_switched(board: AnyBoard) -> None:
    with host_end(board.link) as host:
        host.open()
        warm(board, 3, 2154)
        names = host.upload(thermometer())
        temp, fan = names.outport("temp"), names.inport("fan")
        assert temp is not None
        assert fan is not None
        reading = host.wait_packets(1)[0]
        assert reading is not None
        assert reading.value == pytest.approx(2154, abs=30)  # a real converter has steps
        for value in (True, False):
            host.good(send_packet(0, fan[0], fan[1].number, Packet(PacketType.BOOLEAN, value)))
            host.good(PING)
            assert board.ask("get 7")["value"] == value


def test_every_packet_comes_back_as_it_was_in_its_order(board: AnyBoard) -> None:
    sent = [
        START,
        integer(-(2**31)),
        START,
        END,
        Packet(PacketType.BOOLEAN, True),
        START,
        integer(2**31 - 1),
        VOID,
        END,
    ]
    sent += [Packet(PacketType.ERROR, 3), END]
    with host_end(board.link) as host:
        host.open()
        host.upload(forward())
        for packet in sent:
            host.good(send_packet(0, 1, 0, packet))
        assert host.wait_packets(len(sent)) == sent


@pytest.mark.parametrize("stray", range(1, 10))
def test_a_board_that_stands_at_any_byte_of_a_command_is_opened(board: AnyBoard, stray: int) -> None:
    with host_end(board.link) as host:
        host.open()
        host.write(bytes(stray))
        host.link.start(0.0)  # begins anew: what the board has half received is not known here
        host.open()
        assert host.good(PING).args == PING.args


def test_a_board_is_found_again_behind_garbage(board: AnyBoard) -> None:
    with host_end(board.link) as host:
        host.write(b"\xff\0mmicr" + MAGIC[:5] + bytes(range(200, 256)) * 3)
        host.open()
        host.upload(forward())
        host.good(send_packet(0, 1, 0, integer(5)))
        assert host.wait_packets(1) == [integer(5)]


def test_a_reset_in_the_middle_of_a_command_leaves_a_fresh_board(board: AnyBoard) -> None:
    with host_end(board.link) as host:
        host.open()
        host.upload(forward())
        host.write(b"\x80\x0d\1\0")
        board.ask("reset")
        host.open()
        assert host.refused(command(CommandKind.REMOVE_NODE, node=1)) == DebugPoint.REMOVE_NODE_INVALID_INSTANCE
        host.upload(forward())


@pytest.mark.parametrize("requests", [["reset"], ["unplug", "plug"]], ids=" ".join)
def test_a_board_that_hangs_is_well_again_after_a_reset(board: AnyBoard, requests: list[str]) -> None:
    for request in ["hang", *requests]:
        assert board.ask(request) == {"ok": True}
    with host_end(board.link) as host:
        host.open()
        host.good(PING)


def test_what_waits_while_the_network_stands_comes_after_the_start(board: AnyBoard) -> None:
    sent = [integer(number) for number in range(40)]
    with host_end(board.link) as host:
        host.open()
        host.upload(forward())
        host.good(command(CommandKind.STOP_NETWORK))
        for packet in sent:
            host.good(send_packet(0, 1, 0, packet))
        assert not host.packets()
        host.good(command(CommandKind.START_NETWORK))
        assert host.wait_packets(len(sent)) == sent


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        (command(CommandKind.CREATE_COMPONENT, component=200, parent=0), DebugPoint.ADD_NODE_INVALID_INSTANCE),
        (command(CommandKind.CREATE_COMPONENT, component=9, parent=9), DebugPoint.ADD_NODE_INVALID_PARENT),
        (
            command(CommandKind.CONNECT_NODES, src=1, tgt=9, src_port=0, tgt_port=0),
            DebugPoint.NETWORK_CONNECT_INVALID_NODES,
        ),
        (send_packet(0, 9, 0, VOID), DebugPoint.SEND_MESSAGE_INVALID_NODE),
        (
            command(CommandKind.SUBSCRIBE_TO_PORT, node=9, port=0, enable=1),
            DebugPoint.SUBSCRIBE_PORT_INVALID_NODE,
        ),
        (
            command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=1, enable=1),
            DebugPoint.SUBSCRIBE_PORT_INVALID_PORT,
        ),
        (command(CommandKind.REMOVE_NODE, node=9), DebugPoint.REMOVE_NODE_INVALID_INSTANCE),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, DebugPoint) else "",
)
def test_a_command_that_makes_no_sense_is_refused_with_its_reason(board: AnyBoard, unit: object, code: int) -> None:
    with host_end(board.link) as host:
        host.open()
        host.upload(forward())
        assert host.refused(unit) == code  # type: ignore[arg-type]
        host.good(PING)


def raw_open(host: HostEnd, request_id: int = 200, before: bytes = b"") -> bytes:
    """Open without the link, for tests of single bytes: all that the board says up to its answer."""
    host.write(before + MAGIC + bytes((request_id,)))  # at once: a board doesn't wait long for the rest of a command
    opened = bytes((request_id, CommandKind.COMMUNICATION_OPEN)).ljust(10, b"\0")
    heard = b""
    while not heard.endswith(opened):
        heard += host.read(1)
    return heard


# -- what our firmware does better ------------------------------------------------------------------------------------


def test_an_unknown_command_is_answered(our_board: AnyBoard) -> None:
    with host_end(our_board.link) as host:
        raw_open(host)
        for kind, code in ((0, 9), (26, 9), (99, 9), (118, 9), (119, 10), (255, 10)):
            host.write(bytes((7, kind)).ljust(10, b"\0"))
            assert host.read(10) == bytes((7, CommandKind.ERROR, code)).ljust(10, b"\0")


def test_an_opening_counts_wherever_it_stands(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        for before in (b"", b"m", b"mm", b"microflo2x", b"\0\0\0"):
            raw_open(host, before=before)
            host.write(bytes((1, CommandKind.PING)).ljust(10, b"\0"))
            assert host.read(10)[:2] == bytes((1, CommandKind.PONG))


def test_the_simulator_s_twin_of_our_firmware_makes_the_same_of_any_bytes(fresh: Fresh) -> None:
    random, twin = Random(1), Board(library(), strict=True, told=Told(b"a document", b"attic..1"))
    with host_end(fresh("host", None).link) as host:
        raw_open(host)
        twin.receive(MAGIC + b"\xc8", 0.0)
        assert twin.data_to_send()
        for _ in range(500):
            stream = b"".join(random.choices(PIECES, k=random.randint(1, 8)))
            stream += b"\0"  # the id of an opening that has none yet
            twin.receive(stream + MAGIC + b"\xfa", 0.0)
            assert raw_open(host, 0xFA, before=stream).hex(" ", 10) == twin.data_to_send().hex(" ", 10), stream.hex()


def test_half_a_command_is_not_waited_for(our_board: AnyBoard) -> None:
    with host_end(our_board.link) as host:
        raw_open(host)
        host.write(b"\1\x12\0\0")
        assert host.read(10) == bytes((0, CommandKind.DEBUG_MESSAGE, 1, DebugPoint.PARSER_INVALID_STATE)).ljust(
            10, b"\0"
        )
        host.write(bytes((2, CommandKind.PING)).ljust(10, b"\0"))
        assert host.read(10)[:2] == bytes((2, CommandKind.PONG))


@pytest.mark.parametrize(
    "unit",
    [
        command(CommandKind.CONNECT_NODES, src=1, tgt=1, src_port=0, tgt_port=5),
        command(CommandKind.CONNECT_NODES, src=1, tgt=1, src_port=50, tgt_port=0),
        command(CommandKind.CONNECT_NODES, src=1, tgt=1, src_port=200, tgt_port=0),
        command(CommandKind.DISCONNECT_NODES, src=1, tgt=1, src_port=50, tgt_port=0),
        send_packet(0, 1, 5, VOID),
    ],
)
def test_a_bad_port_is_refused_where_stock_firmware_writes_outside_its_tables(
    our_board: AnyBoard, unit: object
) -> None:
    with host_end(our_board.link) as host:
        host.open()
        host.upload(forward())
        assert host.refused(unit) == DebugPoint.INVALID_PORT  # type: ignore[arg-type]
        host.good(PING)


def test_a_full_queue_refuses_and_loses_nothing(our_board: AnyBoard) -> None:
    with host_end(our_board.link) as host:
        host.open()
        host.upload(forward())
        host.good(command(CommandKind.STOP_NETWORK))
        count = 0
        while count < 60 and host.request(send_packet(0, 1, 0, integer(count))) == host.events[-1]:
            if getattr(host.events[-1], "code", None) is not None:
                break
            count += 1
        assert count == 48
        assert getattr(host.events[-1], "code", None) == DebugPoint.QUEUE_FULL
        host.good(command(CommandKind.START_NETWORK))
        assert host.wait_packets(count) == [integer(number) for number in range(count)]


def test_node_after_node_until_there_is_no_room_then_all_again_after_a_clear(our_board: AnyBoard) -> None:
    create = command(CommandKind.CREATE_COMPONENT, component=9, parent=0)
    with host_end(our_board.link) as host:
        host.open()
        for _ in range(2):
            host.good(command(CommandKind.CLEAR_NODES))
            assert [host.good(create)["node"] for _ in range(49)] == list(range(1, 50))
            assert host.refused(create) == DebugPoint.OUT_OF_ROOM
        host.good(PING)


def test_floats_and_streamcome_back(our_board: AnyBoard) -> None:
    sent = [Packet(PacketType.FLOAT, 2.5), Packet(PacketType.FLOAT, -0.125), Packet(PacketType.BYTE, 0xA5)]
    with host_end(our_board.link) as host:
        host.open()
        host.upload(forward())
        for packet in sent:
            assert host.good(send_packet(0, 1, 0, packet))["type"] == packet.type
        assert host.wait_packets(len(sent)) == sent
        assert not [event for event in host.events if isinstance(event, DebugReported)]


def test_a_packet_over_an_edge_to_a_removed_node_harms_nothing(our_board: AnyBoard) -> None:
    create = command(CommandKind.CREATE_COMPONENT, component=9, parent=0)
    with host_end(our_board.link) as host:
        host.open()
        host.upload(forward())
        host.good(create)
        host.good(command(CommandKind.CONNECT_NODES, src=1, tgt=2, src_port=0, tgt_port=0))
        host.good(command(CommandKind.REMOVE_NODE, node=2))
        host.good(send_packet(0, 1, 0, VOID))
        assert host.wait_packets(1) == [VOID]
        for unit in (
            send_packet(0, 2, 0, VOID),
            send_packet(0, 3, 0, VOID),
            command(CommandKind.CONNECT_NODES, src=3, tgt=1, src_port=0, tgt_port=0),
            command(CommandKind.DISCONNECT_NODES, src=2, tgt=1, src_port=0, tgt_port=0),
        ):
            assert host.refused(unit) is not None
        host.good(PING)


def test_a_restarted_board_is_opened_again_at_once(our_board: AnyBoard) -> None:
    with host_end(our_board.link) as host:
        host.open()
        our_board.ask("reset")
        host.pump(lambda: Desynced("the board has restarted") in host.events)
        host.pump(lambda: host.link.is_open)
        host.upload(forward())


def test_a_board_says_that_it_has_restarted(our_board: AnyBoard) -> None:
    with host_end(our_board.link) as host:
        raw_open(host)
        our_board.ask("reset")
        assert host.read(10) == bytes((0, CommandKind.DEBUG_MESSAGE, 2, DebugPoint.PROGRAM_START)).ljust(10, b"\0")
