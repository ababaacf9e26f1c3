"""What the AMQP side needs to know, made from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.config.schema import AmqpSection, Secret
from gateway.errors import ConfigError

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
DEFAULT_USER = "guest"

MAX_MESSAGE_BYTES = 134_217_728
"""RabbitMQ's own limit; above it, it would close the channel with everything that is under way on it."""


@dataclass(frozen=True, slots=True)
class Host:
    """One broker to connect to. ``vhost`` is the name itself, without the slash of the url."""

    host: str
    port: int
    user: str
    password: Secret
    vhost: str
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """Hosts in the order of preference; seconds and counts as their names say.

    ``prefetch`` bounds the credit of one source, ``window`` the unconfirmed publications. ``streams_file`` is where it is
    written down how far streams were taken; without one they are taken from their beginning by the next run.
    """

    hosts: tuple[Host, ...]
    instance: str = "gateway"
    prefetch: int = 256
    window: int = 1024
    queue_type: str = "classic"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    streams_file: Path | None = None
    heartbeat_s: int = 30
    connect_timeout_s: float = 15.0
    max_message_bytes: int = field(default=MAX_MESSAGE_BYTES)


def settings_of(
    section: AmqpSection, *, instance: str, password: Secret, streams_file: Path | None = None
) -> AmqpSettings:
    """The settings of ``[amqp]``. ``password`` (if not empty) is used where a url has none."""
    urls = (section.url,) if isinstance(section.url, str) else section.url
    return AmqpSettings(
        hosts=hosts_of(urls, password),
        instance=instance,
        prefetch=section.prefetch,
        queue_type=section.queue_type,
        streams_file=streams_file,
        ca_file=section.ca_file,
        cert_file=section.cert_file,
        key_file=section.key_file,
    )


def hosts_of(urls: Sequence[str], password: Secret | None = None) -> tuple[Host, ...]:
    """The brokers of a list of urls. User, password and vhost default to RabbitMQ's: guest, guest, ``/``."""
    return tuple(_host(url, password or Secret("")) for url in urls)


def _host(url: str, password: Secret) -> Host:
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ConfigError("amqp", "amqp.url", "is no amqp:// or amqps:// address")
    user = unquote(parts.username) if parts.username else DEFAULT_USER
    if parts.password is not None:
        secret = Secret(unquote(parts.password))
    elif password:
        secret = password
    else:
        secret = Secret(DEFAULT_USER if user == DEFAULT_USER else "")
    return Host(
        host=parts.hostname,
        port=parts.port or DEFAULT_PORTS[parts.scheme],
        user=user,
        password=secret,
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
    )
