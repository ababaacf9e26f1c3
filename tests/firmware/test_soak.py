"""With flow control on not one packet is lost, however the host stumbles: for seconds here, for minutes among the slow."""

from __future__ import annotations

import random
import time

import pytest

from gateway.model.graph import Edge, Graph, Iip, Node
from gateway.model.packet import Packet, PacketType
from gateway.model.port import PortRef
from gateway.serial_link.description.self_description import DescriptionReader
from gateway.serial_link.protocol.codec import W10, command, send_packet
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.credit import CreditLimits
from gateway.serial_link.protocol.extensions import CHECKSUM_BYTES, WANTED, count_page, extend, read_counts
from gateway.serial_link.protocol.link_events import Desynced, LinkRequestFailed, PacketSent
from tests.support.anyboard import AnyBoard
from tests.support.firmware import HostEnd, host_end

MOST_OUT = 20
"""Packets that may be on their way through the board: more would only wait in its queue."""

COUNT, ECHO = 2, 3
CHECKED_SIZE = W10.size + CHECKSUM_BYTES

GRAPH = Graph(
    "soak",
    (Node("clock", "Timer"), Node("count", "Count"), Node("echo", "Forward")),
    (
        Edge(PortRef("clock", "out"), PortRef("count", "in")),
        Iip(PortRef("clock", "interval"), "5"),
    ),
)


class Soak:
    """A host that echoes through the board and takes a count, with everything turned on that the board offers."""

    def __init__(self, host: HostEnd) -> None:
        self.host = host
        self.sent = 0
        self.counts: list[int] = []
        self.echoes: list[int] = []

    def begin(self) -> None:
        """Upload, subscribe, and turn everything on as the gateway does."""
        self.host.open()
        reader = DescriptionReader()
        while (unit := reader.next_command()) is not None:
            reader.accept(self.host.good(unit))
        limits = reader.result().description.limits
        self.host.link.limit_credit(CreditLimits.of(limits.receive_bytes, limits.messages, CHECKED_SIZE))
        self.host.upload(GRAPH)
        self.host.good(command(CommandKind.STOP_NETWORK))
        for node in (COUNT, ECHO):
            self.host.good(command(CommandKind.SUBSCRIBE_TO_PORT, node=node, port=0, enable=1))
        assert self.host.good(extend(WANTED))["active"] == WANTED
        self.host.good(command(CommandKind.START_NETWORK))
        self.host.events.clear()

    def step(self, *, send: bool = True) -> None:
        """As many packets in as may be, and whatever came out."""
        while send and self.sent - len(self.echoes) < MOST_OUT and self.host.link.room:
            self.host.link.request(send_packet(0, ECHO, 0, Packet(PacketType.INTEGER, self.sent)), time.monotonic())
            self.sent += 1
        self.host.pump(lambda: bool(self.host.events))
        self.take()

    def take(self) -> None:
        """Sort what came."""
        for event in self.host.events:
            assert not isinstance(event, Desynced | LinkRequestFailed), event
            if isinstance(event, PacketSent):
                assert event.packet is not None
                (self.counts if event.node == COUNT else self.echoes).append(int(event.packet.value or 0))
        self.host.events.clear()


def soak(board: AnyBoard, seconds: float) -> None:
    """Run for so long, standing still now and then; then everything must have come, in order, without a gap.

    On a slow machine it takes longer: until enough has come to be a proof.
    """
    enough = int(seconds * 50)
    chance = random.Random(7)  # the same stumbling every time
    with host_end(board.link) as host:
        run = Soak(host)
        run.begin()
        end = time.monotonic() + seconds
        pause_at = time.monotonic() + seconds / 10
        while time.monotonic() < end or len(run.counts) < enough:
            run.step()
            if time.monotonic() > pause_at:
                time.sleep(chance.uniform(0.1, 1.5))  # a host that is busy elsewhere, not a wait for something
                pause_at = time.monotonic() + chance.uniform(seconds / 20, seconds / 5)
        while len(run.echoes) < run.sent:
            run.step(send=False)
        counts = read_counts(*[host.good(count_page(page)) for page in range(2)])
    assert run.echoes[: run.sent] == list(range(run.sent))
    first = run.counts[0]  # the network ran for a moment before anybody had subscribed
    assert run.counts == list(range(first, first + len(run.counts)))
    assert (counts.queue_full, counts.input_lost, counts.bad_checksums, counts.refused_sends) == (0, 0, 0, 0)
    assert host.link.counters.bad_checksums == 0


def test_nothing_is_lost_in_seconds(extended_board: AnyBoard) -> None:
    soak(extended_board, 5)


@pytest.mark.slow
def test_nothing_is_lost_in_ten_minutes(extended_board: AnyBoard) -> None:
    soak(extended_board, 600)
