"""What a board's answer to a send means for the message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.errors import DeliveryDeferred, DeliveryError, DeliveryRefused, LocalProtocolError
from gateway.serial_link.connected.link_driver import OnAnswer
from gateway.serial_link.connected.send_queue import SendQueue
from gateway.serial_link.protocol.codec import Command, command
from gateway.serial_link.protocol.commandformat import CommandKind, DebugPoint
from gateway.serial_link.protocol.link_events import LinkRequestFailed, Replied, RequestToken

PING = command(CommandKind.PING)


def outbox_of(request: Callable[[Command, OnAnswer], None], *, window: int = 1) -> SendQueue:
    """The outbox of a board that is trusted, with so many packets in flight at most."""
    outbox = SendQueue("device attic", request, lambda: window)
    outbox.trust()
    return outbox


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (DebugPoint.QUEUE_FULL, DeliveryDeferred),  # our firmware took nothing, and has room again soon
        (DebugPoint.INVALID_PORT, DeliveryRefused),
    ],
)
async def test_a_full_board_is_tried_again_and_a_refusal_is_not(code: int, problem: type[DeliveryError]) -> None:
    def answer(unit: Command, on_answer: OnAnswer) -> None:
        on_answer(LinkRequestFailed(RequestToken(1), "no", code=code))

    outbox = outbox_of(answer)
    with pytest.raises(problem):
        await outbox.send("serial:attic.fan", "m1", lambda: [PING])


async def test_a_message_that_nobody_can_make_into_packets_holds_up_no_other() -> None:
    def broken() -> list[Command]:
        raise RecursionError("a bug")

    outbox = outbox_of(lambda unit, on_answer: on_answer(Replied(RequestToken(1), unit)))
    with pytest.raises(DeliveryRefused, match="a bug"):
        await outbox.send("serial:attic.fan", "m1", broken)
    async with asyncio.timeout(120):
        await outbox.send("serial:attic.fan", "m2", lambda: [PING])


class Board:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Command, OnAnswer]] = []

    def request(self, unit: Command, on_answer: OnAnswer) -> None:
        self.asked.append((unit, on_answer))

    @property
    def values(self) -> list[int]:
        """The first argument of what was sent and not answered yet."""
        return [unit.args[0] for unit, _ in self.asked]

    def good(self) -> None:
        """Answer the oldest well."""
        unit, on_answer = self.asked.pop(0)
        on_answer(Replied(RequestToken(1), unit))

    def damaged(self) -> None:
        """It got something damaged, and obeyed nothing that was not answered yet."""
        asked, self.asked = self.asked, []
        for _, on_answer in asked:
            on_answer(LinkRequestFailed(RequestToken(1), "damaged", code=DebugPoint.BAD_CHECKSUM))


def pings(*values: int) -> list[Command]:
    return [command(CommandKind.PING, data=bytes((value,))) for value in values]


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_messages_for_several_ports_fly_side_by_side_and_those_for_one_port_one_by_one() -> None:
    board = Board()
    outbox = outbox_of(board.request, window=4)
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.send("a", "m1", lambda: pings(1, 2)))
        tasks.create_task(outbox.send("a", "m2", lambda: pings(3)))
        tasks.create_task(outbox.send("b", "m3", lambda: pings(4, 5, 6)))
        await settle()
        assert board.values == [1, 2, 4, 5]
        board.good()
        await settle()
        assert board.values == [2, 4, 5, 6]
        board.good()
        await settle()
        assert board.values == [4, 5, 6, 3]
        for _ in range(4):
            board.good()


async def test_without_a_window_one_packet_flies() -> None:
    board = Board()
    outbox = SendQueue("device attic", board.request)
    outbox.trust()
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.send("a", "m1", lambda: pings(1, 2)))
        tasks.create_task(outbox.send("b", "m2", lambda: pings(3)))
        for value in (1, 2, 3):
            await settle()
            assert board.values == [value]
            board.good()


async def test_a_message_that_the_board_got_damaged_is_sent_again_at_once_from_its_beginning() -> None:
    board = Board()
    outbox = outbox_of(board.request, window=4)
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.send("a", "m1", lambda: pings(1, 2)))
        await settle()
        board.damaged()
        await settle()
        assert board.values == [1, 2]
        board.good()
        board.good()


async def test_a_message_of_which_the_board_took_a_part_is_for_its_sender_to_repeat() -> None:
    board = Board()
    outbox = outbox_of(board.request, window=4)
    async with asyncio.timeout(120):
        sending = asyncio.ensure_future(outbox.send("a", "m1", lambda: pings(1, 2)))
        await settle()
        board.good()
        board.damaged()
        with pytest.raises(DeliveryDeferred):
            await sending
        assert board.values == []


async def test_a_line_that_damages_everything_does_not_keep_a_message_for_ever() -> None:
    board = Board()
    outbox = outbox_of(board.request)
    async with asyncio.timeout(120):
        sending = asyncio.ensure_future(outbox.send("a", "m1", lambda: pings(1)))
        await settle()
        for _ in range(10):
            board.damaged()
        with pytest.raises(DeliveryDeferred):
            await sending


async def test_a_message_that_has_begun_is_carried_to_its_end_though_the_outbox_is_paused() -> None:
    board = Board()
    outbox = outbox_of(board.request)
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.send("a", "m1", lambda: pings(1, 2)))
        tasks.create_task(outbox.send("b", "m2", lambda: pings(3)))
        await settle()
        pausing = tasks.create_task(outbox.pause())
        await settle()
        board.good()
        board.good()
        await pausing
        assert board.values == []
        outbox.trust()
        assert board.values == [3]
        board.good()


class Crowded(Board):
    """A link whose queue others have filled, while the test says so."""

    full = False

    def request(self, unit: Command, on_answer: OnAnswer) -> None:
        if self.full:
            raise LocalProtocolError("more than 32 requests wait")
        super().request(unit, on_answer)


async def test_a_message_that_finds_the_queue_of_the_line_full_is_tried_again_and_the_line_goes_on() -> None:
    board = Crowded()
    outbox = outbox_of(board.request)
    board.full = True
    async with asyncio.timeout(120):
        with pytest.raises(DeliveryDeferred, match="more than 32 requests wait") as caught:
            await outbox.send("a", "m1", lambda: pings(1, 2))
        assert not caught.value.counts
        board.full = False
        sending = asyncio.ensure_future(outbox.send("a", "m2", lambda: pings(3)))
        await settle()
        board.good()
        await sending
        await outbox.pause()


async def test_the_rest_of_a_message_waits_until_the_queue_of_the_line_has_room() -> None:
    board = Crowded()
    outbox = outbox_of(board.request, window=2)
    async with asyncio.timeout(120):
        sending = asyncio.ensure_future(outbox.send("a", "m1", lambda: pings(1, 2, 3)))
        await settle()
        assert board.values == [1, 2]
        board.full = True
        board.good()
        assert board.values == [2]
        board.full = False
        board.good()
        assert board.values == [3]
        board.good()
        await sending


async def test_a_message_whose_rest_finds_no_room_at_all_is_for_its_sender_to_repeat() -> None:
    board = Crowded()
    outbox = outbox_of(board.request)
    async with asyncio.timeout(120):
        sending = asyncio.ensure_future(outbox.send("a", "m1", lambda: pings(1, 2)))
        await settle()
        board.full = True
        board.good()
        with pytest.raises(DeliveryDeferred):
            await sending
        await outbox.pause()
