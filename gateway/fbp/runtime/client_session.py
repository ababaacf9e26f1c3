"""One client's conversation in the FBP runtime protocol: requests in; replies, and intents for the shell, out.

The shell carries out one intent after the other, so that answers leave in the order of the requests. An accepted edit,
start or stop is answered by its ``Change``, which every session turns into messages; the one that asked adds
``responseTo``. Errors and the answers to questions go to the asker alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from gateway.errors import GatewayError, GraphError
from gateway.fbp.runtime import commands, payloads
from gateway.fbp.runtime.access import Access, may_receive, needed
from gateway.fbp.runtime.backend import (
    Asked,
    Change,
    Cleared,
    ComponentInfo,
    ComponentKnown,
    Data,
    Edited,
    Ended,
    Ends,
    ImpliedEdge,
    NetworkStarted,
    NetworkStopped,
    PacketOut,
    Printed,
    ProcessFailed,
    Source,
    View,
)
from gateway.fbp.runtime.intents import (
    ClearGraph,
    EditGraph,
    GetSource,
    Intent,
    Result,
    SendPacket,
    SetSource,
    StartNetwork,
    StopNetwork,
    WatchEdges,
)
from gateway.fbp.runtime.protocol_messages import BadRequest, Reply, Request, error, parse_request
from gateway.fbp.runtime.sampling import Sampler
from gateway.fbp.runtime.trace import BUFFER_BYTES, LARGEST_BUFFER_BYTES, Trace
from gateway.model.graph import Graph

NO_GRAPH = "No graph specified"
UNKNOWN_GRAPH = "Requested graph not found"
"""Clients compare these two texts literally."""


Out: TypeAlias = list[Reply | Intent]


class FbpSession:
    """One client. ``client`` is a name that no other session has."""

    def __init__(self, client: str, view: View, access: Access) -> None:
        self.client = client
        self._view = view
        self._access = access
        self._granted = access.granted(None) & view.info.offers
        self._rate = Sampler()
        self._watched: dict[str, frozenset[Ends] | None] = {}
        self._traces: dict[str, Trace] = {}
        self._debug: set[str] = set()

    @property
    def left_out(self) -> int:
        """Messages of live edges that this client was not shown because there were too many."""
        return self._rate.left_out

    # -- from the client -------------------------------------------------------------------------------------------

    def receive(self, text: str) -> Out:
        """A text frame. Never raises for what a client sends."""
        try:
            request = parse_request(text)
        except BadRequest as exc:
            return [error(exc.protocol, str(exc), exc.request_id)]
        capabilities = self._access.granted(request.secret) & self._view.info.offers
        self._granted |= capabilities
        name = f"{request.protocol}:{request.command[:40]}"
        handler = _HANDLERS.get((request.protocol, request.command))
        if handler is None:
            return [error(request.protocol, f"unknown command {name}", request.request_id)]
        capability = needed(request.protocol, request.command)
        if capability and capability not in capabilities:
            known = self._access.has_secrets and capability in self._view.info.offers
            why = "give a secret that has it" if known else "this runtime does not offer it"
            return [error(request.protocol, f"{name} needs the capability {capability}; {why}", request.request_id)]
        try:
            return handler(self, request)
        except GatewayError as exc:
            return [error(request.protocol, str(exc), request.request_id)]

    def _asked(self, request: Request) -> Asked:
        return Asked(self.client, request.request_id, request.payload.get("metadata") is not None)

    def _graph(self, request: Request) -> tuple[str, Graph]:
        graph_id = request.payload.get("graph")
        if graph_id is None or graph_id == "":
            raise GraphError("", NO_GRAPH)
        graph = self._view.graphs().get(graph_id) if isinstance(graph_id, str) else None
        if graph is None:
            raise GraphError("", UNKNOWN_GRAPH)
        return graph_id, graph

    def _get_runtime(self, request: Request) -> Out:
        capabilities = self._access.granted(request.secret) & self._view.info.offers
        info = self._view.info
        answer = payloads.runtime(info, capabilities)
        out: Out = [Reply("runtime", "runtime", answer.payload, request.request_id)]
        graph = self._view.graphs().get(info.main)
        if graph is not None and may_receive(capabilities, "runtime", "ports"):
            out.append(payloads.ports(info.main, graph, self._view.components()))
        return out

    def _packet(self, request: Request) -> Out:
        graph_id, graph = self._graph(request)
        port, event, fields = commands.read_packet(request.payload)
        fields["graph"] = graph_id
        if port not in {export.name for export in graph.inports}:
            known = ", ".join(export.name for export in graph.inports) or "none"
            raise GraphError("", f"Cannot find exported port {port} (the graph has: {known})")
        if event != "data":
            return [Reply("runtime", "packetsent", fields, request.request_id)]
        return [SendPacket(graph_id, port, fields.get("payload"), fields, self._asked(request))]

    def _edit(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        return [EditGraph(graph_id, commands.EDITS[request.command](request.payload), self._asked(request))]

    def _clear(self, request: Request) -> Out:
        graph_id, fields = commands.read_clear(request.payload)
        return [ClearGraph(graph_id, fields, self._asked(request))]

    def _start(self, request: Request) -> Out:
        """A client that starts a network and never said which edges it wants is shown all of them."""
        graph_id, _ = self._graph(request)
        out = self._forget()
        if graph_id not in self._watched and "network:data" in self._granted:
            self._watched[graph_id] = None
            out.append(WatchEdges(graph_id, None))
        return [*out, StartNetwork(graph_id, self._asked(request))]

    def _stop(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        return [StopNetwork(graph_id, self._asked(request))]

    def _get_status(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        debug = True if graph_id in self._debug else None
        payload = payloads.status(graph_id, self._view.network(graph_id), debug)
        return [Reply("network", "status", payload, request.request_id)]

    def _set_debug(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        enable = commands.read_enable(request.payload)
        gone = self._forget()
        (self._debug.add if enable else self._debug.discard)(graph_id)
        payload = payloads.status(graph_id, self._view.network(graph_id), enable)
        return [*gone, Reply("network", "status", payload, request.request_id)]

    def _edges(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        edges = commands.read_edges(request.payload)
        gone = self._forget()
        self._watched[graph_id] = frozenset(edges)
        listed = [{"src": payloads.end(src), "tgt": payloads.end(tgt)} for src, tgt in edges]
        reply = Reply("network", "edges", {"graph": graph_id, "edges": listed}, request.request_id)
        return [*gone, self._watch(graph_id), reply]

    def _forget(self) -> Out:
        """Nothing is kept of graphs that are no more: a client may make and leave any number of them."""
        there = self._view.graphs()
        gone = [graph_id for graph_id in {**self._watched, **self._traces} if graph_id not in there]
        for graph_id in gone:
            self._watched.pop(graph_id, None)
            self._traces.pop(graph_id, None)
        self._debug.intersection_update(there)
        return [WatchEdges(graph_id, frozenset()) for graph_id in gone]

    def _watch(self, graph_id: str) -> WatchEdges:
        """What this session needs to be told of a graph: the edges on show, or all while it is traced."""
        edges = self._watched.get(graph_id, frozenset())
        return WatchEdges(graph_id, None if graph_id in self._traces else edges)

    def _persist(self, request: Request) -> Out:
        """Every accepted edit is on disk already."""
        return [Reply("network", "persist", {}, request.request_id)]

    def _list(self, request: Request) -> Out:
        found = self._view.components()
        out: Out = [payloads.component(info) for info in found]
        return [*out, Reply("component", "componentsready", len(found), request.request_id)]

    def _get_source(self, request: Request) -> Out:
        name = commands.read_name(request.payload)
        graph = self._view.graphs().get(name)
        if graph is not None:
            return [payloads.source(payloads.graph_source(name, self._view.with_implied(graph)), request.request_id)]
        return [GetSource(name, self._asked(request))]

    def _set_source(self, request: Request) -> Out:
        return [SetSource(commands.read_source(request.payload), self._asked(request))]

    def _trace_start(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        wanted = commands.read_buffersize(request.payload)
        gone = self._forget()
        room = min(wanted or BUFFER_BYTES, LARGEST_BUFFER_BYTES)
        others = sum(trace.room for other, trace in self._traces.items() if other != graph_id)
        if others + room > LARGEST_BUFFER_BYTES:
            left = LARGEST_BUFFER_BYTES - others
            why = f"{graph_id}: no room for a trace of {room} bytes beside your others, only {left}: stop one"
            return [*gone, error("trace", why, request.request_id)]
        self._traces[graph_id] = Trace(room)
        size = {} if wanted is None else {"buffersize": room}
        reply = Reply("trace", "start", {"graph": graph_id, **size}, request.request_id)
        return [*gone, self._watch(graph_id), reply]

    def _trace_stop(self, request: Request) -> Out:
        graph_id, _ = self._graph(request)
        self._traces.pop(graph_id, None)
        return [self._watch(graph_id), Reply("trace", "stop", {"graph": graph_id}, request.request_id)]

    def _trace_clear(self, request: Request) -> Out:
        graph_id, _, trace = self._trace(request)
        trace.clear()
        return [Reply("trace", "clear", {"graph": graph_id}, request.request_id)]

    def _trace_dump(self, request: Request) -> Out:
        graph_id, graph, trace = self._trace(request)
        kind = commands.read_trace_type(request.payload)
        if kind != "flowtrace.json":
            raise GraphError(kind[:40], "unknown type of trace; the only one is flowtrace.json")
        payload = {"graph": graph_id, "type": kind, "flowtrace": trace.dump(graph_id, graph)}
        return [Reply("trace", "dump", payload, request.request_id)]

    def _trace(self, request: Request) -> tuple[str, Graph, Trace]:
        graph_id, graph = self._graph(request)
        if graph_id not in self._traces:
            raise GraphError(graph_id, "no trace is running; send trace:start first")
        return graph_id, graph, self._traces[graph_id]

    # -- what became of an intent ----------------------------------------------------------------------------------

    def resolve(self, intent: Intent, result: Result) -> list[Reply]:
        """The answer to a request whose intent was carried out, or refused."""
        if isinstance(result, GatewayError):
            asked = None if isinstance(intent, WatchEdges) else intent.asked
            return [error(_PROTOCOL_OF[type(intent)], str(result), asked.request_id if asked else None)]
        match intent:
            case SendPacket():
                return [Reply("runtime", "packetsent", dict(intent.fields), intent.asked.request_id)]
            case GetSource(_, asked) if isinstance(result, Source):
                return [payloads.source(result, asked.request_id)]
            case SetSource(source, asked):
                name = f"{source.library}/{source.name}" if source.library else source.name
                known = {info.name: info for info in self._view.components()}
                reply = payloads.component(known.get(name) or ComponentInfo(name))
                return [Reply(reply.protocol, reply.command, reply.payload, asked.request_id)]
            case _:
                return []  # told to everybody as a change

    # -- what happened ---------------------------------------------------------------------------------------------

    def notify(self, change: Change, now: float) -> list[Reply]:
        """What this client is told of a change at ``now`` (monotonic seconds)."""
        if isinstance(change, Data):
            return self._data(change, now)
        return [reply for reply in self._told(change) if may_receive(self._granted, reply.protocol, reply.command)]

    def _told(self, change: Change) -> list[Reply]:
        match change:
            case Edited():
                return self._edited(change)
            case ImpliedEdge(graph_id, edge, there):
                return [payloads.implied(graph_id, edge, there)]
            case Cleared(graph_id, fields, asked, before):
                answer = {"id": graph_id, **fields}
                told = [Reply("graph", "clear", answer, payloads.response_to(asked, self.client))]
                if before is not None and (before.inports or before.outports):
                    told.append(payloads.ports(graph_id, Graph(), ()))
                return told
            case NetworkStarted(graph_id, network, asked):
                answer = payloads.started(graph_id, network)
                return [Reply("network", "started", answer, payloads.response_to(asked, self.client))]
            case NetworkStopped(graph_id, network, asked):
                answer = payloads.stopped(graph_id, network)
                return [Reply("network", "stopped", answer, payloads.response_to(asked, self.client))]
            case PacketOut(graph_id, port, payload):
                fields = {"port": port, "event": "data", "graph": graph_id, "payload": payload}
                return [Reply("runtime", "packet", fields)]
            case ComponentKnown(component):
                return [payloads.component(component)]
            case ProcessFailed(graph_id, node, problem):
                return [Reply("network", "processerror", {"id": node, "error": problem, "graph": graph_id})]
            case Printed(message):
                return [Reply("network", "output", {"message": message, "type": "message"})]
            case Data() | Ended():
                return []

    def _edited(self, change: Edited) -> list[Reply]:
        told = payloads.edited(change)
        answers = payloads.response_to(change.asked, self.client)
        last = len(told) - 1
        replies = [
            Reply("graph", command, payload, answers if number == last else None)
            for number, (command, payload) in enumerate(told)
        ]
        if payloads.asks_for_ports(change):
            replies.append(payloads.ports(change.graph_id, change.after, self._view.components()))
        return replies

    def _data(self, change: Data, now: float) -> list[Reply]:
        trace = self._traces.get(change.graph_id)
        if trace is not None:
            trace.record(change)
        if change.graph_id not in self._watched or "network:data" not in self._granted:
            return []
        edges = self._watched[change.graph_id]
        if edges is not None and (change.src is None or (change.src, change.tgt) not in edges):
            return []
        if not self._rate.passes((change.graph_id, change.src, change.tgt), now):
            return []
        return [Reply("network", "data", payloads.data(change))]


_PROTOCOL_OF: Mapping[type[Intent], str] = {
    EditGraph: "graph",
    ClearGraph: "graph",
    StartNetwork: "network",
    StopNetwork: "network",
    WatchEdges: "network",
    SendPacket: "runtime",
    GetSource: "component",
    SetSource: "component",
}

_HANDLERS: Mapping[tuple[str, str], Callable[[FbpSession, Request], Out]] = {
    ("runtime", "getruntime"): FbpSession._get_runtime,
    ("runtime", "packet"): FbpSession._packet,
    ("graph", "clear"): FbpSession._clear,
    **{("graph", command): FbpSession._edit for command in commands.EDITS},
    ("network", "start"): FbpSession._start,
    ("network", "stop"): FbpSession._stop,
    ("network", "getstatus"): FbpSession._get_status,
    ("network", "debug"): FbpSession._set_debug,
    ("network", "edges"): FbpSession._edges,
    ("network", "persist"): FbpSession._persist,
    ("component", "list"): FbpSession._list,
    ("component", "getsource"): FbpSession._get_source,
    ("component", "source"): FbpSession._set_source,
    ("trace", "start"): FbpSession._trace_start,
    ("trace", "stop"): FbpSession._trace_stop,
    ("trace", "clear"): FbpSession._trace_clear,
    ("trace", "dump"): FbpSession._trace_dump,
}
