"""JSONPath, as far as test suites use it: members, elements, slices, wildcards, unions, descent, filters.

``$.a.b[0]``, ``$..price``, ``$.list[-1:]``, ``$['a','b']``, ``$.items[?(@.n > 3 && @.ok)]``, ``$.list[(@.length-1)]``. The
leading ``$`` may be left out, as in ``products.book[2]``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Select: TypeAlias = Callable[[Any, Any], Iterator[Any]]
"""From the root and one value to the values selected below it."""

Evaluate: TypeAlias = Callable[[Any, Any], Any]
"""From the root and the value at hand to the value of an expression."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
    r"""|(?P<name>[A-Za-z_](?:\w|-(?=[A-Za-z_]))*)|(?P<sign>\.\.|===|!==|==|!=|<=|>=|&&|\|\||\?\(|[$@.*\[\](),:<>!+-]))"""
)
LONGEST_NUMBER = 15
"""Digits of the number of an element."""

_NOTHING = object()
"""What a path in an expression gives that selects nothing."""


class PathError(ValueError):
    """A path that can't be read."""


def query(data: Any, path: str) -> list[Any]:
    """All values that ``path`` selects in ``data``, in order. ``PathError`` for a path that can't be read."""
    try:
        select = _Parser(path).path()
        return list(select(data, data))
    except RecursionError:
        raise PathError(f"JSONPath {path!r}: nested too deep") from None


class _Parser:
    """Reads one path into functions that select."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tokens = self._split(path)
        self._at = 0

    def _split(self, path: str) -> list[tuple[str, str]]:
        found, at = [], 0
        while at < len(path.rstrip()):
            match = _TOKEN.match(path, at)
            if match is None:
                raise PathError(f"JSONPath {path!r}: can't read it from {path[at:]!r} on")
            found.append((match.lastgroup or "", match[match.lastgroup or 0]))
            at = match.end()
        return found

    def _fail(self, wanted: str) -> PathError:
        rest = "".join(text for _, text in self._tokens[self._at :])
        return PathError(f"JSONPath {self._path!r}: {wanted} expected at {rest or 'its end'!r}")

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        text = self._peek()
        self._at += 1
        return text

    def _take(self, *texts: str) -> str:
        return self._next() if self._kind() == "sign" and self._peek() in texts else ""

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._fail(text)

    def path(self) -> Select:
        """A whole path."""
        first = [] if self._take("$") or self._kind() != "name" else [_member(self._next())]
        select = self._segments(first)
        if self._at < len(self._tokens):
            raise self._fail("the end")
        return select

    def _segments(self, segments: list[Select]) -> Select:
        while sign := self._take(".", "..", "["):
            if sign == "[":
                step = self._bracket()
            elif sign == "." or self._peek() != "[":
                step = self._dotted()
            else:
                self._next()
                step = self._bracket()
            segments.append(_descend(step) if sign == ".." else step)
        return _chain(tuple(segments))

    def _dotted(self) -> Select:
        if self._take("*"):
            return _all
        if self._kind() == "number":
            return _element(self._whole())
        if self._kind() == "name":
            return _member(self._next())
        raise self._fail("a name or *")

    def _bracket(self) -> Select:
        selectors = [self._selector()]
        while self._take(","):
            selectors.append(self._selector())
        self._need("]")
        return selectors[0] if len(selectors) == 1 else _union(tuple(selectors))

    def _selector(self) -> Select:
        if self._take("*"):
            return _all
        if self._kind() == "text":
            return _member(_unquote(self._next()))
        if self._kind() == "name":
            return _member(self._next())
        if self._take("?("):
            condition = self._expression(")")
            return _filter(condition)
        if self._take("("):
            return _computed(self._expression(")"))
        return self._element_or_slice()

    def _element_or_slice(self) -> Select:
        parts: list[int | None] = [self._integer()]
        while len(parts) < 3 and self._take(":"):
            parts.append(self._integer())
        if len(parts) == 1:
            if parts[0] is None:
                raise self._fail("an element, a slice, a name, * or ?(…)")
            return _element(parts[0])
        if len(parts) == 3 and parts[2] == 0:
            raise self._fail("a step other than 0")
        return _slice(slice(*parts))

    def _integer(self) -> int | None:
        negative = bool(self._take("-"))
        if self._kind() != "number":
            if negative:
                raise self._fail("a number")
            return None
        value = self._whole()
        return -value if negative else value

    def _whole(self) -> int:
        text = self._peek()
        if "." in text or len(text) > LONGEST_NUMBER:
            raise self._fail("a whole number")
        return int(self._next())

    # -- expressions, from the loosest operator to the tightest ----------------------------------------------------

    def _expression(self, end: str) -> Evaluate:
        value = self._either()
        self._need(end)
        return value

    def _either(self) -> Evaluate:
        left = self._both()
        while self._take("||"):
            left = _or(left, self._both())
        return left

    def _both(self) -> Evaluate:
        left = self._compared()
        while self._take("&&"):
            left = _and(left, self._compared())
        return left

    def _compared(self) -> Evaluate:
        left = self._sum()
        if operator := self._take("==", "===", "!=", "!==", "<", "<=", ">", ">="):
            return _compare(operator, left, self._sum())
        return left

    def _sum(self) -> Evaluate:
        left = self._single()
        while operator := self._take("+", "-"):
            left = _add(left, self._single(), 1 if operator == "+" else -1)
        return left

    def _single(self) -> Evaluate:
        if self._take("!"):
            return _not(self._single())
        if self._take("-"):
            return _add(_constant(0), self._single(), -1)
        if self._take("("):
            return self._expression(")")
        if sign := self._take("@", "$"):
            return _value(self._segments([]), from_root=sign == "$")
        if self._kind() == "number":
            text = self._next()
            return _constant(float(text) if "." in text else int(text))
        if self._kind() == "text":
            return _constant(_unquote(self._next()))
        words = {"true": True, "false": False, "null": None}
        if self._kind() == "name" and self._peek() in words:
            return _constant(words[self._next()])
        raise self._fail("a value")


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


# -- selecting -----------------------------------------------------------------------------------------------------


def _chain(segments: tuple[Select, ...]) -> Select:
    def select(root: Any, value: Any) -> Iterator[Any]:
        values = [value]
        for segment in segments:
            values = [found for one in values for found in segment(root, one)]
        yield from values

    return select


def _member(name: str) -> Select:
    def select(_: Any, value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]
        elif isinstance(value, list) and name == "length":
            yield len(value)

    return select


def _element(number: int) -> Select:
    def select(_: Any, value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]
        elif isinstance(value, dict) and str(number) in value:
            yield value[str(number)]

    return select


def _slice(part: slice) -> Select:
    def select(_: Any, value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return select


def _all(_: Any, value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _union(selectors: tuple[Select, ...]) -> Select:
    return lambda root, value: (found for selector in selectors for found in selector(root, value))


def _descend(step: Select) -> Select:
    def select(root: Any, value: Any) -> Iterator[Any]:
        yield from step(root, value)
        for below in _all(root, value):
            yield from select(root, below)

    return select


def _filter(condition: Evaluate) -> Select:
    return lambda root, value: (found for found in _all(root, value) if truthy(condition(root, found)))


def _computed(expression: Evaluate) -> Select:
    def select(root: Any, value: Any) -> Iterator[Any]:
        key = expression(root, value)
        step = _element(key) if isinstance(key, int) and not isinstance(key, bool) else _member(str(key))
        yield from step(root, value)

    return select


# -- expressions ---------------------------------------------------------------------------------------------------


def truthy(value: Any) -> bool:
    """What counts as true in JavaScript: empty lists and objects do."""
    return value is not _NOTHING and (isinstance(value, list | dict) or bool(value))


def same(left: Any, right: Any) -> bool:
    """Deep equality of JSON values: true is not 1, 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _constant(value: Any) -> Evaluate:
    return lambda _, __: value


def _value(select: Select, *, from_root: bool) -> Evaluate:
    def evaluate(root: Any, value: Any) -> Any:
        return next(select(root, root if from_root else value), _NOTHING)

    return evaluate


def _or(left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda root, value: truthy(left(root, value)) or truthy(right(root, value))


def _and(left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda root, value: truthy(left(root, value)) and truthy(right(root, value))


def _not(inner: Evaluate) -> Evaluate:
    return lambda root, value: not truthy(inner(root, value))


def _add(left: Evaluate, right: Evaluate, factor: int) -> Evaluate:
    def evaluate(root: Any, value: Any) -> Any:
        one, other = left(root, value), right(root, value)
        if isinstance(one, int | float) and isinstance(other, int | float):
            return one + factor * other
        if isinstance(one, str) and isinstance(other, str) and factor == 1:
            return one + other
        return _NOTHING

    return evaluate


def _compare(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(root: Any, value: Any) -> bool:
        one, other = left(root, value), right(root, value)
        if operator[:2] in ("==", "!="):
            return same(one, other) == (operator[0] == "=")
        if not _comparable(one, other):
            return False
        return bool({"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator])

    return evaluate


def _comparable(one: Any, other: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return numbers or (isinstance(one, str) and isinstance(other, str))
