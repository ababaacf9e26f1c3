"""What waits for a client: much may come at once, little may stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.backend import Data, Printed
from gateway.model.edits import AddNode, ChangeNode, Edit
from gateway.model.graph import Export, Graph, Json, Node
from gateway.model.port import PortRef
from gateway.web import clients
from tests.support.fbp_runtime import SmallRuntime

MAIN = "default/main"
NODES = tuple(Node(name, "core/Drop") for name in "ab")


class Wire:
    """A client's end: what it says goes in, what it hears is kept; it reads only while it is ``open``."""

    def __init__(self, runtime: SmallRuntime) -> None:
        self.heard: list[dict[str, Any]] = []
        self.dropped = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self._said: asyncio.Queue[str | None] = asyncio.Queue()
        self._came = asyncio.Condition()
        self._serving = clients.serve_client("me", runtime, Access(), self._frames(), self._send, self._drop)

    async def __aenter__(self) -> Wire:
        self._task = asyncio.create_task(self._serving)
        self.say("network", "getstatus", graph=MAIN)
        await self.until(1)
        self.heard.clear()
        return self

    async def __aexit__(self, *problem: object) -> None:
        self.open.set()
        self._said.put_nowait(None)
        await self._task

    def say(self, protocol: str, command: str, **payload: Any) -> None:
        self._said.put_nowait(json.dumps({"protocol": protocol, "command": command, "payload": payload}))

    async def until(self, count: int) -> None:
        """So much was heard."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.heard) >= count)

    async def _frames(self) -> AsyncIterator[str]:
        while (text := await self._said.get()) is not None:
            yield text

    async def _send(self, text: str) -> None:
        await self.open.wait()
        async with self._came:
            self.heard.append(json.loads(text))
            self._came.notify_all()

    def _drop(self) -> None:
        self.dropped.set()
        self._said.put_nowait(None)


def runtime(graph: Graph | None = None) -> SmallRuntime:
    made = SmallRuntime()
    made.held[MAIN].graph = graph or Graph(nodes=NODES)
    return made


async def test_a_large_graph_that_is_applied_at_once_drops_nobody() -> None:
    backend = runtime()
    async with Wire(backend) as wire:
        edits: list[Edit] = [AddNode(Node(f"n{n}", "core/Drop")) for n in range(2000)]
        await backend.apply(MAIN, edits)
        assert not wire.dropped.is_set()
        await wire.until(2000)
        assert [one["payload"]["id"] for one in wire.heard] == [f"n{n}" for n in range(2000)]


async def test_many_lines_that_a_participant_prints_at_once_drop_nobody() -> None:
    backend = runtime()
    async with Wire(backend) as wire:
        for number in range(2000):
            backend.listeners.tell(Printed(f"line {number}"))
        assert not wire.dropped.is_set()
        await wire.until(2000)


async def test_a_client_that_does_not_read_is_shown_less_and_then_dropped() -> None:
    backend = runtime()
    async with Wire(backend) as wire:
        wire.say("network", "start", graph=MAIN)
        await wire.until(1)
        wire.open.clear()
        line = "x" * 1000
        for number in range(5000):  # of output and of live data alone nobody is dropped
            backend.listeners.tell(Printed(line))
            backend.listeners.tell(Data(MAIN, None, PortRef(f"{number}", "in"), line, 0.0))
        assert not wire.dropped.is_set()
        for _ in range(5):
            await backend.apply(MAIN, [ChangeNode("a", {"x": "x" * 900_000})])
        assert wire.dropped.is_set()
    shown = sum(len(json.dumps(one)) for one in wire.heard)
    assert shown < clients.SAMPLE_BACKLOG + 10_000


async def test_long_answers_wait_for_the_client_before_its_next_request_is_looked_at() -> None:
    backend = runtime(Graph(nodes=(Node("a", "core/Drop", {"x": "x" * 3_000_000}),)))
    looks = 0
    looked = asyncio.Event()

    def graph_of(graph: Graph) -> Graph:
        nonlocal looks
        looks += 1
        looked.set()
        return graph

    backend.with_implied = graph_of  # type: ignore[method-assign]
    async with Wire(backend) as wire:
        wire.open.clear()
        for _ in range(20):
            wire.say("component", "getsource", name=MAIN)
        await looked.wait()
        for _ in range(100):  # turns of the loop, in which all could be looked at
            await asyncio.sleep(0)
        assert looks <= 3  # one is being sent, two wait
        wire.open.set()
        await wire.until(20)
        assert looks == 20


async def test_a_packet_that_is_never_confirmed_does_not_hold_up_its_client_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "SEND_S", 0.0)
    backend = runtime(Graph(nodes=NODES, inports=(Export("feed", PortRef("a", "in")),)))

    async def never(graph_id: str, port: str, payload: Json) -> None:
        await asyncio.Event().wait()

    backend.send = never  # type: ignore[method-assign]
    async with Wire(backend) as wire:
        wire.say("runtime", "packet", graph=MAIN, port="feed", event="data", payload=1)
        wire.say("network", "getstatus", graph=MAIN)
        await wire.until(2)
        assert [one["command"] for one in wire.heard] == ["error", "status"]
        assert "not confirmed within" in wire.heard[0]["payload"]["message"]
