"""The web server with real WebSocket clients: FBP conversations, who may connect, health, metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.errors import ConfigError, Conflict
from gateway.fbp.runtime.access import ALL, READ_ONLY, Access
from gateway.fbp.runtime.backend import Backend
from gateway.model.edits import ChangeNode
from gateway.model.graph import Graph
from gateway.web.server import WebServer
from tests.support.fbp_runtime import ANY_ENDS, SmallRuntime

MAIN = "default/main"
WAIT_S = 120.0
STATUS: dict[str, Any] = {
    "gateway": {"instance": "shed", "version": "1.2", "since": 1700000000.5},
    "links": [{"name": "mqtt", "state": "up", "connects": 3, "attempts": 4}],
    "boards": [{"id": "b1", "role": "attic", "state": "running"}],
    "edges": [{"id": 'a.out->"b".in', "accepted": 5, "delivered": 4, "pending": 1, "oldest_s": 0.25}],
    "spool": {"records": 7, "problem": ""},
    "waiting": {"x": "y"},
    "refused": {"x": "z"},
    "discovery": {"heard": 9, "refused": {"bad": 2}},
}


class Client:
    """An FBP client on a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, protocol: str, command: str, payload: Any = None, **outside: Any) -> None:
        await self.socket.send_json({"protocol": protocol, "command": command, "payload": payload, **outside})

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=WAIT_S)
        return message

    async def hear_until(self, command: str) -> list[dict[str, Any]]:
        heard = [await self.hear()]
        while heard[-1]["command"] != command:
            heard.append(await self.hear())
        return heard


class Server:
    """A server with its runtimes, and clients of it."""

    def __init__(self, server: WebServer, runtime: SmallRuntime, http: aiohttp.ClientSession) -> None:
        self.server, self.runtime, self.http = server, runtime, http
        self.status = dict(STATUS)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server.port}{path}"

    @asynccontextmanager
    async def client(self, path: str = "/", **options: Any) -> AsyncIterator[Client]:
        async with self.http.ws_connect(self.url(path), protocols=("noflo",), **options) as socket:
            yield Client(socket)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.http.get(self.url(path), headers=headers) as response:
            return response.status, await response.text()


@asynccontextmanager
async def serving(access: Access | None = None, **options: Any) -> AsyncIterator[Server]:
    runtime, board = SmallRuntime(**options), SmallRuntime("board/main")
    runtimes: Mapping[str, Backend] = {"": runtime, "attic": board}
    async with aiohttp.ClientSession() as http:
        made: list[Server] = []
        web = WebServer("127.0.0.1:0", access or Access(), runtimes.get, lambda: made[0].status)
        async with web.listening():
            made.append(Server(web, runtime, http))
            yield made[0]


def node(name: str) -> dict[str, Any]:
    return {"id": name, "component": "core/Repeat", "graph": MAIN}


async def test_a_client_is_greeted_in_its_subprotocol_and_answered() -> None:
    async with serving() as server, server.client() as client:
        assert client.socket.protocol == "noflo"
        await client.say("runtime", "getruntime", {"secret": None}, requestId="1")
        assert (await client.hear())["responseTo"] == "1"
        assert (await client.hear())["command"] == "ports"


async def test_a_client_without_a_subprotocol_is_served_too() -> None:
    async with serving() as server, server.http.ws_connect(server.url("/")) as socket:
        await Client(socket).say("component", "list")
        assert (await Client(socket).hear())["command"] == "component"


async def test_answers_leave_in_the_order_of_the_requests_even_when_saving_is_slow() -> None:
    async with serving(slow_s=0.05) as server, server.client() as client:
        await client.say("graph", "addnode", node("a"))
        await client.say("network", "getstatus", {"graph": MAIN})
        await client.say("graph", "addnode", node("b"))
        heard = [await client.hear() for _ in range(3)]
        assert [message["command"] for message in heard] == ["addnode", "status", "addnode"]
        assert [heard[0]["payload"]["id"], heard[2]["payload"]["id"]] == ["a", "b"]


async def test_every_client_sees_the_edits_of_the_others_and_all_end_with_one_graph() -> None:
    async with serving(slow_s=0.001) as server, server.client() as one, server.client() as two:
        for number in range(20):
            await one.say("graph", "addnode", node(f"one{number}"), requestId=f"r{number}")
            await two.say("graph", "addnode", node(f"two{number}"))
            await one.say("graph", "addnode", node(f"both{number}"))
            await two.say("graph", "addnode", node(f"both{number}"))

        async def nodes(client: Client) -> list[str]:
            seen: list[str] = []
            while len(seen) < 60:
                message = await client.hear()
                if message["command"] != "error":
                    seen.append(message["payload"]["id"])
            return seen

        of_one, of_two = await asyncio.gather(nodes(one), nodes(two))
        assert of_one == of_two == [held.id for held in server.runtime.graphs()[MAIN].nodes]


async def test_errors_go_to_the_asker_alone() -> None:
    async with serving() as server, server.client() as one, server.client() as two:
        await two.say("runtime", "getruntime")
        await two.hear_until("ports")
        await one.say("graph", "addnode", {**node("a"), "component": "no/Such"})
        assert (await one.hear())["command"] == "error"
        await one.say("graph", "addnode", node("a"))
        assert (await two.hear())["command"] == "addnode"


async def test_a_started_network_shows_its_data_and_its_packets() -> None:
    async with serving() as server, server.client() as client:
        await client.say("graph", "clear", {"id": "g", "baseDir": "/x"})
        for name, component in (("a", "core/Repeat"), ("b", "core/Drop")):
            await client.say("graph", "addnode", {"id": name, "component": component, "graph": "g"})
        ends = {"src": {"node": "a", "port": "out"}, "tgt": {"node": "b", "port": "in"}}
        await client.say("graph", "addedge", {**ends, "graph": "g"})
        await client.say("graph", "addinitial", {"src": {"data": 5}, "tgt": {"node": "a", "port": "in"}, "graph": "g"})
        await client.say("graph", "addoutport", {"public": "o", "node": "a", "port": "out", "graph": "g"})
        await client.hear_until("ports")
        await client.say("network", "start", {"graph": "g"})
        await client.say("network", "stop", {"graph": "g"})
        heard = await client.hear_until("stopped")
        assert [message["command"] for message in heard] == ["started", "data", "packet", "data", "stopped"]
        assert heard[2]["payload"] == {"port": "o", "event": "data", "graph": "g", "payload": 5}


async def test_a_frame_of_more_than_a_mebibyte_ends_that_connection_only() -> None:
    async with serving() as server, server.client() as other, server.client() as client:
        await client.socket.send_str("x" * (1 << 20) + "yz")
        message = await client.socket.receive(timeout=WAIT_S)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        await other.say("network", "getstatus", {"graph": MAIN})
        assert (await other.hear())["command"] == "status"


async def test_nonsense_and_bytes_are_answered_and_the_conversation_goes_on() -> None:
    async with serving() as server, server.client() as client:
        await client.socket.send_str("{nonsense")
        await client.socket.send_bytes(b"\xff\x00")
        assert [(await client.hear())["command"] for _ in range(2)] == ["error", "error"]
        await client.say("network", "getstatus", {"graph": MAIN})
        assert (await client.hear())["command"] == "status"


async def test_a_client_that_does_not_read_is_dropped_and_holds_nobody_up() -> None:
    async with serving() as server, server.client() as quick, server.client() as slow:
        for client in (quick, slow):
            await client.say("runtime", "getruntime")
            await client.hear_until("ports")
        transport = slow.socket._conn.transport if slow.socket._conn else None
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        await quick.say("graph", "addnode", node("a"))
        await quick.hear()
        for number in range(800):  # more than the sockets' buffers take, and 4 MiB besides
            await server.runtime.apply(MAIN, [ChangeNode("a", {"x": f"{number}" * 20_000})])
            await quick.hear()
        await quick.say("network", "getstatus", {"graph": MAIN})
        assert (await quick.hear())["command"] == "status"
        transport.resume_reading()
        while (await slow.socket.receive(timeout=WAIT_S)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert slow.socket.closed


async def test_many_answers_to_one_request_are_no_reason_to_drop_the_client() -> None:
    async with serving() as server, server.client() as client:
        known = server.runtime.known
        known.update({f"c{n}": known["core/Drop"] for n in range(3000)})
        await client.say("component", "list")
        assert len(await client.hear_until("componentsready")) == 3003


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async with serving() as server:
        async with server.client() as client:
            await client.say("network", "start", {"graph": MAIN})
            await client.hear()
            assert server.runtime.watches.wants(MAIN, ANY_ENDS)
        async with asyncio.timeout(WAIT_S):
            await server.runtime.left.wait()
        assert not server.runtime.watches.wants(MAIN, ANY_ENDS)
        await server.runtime.apply(MAIN, [])


async def test_boards_are_runtimes_of_their_own() -> None:
    async with serving() as server:
        async with server.client("/devices/attic") as client:
            await client.say("runtime", "getruntime")
            assert (await client.hear())["payload"]["graph"] == "board/main"
        assert await server.get("/devices/nobody") == (404, "no board nobody; see: gateway devices\n")


# -- who may connect ---------------------------------------------------------------------------------------------


async def refused(server: Server, **headers: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with server.client(headers=headers):
            pass
    return caught.value.status


async def test_without_a_secret_pages_of_other_sites_are_refused() -> None:
    async with serving() as server:
        assert await refused(server, Origin="https://app.example.org") == 403
        assert await refused(server, Origin="null") == 403
        assert await refused(server, Host="rebound.example.org:3569") == 403
        async with server.client(headers={"Origin": "http://localhost:8080"}):
            pass


async def test_with_a_secret_pages_of_other_sites_get_nothing_before_they_show_it() -> None:
    async with serving(Access(READ_ONLY, {"key": ALL})) as server:
        async with server.client(headers={"Origin": "https://app.example.org"}) as page:
            await page.say("component", "getsource", {"name": MAIN})
            assert (await page.hear())["command"] == "error"
            await page.say("component", "getsource", {"name": MAIN}, secret="key")
            assert (await page.hear())["command"] == "source"
        async with server.client() as local:
            await local.say("component", "getsource", {"name": MAIN})
            assert (await local.hear())["command"] == "source"


def test_an_open_address_needs_a_secret() -> None:
    for listen in ("0.0.0.0:3569", "[::]:3569", "192.168.1.5:80", "shed.local:1"):
        with pytest.raises(ConfigError, match=r"http\.secret_file"):
            WebServer(listen, Access(), lambda name: None, dict)
        WebServer(listen, Access(READ_ONLY, {"key": ALL}), lambda name: None, dict)
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        WebServer("3569", Access(), lambda name: None, dict)


async def test_a_taken_port_is_a_conflict_that_names_it() -> None:
    async with serving() as server:
        second = WebServer(f"127.0.0.1:{server.server.port}", Access(), lambda name: None, dict)
        with pytest.raises(Conflict, match=str(server.server.port)):
            async with second.listening():
                pass


# -- health ------------------------------------------------------------------------------------------------------


async def test_health_and_readiness() -> None:
    async with serving() as server:
        assert (await server.get("/health"))[0] == 200
        status, text = await server.get("/ready")
        assert (status, json.loads(text)["links"]) == (200, {"mqtt": "up"})
        server.status["spool"] = {"problem": "disk full"}
        status, text = await server.get("/ready")
        assert (status, json.loads(text)["reason"]) == (503, "disk full")


async def test_metrics_are_what_prometheus_reads() -> None:
    async with serving() as server, server.client():
        status, text = await server.get("/metrics")
        lines = text.splitlines()
        assert status == 200
        assert 'gateway_link_up{link="mqtt"} 1' in lines
        assert 'gateway_edge_delivered_total{edge="a.out->\\"b\\".in"} 4' in lines
        assert 'gateway_edge_oldest_seconds{edge="a.out->\\"b\\".in"} 0.25' in lines
        assert 'gateway_board_running{board="b1",role="attic"} 1' in lines
        assert "gateway_edges_waiting 1" in lines
        assert "gateway_edges_refused 1" in lines
        assert "gateway_fbp_clients 1" in lines
        names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(names) == len(set(names))


async def test_with_a_secret_metrics_are_for_this_machine_by_its_own_name_or_for_who_shows_it() -> None:
    async with serving(Access(READ_ONLY, {"key": ALL})) as server:
        port = server.server.port
        assert (await server.get("/metrics"))[0] == 200
        assert (await server.get("/metrics", Host=f"localhost:{port}"))[0] == 200
        assert (await server.get("/metrics", Host=f"rebound.example.org:{port}"))[0] == 401
        assert (await server.get("/metrics", Host="rebound.example.org", Authorization="Bearer key"))[0] == 200
        assert (await server.get("/metrics", Host="rebound.example.org", Authorization="Bearer no"))[0] == 401


async def test_bytes_that_are_no_text_are_no_secret_and_no_host() -> None:
    async with serving(Access(READ_ONLY, {"key": ALL})) as server:
        for head in (b"Host: x\r\nAuthorization: Bearer \xff\xfe", b"Host: \xff[:", b"Host: [::1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), WAIT_S)
            writer.close()
            await writer.wait_closed()
            assert answer.split()[1] in (b"400", b"401"), head


@pytest.mark.parametrize("host", [b"\xff[:", b"[::1", b"a b", b"", b"[v1.x]:7", b"x:99999999"])
async def test_a_page_for_a_host_that_is_none_is_a_page_or_a_refusal(host: bytes) -> None:
    async with serving(Access(READ_ONLY, {"key": ALL})) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        await writer.wait_closed()
        assert answer.split()[1] in (b"200", b"400", b"403"), answer


async def test_a_browser_finds_a_page_that_says_where_to_connect() -> None:
    async with serving() as server:
        status, text = await server.get("/")
        assert status == 200
        assert f"ws://127.0.0.1:{server.server.port}/" in text


async def test_an_edit_from_elsewhere_is_told_too() -> None:
    async with serving() as server, server.client() as client:
        await client.say("graph", "addnode", node("a"))
        await client.hear()
        await server.runtime.apply(MAIN, [ChangeNode("a", {"x": 5})])
        assert (await client.hear())["payload"]["metadata"] == {"x": 5}
        assert server.runtime.graphs()[MAIN] != Graph()
