"""A whole small FBP runtime in memory: two components that really run, graphs that can be edited, started, watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.errors import GraphError, NotFound
from gateway.fbp.runtime.access import ALL
from gateway.fbp.runtime.backend import (
    Asked,
    Cleared,
    ComponentInfo,
    ComponentKnown,
    Data,
    Edited,
    Ends,
    Listener,
    NetworkStarted,
    NetworkStatus,
    NetworkStopped,
    PacketOut,
    RuntimeInfo,
    Source,
)
from gateway.fbp.runtime.subscribers import Listeners, Subscribers
from gateway.model.edits import AddNode, Edit, apply_edit
from gateway.model.graph import Edge, Graph, Json
from gateway.model.port import Direction, PortDef, PortRef

IN = PortDef("in", Direction.IN)
OUT = PortDef("out", Direction.OUT, type="string", description="what came in")
REPEAT = ComponentInfo("core/Repeat", (IN,), (OUT,), "Sends what it gets", "repeat")
DROP = ComponentInfo("core/Drop", (IN,))


@dataclass(slots=True)
class Held:
    """A graph and its network."""

    graph: Graph
    started: bool = False
    time: str = ""


ANY_ENDS = (PortRef("any", "port"), PortRef("of", "any"))
"""Of an edge that nobody watches but he who watches all."""


class SmallRuntime:
    """Implements ``Backend``. ``slow_s`` is how long an edit takes to be saved."""

    def __init__(self, main: str = "default/main", *, slow_s: float = 0.0) -> None:
        self.info = RuntimeInfo("3f37319f-033f-4429-b1d7-4c4f9e2a9f2f", "msgflo", "a small runtime", main, ALL)
        self.held = {main: Held(Graph("main"), started=True)} if main else {}
        self.known = {info.name: info for info in (REPEAT, DROP)}
        self.sources = {"core/Repeat": Source("Repeat", "python", "def repeat(x): return x", "core")}
        self.listeners = Listeners()
        self.watches = Subscribers()
        self.slow_s = slow_s
        self.editing = asyncio.Lock()
        self.left = asyncio.Event()

    # -- view ------------------------------------------------------------------------------------------------------

    def graphs(self) -> Mapping[str, Graph]:
        """The graphs."""
        return {graph_id: held.graph for graph_id, held in self.held.items()}

    def with_implied(self, graph: Graph) -> Graph:
        """Nothing is implied here."""
        return graph

    def components(self) -> Sequence[ComponentInfo]:
        """The components."""
        return tuple(self.known.values())

    def network(self, graph_id: str) -> NetworkStatus:
        """Everything is done at once, so a network never runs on."""
        held = self.held[graph_id]
        return NetworkStatus(held.started, running=False, uptime_s=1.0 if held.started else None, time=held.time)

    # -- backend ---------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> Callable[[], None]:
        """One more listener."""
        return self.listeners.add(listener)

    def watch(self, client: str, graph_id: str, edges: Collection[Ends] | None) -> None:
        """What a client wants."""
        self.watches.set(client, graph_id, edges)

    def unwatch(self, client: str) -> None:
        """It wants nothing any more."""
        self.watches.drop(client)
        self.left.set()

    async def apply(self, graph_id: str, edits: Sequence[Edit], asked: Asked | None = None) -> None:
        """Apply, pretend to save, tell; one after the other."""
        async with self.editing:
            await self._apply(graph_id, edits, asked)

    async def _apply(self, graph_id: str, edits: Sequence[Edit], asked: Asked | None) -> None:
        graph, steps = self.held[graph_id].graph, []
        for edit in edits:
            if isinstance(edit, AddNode) and edit.node.component not in self.known:
                raise GraphError(edit.node.id, f"no component {edit.node.component}")
            after = apply_edit(graph, edit)
            steps.append(Edited(graph_id, edit, graph, after, asked))
            graph = after
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        self.held[graph_id].graph = graph
        for step in steps:
            self.listeners.tell(step)

    async def clear(self, graph_id: str, fields: Mapping[str, Json], asked: Asked | None = None) -> None:
        """A new empty graph."""
        before = self.graphs().get(graph_id)
        self.held[graph_id] = Held(Graph(str(fields.get("name") or "")))
        self.listeners.tell(Cleared(graph_id, fields, asked, before))

    async def start(self, graph_id: str, asked: Asked | None = None) -> None:
        """Start, and let the IIPs run through."""
        held = self.held[graph_id]
        held.started, held.time = True, "2026-11-24T12:00:00Z"
        status = replace(self.network(graph_id), running=True)
        self.listeners.tell(NetworkStarted(graph_id, status, asked))
        for iip in held.graph.iips:
            self._arrive(graph_id, None, iip.tgt, iip.data)

    async def stop(self, graph_id: str, asked: Asked | None = None) -> None:
        """Stop."""
        self.held[graph_id].started = False
        status = replace(self.network(graph_id), uptime_s=1.5)
        self.listeners.tell(NetworkStopped(graph_id, status, asked))

    async def send(self, graph_id: str, port: str, payload: Json) -> None:
        """To an exported inport."""
        export = next(export for export in self.held[graph_id].graph.inports if export.name == port)
        self._arrive(graph_id, None, export.ref, payload)

    async def source(self, name: str) -> Source:
        """The source of a component."""
        if name not in self.sources:
            raise NotFound(f"Component not found for {name}")
        return self.sources[name]

    async def set_source(self, source: Source) -> None:
        """A new component, or another source of one."""
        name = f"{source.library}/{source.name}" if source.library else source.name
        self.sources[name] = source
        self.known[name] = ComponentInfo(name, (IN,), (OUT,))
        self.listeners.tell(ComponentKnown(self.known[name]))

    # -- the network -----------------------------------------------------------------------------------------------

    def _arrive(self, graph_id: str, src: PortRef | None, tgt: PortRef, data: Json) -> None:
        graph = self.held[graph_id].graph
        watches = self.watches
        if watches.wants(graph_id, ANY_ENDS) if src is None else watches.wants(graph_id, (src, tgt)):
            self.listeners.tell(Data(graph_id, src, tgt, data, time.time()))
        if graph.node(tgt.node).component != REPEAT.name:
            return
        out = PortRef(tgt.node, "out")
        for export in graph.outports:
            if export.ref == out:
                self.listeners.tell(PacketOut(graph_id, export.name, data))
        for entry in graph.order:
            if isinstance(entry, Edge) and entry.src == out:
                self._arrive(graph_id, entry.src, entry.tgt, data)
