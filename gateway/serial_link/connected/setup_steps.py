"""Steps that bring a board to where it should be; pairing and every connection take them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.errors import BoardRefused, ConnectionLost
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.description.self_description import DescriptionReader, SelfDescription
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.graph.upload import Uploader
from gateway.serial_link.ports.tty import Port
from gateway.serial_link.protocol.codec import command
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.protocol.extensions import PAGES, BoardCounts, Extension, count_page, extend, read_counts
from gateway.serial_link.records.profile import BoardProfile

OnStep: TypeAlias = Callable[[int, int], None]


async def wait_for_boot(port: Port, seconds: float) -> None:
    """Opening may have reset the board: read past its boot noise. ``ConnectionLost`` if it goes; then it is closed."""
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    port.listen(lambda data: None, lambda reason: None if lost.done() else lost.set_result(reason))
    try:
        async with asyncio.timeout(seconds):
            raise ConnectionLost("port", await lost)
    except TimeoutError:
        return
    except BaseException:
        port.close()
        raise


async def upload(
    conversation: LinkDriver,
    profile: BoardProfile,
    on_clear: Callable[[], None] = lambda: None,
    on_step: OnStep = lambda done, total: None,
    *,
    start: bool = True,
) -> NodeIds:
    """Put the graph onto the board and start it; returns what its numbers mean. Verified answer by answer.

    ``on_clear`` is called when nothing runs any more: packets from before belong to what ran before. ``on_step`` is told
    after every answer how many commands are done, and of how many.
    """
    assert profile.graph is not None
    uploader = Uploader(profile.graph, profile.library, profile.ports, wire=conversation.link.wire, start=start)
    while (unit := uploader.next_command()) is not None:
        reply = await conversation.ask(unit)
        uploader.accept(reply)
        if reply.kind == CommandKind.NODES_CLEARED:
            on_clear()
        on_step(uploader.done, uploader.total)
    return uploader.names


async def subscribe(conversation: LinkDriver, profile: BoardProfile) -> NodeIds | None:
    """Leave what runs alone; only ask for what the graph's outports send."""
    names = profile.predicted()
    if names is not None:
        for unit in names.subscriptions():
            await conversation.ask(unit)
    return names


async def is_running(conversation: LinkDriver) -> bool | None:
    """Whether the board's network runs; None where the wire generation can't tell."""
    if not conversation.link.wire.has_status:
        return None
    reply = await conversation.ask(command(CommandKind.GET_NETWORK_STATUS))
    return bool(reply["running"])


async def negotiate(conversation: LinkDriver, wanted: Extension) -> BoardCounts:
    """Turn on what a board with our firmware offers of this; every opening turns it off again. Asked after ``describe``.

    Its counters are the proof that both sides speak the same from here on.
    """
    await conversation.ask(extend(wanted))
    return await board_counts(conversation)


async def board_counts(conversation: LinkDriver) -> BoardCounts:
    """What a board with our firmware has counted since its start."""
    pages = len(PAGES) if Extension.COUNTERS in conversation.link.active else 1
    return read_counts(*[await conversation.ask(count_page(page)) for page in range(pages)])


@dataclass(frozen=True, slots=True)
class Described:
    """What a board told of itself, and the document in which it did."""

    told: SelfDescription
    document: bytes


async def describe(conversation: LinkDriver, known: bytes = b"") -> Described | None:
    """What the board tells of itself; None from stock firmware. ``known`` is the document it gave before, if any.

    Raises ``RemoteProtocolError`` for a description that can't be read.
    """
    if not conversation.link.wire.request_ids:
        return None  # our firmware speaks the newest wire only
    reader = DescriptionReader(known)
    try:
        while (unit := reader.next_command()) is not None:
            reader.accept(await conversation.ask(unit))
    except BoardRefused:
        return None
    return Described(reader.result(), reader.document())
