"""AMQP field tables: the headers of a message. Types and letters as RabbitMQ sends and takes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

Field: TypeAlias = "bool | int | float | str | bytes | list[Field] | dict[str, Field] | None"

_FIXED = {
    ord(letter): struct.Struct(form)
    for letter, form in {
        "b": ">b",
        "B": ">B",
        "s": ">h",
        "u": ">H",
        "I": ">i",
        "i": ">I",
        "l": ">q",
        "L": ">q",
        "T": ">Q",
        "f": ">f",
        "d": ">d",
    }.items()
}
"""Types of a fixed size, by their letter."""

_TEXT, _LONG, _NOTHING, _TRUTH, _DECIMAL_NUMBER, _BYTES, _TABLE, _ARRAY = b"SlVtDxFA"

_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")
_DECIMAL = struct.Struct(">BI")


def encode_table(table: Mapping[str, str | int | bool]) -> bytes:
    """A table of texts, truths and whole numbers of up to 64 bit, its length in front."""
    parts = []
    for name, value in table.items():
        key = name.encode()
        key = bytes((len(key),)) + key
        if isinstance(value, bool):
            parts.append(key + (b"t\1" if value else b"t\0"))
        elif isinstance(value, int):
            parts.append(key + b"l" + _I64.pack(value))
        else:
            parts.append(text_field(key, value))
    data = b"".join(parts)
    return _U32.pack(len(data)) + data


def text_field(key: bytes, value: str) -> bytes:
    """A field that holds a text. ``key`` is its name with the length in front."""
    text = value.encode()
    return key + b"S" + _U32.pack(len(text)) + text


def decode_table(data: bytes, at: int) -> dict[str, Field]:
    """The table at an offset. ``ValueError`` if it is none."""
    try:
        (size,) = _U32.unpack_from(data, at)
        return _entries(data, at + 4, at + 4 + size)
    except (struct.error, IndexError, KeyError, RecursionError) as exc:
        raise ValueError(f"no field table: {exc}") from exc


def table_end(data: bytes, at: int) -> int:
    """The offset behind the table at an offset."""
    (size,) = _U32.unpack_from(data, at)
    end: int = at + 4 + size
    return end


def _entries(data: bytes, at: int, end: int) -> dict[str, Field]:
    if end > len(data):
        raise ValueError("a field table longer than its frame")
    table: dict[str, Field] = {}
    while at < end:
        name_end = at + 1 + data[at]
        name = data[at + 1 : name_end].decode(errors="replace")
        letter, at = data[name_end], name_end + 1
        if letter == _LONG:  # this and the next are what our own headers are made of
            (table[name],) = _I64.unpack_from(data, at)
            at += 8
        elif letter == _TEXT:
            start = at + 4
            at = start + int.from_bytes(data[at:start], "big")
            table[name] = data[start:at].decode(errors="replace")
        else:
            table[name], at = _field(data, name_end)
    return table


def _field(data: bytes, at: int) -> tuple[Field, int]:
    letter = data[at]
    at += 1
    fixed = _FIXED.get(letter)
    if fixed is not None:
        return fixed.unpack_from(data, at)[0], at + fixed.size
    if letter == _NOTHING:
        return None, at
    if letter == _TRUTH:
        return data[at] != 0, at + 1
    if letter == _DECIMAL_NUMBER:
        places, digits = _DECIMAL.unpack_from(data, at)
        return digits / 10**places, at + _DECIMAL.size
    (size,) = _U32.unpack_from(data, at)
    start, end = at + 4, at + 4 + size
    if letter == _TEXT:
        return data[start:end].decode(errors="replace"), end
    if letter == _BYTES:
        return data[start:end], end
    if letter == _TABLE:
        return _entries(data, start, end), end
    if letter == _ARRAY:
        items: list[Field] = []
        while start < end:
            item, start = _field(data, start)
            items.append(item)
        return items, end
    raise ValueError(f"unknown field type {chr(letter)!r}")
