"""What a session wants done. The shell has the backend do it, and hands the session what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.errors import GatewayError
from gateway.fbp.runtime.backend import Asked, Ends, Source
from gateway.model.edits import Edit
from gateway.model.graph import Json


@dataclass(frozen=True, slots=True)
class EditGraph:
    """Apply an edit."""

    graph_id: str
    edit: Edit
    asked: Asked


@dataclass(frozen=True, slots=True)
class ClearGraph:
    """Make or empty a graph."""

    graph_id: str
    fields: Mapping[str, Json] = field(hash=False)
    asked: Asked


@dataclass(frozen=True, slots=True)
class StartNetwork:
    """Start a graph's network."""

    graph_id: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class StopNetwork:
    """Stop it."""

    graph_id: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send to an exported inport; ``fields`` is what the answer repeats."""

    graph_id: str
    port: str
    payload: Json = field(hash=False)
    fields: Mapping[str, Any] = field(hash=False)
    asked: Asked


@dataclass(frozen=True, slots=True)
class WatchEdges:
    """Have data of these edges told (None: of all)."""

    graph_id: str
    edges: frozenset[Ends] | None


@dataclass(frozen=True, slots=True)
class GetSource:
    """Fetch the source of a component."""

    name: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class SetSource:
    """Replace the source of a component."""

    source: Source
    asked: Asked


Intent: TypeAlias = (
    EditGraph | ClearGraph | StartNetwork | StopNetwork | SendPacket | WatchEdges | GetSource | SetSource
)

Result: TypeAlias = Source | GatewayError | None
"""What became of an intent: an error, the source that was asked for, or nothing to say."""
