"""A simulated board on a pty as the other side of the contract suite. Bodies are JSON whole numbers: a board takes no text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config.schema import SerialSection
from gateway.model.address import Address, serial
from gateway.model.component import Component, ComponentLibrary
from gateway.model.packet import Packet, PacketType
from gateway.model.port import Direction, PortDef
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.simulator.core.board import Board
from gateway.simulator.core.components import COMPONENTS, SimulatedComponent
from gateway.simulator.pty import SimulatedBoard
from tests.support.boards import network_of

TAKE_S = 120.0

LIBRARY = ComponentLibrary.of(
    [
        Component("Speaker", 1, (), (PortDef("out", Direction.OUT, 0),)),
        Component("Listener", 2, (PortDef("in", Direction.IN, 0),), ()),
    ]
)
COMPONENT_MAP = json.dumps(
    {
        "components": {
            "Speaker": {"id": 1, "inPorts": {}, "outPorts": {"out": {"id": 0, "type": "integer"}}},
            "Listener": {"id": 2, "inPorts": {"in": {"id": 0, "type": "integer"}}, "outPorts": {}},
        }
    }
)
GRAPH = """\
OUTPORT=speaker.OUT:source
INPORT=listener.IN:target
speaker(Speaker)
listener(Listener)
"""
SPEAKER_NODE = 1


class SerialHarness:
    """A board that says what the test offers, and keeps what it hears."""

    redelivers = False

    def __init__(self, state: Path, link: Path) -> None:
        self._link = link
        self._heard: list[bytes] = []
        self._news = asyncio.Event()
        self.board = SimulatedBoard(self._make, link)
        settings = SerialSection(request_timeout_s=5.0)
        self.boards = Boards(state, settings, on_change=lambda: None, on_running=lambda board_id: None)

    def _make(self, now: float) -> Board:
        heard, news = self._heard, self._news

        class Listener(SimulatedComponent):
            def receive(self, port: str, packet: Packet, now: float) -> None:
                heard.append(str(packet.value).encode())
                news.set()

        kinds = {**COMPONENTS, "Speaker": SimulatedComponent, "Listener": Listener}
        return Board(LIBRARY, kinds=kinds, now=now)

    async def prepare(self) -> None:
        """Pair the board."""
        await self.boards.pair(
            PairRequest(
                path=str(self._link),
                role="probe",
                graph=Text("probe.fbp", GRAPH),
                components=Text("components.json", COMPONENT_MAP),
            )
        )
        (record,) = self.boards.records()
        self.connector = self.boards.connector(record.id)
        self.source: Address = serial(record.id, "source")
        self.target: Address = serial(record.id, "target")

    async def offer(self, bodies: Sequence[bytes]) -> None:
        """Let the board's graph send these numbers."""
        speaker = network_of(self.board).node(SPEAKER_NODE)
        assert speaker is not None
        for body in bodies:
            speaker.behaviour.send("out", Packet(PacketType.INTEGER, int(body)))
        self.board.request(["resume"])

    async def taken(self, count: int) -> list[bytes]:
        """The first numbers that reached the graph's inport."""
        async with asyncio.timeout(TAKE_S):
            while len(self._heard) < count:
                self._news.clear()
                await self._news.wait()
        return self._heard[:count]

    async def cut(self) -> None:
        """Pull the plug, and put it back."""
        self.board.request(["unplug"])
        self.board.request(["plug"])


@asynccontextmanager
async def serial_harness(directory: Path) -> AsyncIterator[SerialHarness]:
    """A harness on a pty in ``directory``."""
    harness = SerialHarness(directory / "state", directory / "tty")
    async with harness.board:
        yield harness
