"""Participants on a broker given by its URL: both brokers behind one door, and the blocking ``run`` and ``main``."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from gateway.errors import ConfigError
from gateway.participant.blocking import BlockingParticipant, Engine
from gateway.participant.broker import Broker
from gateway.participant.client import WINDOW, AsyncParticipant, serve_participant
from gateway.participant.core.definition import Seat, parse_iips

DEFAULT_BROKER = "amqp://localhost"
"""What MsgFlo's libraries and tools take when nothing is said."""

Factory = Callable[[str], BlockingParticipant]
"""A participant class, or anything else that makes a participant of a role."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; empty where the URL names none."""

    ca: str
    certificate: str
    key: str


def find_broker(url: str | None = None) -> str:
    """The broker to use: what is given, else ``MSGFLO_BROKER``, else ``CLOUDAMQP_URL``, else ``amqp://localhost``."""
    return url or os.environ.get("MSGFLO_BROKER") or os.environ.get("CLOUDAMQP_URL") or DEFAULT_BROKER


def make_broker(url: str, participant_id: str) -> Broker:
    """The broker behind an URL. The query may name the files ``ca_certs``, ``certfile`` and ``keyfile`` (TLS).

    ``ConfigError`` for another scheme, or no address at all, before anything is connected.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise ConfigError("broker", "", f"is no address: {exc}; write mqtt://HOST:PORT or amqp://HOST:PORT") from None
    files = {key: value for key, value in parse_qsl(parts.query) if key in ("ca_certs", "certfile", "keyfile")}
    plain = urlunsplit(parts._replace(query=""))
    tls = TlsFiles(files.get("ca_certs", ""), files.get("certfile", ""), files.get("keyfile", ""))
    if parts.scheme in ("amqp", "amqps"):
        return _amqp(plain, tls)
    if parts.scheme in ("mqtt", "mqtts"):
        return _mqtt(plain, tls, participant_id)
    raise ConfigError("broker", "", f"Unsupported scheme: {parts.scheme or url}; write mqtt://HOST or amqp://HOST")


def _amqp(url: str, tls: TlsFiles) -> Broker:
    from gateway.amqp.core.settings import AmqpSettings, hosts_of
    from gateway.amqp.transport import AmqpConnector, AmqpSession

    async def make_ports(session: AmqpSession, seat: Seat) -> None:
        await session.declare_discovery()
        outports = [address.name for address in seat.outports.values()]
        await session.declare_export([address.name for address in seat.inports], outports)

    connector = AmqpConnector(
        AmqpSettings(
            hosts_of([url]), instance="participant", ca_file=tls.ca, cert_file=tls.certificate, key_file=tls.key
        )
    )
    return Broker("amqp", connector, make_ports, AmqpSession.refuse)


def _mqtt(url: str, tls: TlsFiles, participant_id: str) -> Broker:
    from gateway.config.schema import MqttSection, Secret
    from gateway.mqtt.transport import MqttConnector, settings_of

    client_id = f"{participant_id}-{secrets.token_hex(4)}"
    section = MqttSection(url=url, ca_file=tls.ca, cert_file=tls.certificate, key_file=tls.key)
    settings = settings_of(section, url, instance=client_id, client_id=client_id, password=Secret(""))
    return Broker("mqtt", MqttConnector(replace(settings, transient=True)))


@asynccontextmanager
async def open_participant(
    definition: Mapping[str, Any], role: str, broker: str | None = None, *, window: int = WINDOW
) -> AsyncIterator[AsyncParticipant]:
    """The asyncio way: a participant, connected and announced while the block runs.

        async with open_participant({"component": "Double"}, "double", "mqtt://localhost") as me:
            async for message in me:
                await me.send("out", message.data * 2)
                message.ack()

    ``window`` bounds the messages of one inport that are taken and not yet settled.
    """
    async with serve_participant(definition, role, make_broker(find_broker(broker), role), window=window) as me:
        yield me


def run(
    participants: BlockingParticipant | Sequence[BlockingParticipant],
    broker: str | None = None,
    done_cb: Callable[[], Any] | None = None,
    iips: Mapping[str, Any] | None = None,
) -> Engine:
    """Run participants in threads of their own, and return at once. ``Engine.stop`` ends it."""
    everybody = [participants] if isinstance(participants, BlockingParticipant) else list(participants)
    engine = Engine(everybody, find_broker(broker), make_broker, iips)
    if done_cb is not None:
        engine.done_callback(done_cb)
    engine.start()
    return engine


def main(participant: Factory, role: str | None = None) -> None:
    """Run one participant until SIGTERM or Ctrl-C. The command line is ``[--iips JSON] [ROLE]``."""
    parser = ArgumentParser()
    parser.add_argument("role", nargs="?" if role else None, default=role)
    parser.add_argument("-i", "--iips", default="{}", help='data for inports at the start: {"port": data}')
    arguments, _ = parser.parse_known_args(sys.argv[1:])
    role = role or arguments.role
    run_until_stopped(participant(role), find_broker(), parse_iips(arguments.iips, "--iips"))


def run_until_stopped(participant: BlockingParticipant, broker: str, iips: Mapping[str, Any]) -> None:
    """Run, say so once connected, and end on SIGTERM or SIGINT: the message at hand is finished first."""
    definition = participant.definition
    parts = urlsplit(broker)
    line = (
        f"{definition['role']}({definition['component']}) running on {parts.scheme}://{parts.hostname or 'localhost'}"
    )
    engine = Engine([participant], broker, make_broker, iips, on_connected=lambda: print(line, flush=True))
    with _stopped_by_signals(engine):
        engine.start()
        engine.wait()
    if engine.problem is not None:
        raise engine.problem


def _stopped_by_signals(engine: Engine) -> AbstractContextManager[None]:
    @contextmanager
    def block() -> Any:
        before = {number: signal.signal(number, lambda *_: engine.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return block()


def set_up_logging() -> None:
    """Warnings on standard error, or what ``MSGFLO_PYTHON_LOGLEVEL`` names."""
    level = os.environ.get("MSGFLO_PYTHON_LOGLEVEL", "warning").upper()
    with suppress(ValueError):
        logging.basicConfig(level=level, format="%(levelname)s %(message)s")
