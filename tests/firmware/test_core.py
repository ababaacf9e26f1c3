"""The core of the firmware under address and undefined-behaviour sanitizers: its unit tests, and random input."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from gateway.firmware.build import make, require_tools
from gateway.firmware.core.targets import TARGETS
from tests.support.firmware import EXAMPLES, built, generated_header_of, sources_hash


@pytest.fixture(scope="module")
def programs() -> Path:
    """The directory with the compiled tests: they have the Uno's limits, and the example's graph built in."""
    text = generated_header_of("uno", EXAMPLES / "thermometer.fbp")

    def make_it(directory: Path) -> None:
        require_tools(TARGETS["host"].needs, "the tests of the firmware's core")
        (directory / "generated.h").write_text(text)
        make("core-test", directory, GENERATED=str(directory))
        make("fuzz", directory, GENERATED=str(directory))

    return built(f"core-{sources_hash(text)}", make_it)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_the_core_does_what_its_own_tests_say(programs: Path) -> None:
    assert run(programs / "core_test").endswith("all good\n")


def test_random_input_breaks_no_rule_of_the_core(programs: Path) -> None:
    assert "rounds" in run(programs / "fuzz", "3", "1")


@pytest.mark.slow
def test_much_random_input_breaks_no_rule_of_the_core(programs: Path) -> None:
    assert "rounds" in run(programs / "fuzz", "120", str(int(time.time())))  # a failure prints where it started
