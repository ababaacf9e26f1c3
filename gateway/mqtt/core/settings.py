"""What the MQTT side needs to know, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from gateway.config.schema import MqttSection, Secret
from gateway.errors import ConfigError

SCHEMES = {"mqtt": False, "tcp": False, "mqtts": True, "ssl": True, "tls": True}
"""Scheme of a url -> whether it means TLS."""

PORT, TLS_PORT = 1883, 8883

Will = Callable[[int], tuple[str, bytes]]
"""Epoch of a connection -> topic and payload that the broker publishes, retained, when it is lost."""

NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """One broker and how we appear there. ``window`` bounds unconfirmed publications; seconds as the names say.

    A ``transient`` client has a new id each time: the broker keeps its session for two minutes only, not for a week.
    """

    host: str
    port: int
    client_id: str
    instance: str
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: Secret = NO_SECRET
    keepalive_s: int = 30
    version: Literal["auto", "5", "3.1.1"] = "auto"
    window: int = 256
    will: Will | None = None
    connect_timeout_s: float = 10.0
    transient: bool = False

    @property
    def place(self) -> str:
        """Where the broker is, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Granted:
    """What the broker allows on this connection (MQTT 5.0, section 3.2.2.3)."""

    session_present: bool
    receive_maximum: int = 65_535
    maximum_packet_size: int = 0
    retain_available: bool = True
    subscription_ids: bool = False

    @classmethod
    def of(cls, session_present: bool, properties: object) -> Granted:
        """From the properties of a CONNACK; a 3.1.1 broker sends none, and grants all but subscription ids."""

        def said(name: str, default: int) -> int:
            number: int = getattr(properties, name, default)
            return number

        return cls(
            session_present,
            receive_maximum=said("ReceiveMaximum", 65_535),
            maximum_packet_size=said("MaximumPacketSize", 0),
            retain_available=bool(said("RetainAvailable", 1)),
            subscription_ids=bool(said("SubscriptionIdentifierAvailable", 1)),
        )


def settings_of(
    section: MqttSection, url: str, *, instance: str, client_id: str, password: Secret, will: Will | None = None
) -> MqttSettings:
    """The settings of ``[mqtt]`` for a broker at ``url``. ``password`` (if not empty) is used where the url has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("mqtt", "mqtt.url", "has a port that is no number from 0 to 65535") from None
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigError("mqtt", "mqtt.url", "is no mqtt:// or mqtts:// address")
    if bool(section.cert_file) != bool(section.key_file):
        raise ConfigError("mqtt", "mqtt.cert_file", "goes together with mqtt.key_file")
    tls = SCHEMES[parts.scheme]
    return MqttSettings(
        host=parts.hostname,
        port=port or (TLS_PORT if tls else PORT),
        client_id=client_id,
        instance=instance,
        tls=tls,
        ca_file=section.ca_file,
        cert_file=section.cert_file,
        key_file=section.key_file,
        username=unquote(parts.username or ""),
        password=Secret(unquote(parts.password)) if parts.password is not None else password,
        keepalive_s=section.keepalive_s,
        version=section.version,
        window=section.window,
        will=will,
    )
