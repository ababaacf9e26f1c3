"""What the daemon answers on its control socket about its graph: wire, unwire, compare and apply."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.planner import Plan, implied_edges
from gateway.coordinator.fbp_backend import CoordinatorBackend
from gateway.errors import GraphError, NotFound, PortUnknown
from gateway.fbp.text.graph_json import from_json, to_json
from gateway.model.difference import describe, difference
from gateway.model.edits import AddEdge, AddNode, Edit, RemoveEdge
from gateway.model.graph import Edge, Graph, Node
from gateway.model.port import Direction, PortRef

Request = dict[str, Any]
Handler = Callable[[Request], AsyncIterator[Any]]

BOUND_WAIT_S = 10.0
"""How long an edit waits for the brokers; it is saved by then, and goes on without anybody waiting."""


class GraphHandlers:
    """The handlers, over the coordinator and its FBP runtime."""

    def __init__(self, backend: CoordinatorBackend, coordinator: Coordinator) -> None:
        self._backend = backend
        self._coordinator = coordinator

    def handlers(self) -> dict[str, Handler]:
        """The table for the control server."""
        return {
            "graph.get": self.get,
            "graph.connect": self.connect,
            "graph.disconnect": self.disconnect,
            "graph.apply": self.apply,
        }

    @property
    def _graph(self) -> Graph:
        return self._backend.graphs()[self._backend.info.main]

    async def get(self, request: Request) -> AsyncIterator[Any]:
        """The graph that runs, as a JSON graph, and how its edges are. Implied ones are no part of it."""
        waiting, refused = self._coordinator.waiting, self._coordinator.refused
        implied = [str(edge) for edge in implied_edges(self._graph, self._coordinator.everyone())]
        yield {"graph": to_json(self._graph), "waiting": waiting, "refused": refused, "implied": implied}

    async def connect(self, request: Request) -> AsyncIterator[Any]:
        """One more edge; ends that are not in the graph yet are added to it, if they were ever seen."""
        src, tgt = _ref(request["src"]), _ref(request["tgt"])
        edits: list[Edit] = []
        for ref, direction in ((src, Direction.OUT), (tgt, Direction.IN)):
            if not self._graph.has_node(ref.node) and all(self._role_of(edit) != ref.node for edit in edits):
                edits.append(AddNode(Node(ref.node, self._component(ref, direction, request))))
        edits.append(AddEdge(Edge(src, tgt, dict(request.get("metadata") or {}))))
        async for answer in self._done(edits, request):
            yield answer

    async def disconnect(self, request: Request) -> AsyncIterator[Any]:
        """One edge less."""
        async for answer in self._done([RemoveEdge(_ref(request["src"]), _ref(request["tgt"]))], request):
            yield answer

    async def apply(self, request: Request) -> AsyncIterator[Any]:
        """Make the running graph equal to another: what changes, and then (unless ``dry_run``) the change."""
        wanted, edited = from_json(request["graph"], str(request.get("source") or "graph")), self._graph
        async for answer in self._done(list(difference(edited, wanted)), request, edited):
            yield answer

    async def _done(self, edits: list[Edit], request: Request, edited: Graph | None = None) -> AsyncIterator[Any]:
        """The planned difference, and the edits carried out; not if they are for a graph that has changed meanwhile."""
        main = self._backend.info.main
        before, after = self._backend.preview(main, edits)
        answer = {
            "edits": [describe(edit) for edit in edits],
            "edges": plan_difference(before, after),
            "waiting": {edge: why for edge, why in after.waiting.items() if before.waiting.get(edge) != why},
            "applied": False,
            "bound": False,
        }
        if edits and not request.get("dry_run"):
            await self._backend.apply(main, edits, edited=edited)
            answer["applied"], answer["bound"] = True, await self._bound()
        yield answer

    async def _bound(self) -> bool:
        """Whether the brokers have the edges, so that nothing that is sent from now on can miss them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BOUND_WAIT_S):
                await self._backend.bound()
                return True
        return False

    @staticmethod
    def _role_of(edit: Edit) -> str:
        return edit.node.id if isinstance(edit, AddNode) else ""

    def _component(self, ref: PortRef, direction: Direction, request: Request) -> str:
        """The component of a role that is new in the graph: as it announced itself, or as the user says."""
        named = (request.get("components") or {}).get(ref.node)
        members = self._coordinator.members(ref.node)
        if members and all(member.port(direction, ref.port) is None for member in members):
            ports = members[0].inports if direction is Direction.IN else members[0].outports
            known = ", ".join(port.id for port in ports) or "none"
            raise PortUnknown(str(ref), f"role {ref.node} has no {direction}port {ref.port} (it has: {known})")
        if named:
            return str(named)
        if not members:
            known = ", ".join(dict.fromkeys(one.role for one in self._coordinator.everyone())) or "none"
            raise NotFound(
                f"role {ref.node} is not in the graph and was never seen (seen: {known});"
                f" to wire it all the same, name its component: --component {ref.node}=NAME"
            )
        return members[0].component


def plan_difference(before: Plan, after: Plan) -> list[str]:
    """What changes for the router and the brokers, a line a binding."""
    old = {binding.id: f"{binding.source} -> {binding.tgt or binding.waits_for}" for binding in before.bindings}
    new = {binding.id: f"{binding.source} -> {binding.tgt or binding.waits_for}" for binding in after.bindings}
    gone = [f"- {text}" for key, text in old.items() if new.get(key) != text]
    return gone + [f"+ {text}" for key, text in new.items() if old.get(key) != text]


_REF = re.compile(r"(?P<node>.+)\.(?P<port>[^.\[\]]+)(?:\[(?P<index>\d{1,9})\])?", re.DOTALL | re.ASCII)


def _ref(text: Any) -> PortRef:
    """``ROLE.PORT`` or ``ROLE.PORT[INDEX]``, split at the last dot."""
    found = _REF.fullmatch(str(text))
    if found is None:
        raise GraphError(str(text), "write ROLE.PORT, or ROLE.PORT[INDEX] for one of an array")
    return PortRef(found["node"], found["port"], int(found["index"]) if found["index"] else None)
