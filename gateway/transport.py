"""What a transport is. MQTT, AMQP, a board on a serial line and the in-memory broker are four of them.

The contract is held by one parametrised suite, ``tests/contract/test_transport.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from gateway.errors import DeliveryError, TransportDown
from gateway.model.address import Address
from gateway.model.binding import Binding
from gateway.model.message import Delivery, Message, Outcome


class Session(Protocol):
    """One connection while it lasts."""

    @property
    def epoch(self) -> int:
        """The number of this connection: higher than that of any earlier one of the same connector."""

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Make what these bindings need on the other side (queues, exchanges). Doing it twice is harmless."""

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Undo what ``declare`` made for these bindings, which are in the graph no more. Doing it twice is harmless.

        Returns those of which something has to stay for now: a queue that still holds messages, or is taken from.
        """

    async def subscribe(self, source: Address, credit: int) -> None:
        """Take messages from ``source``, at most ``credit`` of them unsettled at a time."""

    async def unsubscribe(self, source: Address) -> None:
        """Take no more from ``source``. What was delivered may still be settled."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives. Ends by raising ``TransportDown`` when the connection is lost; never silently."""

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Tell the source what became of a delivery. One of a dead epoch is ignored."""

    async def publish(self, target: Address, message: Message) -> None:
        """Send, and return once the far side has taken responsibility.

        Raises ``DeliveryDeferred`` or ``DeliveryRefused`` otherwise, ``TransportDown`` when the connection is lost.
        Cancelling it leaves the session usable and no slot lost.
        """


Done: TypeAlias = Callable[[DeliveryError | TransportDown | None], None]


class FastSession(Session, Protocol):
    """What a session may offer beyond ``Session``, so that a message needs no task of its own. Each is optional.

    One that knows ``not_taken`` (why, by address) has its refused sources shown, and asked for again.
    """

    def more(self) -> Sequence[Delivery]:
        """What ``deliveries`` would give now without waiting; it does not give it again."""

    def submit(self, target: Address, message: Message, done: Done) -> None:
        """As ``publish``, but returns at once: ``done`` is called once, on the loop, when ``publish`` would return or raise.

        In the order of the calls, as far as the transport keeps an order. After the session has ended it may be left out.
        """

    def settle_soon(self, delivery: Delivery, outcome: Outcome) -> None:
        """As ``settle``, but returns at once; what can't be told any more is told by the end of the session."""


class Connector(Protocol):
    """How to reach a transport. ``name`` is the target it serves: ``mqtt``, ``amqp``, ``serial:ID``."""

    @property
    def name(self) -> str:
        """The target this connector serves."""

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """A usable session, or ``TransportDown``. Leaving closes everything."""
