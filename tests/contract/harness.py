"""What a transport must offer to be put through the contract suite: the other side of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.model.address import Address
from gateway.transport import Connector


class Harness(Protocol):
    """A transport under test, seen from outside the gateway."""

    connector: Connector
    source: Address
    """An address to subscribe to."""
    target: Address
    """An address to publish to."""
    redelivers: bool
    """Whether what was not settled in one epoch comes again in the next."""

    async def prepare(self) -> None:
        """Make what the source and the target need on the broker."""

    async def offer(self, bodies: Sequence[bytes]) -> None:
        """Put messages at the source, from outside."""

    async def taken(self, count: int) -> list[bytes]:
        """The first ``count`` bodies that arrived at the target, seen from outside. Raises TimeoutError."""

    async def cut(self) -> None:
        """Break every connection of the session from outside, without good-bye."""
