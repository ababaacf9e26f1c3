"""What the daemon answers on its control socket about the graph: status, participants, send, watch."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.planner import port_address
from gateway.daemon.control_socket import Handler, Request
from gateway.errors import NotFound
from gateway.model.address import Address, serial
from gateway.model.message import Delivery, Message
from gateway.model.participant import Participant
from gateway.model.port import Direction
from gateway.routing.pump import Pump

WATCH_QUEUE = 1024
"""Messages that one ``watch`` may be behind; what comes while it is, is left out and counted."""

FOLLOW_S = 1.0
SHOWN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ControlHandlers:
    """The handlers, over the parts they ask."""

    instance: str
    status: Callable[[], dict[str, Any]]
    coordinator: Coordinator
    boards: Callable[[], tuple[Participant, ...]]
    pump: Pump

    def handlers(self) -> dict[str, Handler]:
        """The table for the control server."""
        return {
            "status": self.show_status,
            "participants": self.participants,
            "send": self.send,
            "watch": self.watch,
        }

    async def show_status(self, request: Request) -> AsyncIterator[Any]:
        """The status document."""
        yield self.status()

    async def participants(self, request: Request) -> AsyncIterator[Any]:
        """Who takes part, and which announcements were refused."""
        registry = self.coordinator.registry
        now = time.monotonic()
        known = [_participant(board) | _liveliness("alive") for board in self.boards()]
        known += [
            _participant(one) | _liveliness(registry.state(one), now - one.last_seen, registry.period_s(one))
            for one in registry.everyone()
        ]
        yield {
            "known": known,
            "refused": dict(self.coordinator.counts.rejected),
        }

    def _role(self, role: str) -> list[Participant]:
        boards = [board for board in self.boards() if role in (board.role, board.id)]
        return boards + list(self.coordinator.registry.role(role))

    async def send(self, request: Request) -> AsyncIterator[Any]:
        """Publish a value to an inport; answers once every participant's queue has confirmed it."""
        role, port = str(request["role"]), str(request["port"])
        members = self._role(role)
        if not members:
            raise NotFound(f"role {role}: nobody of that name; see: gateway participants")
        addresses: list[Address] = []
        for member in members:
            definition = member.port(Direction.IN, port)
            if definition is not None:
                address = port_address(member, definition, Direction.IN)
                addresses += [address] if address not in addresses else []
        if not addresses:
            known = ", ".join(sorted({p.id for member in members for p in member.inports})) or "none"
            raise NotFound(f"{role}.{port}: role {role} has no inport {port} (it has: {known})")
        body, content_type = _body(str(request["value"]))
        message = Message(
            id=uuid.uuid4().hex,
            body=body,
            content_type=content_type,
            time_ms=int(time.time() * 1000),
            origin=f"{self.instance} send",
        )
        for address in addresses:
            await self.pump.inject(address, message)
        yield {"address": ", ".join(map(str, addresses))}

    async def watch(self, request: Request) -> AsyncIterator[Any]:
        """Every message that passes, as it passes."""
        target = str(request.get("target") or "")
        if target and not any(_matches(name, target) for name in self._names().values()):
            roles = {role for name in self._names().values() if (role := name.rpartition(".")[0])}
            known = ", ".join(sorted(roles)) or "nobody"
            raise NotFound(f"watch {target}: no such role or port (there are: {known})")
        watcher = _Watcher(self.pump, target)
        try:
            while True:
                watcher.follow(self._names())
                try:
                    async with asyncio.timeout(FOLLOW_S):
                        yield await watcher.queue.get()
                except TimeoutError:
                    continue
        finally:
            watcher.close()

    def _names(self) -> dict[Address, str]:
        """What may be watched, with the name people know it by.

        Outports of boards and MQTT participants, and whatever the edges take in. An AMQP queue that no edge takes from is
        never tapped: that would take its messages away from others.
        """
        names: dict[Address, str] = {}
        for board in self.boards():
            names |= {serial(board.id, port.id): f"{board.role}.{port.id}" for port in board.outports}
        for participant in self.coordinator.registry.everyone():
            if participant.transport == "mqtt":
                for port in participant.outports:
                    names.setdefault(port_address(participant, port, Direction.OUT), f"{participant.role}.{port.id}")
        for binding in self.coordinator.plan.bindings:
            if not binding.by_broker:
                names.setdefault(binding.source, binding.label.partition("->")[0] or str(binding.source))
        return names


class _Watcher:
    """The taps of one ``watch``."""

    def __init__(self, pump: Pump, target: str) -> None:
        self._pump = pump
        self._target = target
        self._names: dict[Address, str] = {}
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WATCH_QUEUE)
        self._left_out = 0

    def follow(self, names: dict[Address, str]) -> None:
        """Tap what is new, untap what is gone."""
        wanted = {address: name for address, name in names.items() if _matches(name, self._target)}
        for address in self._names.keys() - wanted.keys():
            self._pump.untap(address, self._seen)
        for address in wanted.keys() - self._names.keys():
            self._pump.tap(address, self._seen)
        self._names = wanted

    def close(self) -> None:
        """Take nothing more."""
        self.follow({})

    def _seen(self, delivery: Delivery) -> None:
        if self.queue.full():
            self._left_out += 1
            return
        message = delivery.message
        item = {
            "time": datetime.now(UTC).astimezone().strftime("%H:%M:%S.%f")[:-3],
            "source": self._names.get(delivery.source, str(delivery.source)),
            "address": str(delivery.source),
            "body": message.body[:SHOWN_BYTES].decode("utf-8", "backslashreplace"),
            "id": message.id,
            "measured_ms": message.time_ms,
        }
        if self._left_out:
            item["left_out"], self._left_out = self._left_out, 0
        self.queue.put_nowait(item)


def _matches(name: str, target: str) -> bool:
    return not target or target in (name, name.rpartition(".")[0])


def _body(value: str) -> tuple[bytes, str]:
    """VALUE is JSON, else text, which travels as a JSON string."""
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value, ensure_ascii=False).encode(), "application/json"
    return value.encode(), "application/json"


def _liveliness(state: str, silent_s: float | None = None, period_s: float = 0.0) -> dict[str, Any]:
    """``silent_s`` is None for a board of ours: that it is there is known from its link."""
    silent = None if silent_s is None else round(silent_s, 1)
    return {"state": state, "gone": state == "gone", "silent_s": silent, "period_s": round(period_s, 1)}


def _participant(participant: Participant) -> dict[str, Any]:
    return {
        "role": participant.role,
        "id": participant.id,
        "component": participant.component,
        "transport": participant.transport,
        "inports": _port_names(participant.inports),
        "outports": _port_names(participant.outports),
    }


def _port_names(ports: Iterable[Any]) -> list[str]:
    return [port.id for port in ports]
