"""JSON values of the graph <-> packets of a board's port, by the port's type and scale."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from gateway.errors import ValueUnfit
from gateway.model.packet import Packet, PacketType
from gateway.model.port import PortDef
from gateway.serial_link.protocol.iip_values import (
    LARGEST_FLOAT,
    VOID,
    error_name,
    float_packet,
    integer_packet,
    literal_packets,
)

LARGEST_ARRAY = 1024
"""Packets of one bracketed value; more from a board is an error, more to it is refused."""

DEEPEST = 16

MOST_PACKETS_TO_BOARD = 46
"""A stock queue loses everything when it holds more than 48 (section 6); two are left for what the graph does."""

_INTEGER = PacketType.INTEGER

PORT_TYPES = ("any", "boolean", "integer", "number", "bang")


def check_scale(scale: float) -> None:
    """``ValueError`` for a scale that no value of a board can have."""
    if not math.isfinite(scale) or not scale:
        raise ValueError(f"a scale of {scale:g} makes no sense: values are divided by it")


def to_packets(port: PortDef, body: bytes, *, floats: bool = False) -> tuple[Packet, ...]:
    """The packets of a JSON ``body`` for this inport. ``ValueUnfit`` says why a value doesn't fit.

    ``floats``: the board's firmware takes them.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueUnfit(f"port {port.id} takes JSON, not {_shown(body) or 'an empty message'}") from exc
    match port.type:
        case "boolean":
            if not isinstance(value, bool):
                raise ValueUnfit(f"port {port.id} takes true or false, not {_shown(body)}")
            return (Packet(PacketType.BOOLEAN, value),)
        case "bang":
            return (VOID,)
        case "integer" | "number":
            return (_number(port, value, body, floats),)
    if port.scale is not None and isinstance(value, int | float) and not isinstance(value, bool):
        return (_number(port, value, body, floats),)
    packets = literal_packets(value, floats=floats)
    if len(packets) > MOST_PACKETS_TO_BOARD:
        raise ValueUnfit(f"port {port.id}: {len(packets)} packets at once would overflow the board's queue")
    return packets


def _number(port: PortDef, value: Any, body: bytes, floats: bool) -> Packet:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueUnfit(f"port {port.id} takes a number, not {_shown(body)}")
    if port.scale is not None:
        return integer_packet(round(Decimal(str(value)) / Decimal(str(port.scale))))
    if isinstance(value, float) and not value.is_integer():
        if floats and port.type == "number":
            return float_packet(value)
        raise ValueUnfit(
            f"port {port.id}: {value} is a fraction, which the firmware can't take; pair the port with a scale"
        )
    return integer_packet(int(value))


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 48 else f"{text[:45]}..."


class Collector:
    """Packets of one board's outports -> JSON bodies. Brackets are collected per port, nested as they come."""

    def __init__(self) -> None:
        self._open: dict[str, list[list[Any]]] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, port: PortDef, packet: Packet) -> bytes | None:
        """The JSON body that is complete with this packet; None while brackets are open."""
        if packet.type is _INTEGER and port.scale is None and not self._open:  # as below, for most readings
            return msgspec.json.encode(packet.value)
        stack = self._open.get(port.id)
        if packet.type is PacketType.BRACKET_START:
            stack = self._open.setdefault(port.id, [])
            stack.append([])
            if len(stack) > DEEPEST:
                return self._abandon(port, f"arrays nested deeper than {DEEPEST}")
            return None
        if packet.type is PacketType.BRACKET_END:
            if not stack:
                return _error("InvalidInput", "a bracket end without its start")
            value: Any = stack.pop()
        else:
            value = _value(port, packet)
        if not stack:
            self._open.pop(port.id, None)
            self._sizes.pop(port.id, None)
            return msgspec.json.encode(value)
        stack[-1].append(value)
        self._sizes[port.id] = self._sizes.get(port.id, 0) + 1
        if self._sizes[port.id] > LARGEST_ARRAY:
            return self._abandon(port, f"an array of more than {LARGEST_ARRAY} packets")
        return None

    def _abandon(self, port: PortDef, why: str) -> bytes:
        self._open.pop(port.id, None)
        self._sizes.pop(port.id, None)
        return _error("InvalidInput", why)


def _value(port: PortDef, packet: Packet) -> Any:
    match packet.type:
        case PacketType.ERROR:
            assert packet.value is not None
            name = error_name(int(packet.value))
            return {"error": name, "message": f"the board's port {port.id} reports {name}"}
        case PacketType.INTEGER if port.scale is not None:
            return scaled(int(packet.value or 0), port.scale)
        case PacketType.FLOAT:
            return shortest(float(packet.value or 0))
    return packet.value


@lru_cache(4096)
def shortest(number: float) -> float:
    """A board's float in as few digits as tell it from its neighbours of 32 bits: 21.5399990 is 21.54."""
    for digits in range(6, 10):
        short = float(f"{number:.{digits}g}")
        if abs(short) <= LARGEST_FLOAT and struct.pack("<f", short) == struct.pack("<f", number):
            return short
    return number


@lru_cache(4096)
def scaled(raw: int, scale: float) -> int | float:
    """The wire's integer in the port's unit, without the noise of binary fractions: 2154 * 0.01 is 21.54."""
    value = raw * Decimal(str(scale))
    return int(value) if value == value.to_integral_value() and Decimal(str(scale)) % 1 == 0 else float(value)


def _error(name: str, message: str) -> bytes:
    return msgspec.json.encode({"error": name, "message": message})
