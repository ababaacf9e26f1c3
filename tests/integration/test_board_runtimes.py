"""The FBP runtimes of paired boards as boards come and go."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.daemon.board_runtimes import BoardRuntimes
from gateway.errors import GraphError
from gateway.fbp.runtime.access import Access
from gateway.fbp.text.language import parse
from gateway.model.edits import AddNode
from gateway.model.graph import Node
from gateway.serial_link.paired.graph_store import BoardGraphStore
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.web.server import WebServer
from tests.support.boards import COMPONENTS, LOOP_GRAPH, Registry, request, simulated

WAIT_S = 120.0


async def test_the_editors_of_a_board_that_is_unpaired_are_sent_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH))
    runtimes = BoardRuntimes(registry.boards, BoardGraphStore(registry.boards))
    server = WebServer("127.0.0.1:0", Access(), runtimes.runtime, dict)
    async with server.listening(), aiohttp.ClientSession() as http:
        address = f"http://127.0.0.1:{server.port}/devices/attic"
        async with http.ws_connect(address) as socket:
            await socket.send_json(
                {"protocol": "network", "command": "edges", "payload": {"graph": "attic/main", "edges": []}}
            )
            assert (await socket.receive_json(timeout=WAIT_S))["command"] == "edges"
            await registry.boards.unpair("attic")
            runtimes.changed()
            await socket.send_json({"protocol": "runtime", "command": "getruntime", "payload": {}})
            heard = await socket.receive(timeout=WAIT_S)
            assert heard.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await http.ws_connect(address)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_edit_of_a_graph_that_was_replaced_meanwhile_changes_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    graphs = BoardGraphStore(registry.boards)
    other = "INPORT=first.IN:in\nfirst(Forward) OUT -> IN second(Forward)\n"
    async with simulated(tmp_path / "tty"):
        paired = await registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH))
        runtime = BoardRuntimes(registry.boards, graphs).runtime("attic")
        assert runtime is not None
        async with registry.boards.connector(paired["id"]).connect():
            uploading = asyncio.ensure_future(graphs.upload("attic", Text("two.fbp", other)))
            await asyncio.sleep(0)  # it has its turn
            with pytest.raises(GraphError, match="somebody gave it another graph meanwhile"):
                await runtime.apply("attic/main", [AddNode(Node("late", "Forward"))])
            await uploading
            assert registry.boards.profile(paired["id"]).graph == parse(other, "")
            await runtime.apply("attic/main", [AddNode(Node("late", "Forward"))])


@asynccontextmanager
async def editor(registry: Registry) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """An FBP client of the board ``attic``, as the daemon has its parts together."""
    runtimes = BoardRuntimes(registry.boards, BoardGraphStore(registry.boards))
    registry.on_change = runtimes.changed
    server = WebServer("127.0.0.1:0", Access(), runtimes.runtime, dict)
    async with (
        server.listening(),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{server.port}/devices/attic") as socket,
    ):
        await socket.send_json(
            {"protocol": "network", "command": "edges", "payload": {"graph": "attic/main", "edges": []}}
        )
        assert (await socket.receive_json(timeout=WAIT_S))["command"] == "edges"
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[tuple[str, str, str]]:
    """The next messages: protocol, command, and what it is about."""
    found = []
    for _ in range(count):
        message = await socket.receive_json(timeout=WAIT_S)
        payload = message["payload"]
        name = payload.get("name") or payload.get("id") or payload.get("public") or ""
        found.append((message["protocol"], message["command"], name))
    return found


async def test_the_editors_of_a_board_that_is_paired_again_are_told_what_is_another_now(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    tty = tmp_path / "tty"
    forward = json.loads(COMPONENTS)
    forward["components"] = {name: component for name, component in forward["components"].items() if name != "Count"}
    async with simulated(tty):
        few = Text("few.json", json.dumps(forward))
        first = PairRequest(path=str(tty), role="attic", graph=Text("loop.fbp", LOOP_GRAPH), components=few)
        await registry.boards.pair(first)
        async with editor(registry) as socket:
            other = LOOP_GRAPH.replace("echo(Forward)", "echo(Forward) OUT -> IN late(Forward)")
            await registry.boards.pair(request(tty, other))
            assert await heard(socket, 3) == [
                ("component", "component", "Count"),
                ("graph", "addnode", "late"),
                ("graph", "addedge", ""),
            ]
            await registry.boards.pair(request(tty, LOOP_GRAPH))
            assert await heard(socket, 2) == [("graph", "removeedge", ""), ("graph", "removenode", "late")]


async def test_the_editors_of_a_board_that_gets_another_role_are_sent_away(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        await registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH))
        async with editor(registry) as socket:
            await registry.boards.rename("attic", "cellar")
            ended = await socket.receive(timeout=WAIT_S)
            assert ended.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
