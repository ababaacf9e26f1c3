"""The host's end of the protocol, against what real firmware answered, and against what no firmware may answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import LocalProtocolError
from gateway.model.packet import Packet, PacketType
from gateway.model.port import Direction, PortDef
from gateway.serial_link.protocol.codec import (
    W8_04,
    W8_06,
    W10,
    WIRES,
    Command,
    Wire,
    command,
    decode,
    encode,
    send_packet,
    sent,
)
from gateway.serial_link.protocol.commandformat import REPLY_OF, CommandKind
from gateway.serial_link.protocol.json_values import to_packets
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import (
    DebugReported,
    Desynced,
    GaveUp,
    IoChanged,
    LinkEvent,
    LinkOptions,
    LinkRequestFailed,
    Opened,
    PacketSent,
    Replied,
    options_for,
)
from tests.support.vectors import CAPTURES, each

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
CONVERSATIONS = [
    entry
    for entry in each("scenarios")
    if entry.values[1]["name"] not in ("boot-output", "debug-levels") and "resync" not in entry.values[1]["name"]
]


def opened(wire: Wire, options: LinkOptions | None = None) -> Link:
    """A link whose opening and proving ping were answered; nothing waits to be read or sent."""
    link = Link(wire, options)
    link.start(0.0)
    assert link.data_to_send().startswith(wire.magic)
    link.receive(link._walk.wanted, 0.0)
    answer(link, wire)
    assert link.events() == [Opened(1)]
    return link


def answer(link: Link, wire: Wire, args: bytes | None = None, kind: int | None = None, now: float = 0.0) -> Command:
    """Answer the request that is on the wire, well or with what is given."""
    asked = decode(wire, link.data_to_send())
    reply = REPLY_OF[CommandKind(asked.kind)] if kind is None else kind
    link.receive(encode(wire, Command(asked.request_id, reply, asked.args if args is None else args)), now)
    return asked


def is_request(wire: Wire, data: bytes) -> bool:
    known = len(data) == wire.size and decode(wire, data).kind in REPLY_OF and not data.startswith(wire.magic)
    return known and (wire.has_status or decode(wire, data).kind != CommandKind.GET_NETWORK_STATUS)


@pytest.mark.parametrize(("wire", "scenario"), CONVERSATIONS)
def test_a_captured_conversation_reads_as_it_happened(wire: Wire, scenario: dict[str, Any]) -> None:
    """Every captured request goes out as captured (but for its id), every captured answer and event is understood."""
    link = opened(wire)
    frames = list(scenario["frames"])
    ids: dict[int, int] = {}
    while frames:
        frame = frames.pop(0)
        data = bytes.fromhex(frame["hex"])
        if frame["dir"] == "host->device":
            answers = []
            while frames and frames[0]["dir"] == "device->host":
                answers.append(decode(wire, bytes.fromhex(frames.pop(0)["hex"])))
            if not is_request(wire, data):
                continue  # not ours to send: openings, ids that are no command
            if not answers:
                continue  # a ping to a closed board
            asked = decode(wire, data)
            token = link.request(asked, 0.0)
            out = link.data_to_send()
            assert out[-wire.argument_size - 1 :] == data[-wire.argument_size - 1 :]
            ids[asked.request_id] = out[0]
            for unit in answers:
                given = ids.get(unit.request_id, 0) if unit.kind not in (103, 106) else 0
                link.receive(encode(wire, Command(given if wire.request_ids else 0, unit.kind, unit.args)), 0.0)
            check(wire, token, answers, link.events())
            if asked.kind == CommandKind.END:
                link = opened(wire)
        else:
            pytest.fail("an answer before its request")
    assert link.counters.desyncs == 0
    assert link.counters.garbage_bytes == 0


def check(wire: Wire, token: int, answers: list[Command], events: list[LinkEvent]) -> None:
    outcome = [event for event in events if isinstance(event, Replied | LinkRequestFailed)]
    assert [event.token for event in outcome] == [token]
    refusals = [unit for unit in answers if unit.kind in (CommandKind.ERROR, CommandKind.DEBUG_MESSAGE)]
    if isinstance(outcome[0], LinkRequestFailed):
        codes = [unit["code"] if unit.kind == CommandKind.ERROR else unit["point"] for unit in refusals]
        assert outcome[0].code in codes
    packets = [event for event in events if isinstance(event, PacketSent)]
    said = [sent(wire, unit.args) for unit in answers if unit.kind == CommandKind.PACKET_SENT]
    assert [(p.node, p.port, p.kind) for p in packets] == [(s.node, s.port, s.kind) for s in said]


@pytest.mark.parametrize("name", WIRES)
def test_what_a_board_said_at_boot_is_never_taken_for_an_answer(name: str) -> None:
    wire = WIRES[name]
    boot = next(s for s in CAPTURES[name]["scenarios"] if s["name"] == "boot-output")
    link = Link(wire)
    link.start(0.0)
    link.data_to_send()
    for frame in boot["frames"]:
        link.receive(bytes.fromhex(frame["hex"]), 0.0)
    assert link.events() == []
    assert not link.is_open


def test_a_byte_that_stock_firmware_can_not_report_has_no_value() -> None:
    link = opened(W10)
    link.receive(bytes.fromhex("006a0113000000000000 00670100000400000000"), 0.0)
    assert link.events() == [PacketSent(1, 0, PacketType.BYTE, None)]
    link.receive(bytes.fromhex("0067010000042a000000"), 0.0)  # firmware that can
    assert link.events() == [PacketSent(1, 0, PacketType.BYTE, Packet(PacketType.BYTE, 42))]


def test_a_bracket_on_the_older_wires_comes_without_its_complaint() -> None:
    link = opened(W8_06)
    link.receive(bytes.fromhex("6a01130000000000 6701000200090000"), 0.0)
    assert link.events() == [PacketSent(1, 0, PacketType.BRACKET_START, Packet(PacketType.BRACKET_START))]


def test_a_complaint_of_its_own_is_reported() -> None:
    link = opened(W10)
    link.receive(bytes.fromhex("006a0110000000000000"), 0.0)
    assert link.events() == [DebugReported(1, 16)]


def test_a_float_of_the_older_wires_has_no_value() -> None:
    link = opened(W8_04)
    link.receive(bytes.fromhex("6701000100082040"), 0.0)
    assert link.events() == [PacketSent(1, 0, PacketType.FLOAT, None)]
    assert link.counters.unreadable_packets == 1


def test_success_after_the_complaint_about_a_missing_node_is_a_refusal_on_the_older_wires() -> None:
    link = opened(W8_06)
    token = link.request(command(CommandKind.SEND_PACKET, 0, b"\1", node=9, port=0, type=7), 0.0)
    link.receive(bytes.fromhex("6a01170000000000"), 0.0)
    assert link.events() == []
    link.receive(bytes.fromhex("7209000700000000"), 0.0)
    assert link.events() == [LinkRequestFailed(token, "send message invalid node", 23)]


def test_a_complaint_of_the_network_is_no_refusal_of_the_request_in_flight() -> None:
    link = opened(W8_06)
    token = link.request(command(CommandKind.START_NETWORK), 0.0)
    link.receive(bytes.fromhex("6a01100000000000 6800000000000000"), 0.0)
    assert link.events() == [DebugReported(1, 16), Replied(token, Command(0, 104, bytes(7)))]


def test_the_oldest_wire_is_never_asked_for_its_status() -> None:
    with pytest.raises(LocalProtocolError, match=r"w8-0\.4"):
        opened(W8_04).request(command(CommandKind.GET_NETWORK_STATUS), 0.0)


@EVERY_WIRE
def test_requests_wait_for_the_answer_to_the_one_in_flight(wire: Wire) -> None:
    link = opened(wire)
    tokens = [link.request(command(CommandKind.START_NETWORK), 0.0) for _ in range(3)]
    for token in tokens:
        answer(link, wire)
        assert [event.token for event in link.events() if isinstance(event, Replied)] == [token]


def test_a_full_queue_refuses_and_says_how_much_room_there_was() -> None:
    link = opened(W10)
    for _ in range(33):  # one flies, 32 wait
        assert link.room or link.counters.requests == 34
        link.request(command(CommandKind.START_NETWORK), 0.0)
    assert link.room == 0
    with pytest.raises(LocalProtocolError, match="wait"):
        link.request(command(CommandKind.START_NETWORK), 0.0)


def test_packets_fly_together_when_the_window_is_open_and_nothing_else_does() -> None:
    link = opened(W10, LinkOptions(window=4))
    for _ in range(3):
        link.request(command(CommandKind.SEND_PACKET, 0, b"\1", node=1, port=0, type=7), 0.0)
    link.request(command(CommandKind.STOP_NETWORK), 0.0)
    link.request(command(CommandKind.SEND_PACKET, 0, b"\1", node=1, port=0, type=7), 0.0)
    out = link.data_to_send()
    assert [out[at + 1] for at in range(0, len(out), 10)] == [13, 13, 13]
    for at in range(0, len(out), 10):
        link.receive(bytes((out[at], 114, 1, 0, 7, 0, 0, 0, 0, 0)), 0.0)
    assert link.data_to_send()[1] == CommandKind.STOP_NETWORK


@EVERY_WIRE
def test_a_request_that_is_not_answered_fails_and_the_link_opens_again(wire: Wire) -> None:
    link = opened(wire)
    token = link.request(command(CommandKind.START_NETWORK), 1.0)
    link.data_to_send()
    link.tick(1.49)
    assert link.events() == []
    link.tick(1.5)
    assert link.events() == [
        LinkRequestFailed(token, "no reply to start network"),
        Desynced("no reply to start network"),
    ]
    assert link.data_to_send().startswith(wire.magic)


@pytest.mark.parametrize(
    ("kind", "args", "reply", "given"),
    [
        ("SEND_PACKET", "01000705", "SEND_PACKET_DONE", "020007"),
        ("SEND_PACKET", "01000705", "SEND_PACKET_DONE", "010107"),
        ("SEND_PACKET", "01000705", "SEND_PACKET_DONE", "010006"),
        ("SEND_PACKET", "01000705", "SEND_PACKET_DONE", "01000700ff"),
        ("CONNECT_NODES", "01020304", "NODES_CONNECTED", "01020304"),
        ("CREATE_COMPONENT", "0900", "NODE_ADDED", "0801"),
        ("CREATE_COMPONENT", "0900", "NODE_ADDED", "0900"),
        ("SUBSCRIBE_TO_PORT", "010005", "PORT_SUBSCRIPTION_CHANGED", "010005"),
        ("STOP_NETWORK", "", "NETWORK_STOPPED", "01"),
        ("STOP_NETWORK", "", "NETWORK_STARTED", ""),
        ("CONFIGURE_DEBUG", "01", "DEBUG_CHANGED", "02"),
        ("REMOVE_NODE", "01", "NODE_REMOVED", "02"),
    ],
)
@EVERY_WIRE
def test_an_answer_that_does_not_repeat_its_request_is_damage(
    wire: Wire, kind: str, args: str, reply: str, given: str
) -> None:
    link = opened(wire)
    link.request(Command(0, CommandKind[kind], bytes.fromhex(args)), 0.0)
    answer(link, wire, bytes.fromhex(given), CommandKind[reply])
    assert [type(event) for event in link.events()] == [LinkRequestFailed, Desynced]


@pytest.mark.parametrize(
    "frame",
    [
        "00670000000705000000",  # node 0
        "00670100020705000000",  # has-target is 0 or 1
        "00670100000602000000",  # a boolean of 2
        "00670100000301000000",  # a void with a value
        "00670100000500000000",  # a type that is none
        "0067010000c800000000",  # a type above the pointers
        "006a0000000000000000",  # a debug message of level 0
        "006a0110000000000001",  # and one with something behind it
        "00680000000000000000",  # an answer with the id of events
        "816d0000000000000000",  # an answer that nobody waits for
        "00190000000000000000",  # a request
    ],
)
def test_what_no_board_sends_means_that_alignment_is_lost(frame: str) -> None:
    link = opened(W10)
    link.receive(bytes.fromhex(frame), 0.0)
    assert [type(event) for event in link.events()] == [Desynced]


def test_boot_answers_in_the_middle_mean_that_the_board_has_restarted() -> None:
    link = opened(W10)
    link.receive(bytes.fromhex("0113000000000000000002640000000000000000"), 0.0)
    assert link.events() == [Desynced("the board has restarted")]


@EVERY_WIRE
def test_half_a_command_and_then_silence_means_lost_bytes(wire: Wire) -> None:
    link = opened(wire)
    link.receive(b"\0\x67\1", 1.0)
    assert link.deadline == 1.5
    link.tick(1.5)
    assert link.events() == [Desynced("3 bytes of a command, and then silence")]


def test_a_board_that_reads_shifted_commands_is_opened_again_at_once() -> None:
    link = opened(W10)
    link.request(command(CommandKind.STOP_NETWORK), 0.0)
    link.receive(bytes.fromhex("006a0109000000000000"), 0.0)
    assert [type(event) for event in link.events()] == [LinkRequestFailed, Desynced]


@EVERY_WIRE
def test_an_open_link_pings_when_nothing_was_answered_for_long_even_if_the_board_reports(wire: Wire) -> None:
    link = opened(wire)
    assert link.deadline == 5.0
    link.receive(encode(wire, Command(0, CommandKind.DEBUG_MESSAGE, b"\1\x10")), 4.0)
    link.tick(5.0)
    assert answer(link, wire, now=5.0).kind == CommandKind.PING
    assert [event for event in link.events() if not isinstance(event, DebugReported)] == []
    assert link.deadline == 10.0


def test_a_changed_echo_means_damage_where_the_wire_has_echoes() -> None:
    link = opened(W10)
    link.tick(5.0)
    answer(link, W10, b"\1\2\3\4\5\6\7\x08", now=5.0)
    assert [type(event) for event in link.events()] == [Desynced]
    link = opened(W8_06)
    link.tick(5.0)
    answer(link, W8_06, bytes(7), now=5.0)
    assert link.events() == []


@EVERY_WIRE
def test_a_silent_board_is_given_up_after_every_phase_was_tried(wire: Wire) -> None:
    link = Link(wire)
    link.start(0.0)
    out = bytearray()
    while link.deadline is not None:
        out += link.data_to_send()
        link.tick(link.deadline)
    assert link.events() == [GaveUp("no answer to 12 openings")]
    assert out.count(wire.magic) == 12
    step = wire.size + 1
    assert {(at * step) % wire.size for at in range(12)} == set(range(wire.size))


@EVERY_WIRE
def test_no_window_of_the_walk_spells_a_command(wire: Wire) -> None:
    link = Link(wire)
    link.start(0.0)
    out = bytearray(link.data_to_send())
    while link.deadline is not None:
        link.tick(link.deadline)
        out += link.data_to_send()
    assert not [byte for byte in out if 10 <= byte <= 25]


def test_a_command_without_a_reply_is_fenced_by_a_ping() -> None:
    link = opened(W10)
    token = link.request(Command(0, CommandKind.SET_IO_VALUE, bytes((2, 5, 1))), 0.0)
    out = link.data_to_send()
    assert (out[1], out[11]) == (CommandKind.SET_IO_VALUE, CommandKind.PING)
    link.receive(bytes.fromhex("006a011a000000000000") + bytes((out[10], 109)) + out[12:], 0.0)
    assert link.events() == [LinkRequestFailed(token, "io operation not implemented", 26)]


def test_firmware_of_our_own_answers_and_reports_simulated_pins() -> None:
    link = opened(W10)
    token = link.request(Command(0, CommandKind.SET_IO_VALUE, bytes((2, 5, 1))), 0.0)
    out = link.data_to_send()
    link.receive(bytes((out[0], 112)) + out[2:10] + bytes((out[10], 109)) + out[12:], 0.0)
    link.receive(bytes.fromhex("00710205010000000000"), 0.0)
    assert link.events() == [Replied(token, Command(out[0], 112, out[2:10])), IoChanged(2, 5, 1)]


def test_end_closes_the_link() -> None:
    link = opened(W10)
    link.request(command(CommandKind.END), 0.0)
    answer(link, W10)
    assert not link.is_open
    assert link.deadline is None


def test_nothing_is_asked_before_the_link_is_open() -> None:
    with pytest.raises(LocalProtocolError, match="open"):
        Link(W10).request(command(CommandKind.STOP_NETWORK), 0.0)


def test_a_slow_line_gets_more_time() -> None:
    assert options_for(W10, 115200) == LinkOptions()
    assert options_for(W10, 2400).open_step_s == pytest.approx(0.35)
    assert options_for(W8_04, 9600).request_timeout_s == 1.0


SESSION = CAPTURES["w10"]["reference_host_session"]["steps"]


@pytest.mark.parametrize("step", SESSION, ids=lambda step: step["fbp_request"]["command"])
def test_what_the_reference_host_asks_and_hears_reads_as_it_happened(step: dict[str, Any]) -> None:
    if step["fbp_request"]["command"] == "addinitial":
        return  # its zero command is a defect: the board only complains
    test_a_captured_conversation_reads_as_it_happened(W10, {"frames": step["device_frames"]})


@pytest.mark.parametrize(
    "step", [step for step in SESSION if step["fbp_request"]["command"] == "packet"], ids=lambda step: str(step)[70:130]
)
def test_values_become_the_packets_that_the_reference_host_sends(step: dict[str, Any]) -> None:
    asked = [decode(W10, bytes.fromhex(f["hex"])) for f in step["device_frames"] if f["dir"] == "host->device"]
    value = json.dumps(step["fbp_request"]["payload"]["payload"]).encode()
    packets = to_packets(PortDef("in", Direction.IN), value)
    assert [encode(W10, send_packet(0, 1, 0, packet))[2:] for packet in packets] == [encode(W10, u)[2:] for u in asked]
