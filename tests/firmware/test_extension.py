"""Our extension of the protocol: self-description, numbered packets, counters, credit (docs/firmware.md)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from gateway.fbp.text.graph_files import load_graph
from gateway.model.graph import Edge, Graph, Node
from gateway.model.packet import Packet, PacketType
from gateway.model.port import PortRef
from gateway.serial_link.description.self_description import DescriptionReader, SelfDescription
from gateway.serial_link.protocol.codec import command, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint
from gateway.serial_link.protocol.link_events import DebugReported, LinkRequestFailed, Replied
from tests.support.anyboard import AnyBoard, running
from tests.support.firmware import EXAMPLES, HostEnd, host_end, library, thermometer

GRAPH = EXAMPLES / "thermometer.fbp"
SEQUENCE_NUMBERS, EVENT_CREDIT, CHECKSUMS = 1, 2, 4


def description(host: HostEnd, known: bytes = b"") -> tuple[SelfDescription, bytes, int]:
    """What the board tells, the document, and how many requests it took."""
    reader = DescriptionReader(known)
    requests = 0
    while (unit := reader.next_command()) is not None:
        reader.accept(host.good(unit))
        requests += 1
    return reader.result(), reader.document(), requests


def integers(count: int) -> list[Packet]:
    return [Packet(PacketType.INTEGER, number) for number in range(count)]


def subscribe(host: HostEnd, node: int, port: int) -> None:
    host.good(command(CommandKind.SUBSCRIBE_TO_PORT, node=node, port=port, enable=1))


def extend(host: HostEnd, wanted: int) -> int:
    return host.good(command(CommandKind.EXTEND, wanted=wanted))["active"]


# -- self-description -------------------------------------------------------------------------------------------------


def test_a_board_tells_all_that_pairing_needs(thermometer_board: AnyBoard) -> None:
    with host_end(thermometer_board.link) as host:
        host.open()
        told, _, _ = description(host)
        assert told.own_graph
        assert told.start_problem == 0
        assert len(bytes.fromhex(told.id)) == 8
        assert told.description.firmware in ("microflo-gateway", "microflo-simulator")
        assert told.description.limits.messages == 48
        graph = told.description.graph
        assert graph is not None
        assert (graph.nodes, graph.edges, graph.inports, graph.outports) == (
            thermometer().nodes,
            thermometer().edges,
            thermometer().inports,
            thermometer().outports,
        )
        assert {
            name: (c.number, [p.id for p in c.inports]) for name, c in told.description.library.by_name.items()
        } == {name: (c.number, [p.id for p in c.inports]) for name, c in library().by_name.items()}


def test_its_own_graph_runs_from_the_start_without_a_word(thermometer_board: AnyBoard) -> None:
    with host_end(thermometer_board.link) as host:
        host.open()
        assert host.good(command(CommandKind.GET_NETWORK_STATUS))["running"] == 1
        subscribe(host, 2, 0)
        host.wait_packets(1)
        assert not [event for event in host.events if isinstance(event, LinkRequestFailed | DebugReported)]


def test_after_an_upload_the_graph_is_not_its_own_any_more(thermometer_board: AnyBoard) -> None:
    with host_end(thermometer_board.link) as host:
        host.open()
        host.upload(thermometer())
        assert not description(host)[0].own_graph
        thermometer_board.ask("reset")
        host.open()
        assert description(host)[0].own_graph


def test_a_document_that_is_known_is_not_read_again(thermometer_board: AnyBoard) -> None:
    with host_end(thermometer_board.link) as host:
        host.open()
        first, document, requests = description(host)
        again, same, few = description(host, known=document)
        assert (again, same) == (first, document)
        assert requests > 50
        assert few == 2


def test_its_id_stays_over_a_reset(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        before = description(host)[0].id
        extended_board.ask("reset")
        host.open()
        assert description(host)[0].id == before


def test_a_board_without_a_graph_describes_itself_too(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        told = description(host)[0]
        assert told.description.graph is None
        assert not told.own_graph


def test_stock_firmware_is_asked_without_harm(tmp_path: Path) -> None:
    with running("simulator", tmp_path) as board, host_end(board.link) as host:
        host.open()
        asked = host.request(command(CommandKind.DESCRIBE, offset_low=0, offset_high=0))
        assert isinstance(asked, LinkRequestFailed)
        assert asked.code == DebugPoint.PARSER_UNKNOWN_COMMAND
        host.upload(load_graph(GRAPH))
        host.wait_packets(1)


# -- numbered packets -------------------------------------------------------------------------------------------------


def echo() -> Graph:
    """A node that sends on what it gets."""
    return Graph("echo", (Node("echo", "Forward"),))


def test_packets_are_numbered_when_a_host_asks_for_it(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        host.upload(echo())
        subscribe(host, 1, 0)
        assert extend(host, SEQUENCE_NUMBERS) == SEQUENCE_NUMBERS
        for packet in integers(130):
            host.good(send_packet(0, 1, 0, packet))
        assert host.wait_packets(130) == integers(130)
        numbers = [event.sequence for event in host.packets()]
        assert set(numbers) == set(range(1, 128))
        assert all(after == before % 127 + 1 for before, after in pairwise(numbers))


def test_packets_are_not_numbered_for_a_host_that_opens_and_does_not_ask(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        extend(host, SEQUENCE_NUMBERS)
        host.open()
        host.upload(echo())
        subscribe(host, 1, 0)
        host.good(send_packet(0, 1, 0, integers(1)[0]))
        host.wait_packets(1)
        assert [event.sequence for event in host.packets()] == [0]


def test_what_a_full_queue_loses_shows_as_a_gap_and_is_counted(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        host.upload(Graph("many", (Node("split", "Split"),)))
        for port in range(9):
            subscribe(host, 1, port)
        extend(host, SEQUENCE_NUMBERS)
        host.good(command(CommandKind.STOP_NETWORK))
        for packet in integers(8):
            host.good(send_packet(0, 1, 0, packet))
        before = counters(host)
        host.good(command(CommandKind.START_NETWORK))
        host.good(command(CommandKind.GET_NETWORK_STATUS))
        after = counters(host)
        reported, lost = after[0] - before[0], after[1] - before[1]
        assert reported == 8 * 9
        assert lost == 8 * 9 - 48
        host.wait_packets(48)
        host.good(send_packet(0, 1, 0, integers(1)[0]))
        host.wait_packets(48 + 9)
        numbers = [event.sequence for event in host.packets()]
        gaps = [(after - before) % 127 - 1 for before, after in pairwise(numbers)]
        assert sum(gaps) == lost
        assert DebugReported(1, DebugPoint.QUEUE_FULL) in host.events


def counters(host: HostEnd) -> tuple[int, int, int]:
    """Packets of subscribed ports, those that found the queue full, input bytes lost: since the board's start."""
    args = host.good(command(CommandKind.COUNTERS, page=0)).args
    return tuple(int.from_bytes(args[a:b], "little") for a, b in ((0, 4), (4, 6), (6, 8)))  # type: ignore[return-value]


# -- checksums ---------------------------------------------------------------------------------------------------------


def checked(unit: bytes) -> bytes:
    """A command with its checksum behind it."""
    total = 0xFF
    for byte in unit.ljust(10, b"\0"):
        total ^= byte
        for _ in range(8):
            total = (total << 1 ^ (0x07 if total & 0x80 else 0)) & 0xFF
    return unit.ljust(10, b"\0") + bytes((total,))


def open_with_checksums(host: HostEnd) -> None:
    host.open()
    counters(
        host
    )  # now the link knows the extension: it sends no ping behind the request that changes the commands' size
    assert extend(host, CHECKSUMS) == CHECKSUMS


def test_commands_and_answers_are_checked_when_a_host_asks_for_it(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        open_with_checksums(host)
        for number in range(20):
            host.write(checked(bytes((5, CommandKind.PING, number, 1, 2, 3, 4, 5, 6, 7))))
            assert host.read(11) == checked(bytes((5, CommandKind.PONG, number, 1, 2, 3, 4, 5, 6, 7)))


@pytest.mark.parametrize("damage", ["a bit", "a byte lost", "a byte more"])
def test_a_damaged_command_is_not_carried_out(extended_board: AnyBoard, damage: str) -> None:
    create = checked(bytes((5, CommandKind.CREATE_COMPONENT, 9)))
    sent = {
        "a bit": create[:2] + bytes((create[2] ^ 0x10,)) + create[3:],
        "a byte lost": create[:3] + create[4:] + create,
        "a byte more": create[:3] + b"\0" + create[3:],
    }[damage]
    with host_end(extended_board.link) as host:
        open_with_checksums(host)
        host.write(sent)
        assert host.read(11) == checked(bytes((0, CommandKind.DEBUG_MESSAGE, 1, DebugPoint.BAD_CHECKSUM)))
        host.write(create)  # nothing counts until it is opened again
        host.open()
        assert host.refused(command(CommandKind.REMOVE_NODE, node=1)) == DebugPoint.REMOVE_NODE_INVALID_INSTANCE


# -- credit -----------------------------------------------------------------------------------------------------------


def grant(host: HostEnd, count: int) -> None:
    host.good(command(CommandKind.GRANT, count_low=count % 256, count_high=count // 256))


def test_a_board_with_credit_waits_for_it_and_loses_nothing(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        host.upload(echo())
        subscribe(host, 1, 0)
        assert extend(host, SEQUENCE_NUMBERS | EVENT_CREDIT) == SEQUENCE_NUMBERS | EVENT_CREDIT
        for packet in integers(20):
            host.good(send_packet(0, 1, 0, packet))
        assert not host.packets()
        for granted in (3, 10):
            grant(host, granted)
            for _ in range(5):
                host.good(command(CommandKind.GET_NETWORK_STATUS))
        assert host.wait_packets(13) == integers(13)
        grant(host, 100)
        assert host.wait_packets(20) == integers(20)


def test_a_board_without_credit_says_so_when_it_can_take_no_more(extended_board: AnyBoard) -> None:
    with host_end(extended_board.link) as host:
        host.open()
        host.upload(echo())
        subscribe(host, 1, 0)
        extend(host, EVENT_CREDIT)
        taken = 0
        while isinstance(host.request(send_packet(0, 1, 0, Packet(PacketType.INTEGER, taken))), Replied):
            taken += 1
            assert taken < 100
        refusal = host.events[-1]
        assert isinstance(refusal, LinkRequestFailed)
        assert refusal.code == DebugPoint.QUEUE_FULL
        grant(host, 1000)
        assert host.wait_packets(taken) == integers(taken)


def test_a_chain_of_edges_moves_on_with_the_credit_of_its_end(extended_board: AnyBoard) -> None:
    nodes = tuple(Node(f"n{number}", "Forward") for number in range(5))
    edges = tuple(
        Edge(PortRef(f"n{number}", "out"), PortRef(f"n{number + 1}", "in")) for number in range(len(nodes) - 1)
    )
    with host_end(extended_board.link) as host:
        host.open()
        host.upload(Graph("chain", nodes, edges))
        subscribe(host, 5, 0)
        extend(host, EVENT_CREDIT)
        for packet in integers(10):
            host.good(send_packet(0, 1, 0, packet))
        grant(host, 10)
        assert host.wait_packets(10) == integers(10)
