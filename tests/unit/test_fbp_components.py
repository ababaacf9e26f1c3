"""The component library behind the FBP runtime: what is started, what may be read and written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.daemon.component_store import LibraryStore
from gateway.errors import ConfigError, GatewayError, NotFound
from gateway.fbp.runtime.backend import Source
from gateway.library.processes import Processes
from gateway.model.graph import Node

LAMP = """\
component: house/Lamp
label: A lamp
inports:
  on: {queue: "lamps/#ROLE/on", type: boolean}
outports:
  state: {queue: "lamps/#ROLE/state", type: boolean}
"""


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.fixture
def store(tmp_path: Path) -> LibraryStore:
    directory = tmp_path / "components"
    directory.mkdir()
    (directory / "Repeat.py").write_text("# repeats\n")
    (directory / "Lamp.yml").write_text(LAMP)
    (directory / "notes.txt").write_text("no component")
    (tmp_path / "library.json").write_text('{"name": "house", "components": {"house/Tool": "tool #ROLE"}}')
    return LibraryStore(str(tmp_path / "library.json"), directory, Processes({}, lambda role, stream, line: None))


async def test_components_come_from_the_library_and_its_directory(store: LibraryStore) -> None:
    assert [info.name for info in store.components()] == ["house/Tool", "house/Lamp", "house/Repeat"]
    assert store.starts("Repeat")
    assert store.starts("house/Tool")
    assert not store.starts("msgflo/RoundRobin")
    assert not store.starts("other/Thing")


async def test_roles_that_are_ignored_are_not_started_and_with_only_no_others(tmp_path: Path) -> None:
    (tmp_path / "Repeat.py").write_text("# repeats\n")
    processes = Processes({}, lambda role, stream, line: None)
    nodes = [Node(role, "Repeat") for role in ("a", "b", "c")]
    store = LibraryStore("", tmp_path, processes, only=frozenset("ab"), ignore=frozenset("b"))
    store.wanted(nodes)
    assert list(store.commands) == ["a"]
    assert [store.starts("Repeat", role) for role in ("a", "b", "c")] == [True, False, False]


async def test_the_ports_of_a_foreign_participant_are_known_before_it_runs(store: LibraryStore) -> None:
    lamp = next(info for info in store.components() if info.name == "house/Lamp")
    assert [port.id for port in (*lamp.inports, *lamp.outports)] == ["on", "state"]


async def test_a_source_is_the_text_of_the_file_and_a_command_has_none(store: LibraryStore) -> None:
    assert await store.source("house/Repeat") == Source("Repeat", "python", "# repeats\n", "house")
    with pytest.raises(NotFound, match="Component not found for house/Tool"):
        await store.source("house/Tool")


async def test_a_written_source_is_a_component(store: LibraryStore, tmp_path: Path) -> None:
    await store.set_source(Source("New", "python", "# new\n", "house"))
    assert (tmp_path / "components" / "New.py").read_text() == "# new\n"
    assert store.starts("house/New")


async def test_two_who_write_one_source_at_once_leave_one_of_the_two_whole(store: LibraryStore, tmp_path: Path) -> None:
    written = ["# one\n" * 100_000, "# other\n" * 100_000]
    for _ in range(5):
        await asyncio.gather(*(store.set_source(Source("New", "python", code, "house")) for code in written))
        assert (tmp_path / "components" / "New.py").read_text() in written


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("..", "python"),
        ("a/../../b.c", "python"),
        ("", "python"),
        ("x\x00", "python"),
        ("x", "../../etc/passwd"),
        ("x", "sh"),
        ("x", ""),
        ("-rf", "python"),
        ("a" * 200, "python"),
    ],
)
async def test_a_name_or_language_can_not_lead_out_of_the_directory(
    store: LibraryStore, tmp_path: Path, name: str, language: str
) -> None:
    before = files(tmp_path)
    with pytest.raises(GatewayError):
        await store.set_source(Source(name, language, "evil"))
    assert files(tmp_path) == before


async def test_nodes_of_known_components_are_started_and_no_others(store: LibraryStore) -> None:
    store.wanted([Node("a", "Repeat"), Node("b", "other/Thing"), Node("c", "msgflo/RoundRobin")])
    assert "a" in store.commands["a"]
    assert list(store.commands) == ["a"]


def test_a_library_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"coordinator\.library"):
        LibraryStore(str(tmp_path / "no.json"), tmp_path, Processes({}, lambda role, stream, line: None))
