"""Where what the broker had kept for us ends and what is new begins: a message of our own stands between the two.

MQTT does not say it of a message. At QoS 1 a broker keeps one row for a session (Mosquitto, RabbitMQ's plugin), so what it
kept comes before what is published now. The canary is no such mark: it is sent at QoS 0, may overtake the others, and has to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from gateway.model.address import Address, mqtt
from gateway.model.message import Message
from gateway.mqtt.client import FAILED_FROM, Handlers, MqttConnection
from gateway.mqtt.core.inbound import MqttInbound
from gateway.mqtt.core.packets import IncomingPublish
from gateway.transport import Done

MARK_AGAIN_S = 15.0
"""It may get lost: a broker whose row for us is full drops what is newest."""


class CatchupMarker:
    """One epoch's. ``topic`` is the canary's: it is known to be allowed, and one of the intake's own. ``submit`` publishes;
    ``handlers`` are those of the consuming connection.
    """

    def __init__(
        self,
        topic: str,
        origin: str,
        intake: MqttInbound,
        handlers: Handlers,
        submit: Callable[[Address, Message, Done], object],
    ) -> None:
        self._target = mqtt(topic)
        token = secrets.token_hex(8)
        self._message = Message(token, token.encode(), origin=origin)
        self._intake, self._handlers, self._submit = intake, handlers, submit
        self._timer: asyncio.TimerHandle | None = None
        self._may_be_lost = True

    async def put(self, connection: MqttConnection) -> None:
        """Put it there if the broker had kept our session. Until it comes back, ``intake`` is catching up."""
        if not connection.granted.session_present:
            return
        self._intake.catching_up = True
        self._handlers.published = self._looking_for_it(connection)
        if await connection.subscribe(self._target.name, 1, 0) < FAILED_FROM:
            self._send()
        else:
            self._caught_up(connection)

    def end(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        if not self._intake.catching_up:
            return
        # Not while nothing comes at all: then none is missing, and a broker that may give us nothing would gather them.
        if self._may_be_lost and not self._intake.crowded:
            self._may_be_lost = False
            self._submit(self._target, self._message, self._told)
        self._timer = asyncio.get_running_loop().call_later(MARK_AGAIN_S, self._send)

    def _told(self, problem: object) -> None:
        self._may_be_lost = self._may_be_lost or problem is not None

    def _looking_for_it(self, connection: MqttConnection) -> Callable[[IncomingPublish], None]:
        ours = self._intake.ours

        def arrived(incoming: IncomingPublish) -> None:
            if incoming.topic not in ours:
                self._may_be_lost = True
                self._intake.arrived(incoming)
                return
            if incoming.mid:  # a late canary has none
                self._intake.acks.append(incoming.mid)
            if incoming.payload == self._message.body:  # else it is one of an earlier session
                self._caught_up(connection)

        return arrived

    def _caught_up(self, connection: MqttConnection) -> None:
        self.end()
        self._intake.catching_up = False
        self._handlers.published = self._intake.arrived  # where another copy of it is for nobody
        connection.forget(self._target.name)
