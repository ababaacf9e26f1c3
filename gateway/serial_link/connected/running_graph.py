"""What runs on a connected board, and how that is changed: as a whole, or by the least difference while it runs.

All or nothing: what the board or the host's own model refuses is followed by the way back to what ran before. When the
line fails on the way, nobody knows what runs; then the link opens again, and the graph before is uploaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.errors import BoardRefused, GatewayError, GraphError
from gateway.model.port import Direction, PortDef, PortRef
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.setup_steps import OnStep, is_running, subscribe, upload
from gateway.serial_link.graph.live_diff import GraphChange, Port, Running
from gateway.serial_link.graph.node_ids import NodeIds
from gateway.serial_link.graph.upload import check_graph
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.codec import command, set_io_value
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)


class RunningGraph:
    """One for a connection. ``on_clear`` is called when what ran before says no more. Every method but ``forget`` asks the
    board, and raises ``RequestTimeout`` or ``ConnectionLost`` when it is silent.
    """

    def __init__(
        self, conversation: LinkDriver, model: BoardModel, profile: BoardProfile, on_clear: Callable[[], None]
    ) -> None:
        self._conversation = conversation
        self._model = model
        self._on_clear = on_clear
        self._running: Running | None = None
        self._inspected: Mapping[Port, tuple[PortRef, PortDef]] = {}
        self._has_no_pins = ""
        self.profile = profile
        self.names: NodeIds | None = None
        self.is_stopped = False
        """Somebody stopped the network, and it stays so when alignment was lost."""

    @property
    def is_known(self) -> bool:
        """Whether the graph is on the board, whole and under numbers that we know: no change of it was broken off."""
        return self._model.known and self._running is not None and self.names is not None

    @property
    def is_running(self) -> bool:
        """Whether the network runs, as far as the board's answers told."""
        return self._model.running is True

    def outport(self, node: int, port: int) -> tuple[PortRef, PortDef] | None:
        """What an event's numbers mean, exported or not; the definition has what was said at pairing."""
        return self._inspected.get((node, port))

    # -- at the beginning of a connection --------------------------------------------------------------------------

    async def take(self) -> None:
        """Leave alone what runs: it is what the profile says. Only subscribe to what it sends."""
        self._running = None
        names = self.profile.predicted()
        if names is not None and self.profile.graph is not None:
            self._model.assume(self.profile.graph, names.nodes)
            await subscribe(self._conversation, self.profile)
            await is_running(self._conversation)  # which tells the model
            self._running = Running.after_upload(self.profile.graph, names.nodes)
        self._use(names)

    # -- changes ---------------------------------------------------------------------------------------------------

    async def upload(self, profile: BoardProfile, on_step: OnStep = lambda done, total: None) -> None:
        """Put a whole graph onto the board. What is refused raises ``BoardRefused`` or ``GraphError``; see ``put_back``."""
        self._running = None
        names = await upload(self._conversation, profile, self._on_clear, on_step, start=not self.is_stopped)
        assert profile.graph is not None
        self.profile = profile
        self._running = Running.after_upload(profile.graph, names.nodes)
        self._use(names)

    async def put_back(self) -> None:
        """After a refused upload: the graph before."""
        if self.profile.graph is None:
            raise GraphError("board", "nobody said what ran there before; it runs nothing now")
        await self.upload(self.profile)

    def least_change(self, profile: BoardProfile) -> GraphChange | None:
        """The way to another graph while the network runs; None where only an upload of the whole helps."""
        graph = profile.graph
        if self._running is None or graph is None or not graph.nodes:
            return None
        check_graph(graph, profile.library)
        try:
            return GraphChange(self._running, graph, profile.library, profile.ports, wire=self._conversation.link.wire)
        except GraphError as exc:
            log.debug("no change by difference: %s", exc)  # the graph is good, so the firmware has no room
            return None

    async def change(self, change: GraphChange, profile: BoardProfile) -> None:
        """Take that way, or all of it back again: then ``BoardRefused`` or ``GraphError`` says why.

        When even the way back is refused, ``put_back`` is what is left, and the error says so by its cause.
        """
        self._running = None  # until it is known how this ends
        try:
            await self._walk(change)
        except (BoardRefused, GraphError) as problem:
            await self._back(change, problem)
            raise
        self.profile = profile
        self._running = change.running
        self._use(change.names)

    async def _walk(self, change: GraphChange) -> None:
        while (unit := change.next_command()) is not None:
            change.accept(await self._conversation.ask(unit))

    async def _back(self, change: GraphChange, problem: GatewayError) -> None:
        log.info("board: refused a change (%s); going back", problem)
        try:
            back = change.rollback(self.profile.ports)
            await self._walk(back)
        except (BoardRefused, GraphError) as exc:
            log.warning("board: the way back was refused too (%s); uploading the graph before as a whole", exc)
            await self.put_back()
            return
        self._running = back.running
        self._use(back.names)

    # -- what is inspected -----------------------------------------------------------------------------------------

    async def inspect(self, ports: frozenset[PortRef]) -> None:
        """Have what these outports of nodes send reported too, and no others but the exported ones."""
        graph, names = self.profile.graph, self.names
        if graph is None or names is None:
            return
        wanted = {key for key, (ref, _) in self._inspected.items() if ref in ports}
        wanted |= {(names.nodes[export.ref.node], self._number(export.ref)) for export in graph.outports}
        actual = self._model.subscriptions()
        for number, port in sorted(actual - wanted):
            await self._subscribe(number, port, enable=0)
        for number, port in sorted(wanted - actual):
            await self._subscribe(number, port, enable=1)

    async def _subscribe(self, node: int, port: int, *, enable: int) -> None:
        await self._conversation.ask(command(CommandKind.SUBSCRIBE_TO_PORT, node=node, port=port, enable=enable))

    def _number(self, ref: PortRef) -> int:
        assert self.profile.graph is not None
        component = self.profile.library.component(self.profile.graph.node(ref.node).component)
        return component.port(Direction.OUT, ref.port).number

    # -- the network -----------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop the network; what is sent to it waits in its queue."""
        await self._conversation.ask(command(CommandKind.STOP_NETWORK))
        self.is_stopped = True

    async def start(self) -> None:
        """Start it, with the graph as it is at the beginning: initial packets act again."""
        if not self.is_stopped:
            return
        self.is_stopped = False
        try:
            await self.upload(self.profile)
        except BaseException:
            self.is_stopped = True
            raise

    async def set_io(self, kind: int, pin: int, value: int) -> None:
        """Set a simulated pin. ``GatewayError`` from firmware without; it is asked once a connection."""
        if self._has_no_pins:
            raise GatewayError(self._has_no_pins)
        try:
            await self._conversation.ask(set_io_value(kind, pin, value))
        except BoardRefused as exc:
            self._has_no_pins = f"{exc.device}: its firmware has no simulated pins ({exc.problem})"
            raise GatewayError(self._has_no_pins) from exc

    def _use(self, names: NodeIds | None) -> None:
        self.names = names
        graph, library = self.profile.graph, self.profile.library
        found: dict[Port, tuple[PortRef, PortDef]] = {}
        if graph is not None and names is not None:
            public = {export.ref: export.name for export in graph.outports}
            for node in graph.nodes:
                for port in library.component(node.component).outports:
                    ref = PortRef(node.id, port.id)
                    said = names.outport(public[ref]) if ref in public else None
                    found[names.nodes[node.id], port.number] = (ref, replace(said or port, id=str(ref)))
        self._inspected = found
