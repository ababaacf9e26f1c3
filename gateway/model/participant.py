"""Who takes part in the graph: participants anywhere, and our own boards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.model.port import Direction, PortDef


@dataclass(frozen=True, slots=True)
class Participant:
    """A process in the graph, as its discovery message describes it. Many may share a role.

    ``transport`` is where it was heard (``mqtt`` or ``amqp``), or ``serial`` for a board of ours, whose ports' queues
    are then MQTT topics. ``first_seen`` and ``last_seen`` are monotonic seconds. ``ttl_s`` is after how many seconds of
    silence it wants to be taken for gone; 0: as the gateway has it.
    """

    id: str
    role: str
    component: str
    transport: str
    inports: tuple[PortDef, ...] = ()
    outports: tuple[PortDef, ...] = ()
    label: str = ""
    icon: str = ""
    first_seen: float = 0.0
    last_seen: float = 0.0
    ttl_s: float = 0.0

    def port(self, direction: Direction, name: str) -> PortDef | None:
        """The port ``name``, or None."""
        ports = self.inports if direction is Direction.IN else self.outports
        return next((port for port in ports if port.id == name), None)


class BoardState(StrEnum):
    """Where a paired board stands."""

    ABSENT = "absent"
    OPENING = "opening"
    UPLOADING = "uploading"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    REFUSED = "refused"
