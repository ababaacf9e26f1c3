"""The graph of the running gateway: wired from the command line and by FBP clients, saved whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import paho.mqtt.publish
import pytest

from tests.support.clients import MqttParticipant
from tests.support.gateway import WAIT_S, Gateway, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto

CONFIG = '[gateway]\ninstance = "live"\n[mqtt]\nurl = "{url}"\n[coordinator]\ndiscovery_period_s = 4\n'
MARK = b'"mark"'


@pytest.fixture
def gateway(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Gateway]:
    with gateway_with(tmp_path / "gateway", CONFIG.format(url=mosquitto.url)) as made:
        yield made


def web_url(gateway: Gateway) -> str:
    line = gateway.daemon.wait_line("gateway ready")
    return next(part for part in line.split(", ") if part.startswith("ws://"))


def saved(gateway: Gateway) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((gateway.state / "graph.json").read_text())
    return document


def readings(gateway: Gateway) -> int:
    """How many readings the board's own topic got."""
    edges = {edge["label"]: edge["delivered"] for edge in gateway.status()["edges"]}
    return int(edges["attic.temp->mqtt:attic/temp"])


def pending(gateway: Gateway) -> int:
    """How many messages of any edge are under way."""
    return sum(int(edge["pending"]) for edge in gateway.status()["edges"])


class Editor:
    """An FBP client."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, protocol: str, command: str, **payload: Any) -> None:
        await self.socket.send_json({"protocol": protocol, "command": command, "payload": payload})

    async def until(self, command: str) -> Any:
        while (message := await self.socket.receive_json(timeout=WAIT_S))["command"] != command:
            assert message["command"] != "error", message
        return message["payload"]


def test_a_sensor_is_wired_without_an_editor(gateway: Gateway, mosquitto: Mosquitto, tmp_path: Path) -> None:
    archive = MqttParticipant(mosquitto.url, "archive", inports=("in",))
    try:
        with simulated_board(tmp_path) as board:
            gateway.start()
            gateway.wait_up("mqtt")
            pair_thermometer(gateway, board)
            until("archive was heard", lambda: "archive" in gateway.good("participants"))

            shown = gateway.good("graph", "connect", "attic.temp", "archive.in", "--dry-run")
            assert "+ edge attic.temp->archive.in" in shown
            assert "dry run" in shown
            assert not (gateway.state / "graph.json").exists()

            shown = gateway.good("graph", "connect", "attic.temp", "archive.in")
            assert shown.splitlines()[-1] == "done and saved"
            assert list(saved(gateway)["processes"]) == ["attic", "archive"]
            assert "attic.temp -> archive.in" in gateway.good("graph", "show")
            until("readings arrive", lambda: len(archive.on("in")) >= 2)

            again = gateway.run("graph", "connect", "attic.temp", "archive.in")
            assert (again.returncode, "has this edge already" in again.stderr) == (5, True)
            wrong = gateway.run("graph", "connect", "attic.heat", "archive.in")
            assert (wrong.returncode, "no outport heat" in wrong.stderr) == (4, True)
            unwired = gateway.run("graph", "disconnect", "attic.temp", "archive.other")
            assert (unwired.returncode, "has no such edge" in unwired.stderr) == (4, True)

            gateway.good("graph", "disconnect", "attic.temp", "archive.in")
            assert saved(gateway)["connections"] == []
            until("what was under way has left the gateway", lambda: pending(gateway) == 0)
            paho.mqtt.publish.single("archive/in", MARK, qos=1, hostname="127.0.0.1", port=mosquitto.port)
            until("and is here", lambda: MARK in archive.on("in"))
            published = readings(gateway)
            until("the board went on reporting", lambda: readings(gateway) >= published + 2)
            paho.mqtt.publish.single("archive/in", MARK, qos=1, hostname="127.0.0.1", port=mosquitto.port)
            until("nothing came meanwhile", lambda: archive.on("in").count(MARK) == 2)
            assert archive.on("in")[-2:] == [MARK, MARK]
            count = len(archive.on("in"))

            (tmp_path / "wanted.fbp").write_text("attic(thermometer) TEMP -> IN archive(Elsewhere)\nlater(X)\n")
            assert "+ node later (X)" in gateway.good("graph", "apply", str(tmp_path / "wanted.fbp"))
            assert gateway.good("graph", "apply", str(tmp_path / "wanted.fbp")) == "nothing to change\n"
            until("readings arrive again", lambda: len(archive.on("in")) > count)
    finally:
        archive.close()


def test_an_editor_sees_the_readings_of_a_board_on_the_edge_that_it_drew(
    gateway: Gateway, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async def draw_and_watch(url: str) -> Any:
        async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=("noflo",)) as socket:
            editor, graph = Editor(socket), "default/main"
            ends = {"src": {"node": "attic", "port": "temp"}, "tgt": {"node": "later", "port": "in"}}
            await editor.say("graph", "addnode", id="attic", component="thermometer", graph=graph)
            await editor.say("graph", "addnode", id="later", component="X", graph=graph)
            await editor.say("graph", "addedge", **ends, graph=graph)
            await editor.say("network", "edges", graph=graph, edges=[ends])
            await editor.until("edges")
            return await editor.until("data")

    with simulated_board(tmp_path) as board:
        gateway.start()
        pair_thermometer(gateway, board)
        gateway.wait_up("mqtt")
        data = asyncio.run(draw_and_watch(web_url(gateway)))
    assert data["id"] == "attic() TEMP -> IN later()"
    assert isinstance(data["data"], float)


def test_a_kill_in_the_middle_of_edits_leaves_a_whole_graph_with_everything_that_was_confirmed(
    gateway: Gateway,
) -> None:
    async def edit(url: str, start: int, pid: int) -> int:
        """Add nodes as fast as it goes; kill after some; how many were confirmed."""
        confirmed = start
        async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
            editor = Editor(socket)
            for number in range(start, start + 200):
                await editor.say("graph", "addnode", id=f"n{number}", component="X", graph="default/main")
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["command"] == "addnode":
                    confirmed += 1
                    if confirmed == start + 7:
                        os.kill(pid, signal.SIGKILL)
        return confirmed

    total = 0
    for _ in range(3):
        gateway.start()
        confirmed = asyncio.run(edit(web_url(gateway), total, gateway.daemon.pid))
        gateway.daemon.kill()
        nodes = list(saved(gateway)["processes"])
        assert nodes == [f"n{number}" for number in range(len(nodes))]
        assert confirmed <= len(nodes) <= confirmed + 200
        total = len(nodes)
    assert total >= 21


def test_the_address_of_another_gateway_is_a_conflict_only_where_it_was_asked_for(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.start()
    taken = web_url(gateway).removeprefix("ws://")
    with gateway_with(tmp_path / "second", '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n') as second:
        done = second.run("run", "--port", taken.rpartition(":")[2])
        assert done.returncode == 5
        assert f"http {taken}" in done.stderr
