"""The coordinator as an FBP runtime: graphs by id, edits saved before they are answered, live data of any edge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.graphs import HeldGraph, make_room, union
from gateway.coordinator.core.interfaces import ComponentStore, NoComponents, Wiring
from gateway.coordinator.core.planner import Plan, PlannedIip, check_graph, port_address
from gateway.coordinator.graph_file import GraphFile
from gateway.coordinator.implied_edges import ImpliedEdges
from gateway.coordinator.live_data import LiveData
from gateway.errors import GraphError, NotFound
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
    Printed,
    ProcessFailed,
    RuntimeInfo,
    Source,
)
from gateway.fbp.runtime.subscribers import Listeners
from gateway.model.address import Address
from gateway.model.edits import Edit, RenameNode, apply_edit
from gateway.model.graph import Graph, Json, Node
from gateway.model.port import Direction, PortDef
from gateway.supervise import to_the_end

MAIN = "default/main"
"""The id of the graph that the configuration names; it is the one that is saved."""

START_WAIT_S = 2.5
"""How long a start or a packet waits for processes to announce themselves: a known client gives a command 3 s."""


class CoordinatorBackend:
    """Implements ``gateway.fbp.runtime.backend.Backend``. All its methods belong to the loop that runs the coordinator."""

    def __init__(
        self,
        coordinator: Coordinator,
        info: RuntimeInfo,
        file: GraphFile,
        wiring: Wiring,
        components: ComponentStore | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._info = info
        self._file = file
        self._wiring = wiring
        self._components = components or NoComponents()
        self._graphs = {info.main: HeldGraph(coordinator.graph, started=True, since=time.time())}
        self._listeners = Listeners()
        self._live = LiveData(coordinator, wiring.tap, wiring.untap, self._listeners.tell)
        self._implied = ImpliedEdges(coordinator, self._listeners.tell)
        self._editing = asyncio.Lock()
        self._started_here: set[str] = set()
        self._somebody_came = asyncio.Event()
        self._told: dict[str, ComponentInfo] = {}
        coordinator.observe(self._planned, self._iip_sent)
        self._components.wanted(coordinator.graph.nodes)

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def info(self) -> RuntimeInfo:
        """What the coordinator says of itself."""
        return self._info

    def graphs(self) -> Mapping[str, Graph]:
        """The graphs by their ids."""
        return {graph_id: held.graph for graph_id, held in self._graphs.items()}

    def with_implied(self, graph: Graph) -> Graph:
        """The graph with edges that nobody drew, but that are there."""
        return self._implied.along(graph)

    def components(self) -> Sequence[ComponentInfo]:
        """Those of the library, and those of participants that announced themselves."""
        found = {info.name: info for info in self._components.components()}
        short = {name.rpartition("/")[2]: name for name in found}
        for participant in self._coordinator.everyone():
            name = participant.component
            name = name if name in found else short.get(name.rpartition("/")[2], name)
            known = found.get(name)
            if known is None or not (known.inports or known.outports):
                found[name] = ComponentInfo(
                    name, participant.inports, participant.outports, participant.label, participant.icon
                )
        return tuple(found[name] for name in sorted(found))

    def network(self, graph_id: str) -> NetworkStatus:
        """How the network of a graph is; it is running while messages wait for the targets of its edges."""
        held = self._held(graph_id)
        if not held.started:
            return NetworkStatus(started=False, running=False, time=_iso(held.since))
        busy = self._wiring.is_busy({str(edge) for edge in held.graph.edges})
        return NetworkStatus(started=True, running=busy, uptime_s=time.time() - held.since, time=_iso(held.since))

    def _held(self, graph_id: str) -> HeldGraph:
        held = self._graphs.get(graph_id)
        if held is None:
            raise GraphError("", "Requested graph not found")
        return held

    @asynccontextmanager
    async def _one_edit(self) -> AsyncIterator[None]:
        """One after the other; implied edges that have come meanwhile are told after it."""
        async with self._editing:
            try:
                yield
            finally:
                self._show_implied(new=True)

    # -- edits -----------------------------------------------------------------------------------------------------

    async def apply(
        self, graph_id: str, edits: Sequence[Edit], asked: Asked | None = None, edited: Graph | None = None
    ) -> None:
        """Apply edits, all or none; saved before this returns, and before anybody is told.

        ``edited`` is the graph that they were made for: if it is not that any more, nothing is done.
        """
        async with self._one_edit():
            held = self._held(graph_id)
            if edited is not None and held.graph != edited:
                raise GraphError(graph_id, "somebody else edited it meanwhile; try again")
            graph, steps = held.graph, []
            for wish in edits:
                edit = self._meant(graph, wish)
                after = apply_edit(graph, edit)
                steps.append(Edited(graph_id, edit, graph, after, asked))
                graph = after
            self._check(graph_id, graph)

            def follow() -> None:
                held.graph = graph
                self._use()
                for step in steps:
                    self._listeners.tell(step)

            await self._save_and(graph_id, graph, follow)

    async def _save_and(self, graph_id: str, graph: Graph, follow: Callable[[], None]) -> None:
        """Save the main graph, and then do what follows; also when who asked hangs up meanwhile, or another graph would be
        in the file than runs.
        """
        if graph_id != self._info.main:
            follow()
            return

        async def save() -> None:
            await self._file.save(graph)
            follow()

        await to_the_end(save(), "coordinator:save")

    def preview(self, graph_id: str, edits: Sequence[Edit]) -> tuple[Plan, Plan]:
        """The plan as it is, and as it would be after edits. ``GraphError`` if they can't be."""
        graph = self._held(graph_id).graph
        for edit in edits:
            graph = apply_edit(graph, self._meant(graph, edit))
        self._check(graph_id, graph)
        others = [held.graph for other, held in self._graphs.items() if held.started and other != graph_id]
        return self._coordinator.plan, self._coordinator.proposed(union([graph, *others]))

    def _meant(self, graph: Graph, edit: Edit) -> Edit:
        """The edit as it is meant, if it may be: a role that somebody else's process has can't be taken from it by another
        name in our graph.
        """
        if not isinstance(edit, RenameNode):
            return self._implied.as_meant(graph, edit)
        for participant in self._coordinator.members(edit.old):
            if participant.transport == "serial":
                raise GraphError(edit.old, f"is the role of a board; use: gateway rename {edit.old} {edit.new}")
            if not self._components.starts(participant.component, participant.role):
                raise GraphError(
                    edit.old,
                    f"is the role of a participant that was not started here ({participant.id}): rename it there",
                )
        return edit

    def _check(self, graph_id: str, graph: Graph) -> None:
        """Refuse what can't work. What could not work before already is no reason to refuse another edit."""
        check_graph(graph, graph_id)
        others = [held.graph for other, held in self._graphs.items() if other != graph_id]
        taken = {node.id for other in others for node in other.nodes}
        for node in graph.nodes:
            if node.id in taken:
                raise GraphError(node.id, "another graph has a node of this name, and a name is a role: choose another")
        held = self._graphs.get(graph_id)
        if held is not None and held.started:
            running = [held.graph for other, held in self._graphs.items() if held.started and other != graph_id]
            self._coordinator.proposed(union([graph, *running]))

    def _use(self, *, without_iips: str = "") -> None:
        nodes = [node for held in self._graphs.values() for node in held.graph.nodes]
        self._components.wanted(nodes)
        started = {node.id for node in nodes if self._components.starts(node.component, node.id)}
        for role in self._started_here - started:
            self._coordinator.left(role)
        self._started_here = started
        graphs = self._running()
        if without_iips:
            graphs[without_iips] = replace(graphs[without_iips], order=graphs[without_iips].edges)
        self._coordinator.use(union(graphs.values()))
        self._look()

    def _running(self) -> dict[str, Graph]:
        return {graph_id: held.graph for graph_id, held in self._graphs.items() if held.started}

    async def clear(self, graph_id: str, fields: Mapping[str, Json], asked: Asked | None = None) -> None:
        """Make an empty graph, or empty one."""
        async with self._one_edit():
            make_room(self._graphs, self._info.main, graph_id)
            properties = {key: value for key, value in fields.items() if key != "main"}
            graph = Graph(name=str(fields.get("name") or ""), properties=MappingProxyType(properties))

            def follow() -> None:
                before = self.graphs().get(graph_id)
                self._graphs.setdefault(graph_id, HeldGraph(graph)).graph = graph
                self._use()
                self._listeners.tell(Cleared(graph_id, fields, asked, before))

            await self._save_and(graph_id, graph, follow)

    # -- networks --------------------------------------------------------------------------------------------------

    async def start(self, graph_id: str, asked: Asked | None = None) -> None:
        """Make the edges, then tell, then send the IIPs. Waits a little for processes that were just started."""
        await self._wait_for(self._held(graph_id).graph.nodes)
        async with self._one_edit():
            held = self._held(graph_id)
            if not held.started:
                self._coordinator.proposed(union([*self._running().values(), held.graph]))
                held.started, held.since = True, time.time()
            self._use(without_iips=graph_id)
            await self._wiring.bound()
            self._listeners.tell(NetworkStarted(graph_id, replace(self.network(graph_id), running=True), asked))
            self._use()
            self._coordinator.send_iips_again({node.id for node in held.graph.nodes})

    async def bound(self) -> None:
        """Return once the brokers have the edges that run."""
        await self._wiring.bound()

    async def _wait_for(self, nodes: Iterable[Node]) -> None:
        """Until the processes of ours among these nodes have announced themselves, for as long as clients wait."""
        ours = [node.id for node in nodes if self._components.starts(node.component, node.id)]
        with suppress(TimeoutError):
            async with asyncio.timeout(START_WAIT_S):
                while not all(self._coordinator.is_present(role) for role in ours):
                    self._somebody_came.clear()
                    await self._somebody_came.wait()

    async def stop(self, graph_id: str, asked: Asked | None = None) -> None:
        """Take the edges out; what waits for their targets stays in the spool."""
        async with self._one_edit():
            held = self._held(graph_id)
            uptime = time.time() - held.since if held.started else None
            if held.started:
                held.started, held.since = False, time.time()
                self._use()
            status = replace(self.network(graph_id), uptime_s=uptime)
            self._listeners.tell(NetworkStopped(graph_id, status, asked))

    async def send(self, graph_id: str, port: str, payload: Json) -> None:
        """To every participant behind an exported inport; confirmed when this returns."""
        export = next((one for one in self._held(graph_id).graph.inports if one.name == port), None)
        if export is None:
            raise GraphError("", f"Cannot find exported port {port}")
        await self._wait_for([self._held(graph_id).graph.node(export.ref.node)])
        body = msgspec.json.encode(payload)
        addresses: list[Address] = []
        for participant in self._coordinator.members(export.ref.node):
            definition = participant.port(Direction.IN, export.ref.port)
            if definition is not None:
                address = port_address(participant, definition, Direction.IN)
                addresses += [address] if address not in addresses else []
        if not addresses:
            raise GraphError(str(export.ref), f"role {export.ref.node} has not been seen with this port yet")
        for address in addresses:
            await self._wiring.send(address, body)

    # -- components ------------------------------------------------------------------------------------------------

    async def source(self, name: str) -> Source:
        """The source of a component; of one that runs elsewhere, what its discovery message says."""
        try:
            return await self._components.source(name)
        except NotFound:
            for info in self.components():
                if info.name == name:
                    return _definition(info)
            raise

    async def set_source(self, source: Source) -> None:
        """Write the source of a component."""
        await self._components.set_source(source)
        self._components_changed()

    # -- what happens ----------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> Callable[[], None]:
        """One more listener. While there is one, what comes out of exported outports is told."""
        self._implied.refresh(self.graphs(), new=True)  # it sees those of now when it looks
        remove = self._listeners.add(listener)
        self._live.listeners += 1
        self._look()

        def forget() -> None:
            remove()
            self._live.listeners -= 1
            self._look()

        return forget

    def watch(self, client: str, graph_id: str, edges: Collection[Ends] | None) -> None:
        """What a client wants to be told."""
        self._live.watches.set(client, graph_id, edges)
        self._look()

    def unwatch(self, client: str) -> None:
        """It wants nothing any more."""
        self._live.watches.drop(client)
        self._look()

    def process_failed(self, role: str, problem: str) -> None:
        """Something is wrong at a role: its process died, or a message for it became a dead letter."""
        for graph_id, held in self._graphs.items():
            if held.graph.has_node(role):
                self._listeners.tell(ProcessFailed(graph_id, role, problem))

    def printed(self, role: str, line: str) -> None:
        """A process of ours said something."""
        self._listeners.tell(Printed(f"{role}: {line}"))

    def _look(self) -> None:
        """See to it that what clients watch is told, on implied edges too."""
        graphs = self._running()
        if self._live.listeners:
            graphs = {graph_id: self._implied.along(graph) for graph_id, graph in graphs.items()}
        self._live.refresh(graphs)

    def _show_implied(self, *, new: bool) -> None:
        if self._live.listeners:
            self._implied.refresh(self.graphs(), new=new)

    def _planned(self) -> None:
        self._somebody_came.set()
        self._look()
        self._show_implied(new=not self._editing.locked())
        self._components_changed()

    def _components_changed(self) -> None:
        before, self._told = self._told, {info.name: info for info in self.components()}
        for name, info in self._told.items():
            if before.get(name) != info:
                self._listeners.tell(ComponentKnown(info))

    def _iip_sent(self, planned: PlannedIip) -> None:
        for graph_id, graph in self._running().items():
            if graph.has_node(planned.iip.tgt.node):
                self._listeners.tell(Data(graph_id, None, planned.iip.tgt, planned.iip.data, time.time()))


def _definition(info: ComponentInfo) -> Source:
    def listed(title: str, ports: Sequence[PortDef]) -> list[str]:
        return (
            [f"{title}:", *(f"  {port.id}: {{type: {port.type}}}" for port in ports)] if ports else [f"{title}: {{}}"]
        )

    lines = [f"component: {info.name}", *listed("inports", info.inports), *listed("outports", info.outports)]
    library, _, name = info.name.rpartition("/")
    return Source(name, "discovery", "\n".join(lines) + "\n", library)


def _iso(seconds: float) -> str:
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
