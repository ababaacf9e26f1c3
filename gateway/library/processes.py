"""Participants as child processes: started, watched, started again, and ended with us.

The wanted set is one mapping, role -> command; ``want`` may be called again whenever the graph changes. Children get a
session of their own (a signal reaches their children too) and end when the gateway dies, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from gateway.library.core.components import OWN_TOOLS
from gateway.supervise import Backoff, dying_with, signal_name, to_the_end

log = logging.getLogger(__name__)

LONGEST_DELAY_S = 30.0
STOP_GRACE_S = 5.0
"""For one child between SIGTERM and SIGKILL."""

STOP_ALL_GRACE_S = 8.0
"""For all children together, within the daemon's ``shutdown_grace_s``."""

LAST_WORDS_S = 1.0
"""How long the output of a child that has ended is still read, should somebody else hold it open."""

LONGEST_LINE = 4096
"""Characters of a line of output; what is longer is cut into several."""

Words = tuple[str, ...]
Heard = Callable[[str, str, str], None]
"""Called with role, ``stdout`` or ``stderr``, and a line."""

Failed = Callable[[str, str], None]
"""Called with role and reason when a child has ended that should run."""


class ProcessState(StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


@dataclass(slots=True)
class ProcessReport:
    """A child as ``gateway status`` shows it. ``since`` is in seconds since 1970, ``pid`` 0 while there is none."""

    role: str
    command: Words
    state: ProcessState = ProcessState.STARTING
    pid: int = 0
    starts: int = 0
    since: float = 0.0
    reason: str = ""

    def now(self, state: ProcessState, reason: str = "") -> None:
        """Enter a state."""
        self.state, self.reason, self.since = state, reason, time.time()


def only_and_ignore(roles: Mapping[str, Words], only: frozenset[str], ignore: frozenset[str]) -> dict[str, Words]:
    """Those to start: with ``only``, no others; never one that is ignored."""
    return {role: words for role, words in roles.items() if (not only or role in only) and role not in ignore}


class Processes:
    """The children of one gateway. ``run`` keeps them until it is cancelled."""

    def __init__(
        self,
        environment: Mapping[str, str],
        heard: Heard,
        *,
        failed: Failed = lambda role, reason: None,
        longest_delay_s: float = LONGEST_DELAY_S,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._heard = heard
        self._failed = failed
        self._longest_delay_s = longest_delay_s
        self._stop_grace_s = stop_grace_s
        self._outdated: set[str] = set()
        self._wanted: dict[str, Words] = {}
        self._children: dict[str, _Child] = {}
        self._changed = asyncio.Event()

    def want(self, commands: Mapping[str, Words]) -> None:
        """Run exactly these: start new ones, end those that are gone, restart those whose command is another."""
        self._wanted = dict(commands)
        self._changed.set()

    def restart(self, roles: Iterable[str]) -> None:
        """Start these anew: what their commands run is another program now."""
        self._outdated.update(roles)
        self._changed.set()

    def reports(self) -> list[ProcessReport]:
        """All children, in the order they are wanted."""
        return [child.report for child in self._children.values()]

    async def run(self) -> None:
        """Keep the wanted ones running. Cancelled, it ends them in their order, each before the next."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self._changed.clear()
                    await self._adapt(group)
                    await self._changed.wait()
            finally:
                await self._end_all()

    async def _adapt(self, group: asyncio.TaskGroup) -> None:
        outdated, self._outdated = self._outdated, set()
        for role, child in list(self._children.items()):
            if role in outdated or self._wanted.get(role) != child.report.command:
                await child.end(self._stop_grace_s)
                del self._children[role]  # not before: who is cancelled in between ends all that are here
        for role, words in self._wanted.items():
            if role not in self._children:
                report = ProcessReport(role, words)
                child = _Child(report, self._environment, self._heard, self._failed, self._longest_delay_s)
                self._children[role] = child
                child.task = group.create_task(child.keep(), name=f"process:{role}")

    async def _end_all(self) -> None:
        deadline = time.monotonic() + STOP_ALL_GRACE_S
        for child in self._children.values():
            await child.end(min(self._stop_grace_s, max(0.0, deadline - time.monotonic())))


class _Child:
    """One participant's process, again and again."""

    def __init__(
        self, report: ProcessReport, environment: Mapping[str, str], heard: Heard, failed: Failed, longest: float
    ) -> None:
        self.report = report
        self.task: asyncio.Task[None] | None = None
        self._environment = environment
        self._heard = heard
        self._failed = failed
        self._backoff = Backoff(longest)
        self._process: asyncio.subprocess.Process | None = None
        self._spawning = asyncio.Lock()
        self._ending = False

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends, until ``end``."""
        while not self._ending:
            reason, slow = await self._once()
            if self._ending:
                break
            delay = self._backoff.failed(time.monotonic(), at_slowest=slow)
            self.report.now(ProcessState.BACKING_OFF, reason)
            log.warning("participant %s: %s; starting it again in %.1f s", self.report.role, reason, delay)
            self._failed(self.report.role, reason)
            await asyncio.sleep(delay)

    async def _once(self) -> tuple[str, bool]:
        """One life. Why it ended, and whether trying again soon is of no use."""
        if not self.report.command:
            return "can't be started: its command is empty; see the variables of the library", True
        words = resolve(self.report.command)
        self.report.starts += 1
        self.report.now(ProcessState.STARTING)
        async with self._spawning:
            try:
                process = self._process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=dict(self._environment),
                    start_new_session=True,
                    preexec_fn=dying_with(os.getpid()),
                )
            except (OSError, ValueError) as exc:  # ValueError: a NUL in it, which no program can be given
                return f"can't start {words[0]}: {getattr(exc, 'strerror', None) or exc}", True
        self.report.pid = process.pid
        self._backoff.succeeded(time.monotonic())
        self.report.now(ProcessState.RUNNING)
        try:
            code = await self._listen(process)
        finally:
            self.report.pid = 0
            self._process = None
        return f"ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}", False

    async def _listen(self, process: asyncio.subprocess.Process) -> int:
        """Until it ends and all its output is read; the exit code."""
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(self._read(stream, reader), name=f"process:{self.report.role}:{stream}")
                for stream, reader in (("stdout", process.stdout), ("stderr", process.stderr))
            ]
            try:
                code = await process.wait()
            finally:
                self._signal_group(process.pid, signal.SIGKILL)  # what it left behind
                if process.returncode is None:  # we were cancelled: nothing of it may be left to the loop's end
                    await to_the_end(_ended(process), f"process:{self.report.role}:end")
            await asyncio.wait(readers, timeout=LAST_WORDS_S)
            for reader in readers:
                reader.cancel()
        return code

    async def _read(self, stream: str, reader: asyncio.StreamReader) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while data := await reader.read(LONGEST_LINE):
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            if len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], ""
            for line in lines:
                self._say(stream, line)
        if rest:
            self._say(stream, rest)

    def _say(self, stream: str, line: str) -> None:
        line = line.rstrip("\r")
        for start in range(0, max(len(line), 1), LONGEST_LINE):
            self._heard(self.report.role, stream, line[start : start + LONGEST_LINE])

    async def end(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``; returns when it has ended."""
        assert self.task is not None
        self._ending = True
        async with self._spawning:
            process = self._process
        if process is None:
            self.task.cancel()
        else:
            self._signal_group(process.pid, signal.SIGTERM)
        _, late = await asyncio.wait({self.task}, timeout=grace_s)
        if late and process is not None:
            log.warning("participant %s: still there %.1f s after SIGTERM; killed", self.report.role, grace_s)
            self._signal_group(process.pid, signal.SIGKILL)
            await asyncio.wait({self.task})
        self.report.now(ProcessState.STOPPED)

    @staticmethod
    def _signal_group(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()


def resolve(words: Words) -> Words:
    """The command to run: our own by this interpreter, and ours for MsgFlo's tools that aren't installed."""
    if words[0] in OWN_TOOLS and shutil.which(words[0]) is None:
        words = (*OWN_TOOLS[words[0]], *words[1:])
    if words[0] == "gateway":
        words = (sys.executable, "-P", "-m", *words)  # -P: a folder "gateway" at hand is not the package
    return words
