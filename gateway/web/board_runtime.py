"""One board as an FBP runtime of type ``microflo``: its components, its graph live on the board, its edges.

An edit is checked against the firmware, saved, and on the board before it is answered. A board has one graph;
``graph:clear`` with another id gives it that id. With ``main: false`` it makes a graph on trial, as test runners do: that
one runs instead, is not saved, and the board's own comes back when the client leaves.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from gateway.errors import GatewayError, GraphError, NotFound
from gateway.fbp.runtime.access import ALL
from gateway.fbp.runtime.backend import (
    Asked,
    Cleared,
    ComponentInfo,
    ComponentKnown,
    Data,
    Edited,
    Ended,
    Ends,
    Listener,
    NetworkStarted,
    NetworkStatus,
    NetworkStopped,
    PacketOut,
    ProcessFailed,
    RuntimeInfo,
    Source,
)
from gateway.fbp.runtime.subscribers import Listeners, Subscribers
from gateway.fbp.text.formats import render_graph
from gateway.model.component import Component, ComponentLibrary
from gateway.model.difference import difference
from gateway.model.edits import Edit, apply_edit
from gateway.model.graph import Graph, Json
from gateway.model.port import PortRef
from gateway.serial_link.graph.upload import check_graph

OFFERS = ALL - {"component:setsource"}


class BoardHandle(Protocol):
    """What a runtime needs of its board."""

    @property
    def id(self) -> str:
        """The board's id."""

    @property
    def role(self) -> str:
        """Its role now."""

    @property
    def graph(self) -> Graph | None:
        """The graph that it runs; None for a watched board that nobody described."""

    @property
    def library(self) -> ComponentLibrary:
        """The components of its firmware."""

    @property
    def is_running(self) -> bool:
        """Whether its network runs."""

    async def replace_graph(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
        """Save a graph, and run it. Raises ``GatewayError``, and the graph before stays, if it can't be, or if ``edited``
        is not the graph before any more. ``then`` is called once that is done, even if whoever waits was cancelled.
        """

    async def try_graph(self, graph: Graph) -> None:
        """Run a graph without saving it. Raises as ``replace_graph``."""

    def give_back(self) -> None:
        """Run the saved graph again, soon."""

    async def start_network(self) -> None:
        """Start, from the graph's initial state."""

    async def stop_network(self) -> None:
        """Stop; nothing is sent any more."""

    async def send(self, port: str, payload: Json) -> None:
        """Send to an exported inport; returns when the board has it."""

    def watch(self, ports: frozenset[PortRef]) -> None:
        """Have what these outports of nodes send told, besides the exported ones, now and after every reopening."""

    def on_packet(self, heard: Callable[[PortRef, Json], None]) -> None:
        """Tell what outports send."""


@dataclass(slots=True)
class _Trial:
    """A graph that a client tries out on the board."""

    graph_id: str
    client: str
    graph: Graph


class _Gone:
    """In the place of a board that was unpaired: it has nothing, and does nothing."""

    graph: Graph | None = None
    library = ComponentLibrary()
    is_running = False

    def __init__(self, board_id: str, role: str) -> None:
        self.id, self.role = board_id, role

    async def replace_graph(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
        raise self._problem()

    async def try_graph(self, graph: Graph) -> None:
        raise self._problem()

    def give_back(self) -> None:
        pass

    async def start_network(self) -> None:
        raise self._problem()

    async def stop_network(self) -> None:
        raise self._problem()

    async def send(self, port: str, payload: Json) -> None:
        raise self._problem()

    def watch(self, ports: frozenset[PortRef]) -> None:
        pass

    def on_packet(self, heard: Callable[[PortRef, Json], None]) -> None:
        pass

    def _problem(self) -> NotFound:
        return NotFound(f"board {self.role}: is not paired any more")


class BoardRuntime:
    """Implements ``gateway.fbp.runtime.backend.Backend`` for one board."""

    def __init__(self, handle: BoardHandle) -> None:
        self._handle = handle
        self._gone = _Gone(handle.id, handle.role)
        self._graph_id = ""
        self._trial: _Trial | None = None
        self._listeners = Listeners()
        self._watches = Subscribers()
        self._editing = asyncio.Lock()
        self._since = time.time()
        handle.on_packet(self._heard)

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def _main(self) -> str:
        return self._graph_id or f"{self._handle.role}/main"

    @property
    def info(self) -> RuntimeInfo:
        """What the board is to clients."""
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"board {self._handle.id}"))
        return RuntimeInfo(name, "microflo", f"board {self._handle.role}", self._main, OFFERS)

    def _graph(self, graph_id: str) -> Graph:
        found = self.graphs().get(graph_id)
        if found is None:
            raise GraphError("", "Requested graph not found")
        return found

    def graphs(self) -> Mapping[str, Graph]:
        """The one graph, and the one on trial."""
        found = {self._main: self._handle.graph or Graph()}
        if self._trial is not None:
            found[self._trial.graph_id] = self._trial.graph
        return found

    @property
    def _active(self) -> tuple[str, Graph]:
        """What runs on the board."""
        if self._trial is not None:
            return self._trial.graph_id, self._trial.graph
        return self._main, self._handle.graph or Graph()

    def _require_active(self, graph_id: str) -> Graph:
        """``GraphError`` for a graph that is not there, or does not run now."""
        graph = self._graph(graph_id)
        if graph_id != self._active[0]:
            raise GraphError(graph_id, "a test runs on this board at the moment; the graph comes back when it ends")
        return graph

    def with_implied(self, graph: Graph) -> Graph:
        """On a board there are the edges that were drawn, and no others."""
        return graph

    def components(self) -> Sequence[ComponentInfo]:
        """The components of the firmware."""
        return tuple(_info(component) for component in self._handle.library.by_name.values())

    def network(self, graph_id: str) -> NetworkStatus:
        """A started board is always at work."""
        self._graph(graph_id)
        started = self._handle.is_running
        stamp = datetime.fromtimestamp(self._since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return NetworkStatus(started, started, time.time() - self._since if started else None, stamp)

    # -- what is done ----------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> Callable[[], None]:
        """One more listener."""
        return self._listeners.add(listener)

    def watch(self, client: str, graph_id: str, edges: Collection[Ends] | None) -> None:
        """What a client wants to be told."""
        self._watches.set(client, graph_id, edges)
        self._subscribe()

    def unwatch(self, client: str) -> None:
        """It wants nothing any more, and what it tried out goes."""
        self._watches.drop(client)
        if self._trial is not None and self._trial.client == client:
            self._trial = None
            self._handle.give_back()
        self._subscribe()

    def _subscribe(self) -> None:
        graph_id, graph = self._active
        wanted = [edge for edge in graph.edges if self._watches.wants(graph_id, (edge.src, edge.tgt))]
        self._handle.watch(frozenset(replace(edge.src, index=None) for edge in wanted))

    async def apply(self, graph_id: str, edits: Sequence[Edit], asked: Asked | None = None) -> None:
        """Apply edits, all or none: checked against the firmware, saved, on the board."""
        async with self._editing:
            edited, steps = self._require_active(graph_id), []
            graph = edited
            for edit in edits:
                after = apply_edit(graph, edit)
                steps.append(Edited(graph_id, edit, graph, after, asked))
                graph = after

            def follow() -> None:
                for step in steps:
                    self._listeners.tell(step)

            await self._run(graph, edited, follow)

    async def _run(self, graph: Graph, edited: Graph | None, then: Callable[[], None]) -> None:
        """``then`` is called once it runs, and nobody is told before."""
        if not self._handle.library.by_name:
            raise GraphError(
                self._handle.role, "nobody said what this board's components are: pair it with --components"
            )
        check_graph(graph, self._handle.library)
        render_graph(graph, "json", f"board {self._handle.role}")  # raises for one that is too long for its file

        def follow() -> None:
            self._subscribe()
            then()

        trial = self._trial
        if trial is None:
            await self._handle.replace_graph(graph, edited, follow)
        else:
            await self._handle.try_graph(graph)
            if self._trial is not trial:  # its client left, or the board was given a graph, perhaps before this one
                self._handle.give_back()
                raise GraphError(trial.graph_id, "the test on this board has ended meanwhile; its own graph comes back")
            trial.graph = graph
            follow()

    async def clear(self, graph_id: str, fields: Mapping[str, Json], asked: Asked | None = None) -> None:
        """An empty graph, under this id; one on trial if it is not to be the main one."""
        async with self._editing:
            on_trial = self._trial is not None and self._trial.graph_id == graph_id
            if fields.get("main") is False and asked is not None and graph_id != self._main and not on_trial:
                await self._try_out(graph_id, asked.client)
            elif not on_trial:
                self._require_active(self._main)
            properties = {key: value for key, value in fields.items() if key != "main"}
            before = self._active[1]

            def follow() -> None:
                if self._trial is None:
                    self._graph_id = graph_id
                self._listeners.tell(Cleared(graph_id, fields, asked, before))

            graph = Graph(name=str(fields.get("name") or ""), properties=MappingProxyType(properties))
            await self._run(graph, None, follow)

    async def _try_out(self, graph_id: str, client: str) -> None:
        if self._trial is not None and self._trial.client != client:
            raise GraphError(graph_id, "another client tries out a graph on this board; try again when it is done")
        await self._handle.try_graph(Graph())
        self._trial = _Trial(graph_id, client, Graph())

    async def start(self, graph_id: str, asked: Asked | None = None) -> None:
        """Start the board's network. Its IIPs are on the board, and act now."""
        graph = self._require_active(graph_id)
        await self._handle.start_network()
        self._since = time.time()
        self._listeners.tell(
            NetworkStarted(graph_id, replace(self.network(graph_id), started=True, running=True), asked)
        )
        for iip in graph.iips:
            self._listeners.tell(Data(graph_id, None, iip.tgt, iip.data, self._since))

    async def stop(self, graph_id: str, asked: Asked | None = None) -> None:
        """Stop the board's network."""
        self._require_active(graph_id)
        await self._handle.stop_network()
        uptime, self._since = time.time() - self._since, time.time()
        status = NetworkStatus(started=False, running=False, uptime_s=uptime)
        self._listeners.tell(NetworkStopped(graph_id, status, asked))

    async def send(self, graph_id: str, port: str, payload: Json) -> None:
        """Send to an exported inport."""
        self._require_active(graph_id)
        await self._handle.send(port, payload)

    async def source(self, name: str) -> Source:
        """Components of a firmware are compiled into it."""
        raise NotFound(f"Component not found for {name[:40]}: a board's components are compiled into its firmware")

    async def set_source(self, source: Source) -> None:
        """See ``source``."""
        raise GatewayError("a board's components are compiled into its firmware: build and flash it anew")

    # -- what happens ----------------------------------------------------------------------------------------------

    def _heard(self, port: PortRef, value: Json) -> None:
        now = time.time()
        graph_id, graph = self._active
        for edge in graph.edges:
            if replace(edge.src, index=None) == port and self._watches.wants(graph_id, (edge.src, edge.tgt)):
                self._listeners.tell(Data(graph_id, edge.src, edge.tgt, value, now))
        for export in graph.outports:
            if export.ref == port:
                self._listeners.tell(PacketOut(graph_id, export.name, value))

    def replaced(self, before: Graph, after: Graph) -> None:
        """The board was given another graph by somebody else: told as the edits that lead there. A trial is over."""
        self._trial = None
        for edit in difference(before, after):
            reached = apply_edit(before, edit)
            self._listeners.tell(Edited(self._main, edit, before, reached))
            before = reached
        self._subscribe()

    def paired_again(self, before: Graph | None, library: ComponentLibrary) -> None:
        """Perhaps with other firmware, or another graph: told is what differs from these, the components first."""
        for name, component in self._handle.library.by_name.items():
            if library.by_name.get(name) != component:
                self._listeners.tell(ComponentKnown(_info(component)))
        self.replaced(before or Graph(), self._handle.graph or Graph())

    def failed(self, problem: str) -> None:
        """The board is in trouble: every node of it is marked."""
        for node in (self._handle.graph or Graph()).nodes:
            self._listeners.tell(ProcessFailed(self._main, node.id, problem))

    def ended(self) -> None:
        """The board was unpaired."""
        self._handle = self._gone
        self._listeners.tell(Ended())


def _info(component: Component) -> ComponentInfo:
    return ComponentInfo(component.name, component.inports, component.outports, component.description)
