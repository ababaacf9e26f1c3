"""The registry in memory: what is said of boards whose files can't be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.config.schema import SerialSection
from gateway.firmware.sources import component_map
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.records.devices_json import BoardDirectory, BoardRecord, DevicesFile
from gateway.serial_link.records.profile import PortMeaning
from tests.support.gateway import EXAMPLES

RETAINED = PortMeaning(retained=True)
ATTIC = BoardRecord(
    id="a1",
    role="attic",
    identity=Identity("path", "/dev/a"),
    known=PortFacts(path="/dev/a"),
    path="/dev/a",
    baud=115200,
    wire="w10",
    graph="graph.fbp",
    managed=True,
    ports={"temp": RETAINED, "not-exported": RETAINED},
)


def loaded(state: Path) -> Boards:
    """As a gateway that starts now knows them."""
    boards = Boards(state, SerialSection(), on_change=lambda: None, on_running=lambda board_id: None)
    boards.load()
    return boards


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the thermometer paired."""
    DevicesFile(tmp_path / "devices.json").save([ATTIC])
    graph, components = (EXAMPLES / "thermometer.fbp").read_bytes(), component_map().read_bytes()
    BoardDirectory(tmp_path / "boards" / ATTIC.id).save({"graph.fbp": graph, "components.json": components})
    return tmp_path


def test_what_is_retained_are_the_topics_of_outports_that_are_there(state: Path) -> None:
    assert loaded(state).retained_topics() == {"attic/temp"}
    moved = msgspec.structs.replace(ATTIC, ports={"temp": PortMeaning(retained=True, topic="house/temp")})
    DevicesFile(state / "devices.json").save([moved])
    assert loaded(state).retained_topics() == {"house/temp"}
    off = msgspec.structs.replace(ATTIC, ports={"temp": PortMeaning(retained=False)})
    DevicesFile(state / "devices.json").save([off])
    assert loaded(state).retained_topics() == frozenset()


@pytest.mark.parametrize("file", ["graph.fbp", "components.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\xff\x00")], ids=["gone", "damaged"])
def test_a_damaged_file_ends_nothing_that_is_retained(state: Path, file: str, damage: Callable[[Path], object]) -> None:
    damage(state / "boards" / ATTIC.id / file)
    boards = loaded(state)
    assert boards.profile(ATTIC.id).problem
    assert "attic/temp" in boards.retained_topics()
