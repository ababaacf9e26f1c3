"""AMQP as a transport: how to reach a broker, or one of several."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.amqp.client import connected, tls_context
from gateway.amqp.connection import NAME, ChannelRefused
from gateway.amqp.core.settings import AmqpSettings, Host, settings_of
from gateway.amqp.offsets_file import StreamOffsetsFile
from gateway.amqp.session import AmqpSession
from gateway.errors import AccessRefused, ConnectFailed, TransportDown

__all__ = ["AmqpConnector", "AmqpSession", "AmqpSettings", "settings_of"]

log = logging.getLogger(__name__)


class AmqpConnector:
    """How to reach a broker: the first of several hosts that answers, beginning with the last good one.

    ``ConfigError`` if a TLS file is wrong.
    """

    name = NAME

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        if any(host.tls for host in settings.hosts):
            tls_context(settings)
        self._notes = StreamOffsetsFile(settings.streams_file)
        self._epoch = 0
        self._first = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AmqpSession]:
        """A session whose test message has come back, or ``TransportDown``. Leaving closes everything."""
        async with AsyncExitStack() as stack:
            session = await self._any_host(stack)
            yield session

    async def _any_host(self, stack: AsyncExitStack) -> AmqpSession:
        problems: list[TransportDown] = []
        hosts = self._settings.hosts
        for offset in range(len(hosts)):
            index = (self._first + offset) % len(hosts)
            try:
                session = await self._one_host(hosts[index], stack)
            except TransportDown as down:
                problems.append(down)
                continue
            self._first = index
            return session
        kind = AccessRefused if all(isinstance(problem, AccessRefused) for problem in problems) else ConnectFailed
        raise kind(NAME, "; ".join(problem.reason for problem in problems)) from problems[-1]

    async def _one_host(self, host: Host, stack: AsyncExitStack) -> AmqpSession:
        self._epoch += 1
        async with AsyncExitStack() as attempt:
            consuming = await attempt.enter_async_context(connected(host, self._settings, "consuming"))
            publishing = await attempt.enter_async_context(connected(host, self._settings, "publishing"))
            session = AmqpSession(self._settings, self._epoch, publishing, consuming, self._notes)
            attempt.push_async_callback(session.end)
            try:
                await session.start()
            except ChannelRefused as refused:
                raise ConnectFailed(NAME, f"{host}: {refused.text}") from refused
            stack.push_async_callback(attempt.pop_all().aclose)
            log.debug("amqp: %s is RabbitMQ %s", host, consuming.broker_version)
            return session
        raise AssertionError("unreachable")
