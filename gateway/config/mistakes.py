"""A value that its key can't have, in the words of the person who wrote it."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from gateway.config.schema import Config
from gateway.errors import ConfigError

WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "",
}


def mistake(problem: str, tables: Mapping[str, Any], source: str, kind: Any = Config) -> ConfigError:
    """What msgspec says of ``tables``: the key, what was written there, and what may be.

    ``problem`` ends in the place, as "… - at `$.delivery.mode`"; it does not name the keys of a dict (``edge[...]``).
    """
    where = problem.partition(" - at `$.")[2].replace("[...]", "[*]")
    value: Any = tables
    place: list[str] = []
    for step in where.rstrip("`").split("."):
        name, _, index = step.partition("[")
        kind, value = _types(kind)[name], value[name]
        place.append(name)
        if index == "*]":
            kind = get_args(kind)[1]
            name, value = next((key, one) for key, one in value.items() if not _fits(one, kind))
            place.append(f'"{name}"')
        elif index:
            break  # of a list the whole is shown
    return ConfigError(source, ".".join(place), f"{value!r}: must be {allowed(kind)}")


def _types(section: Any) -> dict[str, Any]:
    return {field.encode_name: field.type for field in msgspec.structs.fields(section)}


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def allowed(kind: Any) -> str:
    """What values a type has: ``"volatile", "held" or "stored"``."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(filter(None, map(allowed, get_args(kind))))
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))
    if get_origin(kind) is tuple:
        return "a list of texts"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _one_of([member.value for member in kind])
    return WORDS.get(kind, "a table")


def _one_of(values: Any) -> str:
    """The values as they are written in TOML; none is no choice, it means the default."""
    *some, last = [f'"{value}"' for value in values]
    return f"{', '.join(some)} or {last}" if some else last
