"""Data of an IIP, or a JSON value at run time -> packets (reference: microflo-protocol, sections 7.3 and 7.4).

Stricter than the reference tool on purpose: text that it would truncate (``9.9`` -> 9) is refused.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.errors import ValueUnfit
from gateway.model.graph import Json
from gateway.model.packet import INT32_MAX, INT32_MIN, Packet, PacketType
from gateway.serial_link.protocol.commandformat import ErrorCode

DEEPEST = 16
"""Arrays within arrays; a board has no use for more, and a parser must end."""

MOST_DIGITS = 64
"""Of a number in text; 32 bits have ten. Python itself refuses to read some thousands."""

LARGEST_FLOAT = 3.4028234663852886e38
"""Of 32 bits."""

VOID = Packet(PacketType.VOID)
START = Packet(PacketType.BRACKET_START)
END = Packet(PacketType.BRACKET_END)

_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)\s*")
_WORDS: dict[str, Packet] = {
    "true": Packet(PacketType.BOOLEAN, True),
    "false": Packet(PacketType.BOOLEAN, False),
    "null": VOID,
}


def literal_packets(data: Json, *, floats: bool = False) -> tuple[Packet, ...]:
    """The packets of a literal: text by the rules of a graph, other JSON by its own type. Raises ``ValueUnfit``.

    ``floats``: the firmware takes them.
    """
    return _packets(data, 0, floats)


def _packets(data: Any, depth: int, floats: bool) -> tuple[Packet, ...]:
    if depth > DEEPEST:
        raise ValueUnfit(f"arrays nested deeper than {DEEPEST}")
    match data:
        case None:
            return (VOID,)
        case bool():
            return (Packet(PacketType.BOOLEAN, data),)
        case int():
            return (integer_packet(data),)
        case float() if floats:
            return (float_packet(data),)
        case float():
            raise ValueUnfit(
                f"{data} is a fraction, which stock firmware turns into nothing: scale it to a whole number"
            )
        case str():
            return _text_packets(data, depth, floats)
        case list():
            inner = (packet for item in data for packet in _packets(item, depth + 1, floats))
            return (START, *inner, END)
        case {"error": str() as name}:
            return (error_packet(name),)
    raise ValueUnfit(
        f"{_short(data)} can't be a packet: a board takes whole numbers, booleans, null, arrays and errors"
    )


def _text_packets(text: str, depth: int, floats: bool) -> tuple[Packet, ...]:
    if text in _WORDS:
        return (_WORDS[text],)
    whole = _INTEGER.fullmatch(text)
    if whole:
        digits = whole[2]
        if len(digits) > MOST_DIGITS:
            raise ValueUnfit(f"{_short(text)} is outside of {INT32_MIN}..{INT32_MAX}")
        value = int(digits, 16) if digits[:2].lower() == "0x" else int(digits)
        return (integer_packet(-value if whole[1] == "-" else value),)
    if text[:1] in ("[", "{"):
        try:
            return _packets(msgspec.json.decode(text), depth, floats)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise ValueUnfit(f"{_short(text)} is no valid JSON: {exc}") from exc
    raise ValueUnfit(f"{_short(text)} can't be a packet: there is no text on a board, and numbers are whole")


def integer_packet(value: int) -> Packet:
    """An INTEGER packet; ``ValueUnfit`` outside of signed 32 bit."""
    if not INT32_MIN <= value <= INT32_MAX:
        shown = value if value.bit_length() <= MOST_DIGITS else "a number of so many digits"
        raise ValueUnfit(f"{shown} is outside of {INT32_MIN}..{INT32_MAX}")
    return Packet(PacketType.INTEGER, value)


def float_packet(value: float) -> Packet:
    """A FLOAT packet; ``ValueUnfit`` where 32 bits can't hold it."""
    if not abs(value) <= LARGEST_FLOAT:
        raise ValueUnfit(f"{value:g} does not fit into a float of 32 bits")
    return Packet(PacketType.FLOAT, value)


def error_packet(name: str) -> Packet:
    """An ERROR packet by its name, as ``OperationFailed``; an unknown name is code 7 (section 4.1)."""
    return Packet(PacketType.ERROR, _CODES.get(name, ErrorCode.UNKNOWN))


def error_name(code: int) -> str:
    """The name of an error code; a code above 7 is Unknown with its number."""
    return _NAMES.get(code, f"Unknown {code}")


_NAMES = {int(code): code.name.title().replace("_", "") for code in ErrorCode}
_CODES = {name: code for code, name in _NAMES.items()}


def _short(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 48 else f"{text[:45]}..."
