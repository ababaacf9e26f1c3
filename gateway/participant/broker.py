"""What a participant needs of a broker beside a session: its ports made, and a nack that means dead letter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.model.message import Delivery, Outcome
from gateway.participant.core.definition import Seat
from gateway.transport import Connector, Session


async def nothing_to_make(_: Any, __: Seat) -> None:
    """Topics are there by being used."""


async def forget(session: Session, delivery: Delivery) -> None:
    """MQTT knows no nack: the message is taken, and gone."""
    await session.settle(delivery, Outcome.REJECTED)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to take part on. ``transport`` is ``mqtt`` or ``amqp``; the session is its connector's own.

    ``make_ports`` makes what the ports of a participant need, ``refuse`` settles a delivery as a dead letter.
    ``repeats`` says that what was not settled comes again on the next connection.
    """

    transport: str
    connector: Connector
    make_ports: Callable[[Any, Seat], Awaitable[None]] = nothing_to_make
    refuse: Callable[[Any, Delivery], Awaitable[None]] = forget

    @property
    def repeats(self) -> bool:
        """Whether a message taken on a connection that is gone comes again for certain."""
        return self.transport == "amqp"


MakeBroker = Callable[[str, str], Broker]
"""From an url and the id of the participant to its broker. ``ConfigError`` for an url that is none."""
