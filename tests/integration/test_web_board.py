"""A board behind the FBP runtime protocol, over a WebSocket: what MicroFlo's own runtime answers, this answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import DeliveryRefused, GraphError
from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.backend import Asked, Change, Cleared, Edited
from gateway.fbp.text.graph_files import load_graph
from gateway.firmware.sources import component_map
from gateway.model.component import ComponentLibrary
from gateway.model.edits import AddNode, ChangeNode
from gateway.model.graph import Graph, Json, Node
from gateway.model.port import PortRef
from gateway.serial_link.description.component_map import parse_component_map
from gateway.web.board_runtime import BoardRuntime
from gateway.web.server import WebServer

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT_S = 120.0
MAIN = "attic/main"


class Board:
    """A board as its runtime sees it: runs the example's firmware, and does what it is told."""

    def __init__(self) -> None:
        path = component_map()
        self.id, self.role = "b1", "attic"
        self.graph: Graph | None = load_graph(EXAMPLES / "thermometer.fbp")
        self.library: ComponentLibrary = parse_component_map(path.read_text(), str(path))
        self.is_running = True
        self.tried: Graph | None = None
        self.watched: frozenset[PortRef] = frozenset()
        self.sent: list[tuple[str, Json]] = []
        self.heard: Callable[[PortRef, Json], None] = lambda port, value: None
        self.busy = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def replace_graph(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
        self.graph, self.is_running = graph, True
        then()

    async def try_graph(self, graph: Graph) -> None:
        self.busy.set()
        await self.free.wait()
        self.tried, self.is_running = graph, True

    def give_back(self) -> None:
        self.tried = None

    async def start_network(self) -> None:
        self.is_running = True

    async def stop_network(self) -> None:
        self.is_running = False

    async def send(self, port: str, payload: Json) -> None:
        if payload == "warm":
            raise DeliveryRefused(f"serial:b1.{port}", "m", "'warm' is no boolean")
        self.sent.append((port, payload))

    def watch(self, ports: frozenset[PortRef]) -> None:
        self.watched = ports

    def on_packet(self, heard: Callable[[PortRef, Json], None]) -> None:
        self.heard = heard


class Client:
    """A client of the board's runtime."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, protocol: str, command: str, **payload: Any) -> Any:
        await self._socket.send_json({"protocol": protocol, "command": command, "payload": payload})
        return await self.hear()

    async def hear(self) -> Any:
        return await self._socket.receive_json(timeout=WAIT_S)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Board, Client]]:
    board = Board()
    runtime = BoardRuntime(board)
    server = WebServer("127.0.0.1:0", Access(), {"attic": runtime}.get, dict)
    async with (
        server.listening(),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{server.port}/devices/attic") as socket,
    ):
        yield board, Client(socket)


async def test_a_board_is_a_microflo_runtime_with_its_graph_and_ports() -> None:
    async with connected() as (_, client):
        runtime = (await client.ask("runtime", "getruntime"))["payload"]
        assert (runtime["type"], runtime["graph"]) == ("microflo", MAIN)
        ports = (await client.hear())["payload"]
        assert [port["id"] for port in ports["inPorts"]] == ["fan"]
        source = (await client.ask("component", "getsource", name=MAIN))["payload"]
        assert '"Thermometer"' in source["code"]


async def test_the_components_are_those_of_the_firmware() -> None:
    async with connected() as (board, client):
        names = [(await client.ask("component", "list"))["payload"]["name"]]
        while (heard := await client.hear())["command"] == "component":
            names.append(heard["payload"]["name"])
        assert heard["payload"] == len(names)
        assert names == list(board.library.by_name)


async def test_an_edit_is_on_the_board_before_it_is_answered_and_a_wrong_one_changes_nothing() -> None:
    async with connected() as (board, client):
        answer = await client.ask("graph", "addnode", id="led", component="DigitalWrite", graph=MAIN)
        assert answer["command"] == "addnode"
        assert board.graph is not None
        assert board.graph.has_node("led")
        answer = await client.ask("graph", "addnode", id="x", component="Oven", graph=MAIN)
        assert answer["command"] == "error"
        assert "no such component on this board" in answer["payload"]["message"]
        assert not board.graph.has_node("x")


async def test_others_are_told_of_an_edit_whose_client_hung_up_when_it_was_done() -> None:
    class Slow(Board):
        async def replace_graph(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
            await super().replace_graph(graph, edited, then)
            raise asyncio.CancelledError

    runtime, told = BoardRuntime(Slow()), list[Change]()
    runtime.listen(told.append)
    with pytest.raises(asyncio.CancelledError):
        await runtime.apply(MAIN, [AddNode(Node("led", "DigitalWrite"))])
    with pytest.raises(asyncio.CancelledError):
        await runtime.clear("other", {})
    assert [type(change) for change in told] == [Edited, Cleared]
    assert list(runtime.graphs()) == ["other"]


async def test_a_watched_edge_is_subscribed_on_the_board_and_shown() -> None:
    async with connected() as (board, client):
        edge = {"src": {"node": "clock", "port": "out"}, "tgt": {"node": "sensor", "port": "trigger"}}
        await client.ask("network", "edges", graph=MAIN, edges=[edge])
        assert board.watched == {PortRef("clock", "out")}
        board.heard(PortRef("clock", "out"), True)
        assert (await client.hear())["payload"]["id"] == "clock() OUT -> TRIGGER sensor()"
        board.heard(PortRef("sensor", "out"), 2154)
        assert (await client.hear())["payload"] == {"port": "temp", "event": "data", "graph": MAIN, "payload": 2154}
        await client.ask("network", "edges", graph=MAIN, edges=[])
        assert board.watched == frozenset()


async def test_packets_go_to_exported_inports_and_a_refusal_is_told() -> None:
    async with connected() as (board, client):
        answer = await client.ask("runtime", "packet", graph=MAIN, port="fan", event="data", payload=True)
        assert (answer["command"], board.sent) == ("packetsent", [("fan", True)])
        answer = await client.ask("runtime", "packet", graph=MAIN, port="fan", event="data", payload="warm")
        assert (answer["command"], "no boolean" in answer["payload"]["message"]) == ("error", True)


async def test_the_network_is_stopped_and_started_on_the_board() -> None:
    async with connected() as (board, client):
        assert (await client.ask("network", "stop", graph=MAIN))["payload"]["started"] is False
        assert (await client.ask("network", "getstatus", graph=MAIN))["payload"]["running"] is False
        assert not board.is_running
        assert (await client.ask("network", "start", graph=MAIN))["payload"]["started"] is True
        assert (await client.hear())["payload"]["id"] == "DATA -> INTERVAL clock()"


async def test_a_cleared_graph_takes_the_id_that_the_client_gave() -> None:
    async with connected() as (board, client):
        assert (await client.ask("graph", "clear", id="g"))["command"] == "clear"
        assert (await client.hear())["payload"] == {"graph": "g", "inPorts": [], "outPorts": []}
        assert board.graph == Graph()
        answer = await client.ask("graph", "addnode", id="t", component="Timer", graph="g")
        assert answer["payload"] == {"id": "t", "component": "Timer", "graph": "g"}


async def test_a_graph_on_trial_is_not_saved_and_goes_with_its_client() -> None:
    async with connected() as (board, client):
        own = board.graph
        assert (await client.ask("graph", "clear", id="fixture", name="fixture", main=False))["command"] == "clear"
        await client.ask("graph", "addnode", id="t", component="Timer", graph="fixture")
        assert board.tried is not None
        assert board.tried.has_node("t")
        assert board.graph is own
        refused = await client.ask("graph", "addnode", id="t", component="Timer", graph=MAIN)
        assert "a test runs on this board" in refused["payload"]["message"]
    assert board.tried is None
    assert board.graph is own


async def test_an_edit_of_a_trial_that_ends_meanwhile_is_refused_and_leaves_nothing_on_the_board() -> None:
    board = Board()
    runtime = BoardRuntime(board)
    await runtime.clear("fixture", {"main": False}, Asked("owner"))
    board.busy.clear()
    board.free.clear()
    edit = asyncio.create_task(runtime.apply("fixture", [AddNode(Node("t", "Timer"))], Asked("other")))
    await board.busy.wait()
    runtime.unwatch("owner")
    board.free.set()
    with pytest.raises(GraphError, match="has ended meanwhile"):
        await edit
    assert board.tried is None
    assert "fixture" not in runtime.graphs()


async def test_a_graph_that_would_be_too_long_for_its_file_is_refused() -> None:
    board = Board()
    before = board.graph
    with pytest.raises(GraphError, match="could not be read again"):
        await BoardRuntime(board).apply(MAIN, [ChangeNode("clock", {"x": "x" * (16 << 20)})])
    assert board.graph is before
