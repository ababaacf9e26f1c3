"""Reaching the broker: TLS, the deadline for coming up, and one line of what went wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import ConnectFailed
from gateway.mqtt.client import NAME, Handlers, MqttConnection, VersionRefused
from gateway.mqtt.core.settings import MqttSettings
from gateway.tls import client_context

SILENCE_S = 4.0
"""How long a broker may take to answer a CONNECT of MQTT 5 before 3.1.1 is tried."""


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """What TLS trusts and shows; None without TLS. ``ConfigError`` names the file that is wrong."""
    if not settings.tls:
        return None
    return client_context(NAME, settings.ca_file, settings.cert_file, settings.key_file)


@asynccontextmanager
async def connected(
    settings: MqttSettings,
    context: ssl.SSLContext | None,
    version: str,
    client_id: str,
    handlers: Handlers,
    *,
    clean: bool,
    will: tuple[str, bytes] | None = None,
) -> AsyncIterator[MqttConnection]:
    """A connection that the broker has accepted, or ``ConnectFailed``. Ends politely unless an error leaves it."""
    loop = asyncio.get_running_loop()
    connection = MqttConnection(settings, version, client_id, handlers)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await loop.create_connection(lambda: connection, settings.host, settings.port, ssl=context)
            await _accepted(connection, settings, clean, will)
    except TimeoutError:
        connection.close(politely=False)
        raise ConnectFailed(NAME, f"no answer from {settings.place} in {settings.connect_timeout_s:g} s") from None
    except OSError as exc:
        connection.close(politely=False)
        raise ConnectFailed(NAME, connect_problem(settings, exc)) from exc
    except BaseException:
        connection.close(politely=False)
        raise
    try:
        yield connection
    except Exception:
        connection.close(politely=False)
        raise
    finally:
        connection.close(politely=True)
        await connection.closed()


async def _accepted(
    connection: MqttConnection, settings: MqttSettings, clean: bool, will: tuple[str, bytes] | None
) -> None:
    """Until the broker has answered our CONNECT. One that does not know version 5 may just say nothing (amqtt)."""
    patience_s = SILENCE_S if connection.five and settings.version == "auto" else None
    try:
        async with asyncio.timeout(patience_s):
            await connection.begin(clean=clean, will=will)
    except TimeoutError:
        raise VersionRefused(f"{settings.place} does not answer", said=False) from None


def connect_problem(settings: MqttSettings, exc: OSError) -> str:
    """One line of what went wrong, and what to do."""
    place = settings.place
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate of {place} is not trusted: {exc.verify_message}; name its authority in mqtt.ca_file"
    if isinstance(exc, ssl.SSLError):
        return f"{place} speaks no TLS that we understand ({exc.reason}); is it the port for mqtts?"
    if isinstance(exc, ConnectionRefusedError) or "Errno 111" in str(exc):
        return f"connection refused by {place}; does the broker run there?"
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno < 0:
        return f"the name {settings.host} can't be resolved: {exc.strerror}"
    return f"can't reach {place}: {exc.strerror or exc}"
