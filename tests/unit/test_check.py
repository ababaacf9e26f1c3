"""``gateway check``: what ``run`` would refuse is said before it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.coordinator.participants_file import save_participants
from gateway.firmware.sources import component_map
from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.records.board_dir import BoardFiles
from gateway.serial_link.records.devices_json import COMPONENTS, BoardRecord, DevicesFile
from tests.support.gateway import EXAMPLES
from tests.unit.test_planner import participant

GRAPH = "graph.fbp"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A gateway that has a thermometer with the outport ``temp`` and the inport ``fan``."""
    record = BoardRecord(
        id="one",
        role="attic",
        identity=Identity("path", "/dev/x"),
        known=PortFacts(path="/dev/x"),
        path="/dev/x",
        baud=9600,
        wire="w10",
        graph=GRAPH,
    )
    directory = tmp_path / "state"
    directory.mkdir()
    DevicesFile(directory / "devices.json").save([record])
    files = {GRAPH: (EXAMPLES / "thermometer.fbp").read_bytes(), COMPONENTS: component_map().read_bytes()}
    BoardFiles(directory).of("one").save(files)
    return directory


def notes(state: Path, config: str) -> list[str]:
    path = state / "gateway.toml"
    path.write_text(config)
    words = ["--config", str(path), "--state-dir", str(state), "check", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return list(document["check"]["notes"])


def test_without_a_mistake_there_is_nothing_to_note(state: Path) -> None:
    assert notes(state, "") == []


def test_a_default_that_refuses_the_boards_own_topics_is_one_line(state: Path) -> None:
    (note,) = notes(state, '[delivery]\noverflow = "block"\n')
    assert note.startswith("run would leave out attic.temp, ")
    assert "overflow block needs an AMQP source" in note


def test_an_edge_is_judged_by_its_ends_where_they_were_seen_before(state: Path) -> None:
    save_participants(state / "participants.json", [participant("hall", "mqtt", outs="temp"), participant("b", "mqtt")])
    graph = state / "g.fbp"
    graph.write_text("hall(X) TEMP -> IN b(X)\nattic(X) NOTHING -> IN b\n")
    config = f'[coordinator]\ngraph = "{graph}"\n[delivery.edge."hall.temp->b.in"]\noverflow = "block"\n'
    (note,) = notes(state, config)
    assert note.startswith("run would leave out hall.temp->b.in, attic.nothing->b.in: overflow block needs")


def test_many_are_counted(state: Path) -> None:
    save_participants(state / "participants.json", [participant("b", "mqtt")])
    graph = state / "g.fbp"
    graph.write_text("".join(f"attic(X) NONE{number} -> IN b(X)\n" for number in range(9)))
    (note,) = notes(state, f'[coordinator]\ngraph = "{graph}"\n')
    assert "attic.none3->b.in and 5 more: role attic has no outport none0" in note


def test_a_board_whose_files_are_damaged_is_named(state: Path) -> None:
    (state / "boards" / "one" / GRAPH).write_text("this is no graph")
    (note,) = notes(state, "")
    assert note.startswith("board one can't be used: ")
