"""One MQTT connection on the loop. paho makes and reads the rare packets; PUBLISH and PUBACK are ours (``packets.py``).

paho gets a stand-in for its socket (``standin.py``). Measured on CPython 3.11: publishing costs 31 us a message in paho
alone, receiving 33 us; a few us this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.errors import (
    AccessRefused,
    ConnectFailed,
    ConnectionLost,
    RemoteProtocolError,
    TransportDown,
    TwinConnected,
)
from gateway.mqtt.core.packets import (
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBLISH,
    IncomingPublish,
    PacketReader,
    decode_puback,
    decode_publish,
    encode_length,
)
from gateway.mqtt.core.settings import Granted, MqttSettings
from gateway.mqtt.paho_socket import VERSIONS, PahoClient, PahoSocket

NAME = "mqtt"
SESSION_EXPIRY_S = 7 * 24 * 3600
TRANSIENT_EXPIRY_S = 120
GOODBYE_S = 1.0
RECEIVE_MAXIMUM = 2048
"""Unacknowledged messages the broker may have on the way to us (MQTT 5.0, section 3.1.2.11.3)."""

CHUNK_BYTES = 1 << 16
"""Read at a time. A loop left to itself reads 256 KiB: 2,800 small messages, at 2 KiB each until they are confirmed."""

UNSUPPORTED_VERSION, TAKEN_OVER = 0x84, 0x8E
ACCESS_CODES = frozenset({0x86, 0x87, 0x8A, 0x8C})
"""Bad user name or password, not authorized, banned, bad authentication method; paho maps 3.1.1's codes to these."""
FAILED_FROM = 0x80


class VersionRefused(ConnectFailed):
    """The broker does not speak this version of MQTT. ``said``: it told so; else it just closed the connection."""

    def __init__(self, reason: str, *, said: bool) -> None:
        self.said = said
        super().__init__(NAME, reason)


@dataclass(slots=True)
class Handlers:
    """Whom a connection tells: of messages, of acknowledgements (packet id, reason code), and of its end."""

    published: Callable[[IncomingPublish], None]
    acknowledged: Callable[[int, int], None]
    lost: Callable[[TransportDown], None]
    received: Callable[[], None]
    """After everything that came in one piece was told."""
    confirmed: Callable[[Iterable[int]], None] = lambda mids: None
    """Of acknowledgements of success that came many in one piece (packet ids)."""


class MqttConnection(asyncio.BufferedProtocol):
    """One connection while it lasts. Everything happens in the loop's own turn; writes are joined, one a turn."""

    def __init__(self, settings: MqttSettings, version: str, client_id: str, handlers: Handlers) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._version = version
        self._client_id = client_id
        self._handlers = handlers
        self._transport: asyncio.Transport | None = None
        self._chunk = memoryview(bytearray(CHUNK_BYTES))  # a view: asyncio's TLS reads into slices of it
        self._reader = PacketReader()
        self._wire = PahoSocket(self.write)
        self._out: list[bytes] = []
        self._accepted: asyncio.Future[Granted] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._spoke = self._loop.time()
        self._full = self._paused = False
        self.five = version == "5"
        self._down: TransportDown | None = None
        self.granted = Granted(session_present=False)

    # -- coming up -------------------------------------------------------------------------------------------------

    def begin(self, *, clean: bool, will: tuple[str, bytes] | None) -> asyncio.Future[Granted]:
        """Send CONNECT; the future has what the broker grants, or the ``ConnectFailed`` that it answered."""
        client = self._paho = PahoClient(self._wire, self._client_id, VERSIONS[self._version], clean)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = client.on_unsubscribe = self._on_answer
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password.reveal() or None)
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        place = (self._settings.host, self._settings.port, self._settings.keepalive_s)
        if self.five:
            properties = Properties(PacketTypes.CONNECT)
            kept_s = TRANSIENT_EXPIRY_S if self._settings.transient else SESSION_EXPIRY_S
            properties.SessionExpiryInterval = 0 if clean else kept_s
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            client.connect(*place, clean_start=clean, properties=properties)
        else:
            client.connect(*place)
        return self._accepted

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self._accepted.done():
            return
        if reason.value == UNSUPPORTED_VERSION:
            self._accepted.set_exception(
                VersionRefused(f"{self._settings.place} does not speak MQTT {self._version}", said=True)
            )
        elif reason.is_failure:
            text = f"{self._settings.place} refused the connection: {reason}"
            if reason.value in ACCESS_CODES:
                remedy = "check the user in mqtt.url and mqtt.password_file"
                self._accepted.set_exception(AccessRefused(NAME, f"{text}; {remedy}"))
            else:
                self._accepted.set_exception(ConnectFailed(NAME, text))
        else:
            self.granted = Granted.of(flags.session_present, properties)
            self._accepted.set_result(self.granted)
            self._beat()

    # -- subscriptions ---------------------------------------------------------------------------------------------

    async def subscribe(self, topic_filter: str, qos: int, number: int) -> int:
        """Subscribe, and return the broker's reason code: the granted quality of service, or 0x80 and above."""
        if self.five:
            properties = None
            if number and self.granted.subscription_ids:
                properties = Properties(PacketTypes.SUBSCRIBE)
                properties.SubscriptionIdentifier = number
            _, mid = self._paho.subscribe(topic_filter, options=SubscribeOptions(qos=qos), properties=properties)
        else:
            _, mid = self._paho.subscribe(topic_filter, qos)
        return (await self._answer(mid))[0]

    async def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe, and return when the broker has said so."""
        await self._answer(self.forget(topic_filter))

    def forget(self, topic_filter: str) -> int | None:
        """Unsubscribe without waiting for the answer."""
        mid: int | None = self._paho.unsubscribe(topic_filter)[1]
        return mid

    async def _answer(self, mid: int | None) -> list[int]:
        self.check()
        if mid is None:
            raise ConnectionLost(NAME, "the connection is being closed")
        answer = self._answers[mid] = self._loop.create_future()
        self._read_or_not()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                codes: list[int] = await answer
        except TimeoutError:
            raise ConnectionLost(NAME, f"{self._settings.place} does not answer a subscription") from None
        finally:
            self._answers.pop(mid, None)
            self._read_or_not()
        self.check()
        return codes

    def _on_answer(self, _client: object, _data: object, mid: int, reasons: list[ReasonCode], _p: object) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result([reason.value for reason in reasons])

    # -- the stream ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's: a byte stream is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own type is no subclass of it

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's: where it may put what comes."""
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's: so many bytes came."""
        self.data_received(bytes(self._chunk[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._down is not None:
            return
        self._heard = self._loop.time()
        confirmed = self._reader.good_acks(data)
        if confirmed:
            self._handlers.confirmed(confirmed)
        else:
            self._take(data)
        self._handlers.received()

    def _take(self, data: bytes) -> None:
        try:
            for first, body in self._reader.feed(data):
                kind = first & 0xF0
                if kind == PUBLISH:
                    self._handlers.published(decode_publish(first, body, with_properties=self.five))
                elif kind == PUBACK:
                    self._handlers.acknowledged(*decode_puback(body))
                elif kind != PINGRESP:
                    self._hand_to_paho(first, body)
        except RemoteProtocolError as exc:
            self.fail(ConnectionLost(NAME, str(exc)))

    def _hand_to_paho(self, first: int, body: bytes) -> None:
        self._wire.inbox += bytes((first,)) + encode_length(len(body)) + body
        while self._wire.inbox and self._paho.loop_read() == paho.MQTT_ERR_SUCCESS:
            pass

    def write(self, data: bytes) -> None:
        """Send with the next turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._spoke = self._loop.time()
        self._out.clear()

    def pause(self) -> None:
        """Read no more until ``resume``; the broker's own limits hold the rest back."""
        if not self._full:
            self._full = True
            self._read_or_not()

    def resume(self) -> None:
        """Read on."""
        if self._full:
            self._full = False
            self._read_or_not()

    def _read_or_not(self) -> None:
        """Stop reading or go on; while an answer is awaited it is read all the same, for the answer comes that way."""
        pause = self._full and not self._answers
        if pause == self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = pause
        self._heard = self._loop.time()
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # -- going down ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Ping a quiet connection, and give up one on which nothing was heard for the whole keepalive."""
        now = self._loop.time()
        keepalive_s = self._paho.keepalive
        if not keepalive_s or self._down is not None:
            return
        half = keepalive_s / 2
        late = self._timer is not None and now - self._timer.when() > half / 2  # we stood still and asked for nothing
        if not self._paused and not late and now - self._heard >= keepalive_s:
            self.fail(ConnectionLost(NAME, f"nothing heard from {self._settings.place} for {keepalive_s} s"))
            return
        if now - self._spoke >= half or (now - self._heard >= half and not self._paused):
            self.write(PINGREQ)
        self._timer = self._loop.call_later(half / 2, self._beat)

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: ReasonCode, _p: object) -> None:
        if flags.is_disconnect_packet_from_server:
            self.fail(self._farewell(reason))
        elif self._accepted.done() and not self._accepted.cancelled() and self._accepted.exception() is None:
            self.fail(ConnectionLost(NAME, f"{self._settings.place}: {reason}"))

    def _farewell(self, reason: ReasonCode) -> TransportDown:
        if reason.value == TAKEN_OVER:
            return TwinConnected(
                NAME,
                f"another client took over the session: it has the client id {self._client_id} too; "
                "give one of them another mqtt.client_id",
            )
        if reason.value in ACCESS_CODES:
            return AccessRefused(NAME, f"{self._settings.place} closed the connection: {reason}")
        return ConnectionLost(NAME, f"{self._settings.place} closed the connection: {reason}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's: the byte stream ended."""
        self._ended.set()
        self.fail(ConnectionLost(NAME, f"{self._settings.place} closed the connection{_because(exc)}"))

    def eof_received(self) -> bool:
        """The loop's: the other side will send no more."""
        return False

    def fail(self, down: TransportDown) -> None:
        """This connection is over, for this reason; only the first one counts."""
        if self._down is not None:
            return
        self._down = down
        self._stop_timer()
        if not self._accepted.done():
            self._accepted.set_exception(
                VersionRefused(f"{self._settings.place} closed the connection before it was up", said=False)
            )
        was_up = not self._accepted.cancelled() and self._accepted.exception() is None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result([])
        if self._transport is not None:
            self._transport.abort()
        if was_up:
            self._handlers.lost(down)

    def check(self) -> None:
        """Raise why it is down, if it is."""
        if self._down is not None:
            raise type(self._down)(self._down.transport, self._down.reason)

    def close(self, *, politely: bool) -> None:
        """End it: with DISCONNECT, so that the broker forgets the last will; or at once, so that it sends it."""
        if self._down is not None or self._transport is None:
            return
        self._down = ConnectionLost(NAME, "the session is closed")
        self._stop_timer()
        if politely:
            self._full = False
            self._read_or_not()
            with suppress(OSError, ValueError):
                self._paho.disconnect()
            self._flush()
        else:
            self._transport.abort()

    async def closed(self) -> None:
        """Return when the byte stream has ended: after a good-bye that is when the broker has read all we sent."""
        if self._transport is None:
            return
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._ended.wait()
        finally:  # it took too long, or whoever waits is cancelled; else it has ended anyway
            self._transport.abort()

    def leave(self) -> None:
        """Say good-bye and close the socket without waiting for the broker, who may have fallen silent."""
        self.close(politely=True)
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _because(exc: Exception | None) -> str:
    if exc is None:
        return ""
    return f" ({exc.strerror})" if isinstance(exc, OSError) and exc.strerror else f" ({exc})"
