"""MsgFlo itself, from the npm registry in pinned versions, installed once into .cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment
from tests.support.lines import Program

ROOT = Path(__file__).parents[2]
PERIOD_S = "3"
"""MsgFlo's discovery period: announcements come every 1.4 s."""


class Msgflo:
    """Programs of MsgFlo in a folder of node packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def program(self, name: str, *arguments: str, cwd: Path | None = None) -> Iterator[Program]:
        """One of them while the block runs."""
        command = ["node", str(self._folder / "node_modules" / ".bin" / name), *arguments]
        with Program(command, cwd or self._folder, environment()) as program:
            yield program

    @contextmanager
    def participant(self, role: str, broker: str) -> Iterator[Program]:
        """``repeat.js`` as a participant, once it is connected."""
        with self.program("msgflo-nodejs", "--name", role, "--broker", broker, "repeat.js") as program:
            program.wait_line(f"{role} connected to")
            yield program

    @contextmanager
    def coordinator(self, directory: Path, graph: str, broker: str, library: str = "{}") -> Iterator[Program]:
        """The real coordinator with a graph, once it says that everything is wired."""
        (directory / "graph.fbp").write_text(graph)
        (directory / "library.json").write_text(library)
        (directory / "parts").mkdir(exist_ok=True)
        options = ("--broker", broker, "--graph", "graph.fbp", "--library", "library.json", "--componentdir", "parts")
        with self.program("msgflo", *options, "--port", "0", cwd=directory) as program:
            program.wait_line("msgflo started on")
            yield program


def environment() -> Mapping[str, str]:
    """What all programs of these tests get."""
    return clean_environment() | {"MSGFLO_DISCOVERY_PERIOD": PERIOD_S, "PATH": os.environ["PATH"]}


def installed(name: str) -> Path:
    """The folder of the node packages of ``tests/interop/NAME``; fails with the line that helps where that can't be."""
    done = subprocess.run(
        ["tools/npm_install.sh", f"tests/interop/{name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"the node packages for {name} can't be installed: {done.stderr.strip()}", pytrace=False)
    return ROOT / done.stdout.strip()


@pytest.fixture(scope="session")
def msgflo() -> Msgflo:
    """MsgFlo, installed."""
    return Msgflo(installed("msgflo"))


@pytest.fixture(scope="session")
def noflo() -> Path:
    """The folder of NoFlo's runtime for MsgFlo, installed."""
    return installed("noflo")


@pytest.fixture(params=["amqp", "mqtt"])
def broker(request: pytest.FixtureRequest) -> str:
    """The url of a real broker, one of each kind. (MsgFlo takes a slash at its end for a nameless vhost.)"""
    if request.param == "amqp":
        return str(request.getfixturevalue("rabbitmq")).rstrip("/")
    return str(request.getfixturevalue("mosquitto").url)
