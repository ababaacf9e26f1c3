"""Foreign participants: programs that know nothing of MsgFlo, announced by somebody else from a YAML file.

Reference: msgflo, section 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign participant in its place in the graph: what is announced for it."""

    role: str
    definition: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The id it is announced under."""
        return str(self.definition["id"])

    def announcement(self) -> bytes:
        """Its discovery message."""
        envelope = {"protocol": "discovery", "command": "participant", "payload": self.definition}
        return msgspec.json.encode(envelope)


def parse_foreign(text: str, place: str, role: str = "") -> Foreign:
    """The participant that a YAML file describes, as ``role`` (else as the file says).

    ``ConfigError`` names the file and the key.
    """
    from gateway.formats.yaml import load_yaml  # most runs read no YAML, and need not keep its library

    document = load_yaml(text, place)
    if not isinstance(document, dict):
        raise ConfigError(place, "", "must be a map with the key component")
    fields = {str(key): value for key, value in document.items()}
    role = role or _text(fields, "role", place, needed="be given, here or on the command line")
    component = _text(fields, "component", place, needed="name the kind of the participant")
    if isinstance(fields.get("id"), int):
        fields["id"] = str(fields["id"])
    own_id = _text(fields, "id", place, needed="be a text") if fields.get("id") else role
    definition = {
        **fields,
        "id": own_id,
        "role": role,
        "component": component,
        "inports": _ports(fields.get("inports"), role, place, "inports"),
        "outports": _ports(fields.get("outports"), role, place, "outports"),
    }
    try:
        msgspec.json.encode(definition)
    except RecursionError:
        raise ConfigError(place, "", "is nested too deeply to be announced") from None
    except (TypeError, ValueError) as exc:
        raise ConfigError(place, "", f"can't be announced as JSON: {exc}") from None
    return Foreign(role, definition)


def _text(fields: Mapping[str, Any], key: str, place: str, *, needed: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(place, key, f"must {needed}")
    return value


def _ports(ports: Any, role: str, place: str, key: str) -> list[dict[str, Any]]:
    """The ports of a map from id to definition; a list whose entries have an id is accepted too."""
    if not ports:
        return []
    if isinstance(ports, list):
        ports = {_id(port, place, f"{key}[{number}]"): port for number, port in enumerate(ports)}
    if not isinstance(ports, dict):
        raise ConfigError(place, key, "must be a map from port to definition")
    return [_port(str(name), port, role, place, f"{key}.{name}") for name, port in ports.items()]


def _id(port: Any, place: str, key: str) -> str:
    if not isinstance(port, dict) or not isinstance(port.get("id"), str):
        raise ConfigError(place, key, "must have an id; better write a map from port to definition")
    return str(port["id"])


def _port(name: str, port: Any, role: str, place: str, key: str) -> dict[str, Any]:
    if not isinstance(port, dict):
        raise ConfigError(place, key, "must be a map with the key queue")
    queue = port.get("queue")
    if not isinstance(queue, str) or not queue:
        raise ConfigError(place, f"{key}.queue", "must name the topic or queue of the port")
    return {**{str(k): v for k, v in port.items()}, "queue": queue.replace("#ROLE", role), "id": name}
