"""What a firmware is made of: its components, by name and by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.errors import ComponentUnknown, PortUnknown
from gateway.model.port import Direction, PortDef


@dataclass(frozen=True, slots=True)
class Component:
    """A kind of node. ``number`` is its id in firmware, 1..255."""

    name: str
    number: int
    inports: tuple[PortDef, ...] = ()
    outports: tuple[PortDef, ...] = ()
    description: str = ""

    def port(self, direction: Direction, name: str) -> PortDef:
        """The port ``name`` of this component, or ``PortUnknown`` with the names it has."""
        ports = self.inports if direction is Direction.IN else self.outports
        for port in ports:
            if port.id == name:
                return port
        known = ", ".join(port.id for port in ports) or "none"
        raise PortUnknown(
            f"{self.name}.{name}", f"component {self.name} has no {direction}port {name} (it has: {known})"
        )


@dataclass(frozen=True, slots=True)
class ComponentLibrary:
    """The components of one firmware build. A component map belongs to exactly one build."""

    by_name: Mapping[str, Component] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, components: Iterable[Component]) -> ComponentLibrary:
        """A library of these components."""
        return cls(MappingProxyType({component.name: component for component in components}))

    def component(self, name: str) -> Component:
        """The component ``name``, or ``ComponentUnknown`` with the names that are there."""
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise ComponentUnknown(name, f"no such component on this board (it has: {known})") from None
