"""Streams of bytes in any pieces and with anything between: no command is lost that was not touched, nothing raises."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.codec import (
    WIRES,
    Command,
    Wire,
    decode,
    encode,
    packet_of_event,
    sent,
    sent_arguments,
)
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.dissector import Dissector, LineDirection
from gateway.serial_link.protocol.framer import Framer
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import Opened, PacketSent
from gateway.serial_link.protocol.wire_detector import WireDetector
from gateway.simulator.core.board import Board
from tests.support.vectors import library

wires = st.sampled_from(list(WIRES.values()))
numbers = st.integers(1, 49)
packets = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(lambda value: Packet(PacketType.INTEGER, value)),
    st.booleans().map(lambda value: Packet(PacketType.BOOLEAN, value)),
    st.just(Packet(PacketType.VOID)),
    st.integers(0, 7).map(lambda code: Packet(PacketType.ERROR, code)),
    st.sampled_from([Packet(PacketType.BRACKET_START), Packet(PacketType.BRACKET_END)]),
)
readings = st.lists(st.tuples(numbers, st.integers(0, 8), packets), max_size=20)


def event(wire: Wire, reading: tuple[int, int, Packet]) -> bytes:
    node, port, packet = reading
    return encode(wire, Command(0, CommandKind.PACKET_SENT, sent_arguments(wire, node, port, None, packet)))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(ends)]


def opened(wire: Wire, noise: bytes = b"") -> Link:
    """An open link; ``noise`` came before the answers that opened it."""
    link = Link(wire)
    link.start(0.0)
    link.data_to_send()
    link.receive(noise + link._walk.wanted, 0.0)
    ping = decode(wire, link.data_to_send())
    link.receive(encode(wire, Command(ping.request_id, CommandKind.PONG, ping.args)), 0.0)
    assert link.events() == [Opened(1)]
    return link


@given(wires, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=7))
def test_every_command_reads_back_from_its_bytes(wire: Wire, request_id: int, kind: int, args: bytes) -> None:
    unit = decode(wire, encode(wire, Command(request_id, kind, args)))
    assert unit.kind == kind
    assert unit.args == args.ljust(wire.argument_size, b"\0")
    assert unit.request_id == (request_id if wire.request_ids else 0)


@given(wires, numbers, st.integers(0, 127), packets)
def test_every_packet_event_reads_back_as_far_as_the_wire_carries_it(
    wire: Wire, node: int, port: int, packet: Packet
) -> None:
    said = sent(wire, decode(wire, event(wire, (node, port, packet))).args)
    assert (said.node, said.port, said.has_target) == (node, port, False)
    back = packet_of_event(said.kind, said.data)
    assert back is not None
    if packet.type is PacketType.INTEGER and wire.event_bytes == 2:
        assert (int(back.value or 0) - int(packet.value or 0)) % 65536 == 0
    else:
        assert back == packet


@given(wires, st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_pieces_give_the_same_commands(wire: Wire, data: bytes, places: list[int]) -> None:
    whole, pieces = Framer(wire), Framer(wire)
    assert [unit for piece in cut(data, places) for unit in pieces.receive(piece)] == whole.receive(data)
    assert pieces.partial == whole.partial < wire.size


@given(wires, readings, st.lists(st.integers(0, 300), max_size=30))
def test_a_link_reads_the_same_from_any_pieces(
    wire: Wire, sayings: list[tuple[int, int, Packet]], places: list[int]
) -> None:
    data = b"".join(event(wire, reading) for reading in sayings)
    whole, pieces = opened(wire), opened(wire)
    whole.receive(data, 0.0)
    for piece in cut(data, places):
        pieces.receive(piece, 0.0)
    events = whole.events()
    assert pieces.events() == events
    assert [(said.node, said.port) for said in events if isinstance(said, PacketSent)] == [s[:2] for s in sayings]


@given(wires, st.binary(max_size=300))
def test_garbage_before_the_answer_does_not_hide_it(wire: Wire, noise: bytes) -> None:
    frame = bytes(wire.size - 1)
    if frame[:7] in noise + b"\x13":  # the answer of the wires without ids is nearly all zeros: noise can spell it
        return
    assert opened(wire, noise).is_open


@given(wires, st.lists(st.tuples(st.tuples(numbers, st.integers(0, 8), packets), st.binary(max_size=25)), max_size=12))
def test_garbage_between_commands_costs_no_more_than_its_neighbours(
    wire: Wire, script: list[tuple[tuple[int, int, Packet], bytes]]
) -> None:
    """A listener that is out of step needs two commands that make sense: of each stretch of noise, two may be missed."""
    data = b"".join(event(wire, reading) + noise for reading, noise in script)
    listener = Dissector(wire, LineDirection.FROM_BOARD)
    found = [piece for piece in (*listener.feed(data), *listener.flush()) if isinstance(piece, Command)]
    wanted = Counter(encode(wire, decode(wire, event(wire, reading))) for reading, _ in script)
    missed = wanted - Counter(encode(wire, unit) for unit in found)
    stretches = sum(1 for _, noise in script if noise)
    assert sum(missed.values()) <= 2 * stretches


@given(wires, st.lists(st.binary(max_size=80), max_size=30), st.booleans())
def test_no_stream_makes_a_link_raise_or_grow(wire: Wire, stream: list[bytes], begin_open: bool) -> None:
    link = opened(wire) if begin_open else Link(wire)
    now = 0.0
    if not begin_open:
        link.start(now)
    for data in stream:
        now += 0.03
        link.receive(data, now)
        link.tick(now)
        assert len(link.events()) <= len(data) + 4
        assert len(link.data_to_send()) <= 4 * (wire.size + 1)
        assert link._framer.partial < wire.size


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_no_stream_makes_the_search_raise_or_find_a_board(stream: list[bytes]) -> None:
    detector, now = WireDetector(), 0.0
    detector.start(now)
    for data in stream:
        now += 0.05
        detector.receive(data, now)
        detector.tick(now)
        detector.events()
        detector.data_to_send()


@given(wires, st.lists(st.binary(max_size=60), max_size=20), st.booleans())
def test_no_stream_makes_a_strict_board_crash(wire: Wire, stream: list[bytes], strict: bool) -> None:
    board = Board(library(wire), wire=wire, strict=strict)
    board.receive(wire.magic + b"\xc8" * wire.request_ids, 0.0)
    for data in stream:
        board.receive(data, 0.0)
        board.data_to_send()
    assert board.crashed == "" or not strict
