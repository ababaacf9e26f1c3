"""What may be changed of a paired board without pairing it again, and how its text is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from gateway.config.mistakes import allowed
from gateway.config.schema import DeliverySettings
from gateway.coordinator.core.delivery_contracts import dead_letter_address
from gateway.errors import BadValue, GatewayError
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import PortMeaning, PortType

_ROLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
PORT_KEYS = ("type", "scale", "unit", "topic", "retained")
DELIVERY_KEYS = tuple(field.name for field in msgspec.structs.fields(DeliverySettings))
"""Of the contract between a port and its own topic: the keys of ``[delivery]``."""


def is_role(text: str) -> bool:
    """Whether a board of ours may have this role."""
    return _ROLE.fullmatch(text) is not None


def check_role(text: str) -> None:
    """``BadValue`` for a role that no board of ours may have."""
    if not is_role(text):
        raise BadValue(f"role {text}: a role has letters, digits, _ and -, at most 64 of them")


def switch(value: str) -> bool:
    """``ValueError`` for what is neither yes nor no."""
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    if value.lower() not in words:
        raise ValueError("must be true or false")
    return words[value.lower()]


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def _seconds(value: str) -> float:
    seconds = _number(value)
    if not 0 <= seconds <= 60:
        raise ValueError("must be 0 to 60 seconds")
    return seconds


def _baud(value: str) -> int:
    if not value.isdecimal():
        raise ValueError("must be a speed in bits per second")
    baud = int(value)
    if not 300 <= baud <= 4_000_000:
        raise ValueError("must be a speed in bits per second")
    return baud


SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "baud": _baud,
    "boot_wait_s": _seconds,
    "dtr": switch,
    "keep_running": switch,
    "usb_reauthorise": switch,
}


def changed(record: BoardRecord, key: str, value: str) -> dict[str, Any]:
    """The fields of the record that ``key=value`` changes. ``BadValue`` says what is wrong."""
    port, dot, field = key.rpartition(".")
    try:
        if dot and field in PORT_KEYS:
            return {"ports": {**record.ports, port: _meaning(record.ports.get(port, PortMeaning()), field, value)}}
        if dot and field in DELIVERY_KEYS:
            return {"ports": {**record.ports, port: _delivery(record.ports.get(port, PortMeaning()), field, value)}}
        if key in SETTINGS:
            return {key: SETTINGS[key](value)}
    except (ValueError, GatewayError) as exc:
        raise BadValue(f"set {key}={value}: {exc}") from exc
    known = ", ".join((*SETTINGS, *(f"PORT.{name}" for name in (*PORT_KEYS, *DELIVERY_KEYS))))
    raise BadValue(f"set {key}: there is no such setting (there are: {known})")


def is_delivery(key: str) -> bool:
    """Whether a key is about what goes to a port's own topic, which the board knows nothing of."""
    return "." in key and key.rpartition(".")[2] in (*DELIVERY_KEYS, "retained")


def _delivery(before: PortMeaning, field: str, value: str) -> PortMeaning:
    """An empty value takes the setting back."""
    settings = {name: set_to for name, set_to in before.delivery.items() if name != field}
    if value:
        read = _read_delivery(field, value)
        if read.overflow == "block":
            raise ValueError("a board or an MQTT topic can't be made to wait: its messages would be lost before us")
        if read.dead_letter is not None:
            dead_letter_address(read.dead_letter, field)
        settings[field] = msgspec.to_builtins(getattr(read, field))
    return msgspec.structs.replace(before, delivery=settings)


def _read_delivery(field: str, value: str) -> DeliverySettings:
    try:
        return msgspec.convert({field: value}, DeliverySettings, strict=False)
    except msgspec.ValidationError:
        kinds = {one.name: one.type for one in msgspec.structs.fields(DeliverySettings)}
        raise ValueError(f"must be {allowed(kinds[field])}") from None


def check_port_type(value: str) -> None:
    """``ValueError`` for a type that no board's port has."""
    if value not in get_args(PortType):
        raise ValueError(f"must be one of {', '.join(get_args(PortType))}")


def _meaning(before: PortMeaning, field: str, value: str) -> PortMeaning:
    parsed: Any = value
    if field == "scale":
        parsed = _number(value) if value else None
    if field == "retained":
        parsed = switch(value)
    if field == "type":
        check_port_type(value)
    table = msgspec.to_builtins(msgspec.structs.replace(before, **{field: parsed}))
    return msgspec.convert(table, PortMeaning)
