"""Messages between addresses, and what becomes of them.

These two are made for every message that passes: frozen msgspec structs, a tenth of a frozen dataclass's cost.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.model.address import Address

MAX_HOPS = 8
"""A message that passed this many gateways is taken for a loop."""


class Message(msgspec.Struct, frozen=True):
    """Bytes with an id that is made once, where they are first accepted, and travels with them.

    ``time_ms`` is the time of measurement in milliseconds since 1970, ``clock_trusted`` whether the clock was known
    to be right then. ``origin`` names the gateway and address where the id was made. ``retain`` asks an MQTT broker to
    keep it, or says that it was kept. ``reason`` is why a dead letter is one.
    """

    id: str
    body: bytes
    content_type: str = ""
    time_ms: int = 0
    clock_trusted: bool = True
    origin: str = ""
    hops: int = 0
    retain: bool = False
    reason: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """A message as a session received it.

    ``epoch`` numbers the session's connection, ``tag`` the delivery within it: settling a delivery of a dead epoch
    does nothing. ``redelivered``: the broker says that it gave it before, or had kept it from before we asked for it.
    """

    message: Message
    source: Address
    epoch: int
    tag: int
    redelivered: bool = False


class Outcome(StrEnum):
    """What a source is told. RELEASED: give it to someone later; REJECTED: it was buried."""

    ACCEPTED = "accepted"
    RELEASED = "released"
    REJECTED = "rejected"
