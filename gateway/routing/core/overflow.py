"""What an edge's overflow policy says when there is no room: on the edge, or in the spool."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.binding import OverflowPolicy
from gateway.routing.core.binding_queue import BindingQueue, Item, OnDisk
from gateway.routing.core.deadletter import dead_binding
from gateway.spool.core.record import RECORD_BYTES


def fits_edge(lane: BindingQueue, size: int) -> bool:
    """Whether one more message of ``size`` bytes keeps to the edge's limits."""
    contract = lane.contract
    return lane.pending < contract.max_pending and lane.bytes + size <= contract.max_pending_bytes


def is_over(lane: BindingQueue) -> bool:
    """Whether the lane holds more than the edge's limits allow."""
    contract = lane.contract
    return lane.pending > contract.max_pending or lane.bytes > contract.max_pending_bytes


def has_room_again(lane: BindingQueue) -> bool:
    """Whether a lane that was full has a tenth to spare: its source is not taken from and left for every message."""
    contract = lane.contract
    return lane.pending * 10 <= contract.max_pending * 9 and lane.bytes * 10 <= contract.max_pending_bytes * 9


def too_large(lane: BindingQueue, size: int) -> str:
    """Why a message of this size can never pass the edge; empty if it can."""
    contract = lane.contract
    if size > contract.max_message_bytes:
        return f"too large: {size} bytes, the edge takes {contract.max_message_bytes} (max_message_bytes)"
    if size > contract.max_pending_bytes:
        return f"too large: {size} bytes, all that may wait is {contract.max_pending_bytes} (max_pending_bytes)"
    return ""


@dataclass(slots=True)
class SpoolShare:
    """Deals out what room the spool has left among the items of a write that it refused, oldest first.

    ``write`` are to be written again at once, ``wait`` again a little later, ``drop`` are given up (some of them on disk
    already: they make room), ``bury`` go to their dead letter.
    """

    room: int
    write: list[Item]
    wait: list[Item]
    drop: list[Item]
    bury: list[Item]
    hungry: list[BindingQueue]
    """Lanes whose oldest records have to come into memory before they can be dropped."""


def share_room(items: tuple[Item, ...], room: int) -> SpoolShare:
    """What each item's edge says, exact to the message."""
    share = SpoolShare(room, [], [], [], [], [])
    stopped: set[int] = set()
    for item in items:
        size = item.size + RECORD_BYTES
        if id(item.lane) in stopped:
            share.wait.append(item)
        elif size <= share.room:
            share.room -= size
            share.write.append(item)
        else:
            _no_room(item, size, share, stopped)
    wanted = {*share.write, *share.wait}
    share.wait = [item for item in items if item in wanted and id(item.lane) in stopped]
    share.write = [item for item in items if item in wanted and id(item.lane) not in stopped]  # a lane keeps its order
    return share


def _no_room(item: Item, size: int, share: SpoolShare, stopped: set[int]) -> None:
    lane = item.lane
    policy = lane.contract.overflow
    if item.reason or policy is OverflowPolicy.BLOCK:  # a dead letter on its way to rest is never given up
        stopped.add(id(lane))
        share.wait.append(item)
    elif policy is OverflowPolicy.DEAD_LETTER and dead_binding(lane.binding) is not None:
        share.bury.append(item)
    elif policy is OverflowPolicy.DROP_OLDEST:
        _make_room(item, size, share, stopped)
    else:
        share.drop.append(item)


def _make_room(item: Item, size: int, share: SpoolShare, stopped: set[int]) -> None:
    """Give up so many of the oldest on disk that the item fits; the item itself where it is the oldest."""
    lane = item.lane
    victims: list[Item] = []
    freed = share.room
    for old in lane.waiting:
        if freed >= size:
            break
        if old.on_disk is OnDisk.YES and old not in share.drop:
            victims.append(old)
            freed += old.size + RECORD_BYTES
    share.room = freed
    share.drop.extend(victims)
    if freed >= size:
        share.room -= size
        share.write.append(item)
    elif lane.has_behind:
        stopped.add(id(lane))
        share.hungry.append(lane)
        share.wait.append(item)
    else:
        share.drop.append(item)
