"""What a participant says of itself, and its data (reference: msgflo, sections 2, 3 and 9).

A definition is a plain dictionary, because participants written for MsgFlo give one and read it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.errors import ConfigError, PortUnknown
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt

Definition: TypeAlias = dict[str, Any]

DEFAULT_ICON = "file-word-o"
"""What participants in Python have always shown."""

ANNOUNCED = ("id", "role", "component", "label", "icon", "inports", "outports")
"""The keys of an announcement: MsgFlo's acceptance test wants these seven and no other."""


class PortName(str):
    """The name of a port, as ``process`` gets it.

    The MsgFlo library for Python gave a name on MQTT and the port's dictionary on AMQP: ``port == "in"`` and
    ``port["id"] == "in"`` are both true here.
    """

    __slots__ = ("_port",)
    _port: Mapping[str, Any]

    def __new__(cls, port: Mapping[str, Any]) -> PortName:
        """The name of this port."""
        name = super().__new__(cls, port["id"])
        name._port = port
        return name

    def __getitem__(self, key: Any) -> Any:
        """A field of the port by its name; characters by number, as of any text."""
        return self._port[key] if isinstance(key, str) else super().__getitem__(key)


def complete_definition(definition: Mapping[str, Any], role: str, suffix: str) -> Definition:
    """The definition with everything that may be left out; its id is ``ROLE-suffix`` unless it names one.

    Ports get the queue ``ROLE/PORT`` unless they name one. ``ConfigError`` for what can't be announced.
    """
    place = f"participant {role or '?'}"
    if not role:
        raise ConfigError(place, "role", "must not be empty")
    done: Definition = dict(definition)
    done["role"] = role
    done.setdefault("id", f"{role}-{suffix}")
    done.setdefault("icon", DEFAULT_ICON)
    done.setdefault("label", "")
    if not isinstance(done["id"], str) or not done["id"]:
        raise ConfigError(place, "id", "must be a text")
    if not isinstance(done.get("component"), str) or not done["component"]:
        raise ConfigError(place, "component", "must name the kind of the participant")
    done["inports"] = _ports(done.get("inports", [{"id": "in", "type": "any"}]), role, place, "inports")
    done["outports"] = _ports(done.get("outports", [{"id": "out", "type": "any"}]), role, place, "outports")
    return done


def _ports(ports: Any, role: str, place: str, key: str) -> list[dict[str, Any]]:
    if not isinstance(ports, list | tuple):
        raise ConfigError(place, key, "must be a list of ports")
    done = []
    for number, port in enumerate(ports):
        if not isinstance(port, Mapping) or not isinstance(port.get("id"), str) or not port["id"]:
            raise ConfigError(place, f"{key}[{number}]", "must have an id")
        queue = port.get("queue") or f"{role}/{port['id']}"
        if not isinstance(queue, str):
            raise ConfigError(place, f"{key}[{number}]", f"queue must be a text, not {queue!r}")
        done.append({"type": "any", **port, "queue": queue})
    names = [port["id"] for port in done]
    if len(set(names)) != len(names):
        raise ConfigError(place, key, f"two ports of one name among {', '.join(names)}")
    return done


def announcement(definition: Mapping[str, Any]) -> bytes:
    """The discovery message of a completed definition."""
    payload = {key: definition[key] for key in ANNOUNCED}
    return encode({"protocol": "discovery", "command": "participant", "payload": payload})


@dataclass(frozen=True, slots=True)
class Seat:
    """A participant's place on a broker: the addresses of its ports."""

    inports: Mapping[Address, PortName]
    outports: Mapping[str, Address]
    role: str

    def outport(self, name: str) -> Address:
        """Where an outport sends to; ``PortUnknown`` names those there are."""
        if name not in self.outports:
            known = ", ".join(self.outports) or "none"
            raise PortUnknown(f"{self.role}.{name}", f"role {self.role} has no outport {name} (it has: {known})")
        return self.outports[name]


def seat(definition: Mapping[str, Any], transport: str) -> Seat:
    """The addresses of a completed definition's ports on ``mqtt`` or ``amqp``."""
    receive, give = (mqtt, mqtt) if transport == "mqtt" else (amqp_queue, amqp_exchange)
    return Seat(
        {receive(port["queue"]): PortName(port) for port in definition["inports"]},
        {port["id"]: give(port["queue"]) for port in definition["outports"]},
        definition["role"],
    )


def encode(data: Any) -> bytes:
    """Data as it travels: JSON in UTF-8. Bytes go as they are. ``ValueError`` or ``TypeError`` for what is no JSON."""
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()


def decode(body: bytes) -> tuple[Any, bool]:
    """The data of a message, and whether it was JSON: what is none stays bytes."""
    try:
        return json.loads(body.decode(), parse_constant=_no_constant), True
    except (ValueError, RecursionError):
        return body, False


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def parse_iips(text: str, place: str) -> dict[str, Any]:
    """The IIPs of a command line, ``{"port": data, …}``; ``ConfigError`` for anything else."""
    try:
        iips = json.loads(text or "{}")
    except (ValueError, RecursionError) as exc:
        raise ConfigError(place, "", f"IIPs must be JSON: {exc}") from None
    if not isinstance(iips, dict):
        raise ConfigError(place, "", 'IIPs must be a JSON object: {"port": data}')
    return iips
