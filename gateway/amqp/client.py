"""A connection to an AMQP broker while it lasts, and what is declared over it. ``Wire`` carries what goes over it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.amqp import methods
from gateway.amqp.frames import Method
from gateway.amqp.greeting import Greeting
from gateway.amqp.settings import AmqpSettings, Host
from gateway.amqp.topology import Arguments
from gateway.amqp.wire import NAME, Channel, ChannelRefused, Wire
from gateway.errors import AccessRefused, ConfigError, ConnectFailed, TransportDown
from gateway.tls import client_context

CLOSE_TIMEOUT_S = 5.0
NOT_FOUND = 404
NOT_ALLOWED = (403, 530)
"""Closing codes that only a person can mend: wrong password, no such vhost, no permission for it."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker tells of a queue: messages that wait, and who takes from it."""

    messages: int
    consumers: int


class Client:
    """A connection while it lasts."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.broker_version = wire.greeting.broker_version
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
    try:  # anew for every connection: certificates are renewed while we run
        context = await loop.run_in_executor(None, tls_context, settings) if host.tls else None
    except ConfigError as exc:
        raise AccessRefused(NAME, f"{exc.key}: {exc.problem}") from exc
    name = f"gateway {settings.instance} {purpose}"
    wire = Wire(loop, Greeting(host.user, host.password, host.vhost, settings.heartbeat_s, name))
    try:
        try:
            async with asyncio.timeout(settings.connect_timeout_s) as patience:
                await loop.create_connection(lambda: wire, host.host, host.port, ssl=context)
                opened = await wire.opened
        except OSError as exc:
            if patience.expired():
                raise ConnectFailed(NAME, f"{host} did not answer within {settings.connect_timeout_s:.0f} s") from exc
            raise _unreachable(exc, host) from exc
        if not opened:
            raise _refused(wire, host)
        yield Client(wire)
    finally:
        await wire.end(CLOSE_TIMEOUT_S)


def tls_context(settings: AmqpSettings) -> ssl.SSLContext:
    """What TLS trusts and shows. ``ConfigError`` names the file that is wrong."""
    return client_context(NAME, settings.ca_file, settings.cert_file, settings.key_file)


def _unreachable(exc: OSError, host: Host) -> TransportDown:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return AccessRefused(
            NAME,
            f"{host}: the broker's certificate is not trusted: {exc.verify_message}; name its authority in amqp.ca_file",
        )
    return ConnectFailed(NAME, f"{host}: {exc.strerror or exc}")


def _refused(wire: Wire, host: Host) -> TransportDown:
    if wire.close_code in NOT_ALLOWED or wire.greeting.refused:
        remedy = "check the user and vhost in amqp.url, and amqp.password_file"
        return AccessRefused(NAME, f"{host}, user {host.user}, vhost {host.vhost}: {wire.reason.rstrip('.')}; {remedy}")
    return ConnectFailed(NAME, f"{host}: {wire.reason}")
