"""The network of a connected board, for whoever changes or looks into it: one after the other, and no message is on its way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from gateway.errors import BoardRefused, ConnectionLost, GatewayError, GraphError, RequestTimeout, TransportDown
from gateway.model.participant import BoardState
from gateway.model.port import PortRef
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.packet_reader import BoardPacketReader, OnValue
from gateway.serial_link.connected.running_graph import RunningGraph
from gateway.serial_link.connected.send_queue import SendQueue
from gateway.serial_link.connected.setup_steps import OnStep, is_running
from gateway.serial_link.records.board_status import BoardStatus
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)


class BoardConnection(Protocol):
    """What is asked of the connection that a network belongs to."""

    name: str
    record: BoardRecord
    problem: str

    @property
    def is_in_step(self) -> bool:
        """Whether nothing has happened after which the board must be prepared anew."""

    def wake(self) -> None:
        """There is something for ``catch_up`` to do."""

    def runs(self) -> None:
        """The board's network has begun anew."""

    def lose(self, reason: str) -> None:
        """Only the next connection can mend this."""


class BoardNetwork:
    """One for a connection. What the board is asked raises ``RequestTimeout`` or ``ConnectionLost`` when it is silent."""

    def __init__(
        self,
        connection: BoardConnection,
        conversation: LinkDriver,
        graph: RunningGraph,
        reporting: BoardPacketReader,
        outbox: SendQueue,
        status: BoardStatus,
    ) -> None:
        self.turn = asyncio.Lock()
        """Whoever changes what runs on the board."""
        self._connection = connection
        self._conversation = conversation
        self._graph = graph
        self._reporting = reporting
        self._outbox = outbox
        self._status = status
        self._first = graph.profile
        self._inspected: frozenset[PortRef] = frozenset()
        self._own: BoardProfile | None = None
        """What it shall run again, whatever runs: another graph was on trial, or a change was broken off."""

    @property
    def wanted(self) -> BoardProfile:
        """The graph that runs, or the one that shall again and does not yet; and the firmware."""
        return self._own or self._graph.profile

    @property
    def is_running(self) -> bool:
        """Whether the board's network runs."""
        return self._graph.is_running

    def nodes(self) -> dict[str, int]:
        """The numbers of the nodes that run."""
        return dict(self._graph.names.nodes) if self._graph.names is not None else {}

    def leaves(self, profile: BoardProfile) -> bool:
        """Whether it is this graph that the connection leaves on the board, if any: no other, no half of one, and running."""
        if self._own is not None or self._graph.is_stopped:
            return False
        is_first = self._graph.profile is self._first  # then we put nothing there that a pairing does not know of
        return is_first or self._graph.profile.graph == profile.graph

    # -- what the connection does ----------------------------------------------------------------------------------

    async def restore(self, *, is_same: bool) -> None:
        """In its turn: have the board run what it should. ``is_same``: it is known not to have restarted since."""
        stays = is_same and self._graph.is_known and self._own is None
        if not stays and (self._own is not None or not await self._take_what_runs()):
            self._status.enter(BoardState.UPLOADING)
            profile = self.wanted
            await self._graph.upload(profile)
            self._has_again(profile)
            self._status.counters.uploads += 1
        await self._graph.inspect(self._inspected)

    async def _take_what_runs(self) -> bool:
        """What runs is left alone, where that is wanted and where something runs; else it is time for an upload."""
        record = self._connection.record
        if not record.managed:
            await self._graph.take()
            return True
        if not record.keep_running:
            return False
        try:
            if await is_running(self._conversation) is not False:
                await self._graph.take()
                return True
        except BoardRefused:
            log.info("%s: runs something else; it gets its graph", self._connection.name)
        return False

    async def catch_up(self) -> None:
        """What was wished for meanwhile by whoever does not wait for it."""
        await (self._inspect() if self._own is None else self._run_own(self._own))

    async def _inspect(self) -> None:
        try:
            async with self.turn:
                await self._graph.inspect(self._inspected)
        except GatewayError as exc:
            log.warning("%s: can't inspect: %s", self._connection.name, exc)

    async def _run_own(self, profile: BoardProfile) -> None:
        try:
            async with self._changing():
                if self._own is not profile:
                    return  # it was given another one meanwhile
                self._graph.is_stopped = False
                await self._upload(profile, lambda done, total: None)
                self._has_again(profile)
        except GatewayError as exc:
            if self._connection.is_in_step:
                self._connection.lose(f"it can't run its own graph again: {exc}")

    def _has_again(self, profile: BoardProfile) -> None:
        if self._own is profile:  # else it shall run yet another one by now
            self._own = None

    # -- what others do --------------------------------------------------------------------------------------------

    async def upload(self, profile: BoardProfile, on_step: OnStep = lambda done, total: None) -> None:
        """Have the board run another graph, from its beginning. When that is refused, it runs the one before again.

        ``BoardRefused``, ``GraphError``; ``TransportDown`` when the board falls silent on the way.
        """
        async with self._changing():
            with self._to_the_other():
                await self._upload(profile, on_step)

    async def change(self, profile: BoardProfile) -> None:
        """Have the board run another graph by the least difference, while it runs. Else as ``upload``."""
        async with self._changing():
            least = self._graph.least_change(profile)
            with self._to_the_other():
                if least is None:
                    await self._upload(profile, lambda done, total: None)
                    return
                self._reporting.hold_unknown()
                try:
                    await self._graph.change(least, profile)
                finally:
                    if self._connection.is_in_step:
                        self._reporting.hear()
                await self._graph.inspect(self._inspected)

    @contextmanager
    def _to_the_other(self) -> Iterator[None]:
        """As ``_to_the_end``. When it succeeds, no other graph is to come any more."""
        with self._to_the_end():
            yield
        self._own = None

    @contextmanager
    def _to_the_end(self) -> Iterator[None]:
        """When this is broken off, nobody knows what runs: the graph before shall, soon."""
        before = self._graph.profile
        try:
            yield
        except (RequestTimeout, TransportDown, asyncio.CancelledError):
            self.give_back(self._own or before)
            raise

    def give_back(self, profile: BoardProfile) -> None:
        """Something else runs, or may run: run this graph again, from its beginning, soon."""
        if profile.graph is not None:  # else nobody knows what ran
            self._own = profile
            self._connection.wake()

    async def stop(self) -> None:
        """Stop the board's network, until ``start`` or the next connection."""
        async with self._changing():
            await self._graph.stop()

    async def start(self) -> None:
        """Start it again, from the graph's beginning."""
        async with self._changing():
            self._reporting.hold()
            with self._to_the_end():
                try:
                    await self._graph.start()
                finally:
                    if self._connection.is_in_step:
                        self._reporting.hear()
                await self._graph.inspect(self._inspected)
        self._connection.runs()

    async def set_io(self, kind: int, pin: int, value: int) -> None:
        """Set a simulated pin. ``GatewayError`` where the firmware has none."""
        await self._graph.set_io(kind, pin, value)

    def inspect(self, ports: frozenset[PortRef], inspector: OnValue | None) -> None:
        """Have what these outports of nodes send told to ``inspector`` too, besides what exported ones send."""
        self._reporting.inspector = inspector
        if ports != self._inspected:
            self._inspected = ports
            self._connection.wake()

    async def _upload(self, profile: BoardProfile, on_step: OnStep) -> None:
        self._reporting.hold()
        self._status.enter(BoardState.UPLOADING)
        try:
            await self._graph.upload(profile, on_step)
            self._status.counters.uploads += 1
        except (BoardRefused, GraphError) as problem:
            await self._put_back(problem)
            raise
        finally:
            if self._connection.is_in_step:
                self._reporting.hear()
                self._status.enter(BoardState.RUNNING)
                self._connection.runs()
        await self._graph.inspect(self._inspected)

    async def _put_back(self, problem: GatewayError) -> None:
        try:
            await self._graph.put_back()
        except (BoardRefused, GraphError) as exc:
            text = f"{problem}; and the graph before can't be put back: {exc}"
            raise GraphError(self._connection.name, text) from exc

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Our turn, with no message on its way. An end in the middle ends the connection: the next one mends the board."""
        connection = self._connection
        async with self.turn:
            if not connection.is_in_step or not self._conversation.link.is_open:
                raise ConnectionLost(connection.name, connection.problem or "the link opens again; try again")
            try:
                await self._outbox.pause()
                yield
            except RequestTimeout as exc:
                text = f"{exc.command}: {exc.problem}; it gets back what it ran before"
                raise ConnectionLost(connection.name, text) from exc
            except asyncio.CancelledError:
                connection.lose("a change of what it runs was interrupted")
                raise
            finally:
                if connection.is_in_step:
                    self._outbox.trust()
