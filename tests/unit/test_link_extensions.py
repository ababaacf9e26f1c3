"""What a link does with a board that offers more than the stock protocol: checksums, credit, numbers (docs/firmware.md)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.errors import BoardFull, LocalProtocolError
from gateway.fbp.text.graph_files import parse_graph
from gateway.model.packet import Packet, PacketType
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.checksum_framer import ChecksumFramer
from gateway.serial_link.protocol.codec import W10, Command, command, decode, encode, opening, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind, DebugLevel, DebugPoint
from gateway.serial_link.protocol.credit import CreditLimits
from gateway.serial_link.protocol.extensions import NONE, WANTED, Extension, checked, checksum, extend
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import Desynced, LinkEvent, LinkRequestFailed, PacketSent, Replied
from tests.support.firmware import library

LIMITS = CreditLimits(packets=8, in_flight=3, reserve=2)
BAD_CHECKSUM = command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.ERROR, point=DebugPoint.BAD_CHECKSUM)
RESTARTED = command(CommandKind.DEBUG_MESSAGE, level=DebugLevel.INFO, point=DebugPoint.PROGRAM_START)


class Peer:
    """The board's end, played by the test: what the link sent as commands, and answers to it."""

    def __init__(self, active: Extension, model: BoardModel | None = None) -> None:
        self.link = Link(W10, None, model)
        self.link.limit_credit(LIMITS)
        self.size = 10
        self.asked: list[Command] = []
        self.link.start(0.0)
        self.open()
        self.link.request(command(CommandKind.DESCRIBE, offset_low=0, offset_high=0), 0.0)
        self.answer(CommandKind.DESCRIPTION)
        self.answer(CommandKind.PONG, self.asked[0].args)  # the fence behind the first request of the extension
        self.asked.clear()
        self.link.request(extend(active), 0.0)
        self.answer(CommandKind.EXTENDED, bytes((active, WANTED)))
        self.size = 11 if Extension.CHECKSUM in active else 10
        if Extension.CREDIT in active:
            self.granted(8, room=6)
        self.link.events()

    def open(self) -> None:
        """Answer the opening, and the ping behind it."""
        self.size = 10
        sent = self.link.data_to_send()
        self.asked.clear()
        self.link.receive(encode(W10, Command(sent[9], CommandKind.COMMUNICATION_OPEN)), 0.0)
        self.take()
        self.answer(CommandKind.PONG, self.asked[0].args)

    def take(self) -> list[Command]:
        """What the link sent and was not answered yet."""
        data = self.link.data_to_send()
        for at in range(0, len(data), self.size):
            frame = data[at : at + self.size]
            assert self.size == 10 or checksum(frame) == 0
            self.asked.append(decode(W10, frame[:10]))
        return self.asked

    def say(self, unit: Command, now: float = 0.0) -> None:
        """A whole command from the board."""
        self.link.receive(self.on_wire(unit), now)

    def on_wire(self, unit: Command) -> bytes:
        """It on the wire."""
        data = encode(W10, unit)
        return checked(data) if self.size == 11 else data

    def answer(self, kind: CommandKind, args: bytes = b"", now: float = 0.0) -> Command:
        """Answer the oldest request."""
        asked = self.take().pop(0)
        self.say(Command(asked.request_id, kind, args), now)
        return asked

    def granted(self, count: int, room: int, now: float = 0.0) -> Command:
        """Answer a grant."""
        asked = self.answer(CommandKind.GRANTED, bytes((count, 0, room)), now)
        assert asked.kind == CommandKind.GRANT
        return asked

    def sent(self, room: int, now: float = 0.0) -> None:
        """Answer a packet."""
        asked = self.answer(CommandKind.SEND_PACKET_DONE, bytes((*self.take()[0].args[:3], room)), now)
        assert asked.kind == CommandKind.SEND_PACKET


def integer(number: int) -> Command:
    """A packet to an inport."""
    return send_packet(0, 1, 0, Packet(PacketType.INTEGER, number))


def event(number: int, value: int = 5) -> Command:
    """A numbered packet from an outport."""
    return Command(0, CommandKind.PACKET_SENT, bytes((2, 0, number << 1, PacketType.INTEGER, value, 0, 0, 0)))


def numbers(events: list[LinkEvent]) -> list[int]:
    """Of the packets that came."""
    return [one.sequence for one in events if isinstance(one, PacketSent)]


# -- checksum ----------------------------------------------------------------------------------------------------------


def test_the_checksum_is_the_one_of_the_firmware() -> None:
    # CRC-8, polynomial 0x07, start 0xFF: of the digits 1 to 9 it is 0xFB.
    assert checksum(b"123456789") == 0xFB
    assert checksum(checked(b"123456789")) == 0


def test_checksums_are_never_asked_of_a_board_that_has_not_described_itself() -> None:
    link = Link(W10)
    link.start(0.0)
    asked = link.data_to_send()
    link.receive(encode(W10, Command(asked[9], CommandKind.COMMUNICATION_OPEN)), 0.0)
    ping = decode(W10, link.data_to_send())
    link.receive(encode(W10, Command(ping.request_id, CommandKind.PONG, ping.args)), 0.0)
    assert link.is_open
    with pytest.raises(LocalProtocolError):
        link.request(extend(WANTED), 0.0)


def test_a_damaged_event_is_left_out_and_the_next_one_is_read() -> None:
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
    whole = [peer.on_wire(event(number)) for number in range(1, 5)]
    for bit in range(88):
        damaged = bytearray(whole[1])
        damaged[bit // 8] ^= 1 << bit % 8
        peer.link.receive(whole[0] + bytes(damaged) + whole[2] + whole[3], 0.0)
        assert numbers(peer.link.events()) == [1, 3, 4]
    assert peer.link.counters.bad_checksums == 88
    assert peer.link.counters.desyncs == 0


@pytest.mark.parametrize("lost", range(11))
def test_a_byte_lost_or_added_costs_the_command_it_was_in_and_no_more(lost: int) -> None:
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
    whole = [peer.on_wire(event(number)) for number in range(1, 5)]
    shorter = whole[1][:lost] + whole[1][lost + 1 :]
    peer.link.receive(whole[0] + shorter + whole[2] + b"\x55" + whole[3], 0.0)
    assert numbers(peer.link.events()) == [1, 3, 4]
    assert peer.link.is_open


def test_half_a_command_and_then_silence_is_forgotten() -> None:
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
    peer.link.receive(peer.on_wire(event(1))[:7], 1.0)
    due = peer.link.deadline
    assert due == 1.5
    peer.link.tick(due)
    peer.say(event(2), 2.0)
    assert numbers(peer.link.events()) == [2]
    assert peer.link.counters.desyncs == 0


def test_a_line_on_which_nothing_whole_comes_is_opened_again() -> None:
    peer = Peer(Extension.CHECKSUM)
    peer.link.receive(bytes(range(1, 12)) * 20, 0.0)
    assert [one for one in peer.link.events() if isinstance(one, Desynced)]
    assert peer.link.active == NONE
    peer.open()
    assert peer.link.is_open


def test_a_board_that_restarts_knows_of_no_checksum_and_is_heard_all_the_same() -> None:
    for before in (b"", b"\x00\x67\x02"):  # in the middle of something, too
        peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
        peer.link.receive(before + encode(W10, RESTARTED), 0.0)
        assert Desynced("the board has restarted") in peer.link.events()


def test_a_command_that_the_board_got_damaged_fails_as_that_and_what_it_reports_meanwhile_is_kept() -> None:
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
    token = peer.link.request(integer(1), 0.0)
    peer.take()
    peer.link.receive(peer.on_wire(event(1)) + peer.on_wire(BAD_CHECKSUM) + peer.on_wire(event(2)), 0.0)
    peer.link.receive(peer.on_wire(event(3))[:4], 0.0)
    opened = peer.link.data_to_send()
    assert opened == opening(W10, opened[9])
    rest = peer.on_wire(event(3))[4:]
    answer = encode(W10, Command(opened[9], CommandKind.COMMUNICATION_OPEN))
    plain = encode(W10, Command(0, CommandKind.PACKET_SENT, bytes((2, 0, 0, PacketType.VOID))))
    peer.link.receive(rest + answer, 0.0)
    peer.size = 10
    peer.asked.clear()
    peer.answer(CommandKind.PONG, peer.take()[0].args)
    peer.link.receive(plain, 0.0)
    events = peer.link.events()
    failed = [one for one in events if isinstance(one, LinkRequestFailed)]
    assert [(one.token, one.code) for one in failed] == [(token, DebugPoint.BAD_CHECKSUM)]
    assert numbers(events) == [1, 2, 3, 0]
    assert peer.link.counters.commands_damaged == 1


def test_no_number_is_read_from_a_report_without_a_checksum_however_it_was_damaged() -> None:
    """Between an opening and the agreement behind it nothing tells a damaged report: a false number would count 126 lost."""
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM)
    peer.say(event(40))
    peer.say(BAD_CHECKSUM)
    opened = peer.link.data_to_send()
    plain = encode(W10, Command(0, CommandKind.PACKET_SENT, bytes((2, 0, 0, PacketType.VOID))))
    peer.link.receive(encode(W10, Command(opened[9], CommandKind.COMMUNICATION_OPEN)) + plain, 0.0)
    peer.link.receive(plain[:3] + plain[4:] + plain, 0.0)  # a byte was lost: what follows is shifted
    events = peer.link.events()
    assert numbers(events) == [40, 0]
    assert not peer.link.is_open


@pytest.mark.parametrize(
    ("unit", "known"),
    [
        (integer(1), True),
        (command(CommandKind.PING, data=bytes(8)), True),
        (command(CommandKind.SUBSCRIBE_TO_PORT, node=1, port=0, enable=1), False),
    ],
)
@pytest.mark.parametrize("how", ["silence", "damaged"])
def test_what_runs_is_known_on_unless_something_that_changes_it_was_on_its_way(
    unit: Command, known: bool, how: str
) -> None:
    model = BoardModel(library())
    peer = Peer(Extension.SEQUENCE | Extension.CHECKSUM, model)
    graph = parse_graph("one(Forward) OUT -> IN two(Forward)", "two.fbp")
    model.assume(graph, {"one": 1, "two": 2})
    peer.link.request(unit, 0.0)
    peer.take()
    if how == "silence":
        peer.link.tick(peer.link.deadline or 0.0)
    else:
        peer.say(BAD_CHECKSUM)
    assert not peer.link.is_open
    assert model.known is known


def test_the_framer_finds_good_commands_at_any_cut() -> None:
    stream = b"".join(checked(encode(W10, event(number))) for number in range(1, 20))
    for step in range(1, 25):
        framer = ChecksumFramer(W10)
        found = []
        for at in range(0, len(stream), step):
            found += framer.receive(stream[at : at + step])
        assert [one.args[2] >> 1 for one in found] == list(range(1, 20))
        assert framer.partial == framer.garbage == 0


# -- credit ------------------------------------------------------------------------------------------------------------


def test_credit_is_filled_up_when_half_of_it_is_used() -> None:
    peer = Peer(Extension.SEQUENCE | Extension.CREDIT)
    for number in range(1, 4):
        peer.say(event(number))
    assert peer.take() == []
    peer.say(event(4))
    grant = peer.granted(8, room=6)
    assert grant.args[:2] == bytes((4, 0))


def test_packets_that_were_lost_are_made_up_for_by_what_the_board_says_it_has() -> None:
    peer = Peer(Extension.CREDIT)
    for _ in range(4):
        peer.say(event(0))
    peer.granted(5, room=6)  # it had one left of eight, and got four: three were lost
    assert peer.link.credit is not None
    assert peer.link.credit.left == 5
    peer.say(event(0))
    assert peer.granted(8, room=6).args[:2] == bytes((4, 0))


def test_as_many_packets_fly_as_fit_into_the_boards_receive_buffer() -> None:
    peer = Peer(Extension.CREDIT | Extension.CHECKSUM)
    for number in range(5):
        peer.link.request(integer(number), 0.0)
    assert len(peer.take()) == LIMITS.in_flight
    peer.sent(room=20)
    assert len(peer.take()) == LIMITS.in_flight


def test_no_packet_is_sent_that_the_boards_queue_has_no_room_for() -> None:
    peer = Peer(Extension.CREDIT)
    tokens = [peer.link.request(integer(number), 0.0) for number in range(3)]
    assert len(peer.take()) == 3  # there was room for six, two of them are its graph's
    for room in (4, 3, 2):
        peer.sent(room)
    tokens.append(peer.link.request(integer(4), 0.0))
    assert peer.take() == []
    due = peer.link.deadline
    assert due is not None
    assert due < 0.1
    peer.link.tick(due)
    peer.granted(8, room=3, now=due)
    assert peer.take()[0].kind == CommandKind.SEND_PACKET
    peer.sent(room=2, now=due)
    answered = [one.token for one in peer.link.events() if isinstance(one, Replied)]
    assert answered == tokens


def test_a_packet_that_finds_no_room_for_long_is_given_back_to_be_tried_later() -> None:
    peer = Peer(Extension.CREDIT)
    peer.link.request(integer(1), 0.0)
    peer.sent(room=2)
    token = peer.link.request(integer(2), 0.0)
    now = 0.0
    for _ in range(40):
        now = peer.link.deadline or now
        peer.link.tick(now)
        if peer.take():
            peer.granted(8, room=2, now=now)
    failed = [one for one in peer.link.events() if isinstance(one, LinkRequestFailed)]
    assert [one.token for one in failed] == [token]
    assert isinstance(failed[0].here, BoardFull)
    assert peer.link.is_open


def test_a_silent_line_is_asked_for_its_credit() -> None:
    peer = Peer(Extension.CREDIT)
    peer.link.tick(peer.link.deadline or 0.0)
    peer.granted(0, room=6)  # all of it was lost on the way
    assert peer.granted(8, room=6).args[:2] == bytes((8, 0))


def test_nothing_of_it_outlives_an_opening() -> None:
    peer = Peer(WANTED)
    peer.say(RESTARTED)
    peer.open()
    assert peer.link.active == NONE
    assert peer.link.credit is None
    assert peer.link.window == 1
    peer.link.request(integer(1), 0.0)
    peer.link.request(integer(2), 0.0)
    assert len(peer.take()) == 1


def test_an_answer_that_was_damaged_fails_its_request_and_those_behind_it_are_answered() -> None:
    peer = Peer(Extension.CREDIT | Extension.CHECKSUM)
    tokens = [peer.link.request(integer(number), 0.0) for number in range(3)]
    peer.take().pop(0)  # its answer never comes
    peer.sent(room=30)
    peer.sent(room=30)
    events = peer.link.events()
    assert [one.token for one in events if isinstance(one, LinkRequestFailed)] == tokens[:1]
    assert [one.token for one in events if isinstance(one, Replied)] == tokens[1:]
    assert peer.link.is_open


def test_a_grant_whose_answer_was_damaged_is_repeated() -> None:
    peer = Peer(Extension.CREDIT | Extension.CHECKSUM)
    for _ in range(4):
        peer.say(event(0))
    peer.link.request(integer(1), 0.0)
    assert peer.take().pop(0).kind == CommandKind.GRANT  # its answer never comes
    peer.sent(room=30)
    peer.granted(12, room=30)
    assert peer.link.credit is not None
    assert peer.link.credit.left == 12
    assert peer.link.is_open


def test_a_board_that_has_more_credit_than_we_give_is_asked_for_it_all_the_same() -> None:
    peer = Peer(Extension.CREDIT | Extension.CHECKSUM)
    for _ in range(4):
        peer.say(event(0))
    peer.link.request(integer(1), 0.0)
    assert peer.take().pop(0).kind == CommandKind.GRANT  # obeyed, and its answer damaged: so it is granted twice
    peer.sent(room=30)
    peer.granted(12, room=30)
    peer.link.tick(5.1)
    asked = peer.granted(12, room=30, now=5.1)
    assert asked["count_low"] == asked["count_high"] == 0


def test_requests_that_fly_together_are_answered_in_order() -> None:
    peer = Peer(Extension.CREDIT | Extension.CHECKSUM)
    tokens = [peer.link.request(integer(number), 0.0) for number in range(3)]
    ids = [unit.request_id for unit in peer.take()]
    assert all(after == before + 1 for before, after in pairwise(ids))
    for _ in tokens:
        peer.sent(room=30)
    assert [one.token for one in peer.link.events() if isinstance(one, Replied)] == tokens
