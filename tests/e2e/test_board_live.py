"""A paired board as an FBP runtime of the installed gateway: edited, watched, stopped and given graphs while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.firmware.sources import component_map
from tests.support.anyboard import AnyBoard, running, warm
from tests.support.gateway import EXAMPLES, WAIT_S, Gateway, Process, gateway_with, pair, until
from tests.support.mosquitto import Mosquitto

CONFIG = '[mqtt]\nurl = "{url}"\n'
GRAPH = EXAMPLES / "thermometer.fbp"
SPEC = """\
topic: InvertBoolean
timeout: 60000
cases:
- {name: it, assertion: inverts, inputs: {in: true}, expect: {out: {equals: false}}}
"""
LOOP = "INPORT=echo.IN:in\nOUTPORT=echo.OUT:out\necho(Forward)\n"
SENSOR = {"node": "sensor", "port": "out"}
TRIGGER = {"src": {"node": "clock", "port": "out"}, "tgt": {"node": "sensor", "port": "trigger"}}


EVERY_KIND = pytest.mark.parametrize("site", ["simulator", "host"], indirect=True)
OURS = pytest.mark.parametrize("site", ["host"], indirect=True)


class Site:
    """A running gateway with one paired board that runs."""

    def __init__(self, board: AnyBoard, gateway: Gateway, role: str) -> None:
        self.board, self.gateway, self.role = board, gateway, role

    @property
    def device(self) -> dict[str, Any]:
        found: dict[str, Any] = self.gateway.json("devices")["devices"][0]
        return found

    def delivered(self, port: str) -> int:
        """How many readings of a port its own topic got; -1 if there is no such edge."""
        label = f"{self.role}.{port}->mqtt:{self.role}/{port}"
        return next((int(edge["delivered"]) for edge in self.gateway.status()["edges"] if edge["label"] == label), -1)


@pytest.fixture
def site(request: pytest.FixtureRequest, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Site]:
    kind = getattr(request, "param", "simulator")
    role = f"live-{kind}"
    with (
        running(kind, tmp_path, None) as board,
        gateway_with(tmp_path / "gateway", CONFIG.format(url=mosquitto.url)) as gateway,
    ):
        known = ["--components", str(component_map())] if kind == "simulator" else []
        meaning = "temp:type=number,scale=0.01,unit=°C"
        graph = tmp_path / "fast.fbp"
        graph.write_text(GRAPH.read_text().replace("'1000'", "'50'"))
        pair(gateway, board.link, "--role", role, "--graph", str(graph), "--port", meaning, *known)
        gateway.start()
        made = Site(board, gateway, role)
        until("the board runs", lambda: made.device["state"] == "running")
        yield made


class Editor:
    """An FBP client that keeps what it hears. It reads all the time: a client that does not is given up after a while."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: list[dict[str, Any]] = []

    async def listen(self) -> None:
        """Until the connection ends."""
        async for message in self._socket:
            self._arrived.put_nowait(message.json())

    async def say(self, protocol: str, command: str, **payload: Any) -> None:
        message = {"protocol": protocol, "command": command, "payload": payload, "requestId": command}
        await self._socket.send_json(message)

    async def until(self, command: str, **wanted: Any) -> Any:
        """The payload of the next message of this name in which these fields are so."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self._arrived.get()
                self.heard.append(message)
                assert message["command"] != "error" or command == "error", message
                payload = message["payload"]
                if message["command"] == command and all(payload.get(key) == value for key, value in wanted.items()):
                    return payload

    async def ask(self, protocol: str, command: str, answer: str = "", **payload: Any) -> Any:
        await self.say(protocol, command, **payload)
        return await self.until(answer or command)


@asynccontextmanager
async def editing(site: Site) -> AsyncIterator[Editor]:
    line = site.gateway.daemon.wait_line("gateway ready")
    url = next(part for part in line.split(", ") if part.startswith("ws://"))
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/devices/{site.role}", protocols=["noflo"]) as socket,
    ):
        editor = Editor(socket)
        listening = asyncio.create_task(editor.listen())
        try:
            yield editor
        finally:
            await socket.close()
            await listening


async def run(site: Site, *command: str) -> str:
    """A command of the gateway, while the client goes on."""
    return await asyncio.to_thread(site.gateway.good, *command)


async def seen(what: str, condition: Any) -> None:
    await asyncio.to_thread(until, what, condition, WAIT_S)


@EVERY_KIND
async def test_a_board_is_edited_watched_and_stopped_by_an_fbp_client(site: Site) -> None:
    main = f"{site.role}/main"
    warm(site.board, 3, 2154)
    async with editing(site) as editor:
        runtime = await editor.ask("runtime", "getruntime", "runtime")
        assert (runtime["type"], runtime["graph"]) == ("microflo", main)
        assert [port["id"] for port in (await editor.until("ports"))["outPorts"]] == ["temp"]
        await editor.ask("component", "list", "componentsready")
        assert "Forward" in [heard["payload"].get("name") for heard in editor.heard if heard["command"] == "component"]

        await editor.ask("network", "edges", graph=main, edges=[TRIGGER])
        assert (await editor.until("data"))["id"] == "clock() OUT -> TRIGGER sensor()"
        await editor.until("packet", port="temp", payload=21.54)

        await editor.ask("graph", "addnode", id="copy", component="Forward", graph=main)
        await editor.ask("graph", "addedge", src=SENSOR, tgt={"node": "copy", "port": "in"}, graph=main)
        await editor.ask("graph", "addoutport", public="again", node="copy", port="out", graph=main)
        assert {port["id"] for port in (await editor.until("ports"))["outPorts"]} == {"temp", "again"}
        assert (await editor.until("packet", port="again"))["payload"] == 2154
        await seen("the new port's readings are published", lambda: site.delivered("again") > 1)
        kept = json.loads((site.gateway.state / "boards" / site.device["id"] / "graph.json").read_text())
        assert "copy" in kept["processes"]
        assert site.device["counters"]["uploads"] == 1

        await editor.say("graph", "addnode", id="x", component="Oven", graph=main)
        assert "no such component" in (await editor.until("error"))["message"]

        await editor.ask("runtime", "packet", "packetsent", graph=main, port="fan", event="data", payload=True)
        await seen("the pin is on", lambda: site.board.ask("get 7")["value"] == 1)

        await editor.ask("network", "stop", "stopped", graph=main)
        assert (await editor.ask("network", "getstatus", "status", graph=main))["running"] is False
        await editor.ask("network", "start", "started", graph=main)
        await editor.until("packet", port="again")

        (site.gateway.directory / "loop.fbp").write_text(LOOP)
        said = await run(site, "upload", site.role, str(site.gateway.directory / "loop.fbp"))
        assert "runs" in said
        await editor.until("addnode", id="echo")
        await editor.ask("runtime", "packet", "packetsent", graph=main, port="in", event="data", payload=[1, 2])
        if not any(heard["payload"].get("payload") == [1, 2] for heard in editor.heard if heard["command"] == "packet"):
            await editor.until("packet", port="out", payload=[1, 2])
    assert [port["name"] for port in site.device["ports"]] == ["in", "out"]
    assert site.device["counters"]["handshakes"] == 0


def test_a_graph_is_uploaded_with_and_without_a_gateway_and_a_wrong_one_is_not(site: Site) -> None:
    gateway = site.gateway
    loop, wrong = gateway.directory / "loop.fbp", gateway.directory / "wrong.fbp"
    loop.write_text(LOOP)
    wrong.write_text("a(Forward) OUT -> IN nobody\n")
    refused = gateway.run("upload", site.role, str(wrong))
    assert (refused.returncode, "nobody" in refused.stderr) == (1, True)
    assert gateway.run("upload", "cellar", str(loop)).returncode == 4
    before = site.delivered("temp")
    until("it reports as before", lambda: site.delivered("temp") > before + 1)
    assert gateway.json("upload", site.role, str(loop))["upload"]["nodes"] == 1
    gateway.good("send", site.role, "in", "5")
    until("it comes back", lambda: site.delivered("out") == 1)
    assert gateway.daemon.stop() == 0
    assert "runs" in gateway.good("upload", site.role, str(GRAPH))
    gateway.start()
    until("the board runs", lambda: site.device["state"] == "running")
    assert [port["name"] for port in site.device["ports"]] == ["fan", "temp"]
    assert [port["scale"] for port in site.device["ports"]] == [None, 0.01]


@OURS
def test_the_line_is_watched_recorded_and_played_and_pins_are_set_through_the_gateway(site: Site) -> None:
    gateway = site.gateway
    monitor = Process(*gateway.arguments("monitor", site.role))
    try:
        assert " packet sent sensor.out: " in monitor.wait_line("packet sent sensor.out", WAIT_S)
        gateway.good("send", site.role, "fan", "true")
        assert "fan.in" in monitor.wait_line("> send packet", WAIT_S)
    finally:
        monitor.stop()
    done = gateway.run("io", "set", site.role, "5", "700")
    assert (done.returncode, "has no simulated pins" in done.stderr) in {(0, False), (1, True)}
    assert gateway.daemon.stop() == 0
    recordings = gateway.directory / "lines"
    gateway.start("--record", str(recordings))
    until("readings come", lambda: site.delivered("temp") > 3)
    assert gateway.daemon.stop() == 0
    (recording,) = recordings.iterdir()
    link = gateway.directory / "tty-replay"
    replay = Process("simulate", "--link", str(link), "--replay", str(recording))
    try:
        replay.wait_line("board ready")
        gateway.good("unpair", site.role)
        pair(
            gateway,
            link,
            "--role",
            site.role,
            "--graph",
            str(GRAPH),
            "--no-upload",
            "--components",
            str(component_map()),
        )
    finally:
        replay.stop()


def test_a_tested_board_gets_its_own_graph_back_and_a_port_s_contract_is_kept(site: Site) -> None:
    gateway = site.gateway
    line = gateway.daemon.wait_line("gateway ready")
    url = next(part for part in line.split(", ") if part.startswith("ws://"))
    spec = gateway.directory / "spec.yaml"
    spec.write_text(SPEC)
    assert "1 passed" in gateway.good("test", str(spec), "--address", url, "--board", site.role)
    before = site.delivered("temp")
    until("its own graph reports again", lambda: site.delivered("temp") > before + 2)
    assert "temp.mode = stored" in gateway.good("set", site.role, "temp.mode=stored")
    assert gateway.run("set", site.role, "temp.mode=sturdy").returncode == 2
    bindings = gateway.json("bindings")["bindings"]
    (edge,) = [entry for entry in bindings if entry["label"].startswith(f"{site.role}.temp->mqtt")]
    assert edge["mode"] == "stored"
    until("readings come", lambda: site.delivered("temp") > 1)
