"""The FBP runtimes of one gateway brought together: the coordinator's, each board's, and the server in front."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.config.schema import HttpSection
from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.interfaces import ComponentStore
from gateway.coordinator.core.planner import check_graph
from gateway.coordinator.fbp_backend import MAIN, CoordinatorBackend
from gateway.coordinator.graph_file import GraphFile
from gateway.coordinator.graph_handlers import GraphHandlers, Handler
from gateway.errors import ConfigError, Conflict, GraphError, NotFound
from gateway.fbp.runtime.access import ALL, Access, parse_secrets
from gateway.fbp.runtime.backend import Backend, RuntimeInfo
from gateway.fbp.text.graph_files import load_graph
from gateway.files import LARGEST_SECRETS, read_text
from gateway.model.address import Address
from gateway.model.graph import Graph
from gateway.model.message import Delivery, Message
from gateway.routing.pump import Pump

log = logging.getLogger(__name__)

BUSY_AFTER_S = 0.1
"""A message that has waited so long for its target means that the network is still at work."""

RUNTIME_ID = "MSGFLO_RUNTIME_ID"
"""MsgFlo's variable for the id that an editor knows a runtime by; honoured, so that set-ups carry over."""


def read_access(secret_file: str) -> Access:
    """Who may do what. ``ConfigError`` for a secret file that can't be read."""
    if not secret_file:
        return Access()
    try:
        text = read_text(Path(secret_file), LARGEST_SECRETS)
    except OSError as exc:
        raise ConfigError(secret_file, "http.secret_file", f"can't be read: {exc.strerror}") from exc
    return parse_secrets(text, secret_file)


def start_graph(path: Path, *, needed: bool) -> Graph:
    """The graph that a gateway starts with; an empty one where the file need not be there, and isn't.

    Raises ``ConfigError`` with the place: starting again does not mend a file.
    """
    if not needed and not path.exists():
        return Graph()
    try:
        graph = load_graph(path)
        check_graph(graph, str(path))
    except NotFound:
        raise ConfigError(str(path), "", "no such graph file") from None
    except GraphError as exc:
        before = Path(f"{path}.1")
        hint = f"; mend it, or restore the one before: cp {before} {path}" if before.exists() else ""
        raise ConfigError(exc.place or str(path), "", exc.problem + hint) from exc
    return graph


class PumpWiring:
    """What the coordinator's runtime needs, from the pump."""

    def __init__(self, pump: Pump, instance: str) -> None:
        self._pump = pump
        self._instance = instance

    def tap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        """See what arrives from an address."""
        self._pump.tap(address, handler)

    def untap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        """No more of that."""
        self._pump.untap(address, handler)

    async def send(self, address: Address, body: bytes) -> None:
        """Publish, and return once it is confirmed."""
        message = Message(
            f"{self._instance}-packet-{uuid.uuid4().hex}", body, "application/json", int(time.time() * 1000)
        )
        await self._pump.inject(address, message)

    async def bound(self) -> None:
        """Return once every session has subscribed and declared what is wanted of it."""
        await self._pump.caught_up()

    def is_busy(self, labels: Collection[str]) -> bool:
        """Whether messages have waited for a while."""
        return any(
            entry["pending"] and entry["oldest_s"] > BUSY_AFTER_S
            for entry in self._pump.status()
            if entry["label"] in labels
        )


class FbpRuntimes:
    """The coordinator's runtime, those of boards (``boards`` gives one by id or role), and who may use them."""

    def __init__(
        self,
        section: HttpSection,
        instance: str,
        instance_id: str,
        coordinator: Coordinator,
        pump: Pump,
        graph_path: Path,
        *,
        components: ComponentStore | None = None,
        edit_components: bool = False,
        boards: Callable[[str], Backend | None] = lambda name: None,
    ) -> None:
        self._section = section
        self._coordinator = coordinator
        self._boards = boards
        self._access = read_access(section.secret_file)
        offers = ALL if edit_components and components is not None else ALL - {"component:setsource"}
        runtime_id = os.environ.get(RUNTIME_ID) or str(uuid.uuid5(uuid.NAMESPACE_OID, instance_id))
        info = RuntimeInfo(runtime_id, "msgflo", f"gateway {instance}", MAIN, offers)
        self.backend = CoordinatorBackend(
            coordinator, info, GraphFile(graph_path), PumpWiring(pump, instance), components
        )

    def handlers(self) -> dict[str, Handler]:
        """What the control socket answers about the graph."""
        return GraphHandlers(self.backend, self._coordinator).handlers()

    def runtime(self, name: str) -> Backend | None:
        """The runtime of a name; the empty one is the coordinator's."""
        return self._boards(name) if name else self.backend

    def dead_letter(self, binding_id: str, reason: str) -> None:
        """Mark the node at which a message became a dead letter."""
        for binding in self._coordinator.plan.bindings:
            if binding.id == binding_id:
                role = binding.label.partition("->")[2].rpartition(".")[0]
                self.backend.process_failed(role, f"dead letter: {reason}")

    @asynccontextmanager
    async def serving(self, status: Callable[[], Mapping[str, Any]]) -> AsyncIterator[str]:
        """Serve while the block runs; gives the address, or nothing when the server is switched off.

        ``Conflict`` if the address is taken; but where nobody asked for it, that is a warning: messages matter more.
        """
        async with AsyncExitStack() as stack:
            url = ""
            if self._section.listen:
                from gateway.web.server import WebServer  # a gateway without it need not keep 10 MiB of HTTP library

                server = WebServer(self._section.listen, self._access, self.runtime, status)
                try:
                    await stack.enter_async_context(server.listening())
                    url = server.url
                except Conflict as exc:
                    if self._section.listen != HttpSection().listen:
                        raise
                    log.warning("%s; going on without editors, health checks and metrics", exc)
            yield url
