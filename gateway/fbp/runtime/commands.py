"""Payloads of requests -> edits and other wishes, checked field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from gateway.errors import GraphError
from gateway.fbp.runtime.backend import Source
from gateway.model import edits as e
from gateway.model.graph import NO_METADATA, Edge, Export, Iip, Metadata, Node
from gateway.model.port import Direction, PortRef

MOST_EDGES = 4096
"""Edges that one client may watch in a graph."""

LONGEST_INDEX = 9
"""Digits of the index of an array port."""

LONGEST_NAME = 256
"""Characters of a node, port, group or graph; more is taken for garbage."""


class _Ref(msgspec.Struct):
    node: str
    port: str
    index: int | str | None = None

    def ref(self) -> PortRef:
        """The port. Clients send an index as a number or as its digits."""
        index = self.index
        if isinstance(index, str):
            if index and not (index.isdecimal() and len(index) <= LONGEST_INDEX):
                raise self._no_index(f"{index[:40]!r}")
            index = int(index) if index else None
        if index is not None and not 0 <= index < 10**LONGEST_INDEX:
            raise self._no_index(str(index) if index.bit_length() < 64 else "of so many digits")
        return PortRef(self.node, _short(self.port), index)

    def _no_index(self, shown: str) -> GraphError:
        place = f"{self.node[:40]}.{self.port[:40]}"
        return GraphError(place, f"index {shown} is no whole number from 0 of at most {LONGEST_INDEX} digits")


class _Data(msgspec.Struct):
    data: Any


class _AddNode(msgspec.Struct):
    id: str
    component: str
    metadata: dict[str, Any] | None = None


class _Id(msgspec.Struct):
    id: str


class _Rename(msgspec.Struct):
    old: str = msgspec.field(name="from")
    new: str = msgspec.field(name="to")


class _ChangeNode(msgspec.Struct):
    id: str
    metadata: dict[str, Any] = {}


class _Edge(msgspec.Struct):
    src: _Ref
    tgt: _Ref
    metadata: dict[str, Any] | None = None


class _AddInitial(msgspec.Struct):
    src: _Data
    tgt: _Ref
    metadata: dict[str, Any] | None = None


class _Target(msgspec.Struct):
    tgt: _Ref


class _AddPort(msgspec.Struct):
    public: str
    node: str
    port: str
    metadata: dict[str, Any] | None = None


class _Public(msgspec.Struct):
    public: str


class _AddGroup(msgspec.Struct):
    name: str
    nodes: list[str] = []
    metadata: dict[str, Any] | None = None


class _Name(msgspec.Struct):
    name: str


class _ChangeGroup(msgspec.Struct):
    name: str
    metadata: dict[str, Any] = {}


class _Clear(msgspec.Struct):
    id: str
    name: str | None = None
    library: str | None = None
    main: bool | None = None
    icon: str | None = None
    description: str | None = None


class _Packet(msgspec.Struct):
    port: str
    event: str
    payload: Any = msgspec.UNSET
    type: str | None = None
    schema: str | None = None


class _WatchedEdge(msgspec.Struct):
    src: _Ref
    tgt: _Ref


class _Edges(msgspec.Struct):
    edges: list[_WatchedEdge]


class _Source(msgspec.Struct):
    name: str
    language: str
    code: str
    library: str | None = None
    tests: str | None = None


class _Debug(msgspec.Struct):
    enable: bool


class _TraceStart(msgspec.Struct):
    buffersize: int | None = None


class _TraceDump(msgspec.Struct):
    type: str = "flowtrace.json"


T = TypeVar("T")


def read(payload: Mapping[str, Any], kind: type[T]) -> T:
    """The payload as ``kind``. ``GraphError`` names the field that does not fit."""
    try:
        return msgspec.convert(dict(payload), kind)
    except msgspec.ValidationError as exc:
        raise GraphError("", str(exc).replace("`", "")) from exc


def _frozen(metadata: dict[str, Any] | None) -> Metadata:
    return MappingProxyType(metadata) if metadata else NO_METADATA


def _add_node(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _AddNode)
    return e.AddNode(Node(_short(wish.id), _short(wish.component), _new_metadata(wish.metadata)))


def _new_metadata(metadata: dict[str, Any] | None) -> Metadata:
    """Metadata of something new: a null takes nothing out, it is just nothing."""
    return _frozen({key: value for key, value in (metadata or {}).items() if value is not None})


def _short(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise GraphError(f"{name[:40]}…", f"a name of more than {LONGEST_NAME} characters")
    return name


def _edge(payload: Mapping[str, Any]) -> _Edge:
    return read(payload, _Edge)


def _add_edge(payload: Mapping[str, Any]) -> e.Edit:
    wish = _edge(payload)
    return e.AddEdge(Edge(wish.src.ref(), wish.tgt.ref(), _new_metadata(wish.metadata)))


def _change_edge(payload: Mapping[str, Any]) -> e.Edit:
    wish = _edge(payload)
    return e.ChangeEdge(wish.src.ref(), wish.tgt.ref(), _frozen(wish.metadata))


def _remove_edge(payload: Mapping[str, Any]) -> e.Edit:
    wish = _edge(payload)
    return e.RemoveEdge(wish.src.ref(), wish.tgt.ref())


def _add_initial(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _AddInitial)
    return e.AddIip(Iip(wish.tgt.ref(), wish.src.data, _new_metadata(wish.metadata)))


def _add_port(direction: Direction) -> Callable[[Mapping[str, Any]], e.Edit]:
    def make(payload: Mapping[str, Any]) -> e.Edit:
        wish = read(payload, _AddPort)
        ref = PortRef(wish.node, _short(wish.port))
        return e.AddExport(direction, Export(_short(wish.public), ref, _new_metadata(wish.metadata)))

    return make


def _remove_port(direction: Direction) -> Callable[[Mapping[str, Any]], e.Edit]:
    return lambda payload: e.RemoveExport(direction, read(payload, _Public).public)


def _rename_port(direction: Direction) -> Callable[[Mapping[str, Any]], e.Edit]:
    def make(payload: Mapping[str, Any]) -> e.Edit:
        wish = read(payload, _Rename)
        return e.RenameExport(direction, wish.old, _short(wish.new))

    return make


def _rename_node(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _Rename)
    return e.RenameNode(wish.old, _short(wish.new))


def _rename_group(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _Rename)
    return e.RenameGroup(wish.old, _short(wish.new))


def _change_node(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _ChangeNode)
    return e.ChangeNode(wish.id, _frozen(wish.metadata))


def _add_group(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _AddGroup)
    return e.AddGroup(_short(wish.name), tuple(wish.nodes), _new_metadata(wish.metadata))


def _change_group(payload: Mapping[str, Any]) -> e.Edit:
    wish = read(payload, _ChangeGroup)
    return e.ChangeGroup(wish.name, _frozen(wish.metadata))


EDITS: Mapping[str, Callable[[Mapping[str, Any]], e.Edit]] = {
    "addnode": _add_node,
    "removenode": lambda payload: e.RemoveNode(read(payload, _Id).id),
    "renamenode": _rename_node,
    "changenode": _change_node,
    "addedge": _add_edge,
    "removeedge": _remove_edge,
    "changeedge": _change_edge,
    "addinitial": _add_initial,
    "removeinitial": lambda payload: e.RemoveIips(read(payload, _Target).tgt.ref()),
    "addinport": _add_port(Direction.IN),
    "addoutport": _add_port(Direction.OUT),
    "removeinport": _remove_port(Direction.IN),
    "removeoutport": _remove_port(Direction.OUT),
    "renameinport": _rename_port(Direction.IN),
    "renameoutport": _rename_port(Direction.OUT),
    "addgroup": _add_group,
    "removegroup": lambda payload: e.RemoveGroup(read(payload, _Name).name),
    "renamegroup": _rename_group,
    "changegroup": _change_group,
}
"""Command of the sub-protocol graph -> the edit that its payload asks for."""


def read_clear(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The id of the graph to clear, and what is said of it. Old clients send more (``baseDir``): that is not passed on."""
    wish = read(payload, _Clear)
    if not wish.id:
        raise GraphError("", "a graph needs an id")
    fields = {key: value for key, value in msgspec.structs.asdict(wish).items() if key != "id" and value is not None}
    return _short(wish.id), fields


def read_packet(payload: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Port, event, and the fields that the answer repeats."""
    wish = read(payload, _Packet)
    fields = {"port": wish.port, "event": wish.event}
    for key in ("payload", "type", "schema"):
        value = getattr(wish, key)
        if value is not msgspec.UNSET and (value is not None or key == "payload"):
            fields[key] = value
    return wish.port, wish.event, fields


def read_edges(payload: Mapping[str, Any]) -> tuple[tuple[PortRef, PortRef], ...]:
    """The edges that a client wants to watch."""
    listed = payload.get("edges")
    if isinstance(listed, list) and len(listed) > MOST_EDGES:
        raise GraphError("", f"{len(listed)} edges to watch; at most {MOST_EDGES}")
    return tuple((edge.src.ref(), edge.tgt.ref()) for edge in read(payload, _Edges).edges)


def read_name(payload: Mapping[str, Any]) -> str:
    """The component that is asked for."""
    return read(payload, _Name).name


def read_source(payload: Mapping[str, Any]) -> Source:
    """The source that a client sends."""
    wish = read(payload, _Source)
    return Source(_short(wish.name), wish.language, wish.code, wish.library or "", wish.tests or "")


def read_enable(payload: Mapping[str, Any]) -> bool:
    """Whether debugging is switched on or off."""
    return read(payload, _Debug).enable


def read_buffersize(payload: Mapping[str, Any]) -> int | None:
    """The bytes a trace may take; 0 or None for as many as is usual."""
    wanted = read(payload, _TraceStart).buffersize
    if wanted is not None and wanted < 0:
        raise GraphError("", "buffersize must be a number of bytes")
    return wanted


def read_trace_type(payload: Mapping[str, Any]) -> str:
    """The form in which a trace is wanted."""
    return read(payload, _TraceDump).type
