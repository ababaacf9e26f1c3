"""FBP messages that nobody should send, and a session that is sent them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.client_session import FbpSession
from gateway.fbp.runtime.commands import EDITS
from gateway.fbp.runtime.protocol_messages import LONGEST_FRAME
from gateway.model.graph import Edge, Graph, Node
from gateway.model.port import PortRef
from tests.support.fbp_runtime import SmallRuntime

COMMANDS = [
    *(("graph", command) for command in (*EDITS, "clear", "nonsense")),
    *(("network", command) for command in ("start", "stop", "getstatus", "edges", "debug", "persist", "data")),
    *(("component", command) for command in ("list", "getsource", "source")),
    *(("runtime", command) for command in ("getruntime", "packet", "ports")),
    *(("trace", command) for command in ("start", "stop", "dump", "clear")),
    ("weather", "get"),
]
KEYS = ("graph", "id", "component", "src", "tgt", "node", "port", "index", "metadata", "data", "from", "to", "public",
        "name", "nodes", "edges", "payload", "event", "secret", "enable", "buffersize", "type", "code", "language")  # fmt: skip
LEAVES: tuple[Any, ...] = (
    "default/main", "a", "b", "out", "in", "core/Repeat", "data", "", "\x00", "\ud800", "é" * 300, None, True, False,
    0, -1, 2, 2**70, 1e308, -0.0, "flowtrace.json", [], {},
)  # fmt: skip


def value(random_: random.Random, depth: int) -> Any:
    kind = random_.random()
    if depth == 0 or kind < 0.6:
        return random_.choice(LEAVES)
    if kind < 0.75:
        return [value(random_, depth - 1) for _ in range(random_.randrange(4))]
    return {random_.choice(KEYS): value(random_, depth - 1) for _ in range(random_.randrange(6))}


def strange_frame(random_: random.Random) -> str:
    """A message of a known form with strange contents, or a damaged one."""
    protocol, command = random_.choice(COMMANDS)
    payload = value(random_, 3)
    if isinstance(payload, dict) and random_.random() < 0.8:
        payload["graph"] = "default/main"
    text = json.dumps({"protocol": protocol, "command": command, "payload": payload, "requestId": "r"})
    if random_.random() < 0.2:
        at = random_.randrange(len(text))
        text = text[:at] + random_.choice(('"', "{", "\x00", "", "]" * 9, "\udfff")) + text[at + 1 :]
    return text


def strange_frames(count: int, seed: int = 6) -> Iterator[str]:
    """So many, the same ones each time."""
    random_ = random.Random(seed)
    return (strange_frame(random_) for _ in range(count))


def largest_frames() -> tuple[str, ...]:
    """As long as a frame may be, of nothing but depth, length or number."""
    room = LONGEST_FRAME - 200
    named = {"protocol": "graph", "command": "addnode", "payload": {"id": "x" * room, "graph": "default/main"}}
    edges = {"graph": "default/main", "edges": [{}] * (room // 4)}
    many = {"protocol": "network", "command": "edges", "payload": edges}
    return "[" * room, '{"a":' * (room // 5), '"' + "x" * room, json.dumps(named), json.dumps(many)


def small_session() -> FbpSession:
    """A session over a graph of two nodes and an edge."""
    runtime = SmallRuntime()
    nodes = (Node("a", "core/Repeat"), Node("b", "core/Drop"))
    edge = Edge(PortRef("a", "out"), PortRef("b", "in"))
    runtime.held["default/main"].graph = Graph(nodes=nodes, order=(edge,))
    return FbpSession("me", runtime, Access())
