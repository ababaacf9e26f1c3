"""What both ends of a connected board's line have agreed on, beyond the stock protocol: asked for anew at every opening."""

from __future__ import annotations

import logging
from contextlib import suppress

from gateway.errors import AccessRefused, GatewayError, RequestTimeout
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.setup_steps import board_counts, describe, negotiate
from gateway.serial_link.ports.core.identity import Identity
from gateway.serial_link.protocol.credit import CreditLimits
from gateway.serial_link.protocol.extensions import CHECKSUM_BYTES, NONE, WANTED, BoardCounts, Extension
from gateway.serial_link.records.board_status import BoardStatus

log = logging.getLogger(__name__)

COUNTS_EVERY_S = 10.0
"""So often a board that counts is asked for its counters."""

MOST_FAILURES = 2
"""After so many negotiations in a row that ended in silence, the board is spoken to as any other."""


class Negotiation:
    """One for a connection. Stock firmware, and a board that tells no id, is asked for nothing."""

    def __init__(self, name: str, conversation: LinkDriver, status: BoardStatus) -> None:
        self._name = name
        self._conversation = conversation
        self._status = status

    @property
    def floats(self) -> bool:
        """Whether the board takes floats."""
        return Extension.FLOATS in self._conversation.link.active

    async def agree(self, identity: Identity, document: bytes) -> bool:
        """Verify that the board is the one we know (another may have taken its place), and turn on what it offers.

        Returns whether it has reported something since its start: then it has subscriptions, and nobody but us made them,
        so it did not restart behind our back. ``AccessRefused`` for another board.
        """
        if identity.kind != "board":
            return False
        described = await describe(self._conversation, document)
        if described is None or described.told.id != identity.value:
            self._status.begin_anew()
            other = f"a board with the id {described.told.id}" if described else "a board that tells no id"
            raise AccessRefused(self._name, f"{other} is in its place, not {identity.value}; pair it to use it")
        limits, size = described.told.description.limits, self._conversation.link.wire.size + CHECKSUM_BYTES
        self._conversation.link.limit_credit(CreditLimits.of(limits.receive_bytes, limits.messages, size))
        counts = await self._negotiate(described.document)
        return counts.reported > 0

    async def _negotiate(self, document: bytes) -> BoardCounts:
        """What the board has counted so far proves that the line works with what was turned on. What another firmware than
        this one, which is as ``document`` says, has failed at says nothing.
        """
        status, wanted = self._status, WANTED
        if status.negotiated_with != document:
            status.negotiated_with, status.failed_negotiations = document, 0
        if status.failed_negotiations >= MOST_FAILURES:
            log.warning("%s: falls silent when extensions are turned on; going on without them", self._name)
            wanted = NONE
        try:
            counts = await negotiate(self._conversation, wanted)
        except RequestTimeout:
            status.failed_negotiations += 1
            raise
        status.failed_negotiations = 0 if wanted else status.failed_negotiations
        status.extensions = self._conversation.link.active
        status.counts = counts if Extension.COUNTERS in status.extensions else None
        return counts

    async def count(self) -> None:
        """Ask the board what it has counted; when it doesn't answer, the link deals with that."""
        if Extension.COUNTERS not in self._conversation.link.active:
            return
        with suppress(GatewayError):
            self._status.counts = await board_counts(self._conversation)
