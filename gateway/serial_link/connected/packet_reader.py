"""What a connected board's outports send -> readings for the router, and values for whoever inspects its edges."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

import msgspec

from gateway.model.address import Address, serial
from gateway.model.graph import Json
from gateway.model.message import Message
from gateway.model.port import PortDef, PortRef
from gateway.serial_link.connected.receive_queue import ReceiveQueue
from gateway.serial_link.connected.running_graph import RunningGraph
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.protocol.json_values import Collector
from gateway.serial_link.protocol.link_events import PacketSent
from gateway.serial_link.protocol.sequence_gaps import SequenceGaps
from gateway.serial_link.records.board_status import BoardCounters

OnValue: TypeAlias = Callable[[PortRef, Json], None]

JSON = "application/json"
CLOCK_SET_AFTER_S = 1_700_000_000
"""A clock before this (November 2023) was never set: a machine without one starts in 1970, or at its build."""

MOST_EARLY = 256
"""Packets kept between the start of a board's network and the moment we know what its numbers mean; more are dropped."""


@dataclass(frozen=True, slots=True)
class _Outport:
    """An exported outport, and what its readings come from."""

    definition: PortDef
    address: Address
    origin: str


class BoardPacketReader:
    """One for a connection. It begins deaf: ``hear`` when the numbers of ``graph`` are those of what runs."""

    def __init__(self, device_id: str, graph: RunningGraph, readings: ReceiveQueue, counters: BoardCounters) -> None:
        self._device_id = device_id
        self._graph = graph
        self._readings = readings
        self._counters = counters
        self._id_prefix = f"{device_id}-{secrets.token_hex(4)}-"
        self._numbers = count(1)
        self._names: NodeIds | None = None
        self._outports: dict[tuple[int, int], _Outport] = {}
        """Those that sent something, by the numbers of node and port as ``_names`` has them."""
        self._hears = False
        self._changes = False
        self._early: list[PacketSent] = []
        self._collector = Collector()
        self._inspected = Collector()
        self.gaps = SequenceGaps()
        self.inspector: OnValue | None = None

    def hear(self) -> None:
        """The numbers are those of the graph that runs now: what came meanwhile means this."""
        self._hears, self._changes = True, False
        early, self._early = self._early, []
        self._packets(early)

    def hold(self) -> None:
        """Something else will run, or alignment was lost: keep what comes until it is known what it means."""
        self._hears = False
        self._collector, self._inspected = Collector(), Collector()

    def hold_unknown(self) -> None:
        """The graph is being changed while it runs: keep only what comes from ports that are not known yet."""
        self._changes = True

    def forget(self) -> None:
        """What was kept came from what runs no more, and what the board had not sent yet is gone."""
        self._early.clear()
        self.gaps.reset()

    def packets(self, events: Sequence[PacketSent]) -> None:
        """Packets of subscribed ports, as they came."""
        gaps = self.gaps
        for event in events:
            if event.sequence or gaps.counting:
                self._counters.readings_lost += gaps.feed(event.sequence)
        self._packets(events)

    def _packets(self, events: Sequence[PacketSent]) -> None:
        if not self._hears or self._changes:
            events = [event for event in events if not self._is_early(event)]
        if self.inspector is not None:
            for event in events:
                self._show(event, self.inspector)
        if self._graph.names is not self._names:
            self._names = self._graph.names
            self._outports.clear()
        self._read(events)

    def _read(self, events: Sequence[PacketSent]) -> None:
        """They came together, so they were measured together, as far as anybody can tell."""
        outports, feed, add, counters = self._outports, self._collector.feed, self._readings.add, self._counters
        now = time.time()
        time_ms, clock_trusted = int(now * 1000), now > CLOCK_SET_AFTER_S
        for event in events:
            outport = outports.get((event.node, event.port)) or self._outport(event)
            if outport is None:
                counters.readings_unsubscribed += 1
                continue
            if event.packet is None:
                continue  # the firmware can't tell this value (reference: microflo-protocol, section 4.2)
            body = feed(outport.definition, event.packet)
            if body is None:
                continue
            counters.readings += 1
            name = f"{self._id_prefix}{next(self._numbers)}"
            if not add(outport.address, Message(name, body, JSON, time_ms, clock_trusted, outport.origin)):
                counters.readings_unsubscribed += 1

    def _is_early(self, event: PacketSent) -> bool:
        """Whether it is not known yet what its numbers mean; then it is kept."""
        if self._hears and not (self._changes and self._graph.outport(event.node, event.port) is None):
            return False
        if len(self._early) < MOST_EARLY:
            self._early.append(event)
        else:
            self._counters.readings_dropped += 1
        return True

    def _outport(self, event: PacketSent) -> _Outport | None:
        """The exported outport that an event's numbers mean, if it is one."""
        definition = self._names.outport_of(event.node, event.port) if self._names else None
        if definition is None:
            return None
        address = serial(self._device_id, definition.id)
        outport = self._outports[event.node, event.port] = _Outport(definition, address, str(address))
        return outport

    def _show(self, event: PacketSent, inspector: OnValue) -> None:
        found = self._graph.outport(event.node, event.port)
        if found is None or event.packet is None:
            return
        ref, definition = found
        body = self._inspected.feed(definition, event.packet)
        if body is not None:
            inspector(ref, msgspec.json.decode(body))
