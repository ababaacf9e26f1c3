"""Boards with our own firmware tell what they are: nothing needs to be named at pairing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.errors import AccessRefused
from gateway.model.address import serial
from gateway.serial_link.paired.pairing import PairRequest, Text
from tests.support.boards import EXAMPLES, LOOP_GRAPH, Registry, patient_links, request, simulated
from tests.support.firmware import firmware_board

WAIT_S = 120.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_links(monkeypatch)


def registry_in(directory: Path) -> Registry:
    """The boards are processes: that one gets no time for a while is no fault on its line."""
    return Registry(directory / "state", request_timeout_s=WAIT_S)


async def test_a_board_tells_its_ports_and_keeps_its_graph(tmp_path: Path) -> None:
    with firmware_board("host", tmp_path, EXAMPLES / "thermometer.fbp") as board:
        registry = registry_in(tmp_path)
        paired = await registry.boards.pair(PairRequest(path=str(board.link), role="attic"))
        assert [port["name"] for port in paired["ports"]] == ["fan", "temp"]
        assert (paired["managed"], paired["was_running"]) == (False, True)
        again = registry_in(tmp_path)
        connector = again.boards.connector(paired["id"])
        async with connector.connect() as session:
            await session.subscribe(serial(paired["id"], "temp"), 10)
            async with asyncio.timeout(WAIT_S):
                await anext(session.deliveries())


async def test_a_graph_needs_no_component_map_where_the_board_tells_it(tmp_path: Path) -> None:
    with firmware_board("host", tmp_path) as board:
        registry = registry_in(tmp_path)
        wanted = PairRequest(path=str(board.link), role="attic", graph=Text("loop.fbp", LOOP_GRAPH))
        paired = await registry.boards.pair(wanted)
        assert paired["managed"]
        assert [port["name"] for port in registry_in(tmp_path).boards.status()[0]["ports"]] == ["in", "out"]


async def test_another_board_in_its_place_is_refused(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    with firmware_board("host", tmp_path) as board:
        link = board.link
        paired = await registry.boards.pair(PairRequest(path=str(link), role="attic"))
    assert registry.boards.records()[0].identity.kind == "board"
    async with simulated(link):
        with pytest.raises(AccessRefused, match="a board that tells no id is in its place"):
            async with registry.boards.connector(paired["id"]).connect():
                pass
    assert registry.boards.status()[0]["state"] == "refused"


async def test_a_board_that_took_the_place_of_another_is_a_board_of_its_own(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with firmware_board("host", one, None, "--id", "a" * 16) as board:
        first = await registry.boards.pair(PairRequest(path=str(board.link), role="attic"))
    with firmware_board("host", one, None, "--id", "b" * 16) as board:
        second = await registry.boards.pair(PairRequest(path=str(board.link), role="cellar"))
        assert second["id"] != first["id"]
        assert [registry.boards.is_present(paired["id"]) for paired in (first, second)] == [False, True]
        with firmware_board("host", other, None, "--id", "a" * 16) as moved:
            again = await registry.boards.pair(PairRequest(path=str(moved.link)))
            assert (again["id"], again["role"], again["again"]) == (first["id"], "attic", True)
            assert registry.boards.is_present(first["id"])
    told = {record.role: record.identity.value for record in registry_in(tmp_path).boards.records()}
    assert told == {"attic": "a" * 16, "cellar": "b" * 16}


async def test_another_kind_of_board_in_its_place_does_not_get_its_id(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    with firmware_board("host", tmp_path) as board:
        link = board.link
        first = await registry.boards.pair(PairRequest(path=str(link), role="attic"))
    async with simulated(link):
        second = await registry.boards.pair(request(link, LOOP_GRAPH, role="cellar"))
    assert second["id"] != first["id"]
    assert [record.role for record in registry.boards.records()] == ["attic", "cellar"]


async def test_firmware_that_tells_of_itself_is_believed_not_the_map_of_the_one_before_it(tmp_path: Path) -> None:
    registry, link = registry_in(tmp_path), tmp_path / "tty-host"
    async with simulated(link):
        stock = await registry.boards.pair(request(link, LOOP_GRAPH))
    files = tmp_path / "state" / "boards" / stock["id"]
    assert (files / "components.json").exists()
    only_ours = "OUTPORT=clock.OUT:out\nINPORT=clock.INTERVAL:every\nclock(Timer)\n"
    old_map = json.loads((files / "components.json").read_text())
    old_map["components"]["Timer"]["id"] = 201  # as on firmware of another build
    (files / "components.json").write_text(json.dumps(old_map))
    with firmware_board("host", tmp_path) as board:
        wanted = PairRequest(path=str(board.link), graph=Text("clock.fbp", only_ours))
        paired = await registry.boards.pair(wanted)
        assert (paired["id"], paired["role"], paired["managed"]) == (stock["id"], "attic", True)
        assert not (files / "components.json").exists()
        again = registry_in(tmp_path)
        async with again.boards.connector(paired["id"]).connect():
            assert again.boards.status()[0]["state"] == "running"


async def test_stock_firmware_gets_another_graph_by_the_map_it_was_paired_with(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        wanted = PairRequest(path=str(tmp_path / "tty"), graph=Text("loop.fbp", LOOP_GRAPH))
        paired = await registry.boards.pair(wanted)
    assert [port["name"] for port in paired["ports"]] == ["in", "out"]
    assert [port["name"] for port in registry_in(tmp_path).boards.status()[0]["ports"]] == ["in", "out"]
