"""What is kept of a board that is paired again: all that was said of it and still means something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.model.port import Direction, PortDef
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.serial_link.records.profile import PortMeaning
from tests.support.boards import GRAPH, Registry, described, request, simulated, simulated_ours

TEMP = PortDef("temp", Direction.OUT, type="number", scale=0.01, unit="°C")


def ports_of(state: Path) -> dict[str, dict[str, Any]]:
    """As a gateway that starts now knows them."""
    (entry,) = Registry(state).boards.status()
    return {port["name"]: port for port in entry["ports"]}


async def settings_made(registry: Registry, *changes: str) -> None:
    """``gateway set``."""
    for change in changes:
        key, _, value = change.partition("=")
        await registry.boards.set("attic", key, value)


async def test_ports_that_are_there_again_keep_what_was_set_of_them(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        await settings_made(registry, "temp.topic=house/temp", "temp.retained=true", "temp.mode=stored", "fan.ttl_s=5")
        again = await registry.boards.pair(request(tmp_path / "tty", GRAPH))
    assert again["forgotten"] == []
    ports = ports_of(tmp_path / "state")
    temp, fan = ports["temp"], ports["fan"]
    assert (temp["topic"], temp["retained"], temp["delivery"]) == ("house/temp", True, {"mode": "stored"})
    assert (temp["type"], temp["scale"], temp["unit"]) == ("number", 0.01, "°C")
    assert fan["delivery"] == {"ttl_s": 5.0}
    assert {port["name"]: port for port in again["ports"]} == ports


async def test_what_the_pairing_itself_says_of_a_port_comes_before_what_was_set(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        await settings_made(registry, "temp.topic=house/temp", "temp.retained=true")
        now = {"temp": PortMeaning(type="any", unit="K", retained=False)}
        await registry.boards.pair(msgspec.structs.replace(request(tmp_path / "tty"), ports=now))
    temp = ports_of(tmp_path / "state")["temp"]
    assert (temp["type"], temp["unit"], temp["retained"]) == ("integer", "K", False)  # the type of the component's port
    assert (temp["topic"], temp["scale"]) == ("house/temp", 0.01)


async def test_ports_that_are_gone_lose_their_settings_and_that_is_told(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        await settings_made(registry, "temp.topic=house/temp")
        renamed = GRAPH.replace("OUT:temp", "OUT:heat")
        assert (await registry.boards.pair(request(tmp_path / "tty", renamed)))["forgotten"] == ["temp"]
        await registry.boards.pair(request(tmp_path / "tty"))
    assert ports_of(tmp_path / "state")["temp"]["topic"] == "attic/temp"


async def test_an_outport_that_is_an_inport_now_is_not_retained(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty", "INPORT=e.IN:in\nOUTPORT=e.OUT:out\ne(Forward)\n"))
        await settings_made(registry, "out.retained=true", "out.topic=house/out")
        turned = "INPORT=e.IN:out\nOUTPORT=e.OUT:in\ne(Forward)\n"
        paired = await registry.boards.pair(request(tmp_path / "tty", turned))
    port = ports_of(tmp_path / "state")["out"]
    assert (paired["forgotten"], port["direction"]) == ([], "in")
    assert (port["topic"], port["retained"]) == ("house/out", False)


async def test_how_a_board_is_opened_stays_as_it_was_set(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        await settings_made(registry, "boot_wait_s=3.5", "dtr=false", "keep_running=true", "usb_reauthorise=true")
        await registry.boards.pair(request(tmp_path / "tty"))
        (record,) = Registry(tmp_path / "state").boards.records()
        assert (record.boot_wait_s, record.dtr, record.keep_running, record.usb_reauthorise) == (3.5, False, True, True)
        said = msgspec.structs.replace(request(tmp_path / "tty"), boot_wait_s=1.0, dtr=True)
        await registry.boards.pair(said)
        (record,) = Registry(tmp_path / "state").boards.records()
        assert (record.boot_wait_s, record.dtr) == (1.0, True)


# -- boards that tell of themselves ------------------------------------------------------------------------------------


async def test_what_is_set_of_a_port_leaves_the_rest_as_the_board_tells_it(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated_ours(tmp_path / "tty", described(GRAPH, {"temp": TEMP})):
        await registry.boards.pair(PairRequest(path=str(tmp_path / "tty"), role="attic"))
        await settings_made(registry, "temp.topic=house/temp")
    temp = ports_of(tmp_path / "state")["temp"]
    assert (temp["topic"], temp["type"], temp["scale"], temp["unit"]) == ("house/temp", "number", 0.01, "°C")


async def test_another_firmware_s_values_hold_and_what_was_set_stays(tmp_path: Path) -> None:
    registry, link = Registry(tmp_path / "state"), tmp_path / "tty"
    again = PairRequest(path=str(link))
    async with simulated_ours(link, described(GRAPH, {"temp": TEMP})):
        await registry.boards.pair(PairRequest(path=str(link), role="attic"))
        await settings_made(registry, "temp.topic=house/temp", "temp.unit=degrees")
    tenths = PortDef("temp", Direction.OUT, type="number", scale=0.1, unit="°C")
    async with simulated_ours(link, described(GRAPH, {"temp": tenths}, version="2")):
        await registry.boards.pair(again)
    temp = ports_of(tmp_path / "state")["temp"]
    assert (temp["topic"], temp["scale"], temp["unit"]) == ("house/temp", 0.1, "degrees")


async def test_a_graph_for_a_board_that_tells_its_values_has_them_too(tmp_path: Path) -> None:
    registry, link = Registry(tmp_path / "state"), tmp_path / "tty"
    async with simulated_ours(link, described(GRAPH, {"temp": TEMP})):
        wanted = PairRequest(path=str(link), role="attic", graph=Text("other.fbp", GRAPH))
        paired = await registry.boards.pair(wanted)
        assert [port["scale"] for port in paired["ports"]] == [None, 0.01]
        await settings_made(registry, "temp.unit=degrees")
        paired = await registry.boards.pair(wanted)
    temp = ports_of(tmp_path / "state")["temp"]
    assert (temp["scale"], temp["unit"]) == (0.01, "degrees")
    assert paired["ports"][1] == temp


async def test_a_board_that_runs_our_graph_keeps_it_though_it_could_only_tell_of_its_own(tmp_path: Path) -> None:
    registry, link = Registry(tmp_path / "state"), tmp_path / "tty"
    async with simulated_ours(link, described(GRAPH, {"temp": TEMP})) as board:
        heat = GRAPH.replace("OUT:temp", "OUT:heat")
        await registry.boards.pair(PairRequest(path=str(link), role="attic", graph=Text("heat.fbp", heat)))
        await settings_made(registry, "heat.unit=K")
        again = await registry.boards.pair(PairRequest(path=str(link)))
        assert (again["managed"], [port["name"] for port in again["ports"]]) == (True, ["fan", "heat"])
        board.request(["reset"])  # it runs its own again, and tells of it
        own = await registry.boards.pair(PairRequest(path=str(link)))
    assert (own["managed"], [port["name"] for port in own["ports"]]) == (False, ["fan", "temp"])
    assert own["forgotten"] == ["heat"]


async def test_what_firmware_told_that_is_on_the_board_no_more_is_forgotten(tmp_path: Path) -> None:
    registry, link = Registry(tmp_path / "state"), tmp_path / "tty"
    stock = msgspec.structs.replace(request(link), ports={})
    async with simulated(link):
        await registry.boards.pair(stock)
    async with simulated_ours(link, described(GRAPH, {"temp": TEMP})):
        await registry.boards.pair(PairRequest(path=str(link)))
    async with simulated(link):
        paired = await registry.boards.pair(stock)
    assert [port["scale"] for port in paired["ports"]] == [None, None]
    assert {port["name"]: port for port in paired["ports"]} == ports_of(tmp_path / "state")
