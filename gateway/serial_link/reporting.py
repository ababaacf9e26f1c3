"""What a connected board's outports send -> readings for the router, and values for whoever inspects its edges."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from gateway.model.address import Address, serial
from gateway.model.graph import Json
from gateway.model.message import Message
from gateway.model.port import PortRef
from gateway.serial_link.boardgraph import BoardGraph
from gateway.serial_link.boardstate import BoardCounters
from gateway.serial_link.gaps import Gaps
from gateway.serial_link.linkevents import PacketSent
from gateway.serial_link.readings import Readings
from gateway.serial_link.values import Collector

OnValue: TypeAlias = Callable[[PortRef, Json], None]

JSON = "application/json"
CLOCK_SET_AFTER_S = 1_700_000_000
"""A clock before this (November 2023) was never set: a machine without one starts in 1970, or at its build."""

MOST_EARLY = 256
"""Packets kept between the start of a board's network and the moment we know what its numbers mean; more are dropped."""


class Reporting:
    """One for a connection. It begins deaf: ``hear`` when the numbers of ``graph`` are those of what runs."""

    def __init__(self, device_id: str, graph: BoardGraph, readings: Readings, counters: BoardCounters) -> None:
        self._device_id = device_id
        self._graph = graph
        self._readings = readings
        self._counters = counters
        self._boot = secrets.token_hex(4)
        self._sequence = 0
        self._by_numbers: dict[tuple[int, int], tuple[Address, str, str] | None] = {}
        self._hears = False
        self._changes = False
        self._early: list[PacketSent] = []
        self._collector = Collector()
        self._inspected = Collector()
        self.gaps = Gaps()
        self.inspector: OnValue | None = None

    def hear(self) -> None:
        """The numbers are those of the graph that runs now: what came meanwhile means this."""
        self._hears, self._changes = True, False
        self._by_numbers.clear()
        early, self._early = self._early, []
        for event in early:
            self._packet(event)

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

    def packet(self, event: PacketSent) -> None:
        """A packet of a subscribed port."""
        self._counters.readings_lost += self.gaps.feed(event.sequence)
        self._packet(event)

    def _packet(self, event: PacketSent) -> None:
        key, names = (event.node, event.port), self._graph.names
        if not self._hears or (self._changes and self._graph.outport(*key) is None):
            if len(self._early) < MOST_EARLY:
                self._early.append(event)
            else:
                self._counters.readings_dropped += 1
            return
        if self.inspector is not None:
            self._show(event, self.inspector)
        if key not in self._by_numbers:
            port = names.outport_of(*key) if names else None
            self._by_numbers[key] = self._known(port.id) if port is not None else None
        known = self._by_numbers[key]
        if known is None or names is None:
            self._counters.readings_unsubscribed += 1
            return
        address, origin, port_id = known
        definition = names.outport(port_id)
        if event.packet is None or definition is None:
            return  # the firmware can't tell this value (reference: microflo-protocol, section 4.2)
        body = self._collector.feed(definition, event.packet)
        if body is not None:
            self._reading(address, origin, body)

    def _known(self, port_id: str) -> tuple[Address, str, str]:
        address = serial(self._device_id, port_id)
        return address, str(address), port_id

    def _reading(self, address: Address, origin: str, body: bytes) -> None:
        self._sequence += 1
        self._counters.readings += 1
        if not self._readings.wants(address):
            self._counters.readings_unsubscribed += 1
            return
        now = time.time()
        self._readings.add(
            address,
            Message(
                id=f"{self._device_id}-{self._boot}-{self._sequence}",
                body=body,
                content_type=JSON,
                time_ms=int(now * 1000),
                clock_trusted=now > CLOCK_SET_AFTER_S,
                origin=origin,
            ),
        )

    def _show(self, event: PacketSent, inspector: OnValue) -> None:
        found = self._graph.outport(event.node, event.port)
        if found is None or event.packet is None:
            return
        ref, definition = found
        body = self._inspected.feed(definition, event.packet)
        if body is not None:
            inspector(ref, msgspec.json.decode(body))
