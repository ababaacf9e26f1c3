"""What real firmware and the reference tool said: the captures of all three wire generations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.model.component import Component, ComponentLibrary
from gateway.model.port import Direction, PortDef
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Wire

FOLDER = Path(__file__).parents[1] / "vectors"
CAPTURES: dict[str, dict[str, Any]] = {
    wire.name: json.loads((FOLDER / name).read_text())
    for wire, name in ((W10, "microflo-0.6.json"), (W8_06, "microflo-0.6-tagged.json"), (W8_04, "microflo-0.4.json"))
}


def library(wire: Wire = W10) -> ComponentLibrary:
    """The components and their numbers, as the captured firmware of this generation has them."""

    def ports(entry: dict[str, int], direction: Direction) -> tuple[PortDef, ...]:
        return tuple(PortDef(name, direction, number) for name, number in entry.items())

    return ComponentLibrary.of(
        Component(name, entry["id"], ports(entry["inports"], Direction.IN), ports(entry["outports"], Direction.OUT))
        for name, entry in CAPTURES[wire.name]["component_map"].items()
    )


def each(part: str) -> list[Any]:
    """Every entry of a part of all captures, as pytest parameters ``wire, entry``."""
    import pytest

    return [
        pytest.param(WIRE_OF[name], entry, id=f"{name}-{entry.get('name', entry.get('literal'))}")
        for name, capture in CAPTURES.items()
        for entry in capture.get(part, ())
    ]


WIRE_OF = {wire.name: wire for wire in (W10, W8_06, W8_04)}


def frames(entry: dict[str, Any], direction: str) -> list[bytes]:
    """The frames of a scenario that went in one direction: ``host->device`` or ``device->host``."""
    return [bytes.fromhex(frame["hex"]) for frame in entry["frames"] if frame["dir"] == direction]
