"""Test suites in the fbp-spec format: reading, matching, reporting."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from gateway.errors import ConfigError
from gateway.fbpspec.core.jsonpath import PathError, query
from gateway.fbpspec.core.matchers import check
from gateway.fbpspec.core.report import Result, SpecVerdict, as_json, as_junit, summary, text_lines
from gateway.fbpspec.core.suite import Fixture, parse_suites

SUITES = """
name: Two suites
topic: core/Repeat
fixture:
  type: fbp
  data: "INPORT=a.IN:IN\\nOUTPORT=a.OUT:OUT\\na(core/Repeat)"
timeout: 500
cases:
- name: one value
  assertion: comes back
  inputs: {in: true}
  expect: {out: {equals: true}}
- name: a sequence
  assertion: comes back in order
  timeout: 4000
  inputs: [{in: 1}, {in: 2}]
  expect: [{out: {equals: 1}}, {out: [{type: number}, {above: 1}]}]
---
- topic: Drop
  skip: not there yet
- topic: Other
  cases:
  - {name: n, assertion: a, inputs: [{in: 1}], expect: [{out: {equals: 1}}, {out: {equals: 2}}], skip: later}
"""


def test_documents_and_lists_give_suites_with_their_defaults() -> None:
    first, second, third = parse_suites(SUITES, "s.yaml")
    assert first.fixture == Fixture("fbp", "INPORT=a.IN:IN\nOUTPORT=a.OUT:OUT\na(core/Repeat)")
    assert [case.timeout_s for case in first.cases] == [0.5, 4.0]
    assert [step.inputs for step in first.cases[1].steps] == [{"in": 1}, {"in": 2}]
    assert (second.name, second.skip, second.runs) == ("Drop", "not there yet", False)
    assert (third.timeout_s, third.cases[0].skip, third.runs) == (2.0, "later", False)


def test_a_sequence_of_other_length_than_its_expectations_fails_before_it_runs() -> None:
    case = parse_suites(SUITES, "s.yaml")[2].cases[0]
    assert case.problem == "a sequence of 1 inputs and 2 expectations; they must be as many"


def test_a_step_checks_every_expectation_on_every_port() -> None:
    step = parse_suites(SUITES, "s.yaml")[0].cases[1].steps[1]
    assert step.check({"out": 2}) == ""
    assert step.check({"out": 1}) == "expected 1 to be above 1"
    assert step.check({"out": "x"}) == 'expected "x" to be a number'
    assert step.check({}) == "no data on outport out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 3", "s.yaml: suite 1: must be a map"),
        ("name: x", "s.yaml: topic: is needed"),
        ("topic: a\ncases: {}\ntimeout: fast", "s.yaml: timeout: must be a number of milliseconds"),
        ("topic: a\ntimeout: .nan", "s.yaml: timeout: must be a number of milliseconds"),
        ("topic: a\ntimeout: .inf", "s.yaml: timeout: must be a number of milliseconds"),
        ("topic: a\nfixture: {type: xml, data: x}", "s.yaml: fixture.type: must be fbp or json"),
        ("topic: a\ncases: [{name: n, assertion: a, inputs: {in: 1}}]", r"s.yaml: cases\[0\].expect: is needed"),
        (
            "topic: a\ncases: [{name: n, assertion: a, inputs: {in: 1}, expect: {out: {equal: 1}}}]",
            r"s.yaml: cases\[0\].expect.out: no matcher among its keys \(equal\); did you mean equals\?",
        ),
        ("topic: a\n---\ntopic: [", "s.yaml: no valid YAML: line 3"),
    ],
)
def test_a_wrong_suite_is_refused_with_file_and_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_suites(text, "s.yaml")


HOLDS: list[tuple[dict[str, Any], Any]] = [
    ({"equals": {"a": [1, None]}}, {"a": [1.0, None]}),
    ({"above": 1}, 1.5),
    ({"below": -1}, -2),
    ({"type": "object"}, {}),
    ({"type": "Array"}, []),
    ({"type": "null"}, None),
    ({"type": "boolean"}, False),
    ({"type": "string"}, ""),
    ({"type": "number"}, 0.5),
    ({"haveKeys": ["a", "b"]}, {"b": 1, "a": 2}),
    ({"haveKeys": "a"}, {"a": 2}),
    ({"haveKeys": [0, 1]}, ["x", "y"]),
    ({"includeKeys": ["a"]}, {"b": 1, "a": 2}),
    ({"contains": "stri"}, "my string"),
    ({"contains": {"n": 1}}, [0, {"n": 1}]),
    ({"contains": {"n": 1}}, {"n": 1, "m": 2}),
    ({"noterror": True}, {"value": 1}),
    ({"noterror": True}, "text"),
    ({"above": 1, "below": 3}, 2),
    ({"path": "$.a.*.n", "equals": 1}, {"a": {"x": {"n": 1}, "y": {"n": 1}}}),
    ({"equals": 1, "note": "other keys are let pass"}, 1),
]
FAILS: list[tuple[dict[str, Any], Any, str]] = [
    ({"equals": 1}, True, "expected true to equal 1"),
    ({"equals": False}, 0, "expected 0 to equal false"),
    ({"equals": [1]}, [1, 2], "expected [1, 2] to equal [1]"),
    ({"above": 1}, 1, "expected 1 to be above 1"),
    ({"above": 1}, "2", 'expected "2" to be a number'),
    ({"below": 1}, True, "expected true to be a number"),
    ({"above": 1, "below": 3}, 5, "expected 5 to be below 3"),
    ({"type": "object"}, [], "expected [] to be an object"),
    ({"haveKeys": ["a"]}, {"a": 1, "b": 2}, 'expected {"a": 1, "b": 2} to have only the keys a; it has also: b'),
    ({"haveKeys": []}, {}, "keys required: an empty list of keys tests nothing"),
    ({"includeKeys": ["a", "c"]}, {"a": 1}, 'expected {"a": 1} to have the keys a, c; missing: c'),
    ({"includeKeys": ["a"]}, 5, "expected 5 to be an object with keys"),
    ({"contains": "x"}, "abc", 'expected "abc" to contain "x"'),
    ({"contains": 1}, "1", 'expected "1" to contain 1'),
    ({"contains": 1}, [True], "expected [true] to contain 1"),
    ({"contains": 1}, 1, "expected 1 to be a text, an array or an object that may contain 1"),
    ({"noterror": True}, {"message": "on fire"}, "on fire"),
    ({"path": "$.b", "equals": 1}, {"a": 1}, "expected JSONPath '$.b' to select something in {\"a\": 1}"),
    ({"path": "$.*", "equals": 1}, {"a": 1, "b": 2}, "expected 2 to equal 1"),
    ({"path": "$[", "equals": 1}, {}, "JSONPath '$[': an element, a slice, a name, * or ?(…) expected at 'its end'"),
]


@pytest.mark.parametrize(("expectation", "data"), HOLDS)
def test_an_expectation_holds(expectation: dict[str, Any], data: Any) -> None:
    assert check(expectation, data) == ""


@pytest.mark.parametrize(("expectation", "data", "message"), FAILS)
def test_an_expectation_fails_and_says_why(expectation: dict[str, Any], data: Any, message: str) -> None:
    assert check(expectation, data) == message


SHOP = {
    "books": [
        {"title": "A", "price": 8, "tags": ["x", "y"]},
        {"title": "B", "price": 12.5, "isbn": "1"},
        {"title": "C", "price": 22, "isbn": "2"},
    ],
    "bike": {"price": 20, "two words": 1},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [SHOP]),
        ("$.books[0].title", ["A"]),
        ("books[1].title", ["B"]),
        ("$['bike'][\"two words\"]", [1]),
        ("$.books[-1].title", ["C"]),
        ("$.books[(@.length-1)].title", ["C"]),
        ("$.books[0,2].title", ["A", "C"]),
        ("$.books[:2].title", ["A", "B"]),
        ("$.books[::2].title", ["A", "C"]),
        ("$.books[-2:].title", ["B", "C"]),
        ("$..price", [8, 12.5, 22, 20]),
        ("$.books[*].tags[*]", ["x", "y"]),
        ("$.books..tags[0]", ["x"]),
        ("$.*.price", [20]),
        ("$..[?(@.isbn)].title", ["B", "C"]),
        ("$.books[?(@.price < 10 || @.title == 'C')].title", ["A", "C"]),
        ("$.books[?(@.price >= $.bike.price && !@.tags)].title", ["C"]),
        ("$.books[?(@.title != 'A')].price", [12.5, 22]),
        ("$.books[?(@.price + 1 > 9 && (@.price - 1) < 12)].title", ["B"]),
        ("$.books.length", [3]),
        ("$.nothing", []),
        ("$.books[7]", []),
    ],
)
def test_a_path_selects(path: str, found: list[Any]) -> None:
    assert query(SHOP, path) == found


@pytest.mark.parametrize(
    "path",
    [
        "$.",
        "$[",
        "$..",
        "$.a]",
        "$[?(@.a]",
        "$[1:2:0]",
        "$[?(#)]",
        "$.a b",
        "(" * 5000,
        "$[1.5]",
        f"$[{'9' * 500}]",
        f"$.{'9' * 500}",
    ],
)
def test_a_wrong_path_is_an_error_and_no_crash(path: str) -> None:
    with pytest.raises(PathError):
        query({}, path)


def test_values_nested_too_deeply_to_be_compared_fail_and_do_not_crash() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for expectation in ({"equals": deep}, {"contains": deep}, {"type": "string"}):
        assert "nested too deeply" in check(expectation, deep)


RESULTS = [
    Result("Lamps", "Lamp", "on", "shines", SpecVerdict.PASSED, seconds=0.25),
    Result("Lamps", "Lamp", "off", "is <dark>", SpecVerdict.FAILED, 'expected "\x00" to equal 1', 0.5),
    Result("Fans", "Fan", "spin", "turns", SpecVerdict.SKIPPED, "no fan"),
]


def test_results_as_text() -> None:
    assert list(text_lines(RESULTS)) == [
        "Lamps",
        "  on",
        "    shines: ✓",
        "  off",
        '    is <dark>: ✗ expected "\x00" to equal 1',
        "Fans",
        "  spin",
        "    turns: - no fan",
    ]
    assert summary(RESULTS) == "1 passed, 1 failed, 1 skipped"


def test_results_as_junit_are_xml_with_counts() -> None:
    root = ElementTree.fromstring(as_junit(RESULTS).partition("\n")[2])
    assert root.attrib == {"tests": "3", "failures": "1", "skipped": "1", "time": "0.750"}
    lamps, fans = root
    assert (lamps.get("name"), lamps.get("failures"), fans.get("skipped")) == ("Lamps", "1", "1")
    failure = lamps[1][0]
    assert (failure.tag, failure.get("message")) == ("failure", 'expected "" to equal 1')


def test_results_as_json_have_a_stable_shape() -> None:
    assert as_json(RESULTS)[1] == {
        "suite": "Lamps",
        "topic": "Lamp",
        "case": "off",
        "assertion": "is <dark>",
        "verdict": "failed",
        "message": 'expected "\x00" to equal 1',
        "seconds": 0.5,
    }
