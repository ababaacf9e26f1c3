"""The host's own model of a board: nothing that crashes stock firmware passes it, and only answers change it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GraphError
from gateway.fbp.text.graph_files import parse_graph
from gateway.model.component import ComponentLibrary
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.graph.upload import Uploader
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Command, Wire, command, decode, send_packet
from gateway.serial_link.protocol.commandformat import REPLY_OF, CommandKind
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import LinkRequestFailed, Opened, Replied
from gateway.simulator.core.board import Board
from tests.support.vectors import CAPTURES, frames, library

FORWARD = library().component("Forward").number
SPLIT = library().component("Split").number


def say(model: BoardModel, unit: Command, reply: bytes = b"") -> None:
    """A request that passes, and its good answer."""
    model.check(unit)
    model.accept(unit, Command(0, REPLY_OF[CommandKind(unit.kind)], reply.ljust(8, b"\0")))


def make(model: BoardModel, *components: int) -> BoardModel:
    """These nodes on a cleared board."""
    say(model, command(CommandKind.CLEAR_NODES))
    for number, component in enumerate(components, 1):
        say(model, command(CommandKind.CREATE_COMPONENT, component=component, parent=0), bytes((component, number)))
    return model


def connect(src: int, src_port: int, tgt: int, tgt_port: int, kind: CommandKind = CommandKind.CONNECT_NODES) -> Command:
    return command(kind, src=src, tgt=tgt, src_port=src_port, tgt_port=tgt_port)


def packet(node: int, port: int = 0) -> Command:
    return send_packet(0, node, port, Packet(PacketType.INTEGER, 5))


@pytest.mark.parametrize("hazard", CAPTURES["w10"]["hazards"], ids=lambda hazard: hazard["name"])
def test_no_hazard_can_be_sent(hazard: dict[str, Any]) -> None:
    """The model, fed with the answers of the capture, refuses a command before the firmware could be harmed by it."""
    model = BoardModel(library())
    board = Board(library())
    refused = []
    for data in frames(hazard, "host->device"):
        unit = decode(W10, data)
        if data.startswith(W10.magic):
            board.receive(data, 0.0)
            board.data_to_send()
            continue
        try:
            model.check(unit)
        except GraphError as exc:
            refused.append(str(exc))
            continue
        board.receive(data, 0.0)
        reply = decode(W10, board.data_to_send()[:10])
        model.accept(unit, reply)
    assert len(refused) >= 1
    assert board.crashed == ""


def test_a_link_with_a_model_refuses_in_the_order_of_the_requests() -> None:
    board, link = Board(library()), Link(W10, model=BoardModel(library()))
    link.start(0.0)
    events = exchange(link, board)
    assert events == [Opened(1)]
    for unit in (command(CommandKind.CLEAR_NODES), command(CommandKind.CREATE_COMPONENT, component=FORWARD, parent=0)):
        link.request(unit, 0.0)
    good = link.request(packet(1), 0.0)
    bad = link.request(packet(2), 0.0)
    events = exchange(link, board)
    assert [type(event) for event in events] == [Replied, Replied, Replied, LinkRequestFailed]
    assert isinstance(events[-1], LinkRequestFailed)
    assert (events[-1].token, events[-1].reason) == (bad, "node 2: the board has no such node")
    assert good != bad
    assert link.counters.refused_here == 1


def exchange(link: Link, board: Board) -> list[Any]:
    events: list[Any] = []
    for _ in range(50):
        board.receive(link.data_to_send(), 0.0)
        link.receive(board.data_to_send(), 0.0)
        events += link.events()
    return events


@pytest.mark.parametrize("wire", [W10, W8_06, W8_04], ids=lambda wire: wire.name)
def test_an_upload_passes_and_the_model_knows_what_runs_then(wire: Wire) -> None:
    graph = parse_graph("'5' -> IN a(Forward) OUT -> IN b(Split)\nb OUT3 -> IN a\nOUTPORT=b.OUT9:LAST", "g.fbp")
    model, board = BoardModel(library(wire), wire), Board(library(wire), wire=wire)
    link = Link(wire, model=model)
    link.start(0.0)
    exchange(link, board)
    uploader = Uploader(graph, library(wire))
    while unit := uploader.next_command():
        link.request(unit, 0.0)
        (replied,) = exchange_one(link, board)
        uploader.accept(replied.command)
    assert model.nodes == {1: "Forward", 2: "Split"}
    assert model.edges() == {(1, 0, 2, 0), (2, 2, 1, 0)}
    assert model.subscriptions() == {(2, 8)}
    assert model.running


def exchange_one(link: Link, board: Board) -> list[Replied]:
    board.receive(link.data_to_send(), 0.0)
    link.receive(board.data_to_send(), 0.0)
    return [event for event in link.events() if isinstance(event, Replied)]


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        (command(CommandKind.CREATE_COMPONENT, component=200, parent=0), "none of this number"),
        (command(CommandKind.CREATE_COMPONENT, component=100, parent=0), "subgraphs"),
        (command(CommandKind.CREATE_COMPONENT, component=FORWARD, parent=1), "parent"),
        (connect(1, 0, 3, 0), "node 3: the board has no such node"),
        (connect(3, 0, 1, 0), "node 3: the board has no such node"),
        (connect(1, 1, 2, 0), "component Forward has no outport 1"),
        (connect(1, 200, 2, 0), "component Forward has no outport 200"),
        (connect(1, 0, 2, 99), "component Split has no inport 99"),
        (connect(1, 0, 2, 0, CommandKind.DISCONNECT_NODES), "no such edge"),
        (packet(0), "node 0"),
        (packet(1, 5), "no inport 5"),
        (Command(0, CommandKind.SEND_PACKET, bytes((1, 0, 12, 0))), "type 12 becomes void"),
        (send_packet(0, 1, 0, Packet(PacketType.FLOAT, 2.5)), "a float becomes void on this firmware (w10)"),
        (command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=9, enable=1), "no outport 9"),
        (command(CommandKind.REMOVE_NODE, node=3), "no such node"),
        (Command(0, CommandKind.CONNECT_SUBGRAPH_PORT, bytes(5)), "flatten"),
        (Command(0, CommandKind.SET_IO_VALUE, b"\1\5"), "no simulated pins"),
        (command(CommandKind.CONFIGURE_DEBUG, level=9), "no such level"),
    ],
)
def test_what_firmware_would_crash_on_or_ignore_is_refused_with_the_reason(unit: Command, says: str) -> None:
    model = make(BoardModel(library()), FORWARD, SPLIT)
    with pytest.raises(GraphError) as raised:
        model.check(unit)
    assert says in str(raised.value)


def test_the_fiftieth_node_is_never_made_not_even_after_removals() -> None:
    model = make(BoardModel(library()), *[FORWARD] * 49)
    say(model, command(CommandKind.REMOVE_NODE, node=7))
    with pytest.raises(GraphError, match="room for 49"):
        model.check(command(CommandKind.CREATE_COMPONENT, component=FORWARD, parent=0))
    say(model, command(CommandKind.CLEAR_NODES))
    model.check(command(CommandKind.CREATE_COMPONENT, component=FORWARD, parent=0))


def test_a_stopped_network_gets_48_packets_and_not_one_more() -> None:
    model = make(BoardModel(library()), FORWARD)
    say(model, command(CommandKind.STOP_NETWORK))
    for _ in range(48):
        say(model, packet(1))
    with pytest.raises(GraphError, match="forgets them all"):
        model.check(packet(1))
    say(model, command(CommandKind.START_NETWORK))
    for _ in range(100):
        say(model, packet(1))


def test_a_node_goes_only_when_every_edge_into_it_is_gone() -> None:
    model = make(BoardModel(library()), FORWARD, SPLIT)
    say(model, connect(1, 0, 2, 0))
    say(model, connect(2, 0, 2, 0))
    remove = command(CommandKind.REMOVE_NODE, node=2)
    for src, port in ((1, 0), (2, 0)):
        with pytest.raises(GraphError, match="disconnect"):
            model.check(remove)
        say(model, connect(src, port, 2, 0, CommandKind.DISCONNECT_NODES))
    say(model, remove)
    with pytest.raises(GraphError, match="no such node"):
        model.check(packet(2))


def test_a_node_that_packets_wait_for_stays() -> None:
    model = make(BoardModel(library()), FORWARD)
    say(model, packet(1))
    with pytest.raises(GraphError, match="wait for it"):
        model.check(command(CommandKind.REMOVE_NODE, node=1))


def test_taking_an_edge_away_takes_the_subscription_of_its_outport() -> None:
    model = make(BoardModel(library()), FORWARD, FORWARD)
    say(model, connect(1, 0, 2, 0))
    say(model, command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=0, enable=1))
    say(model, connect(1, 0, 2, 0, CommandKind.DISCONNECT_NODES))
    assert model.subscriptions() == set()


@pytest.mark.parametrize("number", [1, 50, 161, 255])
def test_a_number_that_no_sane_board_gives_makes_the_board_unknown(number: int) -> None:
    model = make(BoardModel(library()), FORWARD)
    create = command(CommandKind.CREATE_COMPONENT, component=FORWARD, parent=0)
    with pytest.raises(GraphError, match="out of room"):
        model.accept(create, Command(0, CommandKind.NODE_ADDED, bytes((FORWARD, number, 0))))
    with pytest.raises(GraphError, match="not known"):
        model.check(packet(1))


def test_of_an_unknown_board_only_harmless_things_are_asked() -> None:
    model = BoardModel(ComponentLibrary())
    for kind in (CommandKind.PING, CommandKind.STOP_NETWORK, CommandKind.CLEAR_NODES, CommandKind.GET_NETWORK_STATUS):
        model.check(command(kind))
    with pytest.raises(GraphError, match="upload"):
        model.check(packet(1))


def test_what_a_watched_board_runs_is_assumed_from_its_graph() -> None:
    model = BoardModel(library())
    model.assume(parse_graph("a(Forward) OUT -> IN b(Split)", "g.fbp"), {"a": 1, "b": 2})
    assert model.edges() == {(1, 0, 2, 0)}
    model.check(packet(2))
    with pytest.raises(GraphError, match="no such node"):
        model.check(packet(3))


def test_our_own_firmware_takes_floats_and_pins() -> None:
    model = make(BoardModel(library(), takes_floats=True, simulated_pins=True), FORWARD)
    model.check(send_packet(0, 1, 0, Packet(PacketType.FLOAT, 2.5)))
    model.check(Command(0, CommandKind.SET_IO_VALUE, b"\1\5"))


def test_clearing_stops_only_the_oldest_generation() -> None:
    for wire, running in ((W8_04, False), (W8_06, True), (W10, True)):
        model = BoardModel(library(wire), wire)
        say(model, command(CommandKind.START_NETWORK))
        say(model, command(CommandKind.CLEAR_NODES))
        assert model.running is running
