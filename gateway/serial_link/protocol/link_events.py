"""What a link tells its caller, and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NewType, TypeAlias

import msgspec

from gateway.errors import GatewayError
from gateway.model.packet import Packet
from gateway.serial_link.protocol.codec import Command, Wire

RequestToken = NewType("RequestToken", int)
"""Names one request until it was answered or failed."""


RESTARTED = "the board has restarted"
"""The reason of a ``Desynced`` that was no fault of the line."""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Times in seconds. ``open_tries`` must reach every phase of the wire's command size."""

    request_timeout_s: float = 0.5
    """From the moment a request is handed out for writing."""
    keepalive_s: float = 5.0
    """A ping goes out when nothing was answered for so long, whatever the board reports meanwhile."""
    open_step_s: float = 0.1
    open_tries: int = 12
    queue_limit: int = 32
    """Requests that may wait; one more is refused: the caller holds it back, or tells where it came from."""
    window: int = 1
    """Requests in flight. A board's receive buffer holds six commands; the 8-byte wires need 1 to match answers."""
    frame_timeout_s: float = 0.5
    """Half a command from a board, and then silence: bytes were lost. Boards write whole commands."""
    reopen_on_timeout: bool = True


def options_for(wire: Wire, baud: int, *, request_timeout_s: float = 0.5) -> LinkOptions:
    """Options for a line of this speed: nothing is waited for less than four times what the line itself takes."""
    exchange_s = (2 * wire.size + 1) * 10 / baud
    return LinkOptions(
        request_timeout_s=max(request_timeout_s, 4 * exchange_s, 1.0 if baud <= 9600 else 0.0),
        open_step_s=max(0.1, 4 * exchange_s),
    )


@dataclass(slots=True)
class LinkCounters:
    """What went well and wrong on this line since it was created."""

    opens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0
    replies: int = 0
    packets: int = 0
    garbage_bytes: int = 0
    desyncs: int = 0
    late_replies: int = 0
    timeouts: int = 0
    refused: int = 0
    refused_here: int = 0
    """Requests that the host's own model did not let pass."""
    unreadable_packets: int = 0
    """Events whose value the firmware can't tell: bytes, floats on the 8-byte wires, pointers."""
    pings: int = 0
    debug_messages: int = 0
    grants: int = 0
    bad_checksums: int = 0
    """Places where something from the board was damaged, and left out."""
    commands_damaged: int = 0
    """Times that the board got something damaged from us, and obeyed none of it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The board answered the opening at this try."""

    tries: int


@dataclass(frozen=True, slots=True)
class Replied:
    """The good answer to a request."""

    token: RequestToken
    command: Command


@dataclass(frozen=True, slots=True)
class LinkRequestFailed:
    """No good answer. ``code`` is the debug point of an error answer; ``here`` is what the host's own model has against
    the request; both are None for silence and lost alignment.
    """

    token: RequestToken
    reason: str
    code: int | None = None
    here: GatewayError | None = field(default=None, compare=False)


class PacketSent(msgspec.Struct, frozen=True, gc=False):
    """A packet left a subscribed outport. ``packet`` is None for a ``kind`` or a value that can't be transferred.

    ``sequence`` is 1..127 and round again, one up with every packet of the board; 0 where the board sends none.

    A struct, because it is made for every reading: a frozen dataclass costs many times as much.
    """

    node: int
    port: int
    kind: int
    packet: Packet | None
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class IoChanged:
    """A simulated pin changed. Only firmware of our own reports this (section 11)."""

    kind: int
    pin: int
    value: int


@dataclass(frozen=True, slots=True)
class DebugReported:
    """The board reported a debug point."""

    level: int
    point: int


@dataclass(frozen=True, slots=True)
class Desynced:
    """Alignment was lost; the link opens again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The board never answered the opening; the link is closed."""

    reason: str


LinkEvent: TypeAlias = Opened | Replied | LinkRequestFailed | PacketSent | IoChanged | DebugReported | Desynced | GaveUp
