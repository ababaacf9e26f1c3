"""The reference tool's component map file -> ``ComponentLibrary`` (reference: microflo-protocol, section 13.2)."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import ConfigError
from gateway.model.component import Component, ComponentLibrary
from gateway.model.port import Direction, PortDef

LARGEST_ID = 255
LARGEST_PORT = 127
"""Port ids are signed bytes in the firmware."""


def parse_component_map(text: str, source: str) -> ComponentLibrary:
    """The components of a map. ``ConfigError`` names the file and the component that is wrong."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise ConfigError(source, "", f"no valid JSON: {exc}") from exc
    entries = document.get("components") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ConfigError(source, "components", "no component map: it needs an object of this name")
    components = [_component(name, entry, source) for name, entry in entries.items()]
    seen: dict[int, str] = {}
    for component in components:
        other = seen.setdefault(component.number, component.name)
        if other != component.name:
            raise ConfigError(source, f"components.{component.name}.id", f"{component.number} is {other} already")
    return ComponentLibrary.of(components)


def dump_component_map(library: ComponentLibrary) -> str:
    """The map file of a library: what ``parse_component_map`` reads."""

    def ports(defined: tuple[PortDef, ...]) -> dict[str, Any]:
        return {port.id: {"type": port.type, "description": port.description, "id": port.number} for port in defined}

    entries = {
        name: {
            "name": name,
            "description": component.description,
            "id": component.number,
            "inPorts": ports(component.inports),
            "outPorts": ports(component.outports),
        }
        for name, component in library.by_name.items()
    }
    return msgspec.json.format(msgspec.json.encode({"components": entries}), indent=2).decode()


def _component(name: str, entry: Any, source: str) -> Component:
    place = f"components.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(source, place, "must be an object")
    return Component(
        name=name,
        number=_id(entry.get("id"), LARGEST_ID, source, f"{place}.id"),
        inports=_ports(entry, "inPorts", "inports", Direction.IN, source, place),
        outports=_ports(entry, "outPorts", "outports", Direction.OUT, source, place),
        description=str(entry.get("description") or ""),
    )


def _ports(
    entry: dict[str, Any], key: str, other: str, direction: Direction, source: str, place: str
) -> tuple[PortDef, ...]:
    """``inPorts`` is what the tool fills; it leaves ``inports`` null, but other writers use that."""
    ports = entry.get(key) or entry.get(other) or {}
    if not isinstance(ports, dict):
        raise ConfigError(source, f"{place}.{key}", "must be an object of ports")
    return tuple(_port(name, port, direction, source, f"{place}.{key}.{name}") for name, port in ports.items())


def _port(name: str, port: Any, direction: Direction, source: str, place: str) -> PortDef:
    fields = port if isinstance(port, dict) else {"id": port}
    return PortDef(
        id=name,
        direction=direction,
        number=_id(fields.get("id"), LARGEST_PORT, source, f"{place}.id"),
        type=str(fields.get("type") or "any"),
        description=str(fields.get("description") or ""),
    )


def _id(value: Any, largest: int, source: str, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ConfigError(source, place, f"must be a number from 0 to {largest}, is {value!r}")
    return value
