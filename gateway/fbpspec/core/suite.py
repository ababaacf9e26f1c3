"""Test suites of the fbp-spec format: YAML text <-> suites, cases and steps."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import ConfigError
from gateway.fbpspec.core.matchers import MATCHERS, check
from gateway.formats.yaml import load_all_yaml

DEFAULT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Fixture:
    """The graph to test in: ``kind`` is ``fbp`` or ``json``, ``data`` its text."""

    kind: str
    data: str


@dataclass(frozen=True, slots=True)
class Step:
    """Data for inports, and what is expected on outports: port -> expectations."""

    inputs: Mapping[str, Any]
    expect: Mapping[str, tuple[Mapping[str, Any], ...]]

    def check(self, received: Mapping[str, Any]) -> str:
        """Why what was received is not what is expected; empty if it is."""
        for port, expectations in self.expect.items():
            if port not in received:
                return f"no data on outport {port}"
            for expectation in expectations:
                if problem := check(expectation, received[port]):
                    return problem
        return ""


@dataclass(frozen=True, slots=True)
class Case:
    """One test. ``problem`` is why it can't pass, known before it runs."""

    name: str
    assertion: str
    steps: tuple[Step, ...]
    timeout_s: float
    skip: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests of one component or graph. ``place`` is the file it came from."""

    name: str
    topic: str
    fixture: Fixture | None
    cases: tuple[Case, ...]
    timeout_s: float
    skip: str = ""
    place: str = ""

    @property
    def runs(self) -> bool:
        """Whether there is anything to run."""
        return not self.skip and any(not case.skip and not case.problem for case in self.cases)


def parse_suites(text: str, place: str) -> tuple[Suite, ...]:
    """The suites of a file: one or more documents, each a suite or a list of them. ``ConfigError`` names the place."""
    suites: list[Suite] = []
    for number, document in enumerate(load_all_yaml(text, place)):
        if document is None:
            continue
        listed = isinstance(document, list)
        for index, entry in enumerate(document if listed else [document]):
            key = f"suite {len(suites) + 1}" if number or listed or index else ""
            suites.append(_suite(entry, place, key))
    return tuple(suites)


def _suite(entry: Any, place: str, key: str) -> Suite:
    fields = _table(entry, place, key or "suite")
    dot = f"{key}: " if key else ""
    topic = _text(fields, "topic", place, dot)
    timeout_s = _timeout(fields, place, dot, DEFAULT_TIMEOUT_S)
    cases = fields.get("cases") or []
    if not isinstance(cases, list):
        raise ConfigError(place, f"{dot}cases", "must be a list")
    return Suite(
        name=str(fields.get("name") or topic),
        topic=topic,
        fixture=_fixture(fields.get("fixture"), place, f"{dot}fixture"),
        cases=tuple(_case(case, place, f"{dot}cases[{n}]", timeout_s) for n, case in enumerate(cases)),
        timeout_s=timeout_s,
        skip=_skip(fields),
        place=place,
    )


def _table(value: Any, place: str, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(place, key, "must be a map")
    return {str(name): entry for name, entry in value.items()}


def _text(fields: Mapping[str, Any], key: str, place: str, prefix: str) -> str:
    value = fields.get(key)
    if value is None or isinstance(value, dict | list):
        raise ConfigError(place, f"{prefix}{key}", "is needed, a text")
    return str(value)


def _timeout(fields: Mapping[str, Any], place: str, prefix: str, default_s: float) -> float:
    value = fields.get("timeout")
    if value is None:
        return default_s
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(place, f"{prefix}timeout", "must be a number of milliseconds")
    return value / 1000


def _skip(fields: Mapping[str, Any]) -> str:
    value = fields.get("skip")
    return str(value) if value else ""


def _fixture(value: Any, place: str, key: str) -> Fixture | None:
    if not value:
        return None
    fields = _table(value, place, key)
    kind = fields.get("type")
    if kind not in ("fbp", "json"):
        raise ConfigError(place, f"{key}.type", "must be fbp or json")
    if not isinstance(fields.get("data"), str):
        raise ConfigError(place, f"{key}.data", "must be the text of a graph")
    return Fixture(kind, fields["data"])


def _case(entry: Any, place: str, key: str, timeout_s: float) -> Case:
    fields = _table(entry, place, key)
    prefix = f"{key}."
    for name in ("inputs", "expect"):
        if fields.get(name) is None:
            raise ConfigError(place, f"{prefix}{name}", "is needed")
    inputs = fields["inputs"] if isinstance(fields["inputs"], list) else [fields["inputs"]]
    expects = fields["expect"] if isinstance(fields["expect"], list) else [fields["expect"]]
    tables = [_table(one, place, f"{prefix}inputs") for one in inputs]
    expected = [_expect(one, place, f"{prefix}expect") for one in expects]
    problem = ""
    if len(tables) != len(expected):
        problem = f"a sequence of {len(tables)} inputs and {len(expected)} expectations; they must be as many"
    return Case(
        name=_text(fields, "name", place, prefix),
        assertion=_text(fields, "assertion", place, prefix),
        steps=tuple(map(Step, tables, expected)) if not problem else (),
        timeout_s=_timeout(fields, place, prefix, timeout_s),
        skip=_skip(fields),
        problem=problem,
    )


def _expect(entry: Any, place: str, key: str) -> dict[str, tuple[Mapping[str, Any], ...]]:
    found = {}
    for port, value in _table(entry, place, key).items():
        expectations = value if isinstance(value, list) else [value]
        found[port] = tuple(_expectation(one, place, f"{key}.{port}") for one in expectations)
    return found


def _expectation(entry: Any, place: str, key: str) -> Mapping[str, Any]:
    """One with a misspelt matcher only would test nothing: refused. Other keys beside a matcher are let pass."""
    fields = _table(entry, place, key)
    if not any(name in MATCHERS for name in fields):
        given = ", ".join(fields) or "nothing"
        near = [match for name in fields for match in difflib.get_close_matches(name, MATCHERS, 1)]
        hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(MATCHERS)}"
        raise ConfigError(place, key, f"no matcher among its keys ({given}){hint}")
    return fields
