"""What stands behind the FBP runtime protocol: the coordinator, or one board. Interfaces and plain data only.

A session asks a ``View`` (at once, never waiting), and turns what needs doing into intents, which the shell has the
``Backend`` carry out. What happens, whoever asked for it, comes back to every session as a ``Change``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from gateway.model.edits import Edit
from gateway.model.graph import Edge, Graph, Json
from gateway.model.port import PortDef, PortRef


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What a runtime says of itself. ``id`` is a UUID, ``type`` is ``msgflo`` or ``microflo``.

    ``main`` is the id of the graph that runs here always; empty if there is none.
    ``offers`` are the capabilities that it has for whoever may use them.
    """

    id: str
    type: str
    label: str
    main: str
    offers: frozenset[str]
    namespace: str = ""
    repository: str = ""


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """A component as clients see it."""

    name: str
    inports: tuple[PortDef, ...] = ()
    outports: tuple[PortDef, ...] = ()
    description: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a component. ``library`` is the part of its name before the slash; empty if there is none."""

    name: str
    language: str
    code: str
    library: str = ""
    tests: str = ""


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """Whether a graph's network was started, and whether it is at work right now. ``uptime_s`` is None when stopped.

    ``time`` is when it was started or stopped, as an ISO 8601 text; empty if never.
    """

    started: bool
    running: bool
    uptime_s: float | None = None
    time: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which client asked, with which request id; ``with_metadata``: its request had metadata, be it empty."""

    client: str
    request_id: str | None = None
    with_metadata: bool = False


Ends: TypeAlias = tuple[PortRef, PortRef]
"""The two ends of an edge."""

# -- what happened -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edited:
    """An accepted edit with the graph before and after it; the graph file holds it already."""

    graph_id: str
    edit: Edit
    before: Graph
    after: Graph
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class ImpliedEdge:
    """An edge that nobody drew is there, or is no more: two ports have one queue. No file has it."""

    graph_id: str
    edge: Edge
    there: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """A graph was made, or emptied. ``fields`` are what the client said of it, ``before`` is what was there."""

    graph_id: str
    fields: Mapping[str, Json] = field(default_factory=dict, hash=False)
    asked: Asked | None = None
    before: Graph | None = None


@dataclass(frozen=True, slots=True)
class NetworkStarted:
    """A network was started."""

    graph_id: str
    status: NetworkStatus
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class NetworkStopped:
    """A network was stopped."""

    graph_id: str
    status: NetworkStatus
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """A message passed an edge; without ``src`` it was an IIP. ``time`` is in seconds since 1970."""

    graph_id: str
    src: PortRef | None
    tgt: PortRef
    data: Json
    time: float


@dataclass(frozen=True, slots=True)
class PacketOut:
    """A message came out of an exported outport, named by its public name."""

    graph_id: str
    port: str
    payload: Json


@dataclass(frozen=True, slots=True)
class ComponentKnown:
    """A component is new, or its ports are known now."""

    component: ComponentInfo


@dataclass(frozen=True, slots=True)
class ProcessFailed:
    """A node is in trouble: its process died, its board refused, a message became a dead letter."""

    graph_id: str
    node: str
    error: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A line of output of a participant that runs here."""

    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The runtime itself is no more, as that of a board which was unpaired: its clients are sent away."""


Change: TypeAlias = (
    Edited
    | ImpliedEdge
    | Cleared
    | NetworkStarted
    | NetworkStopped
    | Data
    | PacketOut
    | ComponentKnown
    | ProcessFailed
    | Printed
    | Ended
)

Listener = Callable[[Change], None]

# -- the interfaces ----------------------------------------------------------------------------------------------


class View(Protocol):
    """What a session may look at without waiting."""

    @property
    def info(self) -> RuntimeInfo:
        """What the runtime says of itself."""

    def graphs(self) -> Mapping[str, Graph]:
        """The graphs by their ids."""

    def with_implied(self, graph: Graph) -> Graph:
        """A graph as clients see it: with edges that nobody drew, but that are there."""

    def components(self) -> Sequence[ComponentInfo]:
        """The components, in a stable order."""

    def network(self, graph_id: str) -> NetworkStatus:
        """How the network of a graph is."""


class Backend(View, Protocol):
    """What can be had done. Every method raises ``GatewayError`` for what it refuses, and has changed nothing then."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` what happens, in order, from now until the function that is returned is called."""

    def watch(self, client: str, graph_id: str, edges: Collection[Ends] | None) -> None:
        """Have ``Data`` told of these edges of a graph (None: of all) as long as ``client`` wants them."""

    def unwatch(self, client: str) -> None:
        """A client is gone: it wants nothing any more."""

    async def apply(self, graph_id: str, edits: Sequence[Edit], asked: Asked | None = None) -> None:
        """Apply edits, all or none. Returns when they are saved; ``Edited`` was told then."""

    async def clear(self, graph_id: str, fields: Mapping[str, Json], asked: Asked | None = None) -> None:
        """Make an empty graph, or empty one. Returns when that is saved."""

    async def start(self, graph_id: str, asked: Asked | None = None) -> None:
        """Start the network: make its edges, send its IIPs."""

    async def stop(self, graph_id: str, asked: Asked | None = None) -> None:
        """Stop the network: its edges carry nothing any more."""

    async def send(self, graph_id: str, port: str, payload: Json) -> None:
        """Send to an exported inport, named by its public name. Returns when the target has confirmed."""

    async def source(self, name: str) -> Source:
        """The source of a component. ``NotFound`` if there is none."""

    async def set_source(self, source: Source) -> None:
        """Replace the source of a component."""
