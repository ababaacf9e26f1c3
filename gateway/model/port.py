"""Ports of components, boards and participants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Direction(StrEnum):
    """Which way packets go, seen from the node."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class PortDef:
    """A port as somebody declares it.

    ``number`` is its id in firmware; ``queue`` the MsgFlo address of the port (an MQTT topic, an AMQP queue or
    exchange). ``type`` is one of ``boolean integer number bang any`` on our boards and free text elsewhere.
    ``scale`` turns the wire's integers into ``unit``: with 0.01 the wire's 2154 reads 21.54. ``delivery`` are the settings
    of ``[delivery]`` that hold for the port's own topic, by name; ``retained`` says whether the broker keeps an outport's
    newest message there.
    """

    id: str
    direction: Direction
    number: int = 0
    type: str = "any"
    queue: str = ""
    scale: float | None = None
    unit: str = ""
    description: str = ""
    required: bool = False
    delivery: tuple[tuple[str, Any], ...] = ()
    retained: bool = False


@dataclass(frozen=True, slots=True)
class PortRef:
    """A port of a node. Prints as ``node.port``. ``index`` is the element of an array port, if it is one."""

    node: str
    port: str
    index: int | None = None

    def __str__(self) -> str:
        suffix = "" if self.index is None else f"[{self.index}]"
        return f"{self.node}.{self.port}{suffix}"
