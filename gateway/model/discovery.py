"""Participants <-> MsgFlo discovery messages (reference: msgflo, section 2)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.errors import ValueUnfit
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef

DISCOVERY_QUEUE = "fbp"
"""The MQTT topic and AMQP queue on which every participant announces itself."""

LONGEST_NAME = 256
"""Characters of an id, role or queue; more is taken for garbage (an AMQP name has at most 255 bytes)."""

LONGEST_MESSAGE = 1 << 16
"""Bytes of a discovery message; one of many ports with descriptions has a tenth of that."""

MOST_PORTS = 256

LONGEST_TTL_S = 366 * 86_400.0

SEARCHED_BYTES = 4096
_ROLE = re.compile(rb'"role"\s*:\s*"([^"\\\x00-\x1f]{1,64})"')


class _Port(msgspec.Struct):
    id: str
    queue: str | None = None
    type: str | None = None
    description: str | None = None
    hidden: bool | None = None


class _Payload(msgspec.Struct):
    id: str
    role: str
    component: str
    inports: list[_Port]
    outports: list[_Port]
    label: str | None = None
    icon: str | None = None
    ttl: Any = None


class _Envelope(msgspec.Struct):
    protocol: str
    command: str
    payload: _Payload


_decoder = msgspec.json.Decoder(_Envelope)


def parse_discovery(body: bytes, transport: str, now: float) -> Participant:
    """The participant that a discovery message announces.

    Ports without a queue can't be wired and are left out. Unknown fields are tolerated. Raises ``ValueUnfit`` with what
    is wrong, in one line.
    """
    if len(body) > LONGEST_MESSAGE:
        raise ValueUnfit(f"discovery message of more than {LONGEST_MESSAGE} bytes")
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        problem = str(exc).replace("`", "")
        raise ValueUnfit(f"not a discovery message: {problem}") from exc
    if (envelope.protocol, envelope.command) != ("discovery", "participant"):
        raise ValueUnfit(f"not a discovery message: it is {envelope.protocol}:{envelope.command}")
    payload = envelope.payload
    for field in ("id", "role", "component"):
        text = getattr(payload, field)
        if not text or len(text) > LONGEST_NAME:
            raise ValueUnfit(f"discovery message with an empty or overlong {field}")
    return Participant(
        id=payload.id,
        role=payload.role,
        component=payload.component,
        transport=transport,
        inports=_ports(payload.inports, Direction.IN),
        outports=_ports(payload.outports, Direction.OUT),
        label=payload.label or "",
        icon=payload.icon or "",
        first_seen=now,
        last_seen=now,
        ttl_s=_ttl_s(payload.ttl),
    )


def _ttl_s(value: Any) -> float:
    """No field of MsgFlo's: what makes no sense as a time is somebody else's, and left alone."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value <= LONGEST_TTL_S else 0.0


def sender(body: bytes) -> str:
    """Who sent a message that is none, as far as that can be told; empty if it can't."""
    found = _ROLE.search(body[:SEARCHED_BYTES])
    return found[1].decode("utf-8", "replace") if found else ""


def _ports(ports: list[_Port], direction: Direction) -> tuple[PortDef, ...]:
    if len(ports) > MOST_PORTS:
        raise ValueUnfit(f"discovery message with {len(ports)} ports")
    return tuple(
        PortDef(
            id=port.id,
            direction=direction,
            type=port.type or "any",
            queue=port.queue,
            description=port.description or "",
        )
        for port in ports
        if port.queue and port.id and not port.hidden and len(port.queue) <= LONGEST_NAME
    )


def render_discovery(participant: Participant) -> bytes:
    """The discovery message that announces a participant: exactly the seven keys that every coordinator expects."""
    payload = {
        "id": participant.id,
        "role": participant.role,
        "component": participant.component,
        "label": participant.label,
        "icon": participant.icon or "microchip",
        "inports": [_port_fields(port) for port in participant.inports],
        "outports": [_port_fields(port) for port in participant.outports],
    }
    return msgspec.json.encode({"protocol": "discovery", "command": "participant", "payload": payload})


def _port_fields(port: PortDef) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": port.id, "type": port.type, "queue": port.queue, "hidden": False}
    if port.description:
        fields["description"] = port.description
    if port.unit:
        fields["unit"] = port.unit
    return fields
