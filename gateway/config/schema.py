"""Every configuration key, its default and its unit in the name. The contract page is the single truth.

Frozen structs: what was loaded never changes; a reload makes a new one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.model.binding import DeliveryMode


class Secret:
    """A text that never shows itself: its ``repr`` and ``str`` are ``***``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that hands it to a client library."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***" if self._text else ""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Unknown keys are errors."""


class GatewaySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[gateway]``: who this gateway is and how it logs."""

    instance: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class MqttSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[mqtt]``: the broker. ``embedded://`` brings its own."""

    url: str = "embedded://"
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_id: str = ""
    keepalive_s: int = 30
    version: Literal["auto", "5", "3.1.1"] = "auto"
    window: int = 256


class AmqpSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[amqp]``: the cloud side. An empty url means there is none; of several, the first that answers is used."""

    url: str | tuple[str, ...] = ""
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    discover: Literal["on", "off", "auto"] = "auto"
    prefetch: int = 256
    queue_type: Literal["classic", "quorum", "stream"] = "classic"
    export: tuple[str, ...] = ()
    export_prefix: str = ""
    import_: tuple[str, ...] = msgspec.field(default=(), name="import")


class CoordinatorSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[coordinator]``: the one graph and the heartbeats."""

    graph: str = ""
    library: str = ""
    component_dir: str = "components"
    edit_components: bool = False
    heartbeat_expiry_s: float = 600.0
    discovery_period_s: float = 60.0


class HttpSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[http]``: FBP runtimes, health and metrics. An empty ``listen`` switches the server off."""

    listen: str = "127.0.0.1:3569"
    secret_file: str = ""


ContentType = Literal["", "application/json", "application/cbor"]
Overflow = Literal["auto", "block", "drop_oldest", "drop_newest", "dead_letter"]


class DeliverySettings(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one edge promises; a key left out is taken from ``[delivery]``."""

    mode: DeliveryMode | None = None
    latest: bool | None = None
    ttl_s: float | None = None
    max_pending: int | None = None
    max_pending_bytes: int | None = None
    max_message_bytes: int | None = None
    overflow: Overflow | None = None
    max_attempts: int | None = None
    dead_letter: str | None = None
    content_type: ContentType | None = None


class DeliverySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[delivery]``: the defaults of every edge, and ``[delivery.edge."a.out->b.in"]`` for single ones."""

    mode: DeliveryMode = DeliveryMode.HELD
    latest: bool = False
    ttl_s: float = 0.0
    max_pending: int = 100_000
    max_pending_bytes: int = 67_108_864
    max_message_bytes: int = 16_777_216
    overflow: Overflow = "auto"
    max_attempts: int = 5
    dead_letter: str = ""
    content_type: ContentType = ""
    edge: dict[str, DeliverySettings] = msgspec.field(default_factory=dict)


class SpoolSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[spool]``: messages on disk while their target is away. ``max_dead_bytes`` 0: a quarter of ``max_bytes``."""

    max_bytes: int = 268_435_456
    max_dead_bytes: int = 0
    disk_reserve_bytes: int = 104_857_600
    on_corrupt: Literal["stop", "start_empty"] = "stop"


class SerialSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[serial]``: defaults of every board's line. ``baud`` is a number or ``auto``."""

    baud: int | Literal["auto"] = "auto"
    boot_wait_s: float = 2.0
    request_timeout_s: float = 0.5
    usb_reauthorise: bool = False


class RunSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[run]``: how the daemon ends."""

    shutdown_grace_s: float = 10.0


class Config(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration."""

    gateway: GatewaySection = GatewaySection()
    mqtt: MqttSection = MqttSection()
    amqp: AmqpSection = AmqpSection()
    coordinator: CoordinatorSection = CoordinatorSection()
    http: HttpSection = HttpSection()
    delivery: DeliverySection = DeliverySection()
    spool: SpoolSection = SpoolSection()
    serial: SerialSection = SerialSection()
    run: RunSection = RunSection()


SECRET_KEYS = frozenset({"password"})
"""Keys that are masked wherever the configuration is shown; each has a ``…_file`` form."""
