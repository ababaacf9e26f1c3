"""Graphs of paired boards: given whole (``gateway upload``) or edited live, and kept once the board runs them.

The stored graph is replaced after the board has accepted the new one, so that a crash between leaves a board that gets the
graph before again when it is opened. Who hangs up between waits until it is replaced, or the board runs the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from gateway.errors import BoardRefused, ConnectFailed, GatewayError, GraphError, TransportDown, found_in
from gateway.fbp.text.graph_json import dumps
from gateway.model.graph import Graph
from gateway.serial_link.connected.board_session import BoardSession
from gateway.serial_link.connected.setup_steps import OnStep
from gateway.serial_link.description.self_description import decode_description
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.pairing import Text
from gateway.serial_link.records.devices_json import GRAPH_FBP, GRAPH_JSON
from gateway.serial_link.records.profile import (
    BoardProfile,
    exported_only,
    parse_board_graph,
    said_later,
    told_meanings,
)
from gateway.supervise import to_the_end

OnGraph: TypeAlias = Callable[[str, Graph, Graph], None]
"""Board id, the graph before, the graph now."""


class BoardGraphStore:
    """One for the registry. ``on_graph`` is told when a board runs another graph by ``upload``."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards
        self._turns: dict[str, asyncio.Lock] = {}
        self.on_graph: OnGraph = lambda board_id, before, after: None

    async def upload(self, name: str, graph: Text, on_step: OnStep = lambda done, total: None) -> dict[str, Any]:
        """Give a board a graph, all or nothing; it is managed from then on. Raises why not: then all is as before."""
        record = self._boards.find(name)
        async with self._turn(record.id):
            session = self.session(record.id)
            parsed = parse_board_graph(graph.text, graph.source)
            with found_in(graph.source):
                profile = self._profile(record.id, parsed)
            before, kept = session.network.wanted, self._boards.profile(record.id).graph
            try:
                await session.network.upload(profile, on_step)
            except (BoardRefused, GraphError) as exc:
                raise GatewayError(f"{exc}; the board runs what it ran before") from exc
            file = GRAPH_FBP if graph.source.endswith(".fbp") else GRAPH_JSON

            def follow() -> None:
                self.on_graph(record.id, kept or Graph(), parsed)

            await self._keep(session, before, record.id, parsed, (file, graph.text), follow)
        return {"id": record.id, "role": record.role, "nodes": len(parsed.nodes), "managed": True}

    async def edit(
        self, board_id: str, graph: Graph, edited: Graph | None = None, then: Callable[[], None] = lambda: None
    ) -> None:
        """Have a managed board run another graph by the least change, and keep it. Raises as ``upload``.

        ``edited`` is the graph that was edited: if that is not what the board has any more, nothing is done. ``then`` is
        called once the graph is kept, also when whoever edits has hung up meanwhile.
        """
        async with self._turn(board_id):
            self.require_managed(board_id)
            if edited is not None and (self._boards.profile(board_id).graph or Graph()) != edited:
                role = self._boards.record(board_id).role
                raise GraphError(f"device {role}", "somebody gave it another graph meanwhile; try again")
            session = self.session(board_id)
            before, text = self._boards.profile(board_id), dumps(graph)
            await session.network.change(self._profile(board_id, graph))
            await self._keep(session, before, board_id, graph, (GRAPH_JSON, text), then)

    async def try_out(self, board_id: str, graph: Graph) -> None:
        """Have a managed board run a graph that is not kept: see ``give_back``. Raises as ``edit``."""
        async with self._turn(board_id):
            self.require_managed(board_id)
            known = self._boards.profile(board_id)
            await self.session(board_id).network.change(
                BoardProfile.of(graph, known.library, {}).with_document(known.document)
            )

    def give_back(self, board_id: str) -> None:
        """The trial is over: the board runs soon what is kept, or at its next connection."""
        session = self._boards.connector(board_id).session
        if session is not None:
            session.network.give_back(self._boards.profile(board_id))

    def session(self, board_id: str) -> BoardSession:
        """The connection of a board. ``ConnectFailed`` with what is the matter if there is none, ``PortBusy`` while its
        port is lent.
        """
        session = self._boards.connector(board_id).session
        if session is None:
            self._boards.lent.check(self._boards.record(board_id).path)
            status = self._boards.state(board_id)
            why = f": {status.reason}" if status.reason else ""
            role = self._boards.record(board_id).role
            raise ConnectFailed(f"device {role}", f"is not connected ({status.state}{why})")
        return session

    def require_managed(self, board_id: str) -> None:
        """``GatewayError`` for a watched board: what runs on it is left alone."""
        record = self._boards.record(board_id)
        if not record.managed:
            raise GatewayError(
                f"device {record.role}: is watched, what runs on it is left alone; to have it managed:"
                f" gateway upload {record.role} GRAPH"
            )

    @asynccontextmanager
    async def _turn(self, board_id: str) -> AsyncIterator[None]:
        async with self._turns.setdefault(board_id, asyncio.Lock()):
            self._boards.find(board_id)  # raises for one that was unpaired meanwhile
            yield

    def _profile(self, board_id: str, graph: Graph) -> BoardProfile:
        known, record = self._boards.profile(board_id), self._boards.record(board_id)
        if not known.library.by_name:
            raise GraphError(
                f"device {record.role}",
                f"nobody said what its components are: gateway pair {record.path} --graph GRAPH --components MAP",
            )
        told = told_meanings(decode_description(known.document)) if known.document else {}
        made = BoardProfile.of(graph, known.library, exported_only(graph, said_later(told, record.ports)))
        return made.with_document(known.document)

    async def _keep(
        self,
        session: BoardSession,
        before: BoardProfile,
        board_id: str,
        graph: Graph,
        file: tuple[str, str],
        then: Callable[[], None],
    ) -> None:
        """Keep what the board runs now in a file (its name and text), or have it run what it ran before."""

        async def keep() -> None:
            name, text = file
            try:
                await self._boards.keep_graph(board_id, lambda: self._profile(board_id, graph), name, text.encode())
            except GatewayError:
                await _go_back(session, before)
                raise
            then()

        await to_the_end(keep(), f"device:{board_id}:keep")


async def _go_back(session: BoardSession, before: BoardProfile) -> None:
    """The graph could not be kept: the board shall run what is kept."""
    with suppress(BoardRefused, GraphError):
        try:
            if before.graph is not None:
                await session.network.upload(before)
        except TransportDown:
            session.network.give_back(before)
