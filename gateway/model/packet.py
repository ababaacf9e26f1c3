"""A typed value on a port of a board."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from gateway.errors import ValueUnfit

PacketValue: TypeAlias = bool | int | float | None

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class PacketType(IntEnum):
    """The wire's own numbers (microflo-protocol, section 4.1)."""

    VOID = 3
    BYTE = 4
    BOOLEAN = 6
    INTEGER = 7
    FLOAT = 8
    BRACKET_START = 9
    BRACKET_END = 10
    ERROR = 11


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. The value is checked against the type: BYTE and ERROR 0..255, INTEGER signed 32 bit.

    Raises ``ValueUnfit`` where they do not agree.
    """

    type: PacketType
    value: PacketValue = None

    def __post_init__(self) -> None:
        if not _fits(self.type, self.value):
            raise ValueUnfit(f"{self.value!r} is no value of a packet of type {self.type.name.lower()}")


def _fits(kind: PacketType, value: PacketValue) -> bool:
    match kind:
        case PacketType.VOID | PacketType.BRACKET_START | PacketType.BRACKET_END:
            return value is None
        case PacketType.BOOLEAN:
            return isinstance(value, bool)
        case PacketType.FLOAT:
            return isinstance(value, float)
        case PacketType.BYTE | PacketType.ERROR:
            return _is_whole(value, 0, 255)
        case PacketType.INTEGER:
            return _is_whole(value, INT32_MIN, INT32_MAX)


def _is_whole(value: PacketValue, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
