"""One paired board as an FBP runtime wants it (``web.boardruntime.BoardHandle``)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import msgspec

from gateway.model.address import serial
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph, Json
from gateway.model.message import Message
from gateway.model.port import PortRef
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.graph_store import BoardGraphStore


class BoardFbpHandle:
    """A board by its id; it may be absent, and may come and go."""

    def __init__(self, boards: Boards, graphs: BoardGraphStore, board_id: str) -> None:
        self._boards = boards
        self._graphs = graphs
        self._id = board_id
        self._inspected: frozenset[PortRef] = frozenset()
        self._heard: Callable[[PortRef, Json], None] | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return self._id

    @property
    def role(self) -> str:
        """Its role now."""
        return self._boards.record(self._id).role

    @property
    def graph(self) -> Graph | None:
        """The graph that it runs."""
        return self._boards.profile(self._id).graph

    @property
    def library(self) -> ComponentLibrary:
        """The components of its firmware."""
        return self._boards.profile(self._id).library

    @property
    def is_running(self) -> bool:
        """Whether its network runs; a board that is not connected is not known to."""
        session = self._boards.connector(self._id).session
        return session is not None and session.network.is_running

    async def replace_graph(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
        """On the board by the least change, and kept."""
        await self._graphs.edit(self._id, graph, edited, then)

    async def try_graph(self, graph: Graph) -> None:
        """On the board, not kept."""
        await self._graphs.try_out(self._id, graph)

    def give_back(self) -> None:
        """Its own graph again, soon."""
        self._graphs.give_back(self._id)

    async def start_network(self) -> None:
        """Start, from the graph's initial state. One that runs already runs on."""
        self._graphs.require_managed(self._id)
        await self._graphs.session(self._id).network.start()

    async def stop_network(self) -> None:
        """Stop; what is sent to it waits on the board."""
        self._graphs.require_managed(self._id)
        await self._graphs.session(self._id).network.stop()

    async def send(self, port: str, payload: Json) -> None:
        """To an exported inport; returns when the board has answered."""
        message = Message(
            f"{self._id}-packet-{uuid.uuid4().hex}",
            msgspec.json.encode(payload),
            content_type="application/json",
            time_ms=int(time.time() * 1000),
        )
        await self._graphs.session(self._id).publish(serial(self._id, port), message)

    def watch(self, ports: frozenset[PortRef]) -> None:
        """Have what these outports of nodes send told too, now and after every reopening."""
        self._inspected = ports
        self._boards.connector(self._id).inspect(ports, self._heard)

    def on_packet(self, heard: Callable[[PortRef, Json], None]) -> None:
        """Tell what outports send."""
        self._heard = heard
        self.watch(self._inspected)
