"""One paired board while it is connected; implements ``transport.Session``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from gateway.errors import (
    AccessRefused,
    BoardRefused,
    ConnectionLost,
    DeliveryDeferred,
    DeliveryRefused,
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
from gateway.model.participant import BoardState
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.negotiation import COUNTS_EVERY_S, Negotiation
from gateway.serial_link.connected.network import BoardNetwork
from gateway.serial_link.connected.packet_reader import BoardPacketReader
from gateway.serial_link.connected.receive_queue import ReceiveQueue
from gateway.serial_link.connected.running_graph import RunningGraph
from gateway.serial_link.connected.send_queue import SendQueue
from gateway.serial_link.ports.tty import UNPLUGGED, Port
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.codec import WIRES, Command, send_packet
from gateway.serial_link.protocol.json_values import to_packets
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import RESTARTED, PacketSent, options_for
from gateway.serial_link.records.board_status import BoardStatus
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)


class BoardSession:
    """One connection. Readings and answers come in by the loop's callbacks; ``keep`` mends what went out of step."""

    def __init__(
        self,
        port: Port,
        epoch: int,
        record: BoardRecord,
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
        self._readings = ReceiveQueue(epoch, status.counters)
        self._desynced = False
        self._work = asyncio.Event()
        """Something for ``keep`` to do."""
        wire = WIRES[record.wire]
        ours = bool(profile.document)
        model = BoardModel(profile.library, wire, takes_floats=ours, simulated_pins=True)
        link = Link(wire, options_for(wire, record.baud, request_timeout_s=request_timeout_s), model)
        status.begin(link.counters)
        self._conversation = LinkDriver(
            port, link, self.name, on_packets=self._heard, on_desync=self._lost_step, on_lost=self.lose
        )
        self._graph = RunningGraph(self._conversation, model, profile, lambda: self._reporting.forget())
        self._reporting = BoardPacketReader(record.id, self._graph, self._readings, status.counters)
        self._terms = Negotiation(self.name, self._conversation, status)
        self._outbox = SendQueue(self.name, self._conversation.request, lambda: self._conversation.link.window)
        self.network = BoardNetwork(self, self._conversation, self._graph, self._reporting, self._outbox, status)

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
                await self.network.catch_up()
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
            async with self.network.turn:
                is_same = await self._terms.agree(self.record.identity, self._graph.profile.document)
                await self.network.restore(is_same=is_same)
        except RequestTimeout as exc:
            raise ConnectionLost(self.name, f"{exc.command}: {exc.problem}") from exc
        except BoardRefused as exc:
            raise AccessRefused(self.name, f"{exc.command}: {exc.problem}") from exc
        except GraphError as exc:
            raise AccessRefused(self.name, str(exc)) from exc
        except RemoteProtocolError as exc:
            raise ConnectionLost(self.name, str(exc)) from exc
        self._reporting.hear()
        self._status.enter(BoardState.RUNNING)
        self.runs()
        self._outbox.trust()

    def _heard(self, events: Sequence[PacketSent]) -> None:
        self._reporting.packets(events)

    @property
    def is_in_step(self) -> bool:
        """Whether nothing has happened after which the board must be prepared anew."""
        return not self._desynced and not self._conversation.is_over

    def wake(self) -> None:
        """There is something for ``keep`` to do."""
        self._work.set()

    def runs(self) -> None:
        """The board's network has begun anew."""
        self._on_running(self.record.id)

    def _lost_step(self, reason: str) -> None:
        self._outbox.distrust()
        self._reporting.hold()
        if reason == RESTARTED:
            self._reporting.gaps.reset()
        self._desynced = True
        self._work.set()
        self._status.counters.handshakes += 1
        self._status.enter(BoardState.OPENING, f"alignment was lost: {reason}")
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
