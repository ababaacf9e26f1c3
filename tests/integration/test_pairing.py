"""Pairing over real ptys: what is remembered, and what is told apart when it fails."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from pytest_mock import MockerFixture

from gateway.errors import (
    AccessRefused,
    ConfigError,
    ConnectFailed,
    GatewayError,
    GraphError,
    PortBusy,
    PortForbidden,
    PortMissing,
)
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.serial_link.ports.tty import UNPLUGGED, PortOptions, open_serial
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire
from gateway.serial_link.records.devices_json import DevicesFile
from gateway.serial_link.records.profile import PortMeaning
from tests.support.boards import COMPONENTS, FAST_GRAPH, GRAPH, LOOP_GRAPH, Registry, network_of, request, simulated


async def test_a_paired_board_is_remembered_with_its_graph(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        paired = await registry.boards.pair(request(tmp_path / "tty"))
    assert (paired["role"], paired["baud"], paired["wire"], paired["managed"]) == ("attic", 115200, "w10", True)
    again = Registry(tmp_path / "state")
    (participant,) = again.boards.participants()
    assert [(port.id, port.queue, port.type) for port in participant.inports] == [("fan", "attic/fan", "boolean")]
    (temp,) = participant.outports
    assert (temp.id, temp.queue, temp.type, temp.scale, temp.unit) == ("temp", "attic/temp", "number", 0.01, "°C")
    assert participant.component == "thermometer"
    assert (tmp_path / "state" / "boards" / paired["id"] / "graph.fbp").read_text() == FAST_GRAPH


async def test_pairing_starts_the_graph_on_the_board(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty") as board:
        await Registry(tmp_path / "state").boards.pair(request(tmp_path / "tty"))
        assert network_of(board).running
        assert not board.board.crashed


async def test_a_watched_board_is_left_running(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty", GRAPH) as board:
        before = network_of(board)
        paired = await Registry(tmp_path / "state").boards.pair(request(tmp_path / "tty", GRAPH, upload=False))
        assert paired["was_running"] is True
        assert network_of(board) is before
        assert network_of(board).running
    assert paired["managed"] is False


async def test_a_board_without_a_graph_is_paired_without_ports(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty", GRAPH):
        paired = await Registry(tmp_path / "state").boards.pair(request(tmp_path / "tty", ""))
    assert paired["ports"] == []
    assert paired["managed"] is False


@pytest.mark.parametrize("wire", [W10, W8_06, W8_04], ids=lambda wire: wire.name)
async def test_the_wire_generation_is_found_out_and_remembered(tmp_path: Path, wire: Wire) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty", wire=wire):
        paired = await registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH))
    assert paired["wire"] == wire.name
    assert registry.boards.records()[0].wire == wire.name


async def test_an_older_generation_tells_that_its_integers_are_cut(tmp_path: Path) -> None:
    graph = GRAPH.replace("OUTPORT=sensor.OUT:temp", "OUTPORT=sensor.OUT:raw")
    async with simulated(tmp_path / "tty", wire=W8_06):
        paired = await Registry(tmp_path / "state").boards.pair(request(tmp_path / "tty", graph))
    assert {port["name"]: port["type"] for port in paired["ports"]}["raw"] == "int16"


async def test_pairing_again_keeps_id_and_role(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        first = await registry.boards.pair(request(tmp_path / "tty"))
        second = await registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH, role=""))
    assert (second["id"], second["role"], second["again"]) == (first["id"], "attic", True)
    assert [record.id for record in registry.boards.records()] == [first["id"]]
    assert [port["name"] for port in second["ports"]] == ["in", "out"]


async def test_stock_firmware_that_is_paired_again_without_a_graph_keeps_what_it_had(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty"))
        before = registry.boards.records()
        again = await registry.boards.pair(PairRequest(path=str(tmp_path / "tty")))
        assert (again["managed"], [port["name"] for port in again["ports"]]) == (True, ["fan", "temp"])
        assert registry.boards.records() == before
        left_alone = await registry.boards.pair(PairRequest(path=str(tmp_path / "tty"), upload=False))
        assert (left_alone["managed"], [port["name"] for port in left_alone["ports"]]) == (False, ["fan", "temp"])


async def test_boards_may_share_a_role_and_are_then_named_by_id(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty1"), simulated(tmp_path / "tty2"):
        one = await registry.boards.pair(request(tmp_path / "tty1"))
        await registry.boards.pair(request(tmp_path / "tty2"))
    with pytest.raises(GatewayError, match=f"name one by its id: {one['id']}, "):
        registry.boards.find("attic")
    assert registry.boards.find(one["id"]).path == str(tmp_path / "tty1")


async def test_one_board_with_damaged_files_does_not_stop_the_others(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty1"), simulated(tmp_path / "tty2"):
        broken = await registry.boards.pair(request(tmp_path / "tty1", role="broken"))
        good = await registry.boards.pair(request(tmp_path / "tty2", role="good"))
        (tmp_path / "state" / "boards" / broken["id"] / "graph.fbp").unlink()
        again = Registry(tmp_path / "state")
        with pytest.raises(AccessRefused, match="pair the board again"):
            async with again.boards.connector(broken["id"]).connect():
                pass
        async with again.boards.connector(good["id"]).connect():
            states = {entry["role"]: entry["state"] for entry in again.boards.status()}
        assert states == {"broken": "refused", "good": "running"}
        await again.boards.pair(request(tmp_path / "tty1", role="broken"))
        async with again.boards.connector(broken["id"]).connect():
            pass


def refused_open(mocker: MockerFixture, number: int) -> None:
    """Root may open everything, so the refusal must be made."""
    mocker.patch("serial.Serial.open", side_effect=serial.SerialException(number, "could not open port"))


async def test_a_port_without_permission_is_told_with_the_line_that_mends_it(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    async with simulated(tmp_path / "tty"):
        refused_open(mocker, errno.EACCES)
        problem = await refusal(tmp_path / "state", request(tmp_path / "tty"))
    assert isinstance(problem, PortForbidden)
    assert problem.exit_code == 3
    assert "you may not open it (it belongs to group " in str(problem)
    assert "sudo usermod -aG " in str(problem)


# -- what can be wrong with a port -------------------------------------------------------------------------------------


@contextmanager
def bare_pty(link: Path, answer: Callable[[bytes], bytes] = lambda data: b"") -> Iterator[None]:
    """Something on a pty that is no board; it says what ``answer`` makes of what it hears."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    link.symlink_to(os.ttyname(slave))
    loop = asyncio.get_running_loop()
    loop.add_reader(master, lambda: os.write(master, answer(os.read(master, 4096))))
    try:
        yield
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)


async def test_a_port_that_is_gone_when_its_speed_is_changed_is_lost() -> None:
    master, slave = os.openpty()
    port = await open_serial(os.ttyname(slave), PortOptions())
    os.close(slave)
    os.close(master)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    port.listen(lambda data: None, lost.set_result)
    port.set_baud(9600)
    async with asyncio.timeout(120):
        assert await lost == UNPLUGGED


async def refusal(state: Path, wanted: PairRequest) -> GatewayError:
    """Why it was not paired; nothing may be remembered."""
    registry = Registry(state)
    with pytest.raises(GatewayError) as caught:
        await registry.boards.pair(wanted)
    assert registry.boards.records() == ()
    assert not (state / "devices.json").exists()
    assert not (state / "boards").exists()
    return caught.value


async def test_a_missing_port_is_told(tmp_path: Path) -> None:
    problem = await refusal(tmp_path / "state", request(tmp_path / "nothing"))
    assert isinstance(problem, PortMissing)
    assert problem.exit_code == 4
    assert f"port {tmp_path}/nothing: there is no such port; see: gateway ports" in str(problem)


async def test_a_file_that_is_no_port_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = await refusal(tmp_path / "state", request(tmp_path / "file"))
    assert "is no serial port" in str(problem)
    problem = await refusal(tmp_path / "state", request("/dev/null"))
    assert "is no serial port" in str(problem)


async def test_a_busy_port_is_told_with_its_holder(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty"):
        holder = await asyncio.create_subprocess_exec(
            "flock", "--close", "--exclusive", str(tmp_path / "tty"), "-c", "echo held; read line", stdin=-1, stdout=-1
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        try:
            problem = await refusal(tmp_path / "state", request(tmp_path / "tty"))
        finally:
            await holder.communicate(b"\n")
    assert isinstance(problem, PortBusy)
    assert problem.exit_code == 5
    assert f"is in use by process {holder.pid} (flock)" in str(problem)


async def test_two_gateways_never_share_a_port(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty"):
        descriptor = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        problem = await refusal(tmp_path / "state", request(tmp_path / "tty"))
        os.close(descriptor)
    assert isinstance(problem, PortBusy)


async def test_a_silent_port_is_told(tmp_path: Path) -> None:
    with bare_pty(tmp_path / "tty"):
        problem = await refusal(tmp_path / "state", request(tmp_path / "tty"))
    assert isinstance(problem, ConnectFailed)
    assert problem.exit_code == 3
    assert "nothing answers (tried w10, w8-0.6, w8-0.4)" in str(problem)


@pytest.mark.parametrize(
    "answer",
    [lambda data: data, lambda data: b"ERROR\r\n" if data else b"", lambda data: os.urandom(len(data))],
    ids=["echo", "modem", "garbage"],
)
async def test_something_that_is_no_board_is_told(tmp_path: Path, answer: Callable[[bytes], bytes]) -> None:
    with bare_pty(tmp_path / "tty", answer):
        problem = await refusal(tmp_path / "state", request(tmp_path / "tty"))
    assert "something is on it, but it does not speak MicroFlo" in str(problem)


# -- what can be wrong with a request ----------------------------------------------------------------------------------


async def test_a_graph_needs_a_component_map_where_the_board_tells_none(tmp_path: Path) -> None:
    async with simulated(tmp_path / "tty"):
        wanted = PairRequest(path=str(tmp_path / "tty"), graph=Text("a.fbp", GRAPH))
        problem = await refusal(tmp_path / "state", wanted)
    assert isinstance(problem, ConfigError)
    assert "--components" in str(problem)


async def test_an_unknown_component_is_told_before_the_port_is_opened(tmp_path: Path) -> None:
    graph = Text("fan.fbp", "fan(Propeller) OUT -> IN other(Forward)")
    wanted = PairRequest(path="/nowhere", graph=graph, components=Text("components.json", COMPONENTS))
    problem = await refusal(tmp_path / "state", wanted)
    assert isinstance(problem, GraphError)
    assert str(problem).startswith("fan.fbp: fan(Propeller): no such component on this board")


async def test_a_port_that_the_graph_does_not_export_is_told(tmp_path: Path) -> None:
    ports = {"heat": PortMeaning(unit="°C")}
    graph, components = Text("attic.fbp", GRAPH), Text("components.json", COMPONENTS)
    wanted = PairRequest(path="/nowhere", graph=graph, components=components, ports=ports)
    problem = await refusal(tmp_path / "state", wanted)
    assert str(problem) == "attic.fbp: port heat: the graph exports no such port (it exports: fan, temp)"


async def test_a_board_that_refuses_the_graph_is_not_remembered(tmp_path: Path) -> None:
    components = COMPONENTS.replace('"id": 1,', '"id": 201,', 1)
    graph = Text("analog.fbp", "OUTPORT=a.OUT:out\na(AnalogRead)\n")
    wanted = PairRequest(path=str(tmp_path / "tty"), graph=graph, components=Text("components.json", components))
    async with simulated(tmp_path / "tty"):
        problem = await refusal(tmp_path / "state", wanted)
    assert "create component: the board refused with code 15" in str(problem)
    assert "does the component map belong to this firmware" in str(problem)


async def test_changing_a_board_is_kept(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        paired = await registry.boards.pair(request(tmp_path / "tty"))
    await registry.boards.rename("attic", "cellar")
    await registry.boards.set("cellar", "keep_running", "true")
    await registry.boards.set("cellar", "boot_wait_s", "3.5")
    (record,) = DevicesFile(tmp_path / "state" / "devices.json").load()
    assert (record.id, record.role, record.keep_running, record.boot_wait_s) == (paired["id"], "cellar", True, 3.5)
    assert registry.boards.participants()[0].outports[0].queue == "cellar/temp"
    with pytest.raises(GatewayError, match="there is no such setting"):
        await registry.boards.set("cellar", "colour", "red")
    await registry.boards.unpair("cellar")
    assert DevicesFile(tmp_path / "state" / "devices.json").load() == ()
    assert not (tmp_path / "state" / "boards" / paired["id"]).exists()
