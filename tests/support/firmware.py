"""Boards that run our own firmware as machine code, and a host's end that is driven step by step."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.boards.firmware import describe, generated
from gateway.errors import NotFound
from gateway.fbp.text.graph_files import load_graph
from gateway.firmware.build import build_emulator, build_firmware
from gateway.firmware.core.targets import TARGETS
from gateway.firmware.sources import SOURCES, component_map
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph
from gateway.model.packet import Packet
from gateway.serial_link.description.component_map import parse_component_map
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.graph.upload import Uploader
from gateway.serial_link.protocol.codec import W10, Command
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import (
    LinkEvent,
    LinkOptions,
    LinkRequestFailed,
    Opened,
    PacketSent,
    Replied,
    RequestToken,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CACHE = ROOT / ".cache" / "firmware"
SOURCE_SUFFIXES = {".c", ".cpp", ".h", ".ld", ""}
WAIT_S = 120.0
PATIENT = LinkOptions(request_timeout_s=15.0, keepalive_s=240.0, open_tries=1200, frame_timeout_s=15.0)
"""A machine that is busy with other tests may let a board's process wait: that is no fault of the board."""

KEPT_S = 24 * 3600.0
"""So long a build is kept that no test asked for."""


def library() -> ComponentLibrary:
    """The components of our firmware, and of the simulator."""
    path = component_map()
    return parse_component_map(path.read_text("utf-8"), str(path))


def thermometer() -> Graph:
    """The example's graph."""
    return load_graph(EXAMPLES / "thermometer.fbp")


def build(target: str, graph: Path | None = None) -> Path:
    """The image of a target, built once for the same sources. Fails with the line that installs the compiler."""
    text = generated_header_of(target, graph)

    def make_it(directory: Path) -> None:
        build_firmware(TARGETS[target], text, directory)

    return built(f"{target}-{sources_hash(text)}", make_it) / TARGETS[target].image


def generated_header_of(target: str, graph: Path | None = None) -> str:
    """What is generated for a build."""
    return generated(TARGETS[target], describe(TARGETS[target], graph))


def emulator() -> Path:
    """The emulator of the Uno, compiled once."""

    def make_it(directory: Path) -> None:
        build_emulator(directory)

    return built(f"avrpty-{sources_hash('')}", make_it) / "avrpty"


def built(name: str, make_it: Callable[[Path], None]) -> Path:
    """The directory of this name in the cache. Made aside and renamed: another test run may want it at this moment."""
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = CACHE / name
    with cache_locked():
        if directory.exists():
            os.utime(directory)
            return directory
        for old in CACHE.iterdir():
            if old.is_dir() and time.time() - old.stat().st_mtime > KEPT_S:
                shutil.rmtree(old, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=CACHE))
    try:
        with missing_tools_fail():
            make_it(aside)
        with cache_locked():
            if not directory.exists():  # else another run was faster
                aside.rename(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory


@contextmanager
def cache_locked() -> Iterator[None]:
    """No other test run looks at what there is, or takes anything away, meanwhile."""
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sources_hash(text: str) -> str:
    """Names what is built: the sources, and what was generated."""
    hashed = hashlib.sha256(text.encode())
    root = SOURCES.resolve()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "build" not in path.relative_to(root).parts and path.suffix in SOURCE_SUFFIXES:
            hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


@contextmanager
def missing_tools_fail() -> Iterator[None]:
    """A test without its compiler fails with the line that installs it."""
    try:
        yield
    except NotFound as exc:
        pytest.fail(str(exc))


class FirmwareBoard:
    """A board as a child process that takes requests on stdin, and tells of itself on stdout."""

    def __init__(self, command: Sequence[str | Path], link: Path) -> None:
        self.link = link
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._answers: list[str] = []
        self._news = threading.Condition()
        self._all_read = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_line("ready")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._news:
                    (self._answers if line.startswith("{") else self.lines).append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._all_read = True
            self._news.notify_all()

    def wait_line(self, words: str) -> str:
        """The first line with these words."""

        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._all_read, WAIT_S)
            line = found()
        assert line is not None, f"no line with {words!r} in {self.lines}"
        return line

    def ask(self, request: str) -> Any:
        """One request, and its answer."""
        assert self._process.stdin is not None
        with self._news:
            before = len(self._answers)
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
            self._news.wait_for(lambda: len(self._answers) > before or self._all_read, WAIT_S)
            assert len(self._answers) > before, f"no answer to {request!r}"
            return json.loads(self._answers[before])

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> int:
        """End of stdin ends it; the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(WAIT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()


@contextmanager
def firmware_board(kind: str, directory: Path, graph: Path | None = None, *options: str) -> Iterator[FirmwareBoard]:
    """The firmware as a Linux process (``host``) or on an emulated chip while the block runs; options are its program's."""
    link = directory / f"tty-{kind}"
    image = build(kind, graph)
    command: list[str | Path] = [image, link]
    if kind == "uno":
        command = [emulator(), image.with_suffix(".elf"), "-l", link]
    board = FirmwareBoard([*command, *options], link)
    try:
        yield board
    finally:
        assert board.close() == 0
        assert not link.is_symlink()


class HostEnd:
    """The gateway's own ``Link`` on a port, driven by plain blocking code. ``events`` are all that came."""

    def __init__(self, path: Path, options: LinkOptions | None = None) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        termios.tcflush(self._fd, termios.TCIOFLUSH)  # what an earlier host left unread
        self.link = Link(W10, options or PATIENT)
        self.events: list[LinkEvent] = []

    def close(self) -> None:
        """Close the port."""
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        """Raw bytes, past the link."""
        while data:
            select.select([], [self._fd], [], WAIT_S)
            data = data[os.write(self._fd, data) :]

    def read(self, count: int, timeout_s: float = WAIT_S) -> bytes:
        """Raw bytes, past the link: exactly so many."""
        data = b""
        deadline = time.monotonic() + timeout_s
        while len(data) < count:
            left = max(0.0, deadline - time.monotonic())  # a test that stood still finds the bytes there all the same
            assert select.select([self._fd], [], [], left)[0], f"only {data.hex()} of {count} bytes came"
            data += os.read(self._fd, count - len(data))
        return data

    def quiet(self, for_s: float) -> bool:
        """Whether nothing comes for so long."""
        return not select.select([self._fd], [], [], for_s)[0]

    def pump(self, until: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        """Let the link work until something is so."""
        deadline = time.monotonic() + timeout_s
        while not until():
            now = time.monotonic()
            self._flush()
            due = self.link.deadline
            wait = min(deadline, due if due is not None else deadline) - now
            if select.select([self._fd], [], [], max(0.0, min(wait, 1.0)))[0]:
                self.link.receive(os.read(self._fd, 4096), time.monotonic())
            else:  # only when nothing waits: a host that stood still finds the time gone by and the bytes there
                self.link.tick(time.monotonic())
            self._flush()
            self.events += self.link.events()
            late = now >= deadline  # asked before: it may have come about while this process stood still
            assert not late or until(), f"after {timeout_s:.0f} s still not; the last events: {self.events[-5:]}"

    def _flush(self) -> None:
        data = self.link.data_to_send()
        if data:
            self.write(data)

    def open(self) -> int:
        """Open the link; the number of tries."""
        self.link.start(time.monotonic())
        self.pump(lambda: self.link.is_open)
        return next(event.tries for event in reversed(self.events) if isinstance(event, Opened))

    def request(self, unit: Command) -> Replied | LinkRequestFailed:
        """One request to its end."""
        token = self.link.request(unit, time.monotonic())
        self.pump(lambda: self._answer(token) is not None)
        answer = self._answer(token)
        assert answer is not None
        return answer

    def _answer(self, token: RequestToken) -> Replied | LinkRequestFailed | None:
        for event in reversed(self.events):
            if isinstance(event, Replied | LinkRequestFailed) and event.token == token:
                return event
        return None

    def good(self, unit: Command) -> Command:
        """The answer to a request that must succeed."""
        answer = self.request(unit)
        assert isinstance(answer, Replied), answer
        return answer.command

    def refused(self, unit: Command) -> int | None:
        """The code of the error answer to a request that must fail."""
        answer = self.request(unit)
        assert isinstance(answer, LinkRequestFailed), answer
        return answer.code

    def upload(self, graph: Graph) -> NodeIds:
        """Upload a graph with the gateway's own uploader."""
        uploader = Uploader(graph, library())
        while (unit := uploader.next_command()) is not None:
            uploader.accept(self.good(unit))
        return uploader.names

    def packets(self) -> list[PacketSent]:
        """All packets that subscribed ports sent, so far."""
        return [event for event in self.events if isinstance(event, PacketSent)]

    def wait_packets(self, count: int, timeout_s: float = WAIT_S) -> list[Packet | None]:
        """Wait until so many have come in all; all of them."""
        self.pump(lambda: len(self.packets()) >= count, timeout_s)
        return [event.packet for event in self.packets()]


@contextmanager
def host_end(path: Path, options: LinkOptions | None = None) -> Iterator[HostEnd]:
    """The host's end on a port while the block runs; the link isn't open yet."""
    end = HostEnd(path, options)
    try:
        yield end
    finally:
        end.close()
