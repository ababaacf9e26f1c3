"""How a test run is told: as text, as JSON, as JUnit XML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any
from xml.etree import ElementTree


class SpecVerdict(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One case that was run or skipped. ``message`` is why it failed or was skipped."""

    suite: str
    topic: str
    case: str
    assertion: str
    verdict: SpecVerdict
    message: str = ""
    seconds: float = 0.0


MARKS = {SpecVerdict.PASSED: "✓", SpecVerdict.FAILED: "✗", SpecVerdict.SKIPPED: "-"}


def text_lines(results: Iterable[Result]) -> Iterator[str]:
    """Lines for a person, as the results come in: the suite once, then two lines a case."""
    last = None
    for result in results:
        if result.suite != last:
            yield result.suite
            last = result.suite
        message = f" {result.message}" if result.message else ""
        yield f"  {result.case}"
        yield f"    {result.assertion}: {MARKS[result.verdict]}{message}"


def summary(results: Sequence[Result]) -> str:
    """How many passed, failed and were skipped."""
    counts = {verdict: sum(1 for result in results if result.verdict is verdict) for verdict in SpecVerdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no test cases"


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The results for ``--json``."""
    return [
        {
            "suite": result.suite,
            "topic": result.topic,
            "case": result.case,
            "assertion": result.assertion,
            "verdict": str(result.verdict),
            "message": result.message,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]


def as_junit(results: Sequence[Result]) -> str:
    """The results as JUnit XML, one test suite a suite."""
    root = ElementTree.Element("testsuites", _counts(results))
    for (name, _), group in groupby(results, key=lambda result: (result.suite, result.topic)):
        members = list(group)
        suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **_counts(members)})
        for result in members:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                {
                    "classname": _clean(result.topic),
                    "name": _clean(f"{result.case}: {result.assertion}"),
                    "time": f"{result.seconds:.3f}",
                },
            )
            if result.verdict is not SpecVerdict.PASSED:
                tag = "failure" if result.verdict is SpecVerdict.FAILED else "skipped"
                ElementTree.SubElement(case, tag, {"message": _clean(result.message)})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _counts(results: Sequence[Result]) -> dict[str, str]:
    return {
        "tests": str(len(results)),
        "failures": str(sum(1 for result in results if result.verdict is SpecVerdict.FAILED)),
        "skipped": str(sum(1 for result in results if result.verdict is SpecVerdict.SKIPPED)),
        "time": f"{sum(result.seconds for result in results):.3f}",
    }


def _clean(text: str) -> str:
    """Without the characters that XML can't hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    )
