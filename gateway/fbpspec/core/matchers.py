"""What a test expects of a value: the matchers of the fbp-spec format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gateway.fbpspec.core.jsonpath import PathError, query, same

LONGEST_SHOWN = 200
"""Characters of a value in a message."""


def check(expectation: Mapping[str, Any], data: Any) -> str:
    """Why ``data`` is not what is expected; empty if it is.

    With ``path``, every value it selects is checked, and there must be one. All matchers of an expectation must hold.
    """
    named = [name for name in expectation if name in MATCHERS]
    if not named:
        given = ", ".join(expectation) or "nothing"
        return f"no matcher in the expectation ({given}); there are: {', '.join(MATCHERS)}"
    try:
        return _check(expectation, data, named)
    except RecursionError:
        return "what was received is nested too deeply to be compared"


def _check(expectation: Mapping[str, Any], data: Any, named: Sequence[str]) -> str:
    values = [data]
    if expectation.get("path"):
        try:
            values = query(data, str(expectation["path"]))
        except PathError as exc:
            return str(exc)
        if not values:
            return f"expected JSONPath {expectation['path']!r} to select something in {show(data)}"
    problems = (MATCHERS[name](value, expectation[name]) for value in values for name in named)
    return next(filter(None, problems), "")


def show(value: Any) -> str:
    """A value as JSON, cut."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def kind(value: Any) -> str:
    """The type of a JSON value, in the words of the format."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _type(value: Any, wanted: Any) -> str:
    article = "an" if str(wanted).lower()[:1] in "aeio" else "a"
    return "" if kind(value) == str(wanted).lower() else f"expected {show(value)} to be {article} {wanted}"


def _equals(value: Any, wanted: Any) -> str:
    return "" if same(value, wanted) else f"expected {show(value)} to equal {show(wanted)}"


def _above(value: Any, limit: Any) -> str:
    return _number(value) or _number(limit) or ("" if value > limit else f"expected {show(value)} to be above {limit}")


def _below(value: Any, limit: Any) -> str:
    return _number(value) or _number(limit) or ("" if value < limit else f"expected {show(value)} to be below {limit}")


def _number(value: Any) -> str:
    return "" if kind(value) == "number" else f"expected {show(value)} to be a number"


def _keys_of(value: Any) -> list[str] | None:
    if isinstance(value, dict):
        return list(value)
    return [str(number) for number in range(len(value))] if isinstance(value, list) else None


def _wanted_keys(wanted: Any) -> list[str]:
    if isinstance(wanted, dict | list):
        return [str(key) for key in wanted]
    return [str(wanted)]


def _have_keys(value: Any, wanted: Any, *, exactly: bool = True) -> str:
    keys, names = _keys_of(value), _wanted_keys(wanted)
    if not names:
        return "keys required: an empty list of keys tests nothing"
    if keys is None:
        return f"expected {show(value)} to be an object with keys"
    missing = [name for name in names if name not in keys]
    if missing:
        return f"expected {show(value)} to have the keys {', '.join(names)}; missing: {', '.join(missing)}"
    more = [key for key in keys if key not in names]
    if exactly and more:
        return f"expected {show(value)} to have only the keys {', '.join(names)}; it has also: {', '.join(more)}"
    return ""


def _include_keys(value: Any, wanted: Any) -> str:
    return _have_keys(value, wanted, exactly=False)


def _contains(value: Any, wanted: Any) -> str:
    match value:
        case str():
            found = isinstance(wanted, str) and wanted in value
        case list():
            found = any(same(one, wanted) for one in value)
        case dict() if isinstance(wanted, dict):
            found = all(key in value and same(value[key], one) for key, one in wanted.items())
        case _:
            return f"expected {show(value)} to be a text, an array or an object that may contain {show(wanted)}"
    return "" if found else f"expected {show(value)} to contain {show(wanted)}"


def _no_error(value: Any, _: Any) -> str:
    return str(value["message"]) if isinstance(value, dict) and value.get("message") else ""


MATCHERS: Mapping[str, Callable[[Any, Any], str]] = MappingProxyType(
    {
        "equals": _equals,
        "above": _above,
        "below": _below,
        "type": _type,
        "haveKeys": _have_keys,
        "includeKeys": _include_keys,
        "contains": _contains,
        "noterror": _no_error,
    }
)
"""By their names in the format: (value, what is expected) -> why not, or empty."""
