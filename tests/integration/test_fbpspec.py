"""``gateway test``: suites run against a runtime over WebSocket, from the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.fbp.runtime.access import ALL, Access
from gateway.web.server import WebServer
from tests.support.fbp_runtime import SmallRuntime

GOOD = """
name: A repeater
topic: core/Repeat
timeout: 60000
fixture:
  type: fbp
  data: |
    INPORT=it.IN:IN
    OUTPORT=f.OUT:OUT
    it(core/Repeat) OUT -> IN f(core/Repeat)
cases:
- {name: a boolean, assertion: comes back, inputs: {in: true}, expect: {out: {equals: true}}}
- name: a sequence
  assertion: comes back in order
  inputs: [{in: 1}, {in: {n: [2]}}]
  expect: [{out: {type: number}}, {out: {path: "$.n[0]", above: 1}}]
- {name: later, assertion: is skipped, inputs: {in: 1}, expect: {out: {equals: 2}}, skip: not yet}
---
topic: core/Repeat
name: Its own fixture
timeout: 60000
cases:
- {name: a text, assertion: comes back, inputs: {in: x}, expect: {out: {equals: x}}}
"""
BAD = """
name: What never comes
topic: core/Repeat
timeout: 200
cases:
- {name: silent, assertion: is told, inputs: {in: 1}, expect: {other: {equals: 1}}}
---
name: All of these fail
topic: core/Repeat
timeout: 60000
cases:
- {name: wrong, assertion: is told, inputs: {in: 1}, expect: {out: {equals: 2}}}
- {name: no such port, assertion: is told, inputs: {nowhere: 1}, expect: {out: {equals: 1}}}
- name: both wrong
  assertion: are told
  inputs: [{in: 1}, {in: 2}]
  expect: [{out: {equals: 3}}, {out: {equals: 4}}]
- {name: mismatch, assertion: is told, inputs: [{in: 1}], expect: [{out: {equals: 1}}, {out: {equals: 1}}]}
---
topic: core/Nothing
cases:
- {name: no component, assertion: is told, inputs: {in: 1}, expect: {out: {equals: 1}}}
---
topic: core/Drop
cases:
- {name: no outports, assertion: is told, inputs: {in: 1}, expect: {out: {equals: 1}}}
---
topic: core/Repeat
fixture: {type: fbp, data: "a(core/Repeat) ->"}
cases:
- {name: no graph, assertion: is told, inputs: {in: 1}, expect: {out: {equals: 1}}}
"""


@contextmanager
def runtime(access: Access | None = None) -> Iterator[tuple[str, SmallRuntime]]:
    """A runtime that really listens, in a thread of its own; its address and what it holds."""
    small = SmallRuntime()
    started, ends = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    addresses: list[str] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        server = WebServer("127.0.0.1:0", access or Access(), lambda name: None if name else small, lambda: {})
        async with server.listening():
            addresses.append(server.url)
            started.set()
            await ends.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(60)
        yield addresses[0], small
    finally:
        loops[0].call_soon_threadsafe(ends.set)
        thread.join()


def gateway_test(tmp_path: Path, suites: str, *options: str) -> Result:
    (tmp_path / "suites.yaml").write_text(suites)
    return CliRunner().invoke(main, ["test", str(tmp_path / "suites.yaml"), "--command-timeout", "60", *options])


def test_suites_that_pass_say_so_case_by_case(tmp_path: Path) -> None:
    with runtime() as (address, small):
        done = gateway_test(tmp_path, GOOD, "--address", address)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "A repeater",
        "  a boolean",
        "    comes back: ✓",
        "  a sequence",
        "    comes back in order: ✓",
        "  later",
        "    is skipped: - not yet",
        "Its own fixture",
        "  a text",
        "    comes back: ✓",
        "3 passed, 1 skipped",
    ]
    assert all(not graph.nodes for name, graph in small.graphs().items() if name.startswith("fixture."))


def test_every_way_to_fail_is_told_and_the_others_still_run(tmp_path: Path) -> None:
    with runtime() as (address, _):
        done = gateway_test(tmp_path, BAD, "--address", address, "--json")
    assert done.exit_code == 1
    told = {result["case"]: result["message"] for result in json.loads(done.output)["tests"]}
    assert told["wrong"] == "expected 1 to equal 2"
    assert told["silent"] == "no data on outport other within 0.2 s"
    assert "the runtime refused a packet" in told["no such port"]
    assert told["both wrong"] == "step 1 of 2: expected 1 to equal 3; step 2 of 2: expected 2 to equal 4"
    assert "must be as many" in told["mismatch"]
    assert "core/Nothing: the runtime has no such component" in told["no component"]
    assert "the runtime knows no outports of it" in told["no outports"]
    assert "fixture of core/Repeat:1" in told["no graph"]


def test_a_board_that_is_not_there_is_named(tmp_path: Path) -> None:
    with runtime() as (address, _):
        done = gateway_test(tmp_path, GOOD, "--address", address, "--board", "nowhere")
    assert done.exit_code == 4
    assert f"{address}/devices/nowhere: there is no such runtime" in done.output


def test_junit_and_a_secret(tmp_path: Path) -> None:
    access = Access(frozenset({"protocol:component"}), {"sesame": ALL})
    with runtime(access) as (address, _):
        refused = gateway_test(tmp_path, GOOD, "--address", address)
        done = gateway_test(tmp_path, GOOD, "--address", address, "--secret", "sesame", "--junit", "-")
    assert refused.exit_code == 1
    assert "the runtime does not allow protocol:graph" in refused.output
    assert done.exit_code == 0, done.output
    assert ElementTree.fromstring(done.output.partition("\n")[2]).get("tests") == "4"


def test_results_that_can_not_be_written_are_one_line(tmp_path: Path) -> None:
    with runtime() as (address, _):
        done = gateway_test(tmp_path, GOOD, "--address", address, "--junit", str(tmp_path / "no" / "where"))
    assert done.exit_code == 1
    assert f"gateway: {tmp_path}/no/where: can't be written: No such file or directory" in done.output


def test_the_tests_of_components_run_too(tmp_path: Path) -> None:
    with runtime() as (address, small):
        source = small.sources["core/Repeat"]
        small.sources["core/Repeat"] = type(source)(source.name, source.language, source.code, source.library, GOOD)
        done = CliRunner().invoke(main, ["test", "--component-tests", "--command-timeout", "60", "--address", address])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "3 passed, 1 skipped"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.yaml"], 4, "nowhere.yaml: no such test suite"),
        ([], 2, "name the files with the tests"),
        (["good.yaml", "--address", "ws://127.0.0.1:1"], 3, "does it run?"),
        (["good.yaml", "--address", "nonsense"], 3, "no address of a runtime"),
        (["bad.yaml"], 78, "bad.yaml: topic: is needed"),
        (["empty"], 4, "empty: no test suites in it"),
        (["good.yaml", "--command", "/nowhere/runtime"], 3, "can't start /nowhere/runtime"),
    ],
)
def test_what_can_not_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD)
    Path("bad.yaml").write_text("name: x")
    Path("empty").mkdir()
    done = CliRunner().invoke(main, ["test", *arguments])
    assert (done.exit_code, words in done.output) == (code, True), done.output
