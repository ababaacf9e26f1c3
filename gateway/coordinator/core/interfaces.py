"""What the coordinator's FBP runtime needs of the rest of the gateway; ``app`` brings them together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from gateway.errors import GatewayError, NotFound
from gateway.fbp.runtime.backend import ComponentInfo, Source
from gateway.model.address import Address
from gateway.model.graph import Node
from gateway.model.message import Delivery


class Wiring(Protocol):
    """What the backend needs of the rest of the gateway."""

    def tap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        """Let ``handler`` see what arrives from an address."""

    def untap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        """No more of that."""

    async def send(self, address: Address, body: bytes) -> None:
        """Publish, and return once it is confirmed."""

    async def bound(self) -> None:
        """Return once the edges and taps that were asked for are really there."""

    def is_busy(self, labels: Collection[str]) -> bool:
        """Whether messages wait for the targets of these edges."""


class ComponentStore(Protocol):
    """The components that can be started, and their sources."""

    def components(self) -> Sequence[ComponentInfo]:
        """Those that the library knows, with the ports as far as they are known."""

    def wanted(self, nodes: Sequence[Node]) -> None:
        """These are the nodes of all graphs now: start those that are ours, end those that are gone."""

    def starts(self, component: str, role: str = "") -> bool:
        """Whether a node of this component (in this role) is a process of ours."""

    async def source(self, name: str) -> Source:
        """The source of a component. ``NotFound`` if there is none."""

    async def set_source(self, source: Source) -> None:
        """Write the source of a component."""


class NoComponents:
    """For a gateway without a component library."""

    def components(self) -> Sequence[ComponentInfo]:
        """None."""
        return ()

    def wanted(self, nodes: Sequence[Node]) -> None:
        """Nothing is started."""

    def starts(self, component: str, role: str = "") -> bool:
        """Never."""
        return False

    async def source(self, name: str) -> Source:
        """There is none."""
        raise NotFound(f"Component not found for {name}")

    async def set_source(self, source: Source) -> None:
        """There is no place for it."""
        raise GatewayError("this gateway has no component library; see coordinator.component_dir")
