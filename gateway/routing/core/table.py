"""Bindings as routes: by source, an immutable snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from gateway.model.address import Address
from gateway.model.binding import Binding


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The edges that the router carries. Those the AMQP broker carries itself are only in ``declared``.

    ``former`` are edges of which no message is taken any more; what waits on disk for them still finds its target,
    and is not retained there any more.
    """

    by_id: Mapping[str, Binding] = field(default_factory=lambda: MappingProxyType({}))
    by_source: Mapping[Address, tuple[Binding, ...]] = field(default_factory=lambda: MappingProxyType({}))
    declared: tuple[Binding, ...] = ()
    former: Mapping[str, Binding] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, bindings: Iterable[Binding], former: Iterable[Binding] = ()) -> RouteTable:
        """The table of these bindings: two of one id are one, and one between equal addresses is none."""
        by_id: dict[str, Binding] = {}
        by_source: dict[Address, list[Binding]] = {}
        declared: list[Binding] = []
        for binding in bindings:
            if binding.id in by_id or binding.source == binding.tgt:
                continue
            declared.append(binding)
            if binding.by_broker:
                continue
            by_id[binding.id] = binding
            by_source.setdefault(binding.source, []).append(binding)
        frozen = {source: tuple(routes) for source, routes in by_source.items()}
        gone = {
            binding.id: replace(binding, retain=False) for binding in former if binding.id not in by_id and binding.ends
        }
        return cls(MappingProxyType(by_id), MappingProxyType(frozen), tuple(declared), MappingProxyType(gone))

    def sources(self, target: str) -> frozenset[Address]:
        """The addresses to subscribe to at a broker or board."""
        return frozenset(source for source in self.by_source if source.target == target)

    def concerning(self, target: str) -> tuple[Binding, ...]:
        """The bindings that need something declared at a broker or board."""
        return tuple(
            binding
            for binding in self.declared
            if binding.source.target == target or any(end.target == target for end in binding.ends)
        )
