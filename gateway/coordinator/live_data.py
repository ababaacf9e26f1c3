"""What passes the edges that somebody watches, whichever brokers they cross."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.planner import port_address
from gateway.fbp.runtime.backend import Change, Data, PacketOut
from gateway.fbp.runtime.subscribers import Subscribers
from gateway.model.address import Address
from gateway.model.graph import Edge, Graph, Json
from gateway.model.message import Delivery
from gateway.model.port import Direction, PortRef

SHOWN_BYTES = 64 * 1024
"""Bytes of a message that are shown to a client; of a longer one only how long it is."""

Handler = Callable[[Delivery], None]
Hook = Callable[[Address, Handler], None]
Shown = tuple[str, Edge | str]
"""A graph, and an edge of it or the public name of an exported outport."""


class LiveData:
    """Keeps taps where somebody wants to look, and tells what comes by."""

    def __init__(self, coordinator: Coordinator, tap: Hook, untap: Hook, tell: Callable[[Change], None]) -> None:
        self._coordinator = coordinator
        self._tap = tap
        self._untap = untap
        self._tell = tell
        self._taps: dict[Address, Handler] = {}
        self._shown: dict[Address, tuple[Shown, ...]] = {}
        self.watches = Subscribers()
        self.listeners = 0

    def refresh(self, graphs: Mapping[str, Graph]) -> None:
        """Look where somebody wants to look now, and nowhere else. ``graphs`` are those that are started."""
        wanted: dict[Address, list[Shown]] = {}
        carried: dict[str, list[Address]] = {}
        for binding in self._coordinator.plan.bindings:
            carried.setdefault(binding.label, []).append(binding.src if binding.by_broker else binding.source)
        for graph_id, graph in graphs.items():
            for edge in graph.edges:
                if self.watches.wants(graph_id, (edge.src, edge.tgt)):
                    # where the router takes them anyway, if it does
                    for address in dict.fromkeys(carried.get(str(edge)) or self._addresses(edge.src)):
                        wanted.setdefault(address, []).append((graph_id, edge))
            for export in graph.outports if self.listeners else ():
                for address in self._addresses(export.ref):
                    wanted.setdefault(address, []).append((graph_id, export.name))
        self._shown = {address: tuple(shown) for address, shown in wanted.items()}
        for address in [address for address in self._taps if address not in wanted]:
            self._untap(address, self._taps.pop(address))
        for address in wanted:
            if address not in self._taps:
                self._taps[address] = partial(self._arrived, address)
                self._tap(address, self._taps[address])

    def _addresses(self, ref: PortRef) -> list[Address]:
        found: dict[Address, None] = {}
        for participant in self._coordinator.members(ref.node):
            port = participant.port(Direction.OUT, ref.port)
            if port is not None:
                found[port_address(participant, port, Direction.OUT)] = None
        return list(found)

    def _arrived(self, address: Address, delivery: Delivery) -> None:
        shown = self._shown.get(address, ())
        if not shown:
            return
        value, now = shown_value(delivery.message.body), time.time()
        for graph_id, what in shown:
            if isinstance(what, Edge):
                self._tell(Data(graph_id, what.src, what.tgt, value, now))
            else:
                self._tell(PacketOut(graph_id, what, value))


def shown_value(body: bytes) -> Json:
    """A message as a client sees it: its JSON, else its text, with what is no text replaced."""
    if len(body) > SHOWN_BYTES:
        return f"({len(body)} bytes)"
    try:
        value: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return value
