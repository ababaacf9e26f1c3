"""TOML text, environment and command line -> ``Config``. Every mistake names its place.

Order of precedence: command line, environment (``GATEWAY_<SECTION>_<KEY>``), file, default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from gateway.config.mistakes import mistake
from gateway.config.schema import SECRET_KEYS, Config, DeliverySettings, Secret, Section
from gateway.errors import ConfigError

ENV_PREFIX = "GATEWAY_"
ENV_PLACES = frozenset({"GATEWAY_CONFIG", "GATEWAY_STATE_DIR"})
"""Variables with our prefix that choose places, not keys."""

MQTT_SCHEMES = ("embedded", "mqtt", "mqtts")
AMQP_SCHEMES = ("amqp", "amqps")

LOCAL_HOSTS = ("localhost", "127.", "::1")

INSTANCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""It becomes part of topics, queue names and client ids."""

EDGE = re.compile(r"[^>]+\.[^>]+->.+\..+")
"""As the status names an edge: ``a.out->b.in``."""

Tables = dict[str, Any]


def parse_config(
    text: str, source: str, environ: Mapping[str, str], overrides: Mapping[tuple[str, str], Any]
) -> Config:
    """The configuration of a file's ``text``. ``overrides`` maps (section, key) to what the command line says.

    Raises ``ConfigError`` that names the file, the variable or the option, and the key.
    """
    tables = _read_toml(text, source)
    _refuse_unknown(tables, Config, source, ())
    config = _convert(tables, source)
    layers = [(_from_environment(environ), "environment"), (_nested(overrides), "command line")]
    for layer, name in layers:
        if layer:
            tables = _merged(tables, layer)
            config = _convert(tables, name, strict=False)
    _check(config, source)
    return config


def _read_toml(text: str, source: str) -> Tables:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(source, "", f"no valid TOML: {exc}") from exc


def _near(word: str, words: Iterable[str]) -> list[str]:
    """What was meant, probably; empty if there is nothing like it."""
    import difflib  # a configuration without a mistake does without its memory

    return difflib.get_close_matches(word, list(words), n=1)


def _refuse_unknown(table: Tables, kind: type[Section], source: str, path: tuple[str, ...]) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        place = ".".join((*path, key))
        if key not in fields:
            near = _near(key, fields)
            hint = f"; did you mean {'.'.join((*path, near[0]))}?" if near else f" (known: {', '.join(fields)})"
            raise ConfigError(source, place, f"unknown key{hint}")
        section = fields[key]
        if isinstance(section, type) and issubclass(section, Section) and isinstance(value, dict):
            _refuse_unknown(value, section, source, (*path, key))
        if place == "delivery.edge" and isinstance(value, dict):
            for edge, settings in value.items():
                if not EDGE.fullmatch(edge):
                    raise ConfigError(source, f'{place}."{edge}"', "an edge is written ROLE.PORT->ROLE.PORT")
                if isinstance(settings, dict):
                    _refuse_unknown(settings, DeliverySettings, source, (*path, key, f'"{edge}"'))


def _convert(tables: Tables, source: str, *, strict: bool = True) -> Config:
    try:
        return msgspec.convert(tables, Config, strict=strict)
    except msgspec.ValidationError as exc:
        raise mistake(str(exc), tables, source) from exc


def _from_environment(environ: Mapping[str, str]) -> Tables:
    known = {
        f"{ENV_PREFIX}{section.name}_{field.encode_name}".upper(): (section.name, field.encode_name, field.type)
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
        if field.name != "edge"
    }
    found: dict[tuple[str, str], Any] = {}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name not in ENV_PLACES:
            if name not in known:
                near = _near(name, known)
                raise ConfigError("environment", name, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
            section, key, kind = known[name]
            found[section, key] = _words(value) if kind == tuple[str, ...] else value
    return _with_msgflo_broker(_nested(found), environ)


def _words(text: str) -> list[str]:
    """A list in a variable: separated by commas."""
    return [word for part in text.split(",") if (word := part.strip())]


def _with_msgflo_broker(tables: Tables, environ: Mapping[str, str]) -> Tables:
    """MsgFlo's own variable fills the url of its scheme where ours doesn't."""
    broker = environ.get("MSGFLO_BROKER", "")
    if broker:
        section = broker_section(broker, "environment", "MSGFLO_BROKER")
        tables.setdefault(section, {}).setdefault("url", broker)
    return tables


def broker_section(url: str, source: str, key: str) -> str:
    """``mqtt`` or ``amqp`` by the scheme of a broker url; ``ConfigError`` for another scheme."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as exc:
        raise ConfigError(source, key, f"is no address: {exc}") from exc
    for section, schemes in (("mqtt", MQTT_SCHEMES), ("amqp", AMQP_SCHEMES)):
        if scheme in schemes:
            return section
    raise ConfigError(
        source, key, f"unsupported scheme {scheme!r}: use one of {', '.join(MQTT_SCHEMES + AMQP_SCHEMES)}"
    )


def _nested(flat: Mapping[tuple[str, str], Any]) -> Tables:
    tables: Tables = {}
    for (section, key), value in flat.items():
        tables.setdefault(section, {})[key] = value
    return tables


def _merged(below: Tables, above: Tables) -> Tables:
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def _check(config: Config, source: str) -> None:
    """What types alone can't say."""
    instance = config.gateway.instance
    if instance and not INSTANCE.fullmatch(instance):
        raise ConfigError(source, "gateway.instance", f"{instance!r}: 1 to 64 letters, digits, dots, - and _")
    _check_url(config.mqtt.url, MQTT_SCHEMES, source, "mqtt.url")
    for url in amqp_urls(config):
        _check_url(url, AMQP_SCHEMES, source, "amqp.url")
    for section in (config.mqtt, config.amqp):
        name = "mqtt" if section is config.mqtt else "amqp"
        if section.password and section.password_file:
            raise ConfigError(source, f"{name}.password_file", f"give {name}.password or the file, not both")
        if bool(section.cert_file) != bool(section.key_file):
            raise ConfigError(source, f"{name}.cert_file", "cert_file and key_file go together")
    positive = {
        "mqtt.keepalive_s": config.mqtt.keepalive_s,
        "mqtt.window": config.mqtt.window,
        "amqp.prefetch": config.amqp.prefetch,
        "coordinator.heartbeat_expiry_s": config.coordinator.heartbeat_expiry_s,
        "coordinator.discovery_period_s": config.coordinator.discovery_period_s,
        "delivery.max_attempts": config.delivery.max_attempts,
        "delivery.max_pending": config.delivery.max_pending,
        "delivery.max_pending_bytes": config.delivery.max_pending_bytes,
        "delivery.max_message_bytes": config.delivery.max_message_bytes,
        "spool.max_bytes": config.spool.max_bytes,
        "serial.request_timeout_s": config.serial.request_timeout_s,
    }
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(source, key, f"must be more than 0, is {value}")
    share = config.spool.max_dead_bytes
    if not 0 <= share <= config.spool.max_bytes:
        most = config.spool.max_bytes
        raise ConfigError(
            source, "spool.max_dead_bytes", f"must be 0 (a quarter) to spool.max_bytes ({most}), is {share}"
        )
    for key in ("mqtt.window", "mqtt.keepalive_s", "amqp.prefetch"):
        if positive[key] > 65535:
            raise ConfigError(source, key, f"must be at most 65535, is {positive[key]}")


def amqp_urls(config: Config) -> tuple[str, ...]:
    """The AMQP brokers to try, in order; none if there is no AMQP side."""
    url = config.amqp.url
    if isinstance(url, str):
        return (url,) if url else ()
    return url


def _check_url(url: str, schemes: tuple[str, ...], source: str, key: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ConfigError(source, key, f"is no address: {exc}") from exc
    if parts.scheme not in schemes:
        raise ConfigError(source, key, f"unsupported scheme {parts.scheme!r}: use one of {', '.join(schemes)}")
    try:
        port = parts.port
    except ValueError as exc:
        raise ConfigError(source, key, "the port is no number between 0 and 65535") from exc
    if parts.scheme != "embedded" and not parts.hostname:
        raise ConfigError(source, key, "names no host")
    if port == 0:
        raise ConfigError(source, key, "port 0 can't be connected to")


def with_password(url: str, password: Secret) -> str:
    """A broker's url with the password in it, for programs that take one text only."""
    parts = urlsplit(url)
    if not password or not parts.username or parts.password:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password.reveal(), safe='')}@{host}").geturl()


def shown(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain data, secrets masked, for ``gateway check``."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    for table in tables.values():
        for key in SECRET_KEYS & table.keys():
            if table[key]:
                table[key] = "***"
        url = table.get("url", "")
        if url:
            table["url"] = masked_url(url) if isinstance(url, str) else [masked_url(one) for one in url]
    return tables


def is_local(url: str) -> bool:
    """Whether a broker is on this machine."""
    return (urlsplit(url).hostname or "").startswith(LOCAL_HOSTS)


def masked_url(url: str) -> str:
    """The url with its password, if it has one, as ``***``."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)
