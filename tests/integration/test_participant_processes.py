"""Participants as child processes: started, started again, ended; real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.daemon.component_store import LibraryStore
from gateway.fbp.runtime.backend import Source
from gateway.library.processes import Processes, ProcessState
from gateway.model.graph import Node
from gateway.supervise import dying_with

WAIT_S = 120.0


async def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait for something that only shows from outside."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - it shows from outside only
            await asyncio.sleep(0.02)


def script(text: str) -> tuple[str, ...]:
    """A Python program as a command."""
    return (sys.executable, "-u", "-c", textwrap.dedent(text))


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that waits to be collected doesn't)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


FOREVER = "import signal; print('up'); signal.pause()"


class Children:
    """Processes under test, and the lines they said."""

    def __init__(self, stop_grace_s: float) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.failures: list[tuple[str, str]] = []
        self.all = Processes(
            {"MSGFLO_BROKER": "mqtt://127.0.0.1"},
            self.heard,
            failed=lambda role, reason: self.failures.append((role, reason)),
            longest_delay_s=0.2,
            stop_grace_s=stop_grace_s,
        )

    def heard(self, role: str, stream: str, line: str) -> None:
        self.lines.append((role, stream, line))

    def pids(self) -> dict[str, int]:
        return {report.role: report.pid for report in self.all.reports()}

    def state(self, role: str) -> ProcessState | None:
        return next((report.state for report in self.all.reports() if report.role == role), None)

    def on(self, stream: str) -> list[str]:
        return [line for _, where, line in self.lines if where == stream]

    def said(self, role: str, line: str) -> int:
        return sum(1 for who, _, what in self.lines if (who, what) == (role, line))


@asynccontextmanager
async def children(stop_grace_s: float = WAIT_S) -> AsyncIterator[Children]:
    one = Children(stop_grace_s)
    task = asyncio.create_task(one.all.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_output_arrives_with_its_role_and_stream_and_the_broker_is_in_the_environment() -> None:
    async with children() as run:
        text = "import os, sys; print(os.environ['MSGFLO_BROKER']); print('ä' * 5000, file=sys.stderr)"
        run.all.want({"lamp": script(text + "; " + FOREVER)})
        await until("it is up", lambda: run.said("lamp", "up") == 1)
        await until("stderr came", lambda: "".join(run.on("stderr")) == "ä" * 5000)
    assert run.on("stdout") == ["mqtt://127.0.0.1", "up"]
    assert len(run.on("stderr")) > 1


async def test_one_that_ends_is_started_again_and_the_report_says_why() -> None:
    async with children() as run:
        run.all.want({"a": script("print('up'); raise SystemExit(3)")})
        await until("started three times", lambda: run.said("a", "up") >= 3)
        await until("it is waiting", lambda: run.state("a") is ProcessState.BACKING_OFF)
        assert run.all.reports()[0].reason == "ended with exit code 3"


async def test_a_program_that_is_not_there_is_named() -> None:
    async with children() as run:
        run.all.want({"a": ("/nowhere/program",)})
        await until("it is waiting", lambda: run.state("a") is ProcessState.BACKING_OFF)
        assert run.all.reports()[0].reason == "can't start /nowhere/program: No such file or directory"


async def test_a_command_that_no_program_can_have_ends_nothing_but_itself() -> None:
    async with children() as house:
        house.all.want({"nul": ("sleep", "1\0"), "empty": (), "good": script(FOREVER)})
        await until("the good one runs", lambda: house.said("good", "up") == 1)
        await until("both are told of", lambda: {role for role, _ in house.failures} == {"nul", "empty"})
        assert "can't start sleep: embedded null byte" in dict(house.failures)["nul"]
        assert "its command is empty" in dict(house.failures)["empty"]
        assert house.state("good") is ProcessState.RUNNING


async def test_what_is_wanted_no_more_is_ended_and_what_is_another_command_is_restarted() -> None:
    async with children() as run:
        run.all.want({"a": script(FOREVER), "b": script(FOREVER), "c": script(FOREVER)})
        await until("all are up", lambda: all(run.said(role, "up") for role in "abc"))
        before = run.pids()
        run.all.want({"b": script(FOREVER), "c": script("print('new'); " + FOREVER)})
        await until("c is the new one", lambda: run.said("c", "new") == 1)
        assert run.pids()["b"] == before["b"]
        assert list(run.pids()) == ["b", "c"]
        assert not is_alive(before["a"])
        assert not is_alive(before["c"])


async def test_at_the_end_they_are_ended_in_order_and_their_own_children_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.library.processes.STOP_ALL_GRACE_S", 2 * WAIT_S)
    parent = "import subprocess; child = subprocess.Popen(['sleep', '1000']); print(child.pid); "
    graceful = "import signal; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), exit())); "
    async with children() as run:
        run.all.want({"one": script(graceful + parent + FOREVER), "two": script(graceful + FOREVER)})
        await until("both are up", lambda: all(run.said(role, "up") for role in ("one", "two")))
        pids = run.pids()
        grandchild = int(run.lines[[who for who, _, _ in run.lines].index("one")][2])
    assert [who for who, _, line in run.lines if line == "bye"] == ["one", "two"]
    await until("nobody is left", lambda: not any(map(is_alive, (*pids.values(), grandchild))))


async def test_one_that_ignores_sigterm_is_killed() -> None:
    async with children(stop_grace_s=0.3) as run:
        stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        run.all.want({"a": script(stubborn + "print('up')\nwhile True: signal.pause()")})
        await until("it is up", lambda: run.said("a", "up") == 1)
        pid = run.pids()["a"]
        run.all.want({})
        await until("it is gone", lambda: not is_alive(pid))


def test_children_end_when_the_gateway_is_killed() -> None:
    program = f"""
        import asyncio, sys
        from gateway.library.processes import Processes
        async def main():
            processes = Processes({{}}, lambda role, stream, line: print(line, flush=True))
            processes.want({{"a": (sys.executable, "-u", "-c", "import os; print(os.getpid()); {FOREVER}")}})
            await processes.run()
        asyncio.run(main())
    """
    with subprocess.Popen(script(program), stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        child = int(gateway.stdout.readline())
        assert is_alive(child)
        gateway.kill()
        gateway.wait()
    asyncio.run(until("the child is gone", lambda: not is_alive(child)))


def test_a_child_whose_gateway_is_gone_before_it_begins_does_not_begin() -> None:
    done = subprocess.run(["true"], preexec_fn=dying_with(0), check=False)
    assert done.returncode != 0
    done = subprocess.run(["true"], preexec_fn=dying_with(os.getpid()), check=False)
    assert done.returncode == 0


async def test_one_that_ends_by_itself_is_told_of_with_the_reason() -> None:
    async with children() as run:
        run.all.want({"lamp": script("raise SystemExit(3)"), "hall": script(FOREVER)})
        await until("it failed twice", lambda: len(run.failures) >= 2)
    assert set(run.failures) == {("lamp", "ended with exit code 3")}


@pytest.mark.parametrize("asked", [1, 2])
async def test_one_that_takes_its_time_to_end_is_waited_for_when_all_end(asked: int) -> None:
    stubborn = f"""
import itertools, os, signal, sys
asked = itertools.count(1)
signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True) if next(asked) < {asked} else os._exit(0))
print('up', flush=True)
while True:
    signal.pause()
"""
    async with children() as run:
        run.all.want({"a": script(stubborn)})
        await until("it is up", lambda: run.said("a", "up") == 1)
        process = run.all._children["a"]._process
        if asked == 2:
            run.all.want({})
            await until("it was asked to end", lambda: run.said("a", "asked") == 1)
    assert process is not None
    assert process.returncode == 0


async def test_one_whose_keeper_is_cancelled_is_killed_and_waited_for() -> None:
    async with children() as run:
        run.all.want({"a": script(FOREVER)})
        await until("it is up", lambda: run.said("a", "up") == 1)
        child = run.all._children["a"]
        process, keeper = child._process, child.task
        assert keeper is not None
        keeper.cancel()
        await asyncio.wait({keeper})
        assert process is not None
        assert process.returncode == -signal.SIGKILL


async def test_a_written_source_starts_its_processes_anew_and_no_others(tmp_path: Path) -> None:
    directory = tmp_path / "components"
    directory.mkdir()
    for name in ("Old", "Other"):
        (directory / f"{name}.py").write_text(f"import time\nprint('{name} 1')\ntime.sleep(1000)\n")
    library = tmp_path / "library.json"
    library.write_text(json.dumps({"handlers": {".py": f"{sys.executable} -u #FILENAME"}}))
    async with children() as run:
        store = LibraryStore(str(library), directory, run.all)
        store.wanted([Node("lamp", "Old"), Node("hall", "Other")])
        await until("both are up", lambda: bool(run.said("lamp", "Old 1") and run.said("hall", "Other 1")))
        await store.set_source(Source("Old", "python", "import time\nprint('new')\ntime.sleep(1000)\n", ""))
        await until("the new one is up", lambda: run.said("lamp", "new") == 1)
        await until("and is the only one", lambda: run.state("lamp") is ProcessState.RUNNING)
        assert run.said("hall", "Other 1") == 1
        assert run.failures == []
