"""A connection to an AMQP broker: aio-pika opens it and keeps it alive, ``AmqpConnection`` carries what goes over it.

The one home of aio-pika. The plain connection, not the robust one: two layers that reconnect would hide when a delivery
tag has died, and ours is the one with the spool.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aio_pika
from aio_pika.abc import ConnectionParameter
from aiormq.connection import TransportFactory
from yarl import URL

from gateway.amqp.codec import methods
from gateway.amqp.codec.frames import Method
from gateway.amqp.connection import NAME, AmqpConnection, Channel, ChannelRefused
from gateway.amqp.core.settings import AmqpSettings, Host
from gateway.amqp.core.topology import Arguments
from gateway.errors import AccessRefused, ConfigError, ConnectFailed, TransportDown
from gateway.tls import client_context

CLOSE_TIMEOUT_S = 5.0
NOT_FOUND = 404
NOT_ALLOWED = (403, 530)
"""Closing codes that only a person can mend: wrong password, no such vhost, no permission for it."""

for _library in ("aio_pika", "aiormq"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)  # whatever happens is said once, by us


class _Connection(aio_pika.Connection):
    """aio-pika's own connection, which hands one more argument on to the library below it."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


class _OurTransport(TransportFactory):
    """Makes the connection's transport, with the wire in it."""

    def __init__(self, wire: AmqpConnection, host: Host, context: ssl.SSLContext | None) -> None:
        self._wire, self._host, self._context = wire, host, context

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the socket. What it raises is translated in ``connected``."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            lambda: self._wire, self._host.host, self._host.port, ssl=self._context
        )
        reader = self._wire.reader
        return reader, asyncio.StreamWriter(transport, self._wire, reader, loop)


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker tells of a queue: messages that wait, and who takes from it."""

    messages: int
    consumers: int


class Client:
    """A connection while it lasts."""

    def __init__(self, wire: AmqpConnection, broker_version: str) -> None:
        self.wire = wire
        self.broker_version = broker_version
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()

    async def queue_state(self, name: str) -> QueueState | None:
        """A queue as it is; None if there is none."""
        try:
            answer = await self._call(methods.QUEUE_DECLARE, methods.queue_declare(name, methods.PASSIVE, {}))
        except ChannelRefused as refused:
            if refused.code == NOT_FOUND:
                return None
            raise
        return QueueState(*methods.read_queue_declared(answer))

    async def has_exchange(self, name: str) -> bool:
        """Whether there is an exchange of that name."""
        try:
            await self._call(methods.EXCHANGE_DECLARE, methods.exchange_declare(name, "fanout", methods.PASSIVE))
        except ChannelRefused as refused:
            if refused.code == NOT_FOUND:
                return False
            raise
        return True

    async def declare_queue(self, name: str, arguments: Arguments) -> None:
        """Make a durable queue, or find it just so. ``ChannelRefused`` if it exists in another way."""
        await self._call(methods.QUEUE_DECLARE, methods.queue_declare(name, methods.DURABLE, dict(arguments)))

    async def declare_passing_queue(self, name: str) -> None:
        """Make a queue that only this connection uses, and that goes when nobody takes from it any more."""
        bits = methods.EXCLUSIVE | methods.AUTO_DELETE
        await self._call(methods.QUEUE_DECLARE, methods.queue_declare(name, bits, {}))

    async def declare_exchange(self, name: str, kind: str) -> None:
        """Make a durable exchange, or find it just so. ``ChannelRefused`` if it exists in another way."""
        await self._call(methods.EXCHANGE_DECLARE, methods.exchange_declare(name, kind, methods.DURABLE))

    async def delete_unused_exchange(self, name: str) -> None:
        """Delete an exchange that nothing is bound to. ``ChannelRefused`` if something is."""
        await self._call(methods.EXCHANGE_DELETE, methods.exchange_delete_unused(name))

    async def bind(self, queue: str, exchange: str) -> None:
        """Let the exchange's messages go to the queue. ``ChannelRefused`` if one of them is missing."""
        await self._call(methods.QUEUE_BIND, methods.queue_bind(queue, exchange))

    async def bind_exchange(self, target: str, source: str) -> None:
        """Let the source's messages go on to another exchange. ``ChannelRefused`` if one of them is missing."""
        await self._call(methods.EXCHANGE_BIND, methods.exchange_bind(target, source))

    async def unbind(self, queue: str, exchange: str) -> None:
        """The opposite. What is missing or not bound is as good."""
        try:
            await self._call(methods.QUEUE_UNBIND, methods.queue_unbind(queue, exchange))
        except ChannelRefused as refused:
            if refused.code != NOT_FOUND:
                raise

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with whatever is in it."""
        await self._call(methods.QUEUE_DELETE, methods.queue_delete(name))

    async def _call(self, name: Method, arguments: bytes) -> bytes:
        """One request after the other. A refused one closes the channel; then the next one gets a fresh one."""
        async with self._lock:
            if self._channel is None or not self._channel.open:
                self._channel = Channel(self.wire)
                await self._channel.start()
            try:
                return await self._channel.call(name, arguments, methods.ANSWERS[name])
            except asyncio.CancelledError:
                self._channel.close()  # the answer may still come, and is none to the next request
                raise


@asynccontextmanager
async def connected(host: Host, settings: AmqpSettings, purpose: str) -> AsyncIterator[Client]:
    """A connection to one host. ``purpose`` is shown in the broker's list of connections. ``TransportDown`` if not."""
    loop = asyncio.get_running_loop()
    wire = AmqpConnection(loop)
    try:  # anew for every connection: certificates are renewed while we run
        context = await loop.run_in_executor(None, tls_context, settings) if host.tls else None
    except ConfigError as exc:
        raise AccessRefused(NAME, f"{exc.key}: {exc.problem}") from exc
    name = f"gateway {settings.instance} {purpose}"
    connection = _Connection(
        _url(host, settings.heartbeat_s),
        client_properties={"connection_name": name, "product": "microflo-gateway"},
        transport_factory=_OurTransport(wire, host, context),
    )
    try:
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await connection.connect()
        except TimeoutError as exc:
            raise ConnectFailed(NAME, f"{host} did not answer within {settings.connect_timeout_s:.0f} s") from exc
        except (aio_pika.exceptions.AMQPError, OSError, RuntimeError, StopAsyncIteration) as exc:
            raise _explained(
                exc, wire, host
            ) from exc  # the last: aiormq's word for an end in the middle of the greeting
        assert connection.transport is not None
        underlay: Any = connection.transport.connection
        wire.channel_max = underlay.connection_tune.channel_max
        wire.frame_max = underlay.connection_tune.frame_max
        version = underlay.server_properties.get("version", "")
        yield Client(wire, version.decode() if isinstance(version, bytes) else str(version))
    finally:
        wire.flush()
        try:
            with suppress(TimeoutError, aio_pika.exceptions.AMQPError, OSError, RuntimeError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await connection.close()
        finally:  # whoever is cancelled while he says good-bye leaves no socket open either
            wire.fail("closed")


def tls_context(settings: AmqpSettings) -> ssl.SSLContext:
    """What TLS trusts and shows. ``ConfigError`` names the file that is wrong."""
    return client_context(NAME, settings.ca_file, settings.cert_file, settings.key_file)


def _url(host: Host, heartbeat_s: int) -> URL:
    user, password = quote(host.user, safe=""), quote(host.password.reveal(), safe="")
    name = f"[{host.host}]" if ":" in host.host else host.host
    vhost = quote(host.vhost, safe="") if host.vhost != "/" else ""
    return URL(f"amqp://{user}:{password}@{name}:{host.port}/{vhost}?heartbeat={heartbeat_s}", encoded=True)


def _explained(exc: Exception, wire: AmqpConnection, host: Host) -> TransportDown:
    if wire.close_code in NOT_ALLOWED or isinstance(exc, aio_pika.exceptions.ProbableAuthenticationError):
        why = (wire.reason or _text(exc)).rstrip(".")
        remedy = "check the user and vhost in amqp.url, and amqp.password_file"
        return AccessRefused(NAME, f"{host}, user {host.user}, vhost {host.vhost}: {why}; {remedy}")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return AccessRefused(
            NAME,
            f"{host}: the broker's certificate is not trusted: {exc.verify_message}; name its authority in amqp.ca_file",
        )
    if isinstance(exc, OSError) and exc.strerror:
        return ConnectFailed(NAME, f"{host}: {exc.strerror}")
    return ConnectFailed(NAME, f"{host}: {wire.reason or _text(exc)}")


def _text(exc: BaseException) -> str:
    if isinstance(exc, StopAsyncIteration):
        return "the broker closed the connection in the middle of the greeting"
    return str(exc.args[0]) if exc.args and exc.args[0] else type(exc).__name__
