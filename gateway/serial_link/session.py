"""One paired board while it is connected; implements ``transport.Session``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from gateway.errors import (
    AccessRefused,
    ConnectionLost,
    DeliveryDeferred,
    DeliveryRefused,
    DeviceRefused,
    GatewayError,
    GraphError,
    RemoteProtocolError,
    RequestTimeout,
    TransportDown,
    Unplugged,
    ValueUnfit,
)
from gateway.model.address import Address
from gateway.model.binding import Binding, OverflowPolicy
from gateway.model.message import Delivery, Message, Outcome
from gateway.model.participant import DeviceState
from gateway.model.port import PortRef
from gateway.serial_link.boardgraph import BoardGraph
from gateway.serial_link.boardstate import BoardStatus
from gateway.serial_link.codec import WIRES, Command, send_packet
from gateway.serial_link.conversation import Conversation
from gateway.serial_link.device_file import DeviceRecord
from gateway.serial_link.link import Link
from gateway.serial_link.linkevents import RESTARTED, PacketSent, options_for
from gateway.serial_link.model import BoardModel
from gateway.serial_link.outbox import Outbox
from gateway.serial_link.port import UNPLUGGED, Port
from gateway.serial_link.preparing import OnStep, is_running
from gateway.serial_link.profile import BoardProfile
from gateway.serial_link.readings import Readings
from gateway.serial_link.reporting import OnValue, Reporting
from gateway.serial_link.terms import COUNTS_EVERY_S, Terms
from gateway.serial_link.values import to_packets

log = logging.getLogger(__name__)


class BoardSession:
    """One connection. Readings and answers come in by the loop's callbacks; ``keep`` mends what went out of step."""

    def __init__(
        self,
        port: Port,
        epoch: int,
        record: DeviceRecord,
        profile: BoardProfile,
        status: BoardStatus,
        *,
        request_timeout_s: float,
        on_running: Callable[[str], None],
    ) -> None:
        self.name = f"device {record.role}"
        self.problem = ""
        self.record = record
        self._status = status
        self._on_running = on_running
        self._epoch = epoch
        self._keeps_oldest: set[Address] = set()
        self._readings = Readings(epoch, status.counters)
        self._inspected: frozenset[PortRef] = frozenset()
        self._own: BoardProfile | None = None
        """What it shall run again instead of a graph that was on trial."""
        self._desynced = False
        self._work = asyncio.Event()
        """Something for ``keep`` to do."""
        self._turn = asyncio.Lock()
        """Whoever changes what runs on the board."""
        wire = WIRES[record.wire]
        ours = bool(profile.document)
        model = BoardModel(profile.library, wire, takes_floats=ours, simulated_pins=True)
        link = Link(wire, options_for(wire, record.baud, request_timeout_s=request_timeout_s), model)
        status.begin(link.counters)
        self._conversation = Conversation(
            port, link, self.name, on_packets=self._heard, on_desync=self._lost_step, on_lost=self.lose
        )
        self._model = model
        self._graph = BoardGraph(self._conversation, model, profile, lambda: self._reporting.forget())
        self._reporting = Reporting(record.id, self._graph, self._readings, status.counters)
        self._terms = Terms(self.name, self._conversation, status)
        self._outbox = Outbox(self.name, self._conversation.request, lambda: self._conversation.link.window)

    @property
    def epoch(self) -> int:
        """The number of this connection."""
        return self._epoch

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Shake hands, and make the board run what it should. ``TransportDown``."""
        await self._conversation.open()
        await self._prepare()

    async def keep(self) -> None:
        """After lost alignment: wait until the link is open again, and have the board run what it should."""
        while True:
            try:
                async with asyncio.timeout(COUNTS_EVERY_S):
                    await self._work.wait()
            except TimeoutError:
                await self._terms.count()
                continue
            self._work.clear()
            if not self._desynced:
                await (self._inspect() if self._own is None else self._run_own(self._own))
                continue
            self._desynced = False
            try:
                await self._conversation.opened()
                await self._prepare()
            except TransportDown as exc:
                if not self._desynced:  # else it went out of step once more, and opens again already
                    self.lose(exc.reason)
                    return

    async def _prepare(self) -> None:
        """Upload or subscribe, then trust the board. ``AccessRefused`` when the board refuses."""
        try:
            async with self._turn:
                is_same = await self._terms.agree(self.record.identity, self._graph.profile.document)
                stays = is_same and self._model.known and self._graph.is_whole and self._own is None
                if not stays and not await self._take_what_runs():
                    self._status.enter(DeviceState.UPLOADING)
                    profile, self._own = self._own or self._graph.profile, None
                    await self._graph.upload(profile)
                    self._status.counters.uploads += 1
                await self._graph.inspect(self._inspected)
        except RequestTimeout as exc:
            raise ConnectionLost(self.name, f"{exc.command}: {exc.problem}") from exc
        except DeviceRefused as exc:
            raise AccessRefused(self.name, f"{exc.command}: {exc.problem}") from exc
        except GraphError as exc:
            raise AccessRefused(self.name, str(exc)) from exc
        except RemoteProtocolError as exc:
            raise ConnectionLost(self.name, str(exc)) from exc
        self._reporting.hear()
        self._status.enter(DeviceState.RUNNING)
        self._on_running(self.record.id)
        self._outbox.trust()

    def _heard(self, events: Sequence[PacketSent]) -> None:
        self._reporting.packets(events)

    async def _take_what_runs(self) -> bool:
        """What runs is left alone, where that is wanted and where something runs; else it is time for an upload."""
        record = self.record
        if not record.managed:
            await self._graph.take()
            return True
        if not record.keep_running:
            return False
        try:
            if await is_running(self._conversation) is not False:
                await self._graph.take()
                return True
        except DeviceRefused:
            log.info("%s: runs something else; it gets its graph", self.name)
        return False

    def _lost_step(self, reason: str) -> None:
        self._outbox.distrust()
        self._reporting.hold()
        if reason == RESTARTED:
            self._reporting.gaps.reset()
        self._desynced = True
        self._work.set()
        self._status.counters.handshakes += 1
        self._status.enter(DeviceState.OPENING, f"alignment was lost: {reason}")
        log.warning("%s: alignment was lost (%s); opening again", self.name, reason)

    def lose(self, reason: str) -> None:
        """The connection is over: whoever waits gets ``ConnectionLost``."""
        if self.problem:
            return
        self.problem = reason
        self._conversation.lose(reason)
        self._outbox.lose(reason)
        kind = Unplugged if reason == UNPLUGGED else ConnectionLost
        self._readings.fail(kind(self.name, reason))

    def close(self) -> None:
        """Close the port."""
        self._conversation.close()
        self._outbox.lose("closed")
        self._readings.fail(ConnectionLost(self.name, "closed"))
        self._status.end()

    # -- changes of what runs --------------------------------------------------------------------------------------

    @property
    def profile(self) -> BoardProfile:
        """The graph that runs, and the firmware."""
        return self._graph.profile

    @property
    def is_running(self) -> bool:
        """Whether the board's network runs."""
        return self._graph.is_running

    def nodes(self) -> dict[str, int]:
        """The numbers of the nodes that run."""
        return dict(self._graph.names.nodes) if self._graph.names is not None else {}

    async def upload(self, profile: BoardProfile, on_step: OnStep = lambda done, total: None) -> None:
        """Have the board run another graph, from its beginning. When that is refused, it runs the one before again.

        ``DeviceRefused``, ``GraphError``; ``TransportDown`` when the board falls silent on the way.
        """
        async with self._changing():
            await self._upload(profile, on_step)

    async def change(self, profile: BoardProfile) -> None:
        """Have the board run another graph by the least difference, while it runs. Else as ``upload``."""
        async with self._changing():
            least = self._graph.least_change(profile)
            if least is None:
                await self._upload(profile, lambda done, total: None)
                return
            self._reporting.hold_unknown()
            try:
                await self._graph.change(least, profile)
            finally:
                if self._in_step:
                    self._reporting.hear()
            await self._graph.inspect(self._inspected)

    async def _upload(self, profile: BoardProfile, on_step: OnStep) -> None:
        self._reporting.hold()
        self._status.enter(DeviceState.UPLOADING)
        try:
            await self._graph.upload(profile, on_step)
            self._status.counters.uploads += 1
        except (DeviceRefused, GraphError) as problem:
            await self._put_back(problem)
            raise
        finally:
            if self._in_step:
                self._reporting.hear()
                self._status.enter(DeviceState.RUNNING)
                self._on_running(self.record.id)
        await self._graph.inspect(self._inspected)

    async def _put_back(self, problem: GatewayError) -> None:
        try:
            await self._graph.put_back()
        except (DeviceRefused, GraphError) as exc:
            raise GraphError(self.name, f"{problem}; and the graph before can't be put back: {exc}") from exc

    @property
    def _in_step(self) -> bool:
        """Whether nothing has happened after which the board must be prepared anew."""
        return not self._desynced and not self._conversation.is_over

    def give_back(self, profile: BoardProfile) -> None:
        """A graph was on trial: run this one again, from its beginning, soon."""
        self._own = profile
        self._work.set()

    async def _run_own(self, profile: BoardProfile) -> None:
        self._own = None
        try:
            async with self._changing():
                self._graph.is_stopped = False
                await self._upload(profile, lambda done, total: None)
        except GatewayError as exc:
            if self._in_step:
                self.lose(f"it can't run its own graph again: {exc}")
            self._own = profile

    async def stop_network(self) -> None:
        """Stop the board's network, until ``start_network`` or the next connection."""
        async with self._changing():
            await self._graph.stop()

    async def start_network(self) -> None:
        """Start it again, from the graph's beginning."""
        async with self._changing():
            self._reporting.hold()
            try:
                await self._graph.start()
            finally:
                if self._in_step:
                    self._reporting.hear()
            await self._graph.inspect(self._inspected)
        self._on_running(self.record.id)

    async def set_io(self, kind: int, pin: int, value: int) -> None:
        """Set a simulated pin. ``GatewayError`` where the firmware has none."""
        await self._graph.set_io(kind, pin, value)

    def inspect(self, ports: frozenset[PortRef], inspector: OnValue | None) -> None:
        """Have what these outports of nodes send told to ``inspector`` too, besides what exported ones send."""
        self._reporting.inspector = inspector
        if ports != self._inspected:
            self._inspected = ports
            self._work.set()

    async def _inspect(self) -> None:
        try:
            async with self._turn:
                await self._graph.inspect(self._inspected)
        except GatewayError as exc:
            log.warning("%s: can't inspect: %s", self.name, exc)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Our turn, with no message on its way. An end in the middle ends the connection: the next one mends the board."""
        async with self._turn:
            if not self._in_step or not self._conversation.link.is_open:
                raise ConnectionLost(self.name, self.problem or "the link opens again; try again")
            try:
                await self._outbox.pause()
                yield
            except RequestTimeout as exc:
                raise ConnectionLost(
                    self.name, f"{exc.command}: {exc.problem}; it gets back what it ran before"
                ) from exc
            except asyncio.CancelledError:
                self.lose("a change of what it runs was interrupted")
                raise
            finally:
                if self._in_step:
                    self._outbox.trust()

    # -- transport.Session -----------------------------------------------------------------------------------------

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Nothing is made on a board; but an edge may say which readings go when there is no room."""
        for binding in bindings:
            if binding.source.target == f"serial:{self.record.id}":
                keeps = binding.contract.overflow is OverflowPolicy.DROP_NEWEST
                (self._keeps_oldest.add if keeps else self._keeps_oldest.discard)(binding.source)

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        """Nothing was made."""
        return ()

    async def subscribe(self, source: Address, credit: int) -> None:
        """Hand out what this outport sends. The board reports all its exported outports anyway."""
        self._readings.subscribe(source, credit, keeps_oldest=source in self._keeps_oldest)

    async def unsubscribe(self, source: Address) -> None:
        """See ``transport.Session``."""
        self._readings.unsubscribe(source)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """See ``transport.Session``."""
        while True:
            yield await self._readings.take()

    def more(self) -> Sequence[Delivery]:
        """See ``transport.FastSession``."""
        return self._readings.more()

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Nothing goes over the wire: a board keeps no message."""
        self._readings.settle(delivery)

    def settle_soon(self, delivery: Delivery, outcome: Outcome) -> None:
        """The same, without a task on the way."""
        self._readings.settle(delivery)

    async def publish(self, target: Address, message: Message) -> None:
        """Send to an inport; returns when the board has answered every packet (they are queued there, no more)."""
        counters = self._status.counters
        try:
            await self._outbox.send(str(target), message.id, lambda: self._units(target, message))
        except DeliveryRefused:
            counters.commands_refused += 1
            raise
        counters.commands += 1

    def _units(self, target: Address, message: Message) -> Sequence[Command]:
        """What goes to the board, by the graph that runs now."""
        names = self._graph.names
        found = names.inport(target.name.rpartition(".")[2]) if names else None
        if found is None:
            raise DeliveryDeferred(str(target), message.id, "the board's graph has no such inport at the moment")
        node, port = found
        try:
            packets = to_packets(port, message.body, floats=self._terms.floats)
        except ValueUnfit as exc:
            raise DeliveryRefused(str(target), message.id, str(exc)) from exc
        return [send_packet(0, node, port.number, packet) for packet in packets]
