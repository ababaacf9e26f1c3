"""The composition root: configuration -> objects -> one tree of tasks, and its orderly end."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.config.places import Places
from gateway.config.schema import Config
from gateway.coordinator.coordinator import Coordinator
from gateway.coordinator.core.delivery_contracts import EdgeSettings, edges_without_graph
from gateway.coordinator.core.import_export import ImportExport
from gateway.coordinator.core.planner import Plan, Planner
from gateway.coordinator.core.registry import Registry
from gateway.daemon.amqp_discovery import AmqpDiscovery
from gateway.daemon.binding_store import BindingStore
from gateway.daemon.board_runtimes import BoardRuntimes
from gateway.daemon.board_supervisor import BoardSupervisor
from gateway.daemon.brokers import Brokers
from gateway.daemon.component_store import LibraryStore
from gateway.daemon.control_handlers import ControlHandlers
from gateway.daemon.control_socket import ControlServer
from gateway.daemon.core.status_document import document, spool_entry
from gateway.daemon.declared_participants import read_imports
from gateway.daemon.fbp_runtimes import FbpRuntimes, start_graph
from gateway.daemon.mqtt_announcer import MqttAnnouncer, RetainedTopics
from gateway.daemon.state_dir import instance_id, locked
from gateway.library.processes import Processes
from gateway.model.address import Address, mqtt
from gateway.model.discovery import DISCOVERY_QUEUE
from gateway.model.graph import Graph
from gateway.model.message import Delivery, Message
from gateway.model.participant import BoardState, Participant
from gateway.mqtt.microflo_line import MQTT_LINES
from gateway.routing.core.events import AnnounceDead
from gateway.routing.pump import Pump
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.connected.recorder import Recorder
from gateway.serial_link.paired.board_handlers import board_handlers
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.graph_store import BoardGraphStore
from gateway.serial_link.paired.port_loans import lending_handlers
from gateway.serial_link.ports.schemes import NETWORKS, opener
from gateway.spool.admin import handlers as spool_handlers
from gateway.spool.open import open_spool
from gateway.supervise import LONGEST_LOCAL_DELAY_S

log = logging.getLogger(__name__)

BROKER_VARIABLE = "MSGFLO_BROKER"
"""Where a participant finds the broker's address in its environment."""


class App:
    """One gateway. ``run`` returns after ``stop``; a pillar's failure ends it with an exception."""

    def __init__(
        self,
        config: Config,
        places: Places,
        *,
        record: Path | None = None,
        only: frozenset[str] = frozenset(),
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        """``record``: a file or directory for what passes on boards' lines. ``only`` and ``ignore``: roles whose processes
        are started, and those whose are not.
        """
        self._record, self._only, self._ignore = record, only, ignore
        self._config = config
        self._places = places
        self._instance = config.gateway.instance or socket.gethostname()
        self._since = time.time()
        self._stop = asyncio.Event()
        self._web_url = ""
        self._brokers = Brokers(config, places, self._instance)

    def stop(self) -> None:
        """Begin an orderly end."""
        self._stop.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        """Everything, until ``stop``. ``ready`` gets one line once the gateway can be connected to."""
        async with AsyncExitStack() as stack:
            stack.enter_context(locked(self._places.state, self._places.lock))
            graph = self._load_graph()
            self._imports = read_imports(self._config.amqp.import_)
            self._boards = Boards(
                self._places.state,
                self._config.serial,
                on_change=self._boards_changed,
                on_running=self._board_runs,
                open_port=opener({**NETWORKS, **MQTT_LINES}),
                on_connector=self._recorder(stack),
            )
            self._board_graphs = BoardGraphStore(self._boards)
            self._board_runtimes = BoardRuntimes(self._boards, self._board_graphs)
            self._announcer = MqttAnnouncer(
                self._instance,
                __version__,
                self._since,
                self._config.coordinator.discovery_period_s,
                self._announced,
                self._boards.states,
                RetainedTopics(self._places.state / "retained.json"),
            )
            await self._brokers.prepare(stack)
            self._store = open_spool(self._places.spool, self._config.spool)
            stack.push_async_callback(self._store.close)
            self._pump = Pump(self._store, on_dead=self._dead)
            self._edges = BindingStore(self._places.state / "edges.json", self._pump)
            self._coordinator = self._make_coordinator(graph)
            self._cloud = AmqpDiscovery(
                self._pump,
                self._config.amqp.discover,
                self._config.coordinator.discovery_period_s,
                self._heard_amqp,
                self._coordinator.exported,
                self._coordinator.doubtful_queues,
                self._coordinator.taken,
            )
            self._processes = Processes(
                {BROKER_VARIABLE: self._brokers.url_of_participants},
                self._process_said,
                failed=lambda role, reason: self._runtimes.backend.process_failed(role, reason),
            )
            self._runtimes = self._make_runtimes()
            self._board_tasks = BoardSupervisor(
                lambda: tuple(record.id for record in self._boards.records()),
                self._boards.connector,
                self._pump.serve,
                LONGEST_LOCAL_DELAY_S,
            )
            self._boards.load()
            control = ControlServer(self._places.socket, self._handlers())
            await stack.enter_async_context(control.listening())
            self._web_url = await stack.enter_async_context(self._runtimes.serving(self.status))
            async with asyncio.TaskGroup() as group:
                tasks = self._start(group)
                ready(self._greeting())
                await self._stop.wait()
                await self._wind_down()
                for task in tasks:
                    task.cancel()

    # -- making the parts ------------------------------------------------------------------------------------------

    @property
    def _graph_path(self) -> Path:
        named = self._config.coordinator.graph
        return Path(named) if named else self._places.graph

    def _load_graph(self) -> Graph:
        return start_graph(self._graph_path, needed=bool(self._config.coordinator.graph))

    def _make_coordinator(self, graph: Graph) -> Coordinator:
        section = self._config.coordinator
        settings = EdgeSettings(self._config.delivery, mqtt_forgets=self._brokers.mqtt_forgets)
        cloud = self._config.amqp
        for edge in edges_without_graph(self._config.delivery, graph):
            log.warning('graph: has no edge %s, which [delivery.edge."%s"] is about', edge, edge)
        border = ImportExport(self._instance, settings, cloud.export, cloud.export_prefix, self._imports.globs)
        return Coordinator(
            graph,
            Planner(self._instance, settings, border),
            Registry(section.heartbeat_expiry_s),
            self._boards.participants,
            self._install,
            self._send_iip,
            self._places.state / "participants.json",
            bound=self._pump.caught_up,
        )

    def _recorder(self, stack: AsyncExitStack) -> Callable[[BoardConnector], None]:
        """What is told of every board's line, where it shall be written down."""
        if self._record is None:
            return lambda connector: None
        recorder = Recorder(self._record)
        stack.callback(recorder.close)
        return recorder.follow

    def _make_runtimes(self) -> FbpRuntimes:
        section = self._config.coordinator
        return FbpRuntimes(
            self._config.http,
            self._instance,
            instance_id(self._places.state),
            self._coordinator,
            self._pump,
            self._graph_path,
            components=LibraryStore(
                section.library,
                Path(section.component_dir),
                self._processes,
                only=self._only,
                ignore=self._ignore,
            ),
            edit_components=section.edit_components,
            boards=self._board_runtimes.runtime,
        )

    def _handlers(self) -> dict[str, Any]:
        requests = ControlHandlers(
            self._instance, self.status, self._coordinator, self._boards.participants, self._pump
        ).handlers()
        boards = board_handlers(self._boards, self._board_graphs) | lending_handlers(self._boards)
        return requests | boards | spool_handlers(self._pump, self._store) | self._runtimes.handlers()

    # -- the tree of tasks -----------------------------------------------------------------------------------------

    def _start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        tasks = [
            group.create_task(self._pump.run(), name="routing.pump"),
            group.create_task(self._coordinator.run(), name="coordinator"),
            group.create_task(self._edges.run(), name="edges"),
            group.create_task(self._board_tasks.run(), name="devices"),
            group.create_task(self._processes.run(), name="participants"),
        ]
        if self._imports.announcements:
            period_s = self._config.coordinator.discovery_period_s
            declared = self._imports.keep_announcing(self._heard_amqp, period_s)
            tasks.append(group.create_task(declared, name="imports"))
        tasks += self._brokers.start(
            group,
            self._announcer,
            self._pump,
            self._cloud,
            lambda: self._stop.is_set() or self._coordinator.awaits_a_source,
        )
        self._pump.tap(mqtt(DISCOVERY_QUEUE), self._heard_mqtt)
        return tasks

    async def _wind_down(self) -> None:
        """Take nothing more, bring to safety what is under way, say good-bye."""
        log.info("gateway: ending")
        grace_s = self._config.run.shutdown_grace_s
        await self._pump.drain(grace_s)
        if self._pump.unsafe:
            log.error("gateway: %d messages from boards could not be brought to safety in time", self._pump.unsafe)
        await self._brokers.say_goodbye(self._announcer, grace_s / 2)

    # -- what the parts tell each other ----------------------------------------------------------------------------

    def _boards_changed(self) -> None:
        self._announcer.change()
        self._cloud.change()
        self._coordinator.boards_changed()
        self._board_tasks.change()
        self._board_runtimes.changed()

    def _announced(self, states: Sequence[Mapping[str, Any]]) -> tuple[Participant, ...]:
        """Who is announced on MQTT: boards that are plugged in, so that others see the others expire, and imports."""
        present = {entry["id"] for entry in states if entry["state"] != BoardState.ABSENT}
        boards = tuple(board for board in self._boards.participants() if board.id in present)
        return boards + self._coordinator.imported()

    def _board_runs(self, board_id: str) -> None:
        self._coordinator.board_appeared(board_id)

    def _install(self, plan: Plan) -> None:
        self._edges.install(plan)
        retained = frozenset(edge.tgt.name for edge in plan.bindings if edge.retain and edge.tgt)
        self._announcer.ports_retain(retained | self._boards.retained_topics())
        if self._config.amqp.export or self._config.amqp.import_:
            self._announcer.change()
            self._cloud.change()

    async def _send_iip(self, address: Address, body: bytes) -> None:
        message = Message(f"{self._instance}-iip-{time.time_ns()}", body, content_type="application/json")
        await self._pump.inject(address, message)

    def _heard_mqtt(self, delivery: Delivery) -> None:
        was_kept = delivery.redelivered or delivery.message.retain  # by the broker, for who knows how long
        self._coordinator.announced(delivery.message.body, "mqtt", alive=not was_kept)

    def _heard_amqp(self, body: bytes, alive: bool = True) -> None:
        self._coordinator.announced(body, "amqp", alive=alive)

    def _process_said(self, role: str, stream: str, line: str) -> None:
        log.info("participant %s: %s", role, line)
        self._runtimes.backend.printed(role, line)

    def _dead(self, effect: AnnounceDead) -> None:
        """Tell on our dead topic that a message came to rest in the spool; it is there whether or not this is heard."""
        message = effect.message
        self._announcer.dead(effect.binding_id, effect.reason, message.id, message.body)
        self._runtimes.dead_letter(effect.binding_id, effect.reason)

    # -- status ----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The status document."""
        return document(
            gateway={
                "instance": self._instance,
                "version": __version__,
                "since": self._since,
                "state_dir": str(self._places.state),
            },
            links=[*self._brokers.reports.values(), *self._board_tasks.reports.values()],
            blocked={"amqp": self._cloud.blocked},
            boards=self._boards.status(),
            edges=self._pump.status(),
            waiting={**self._pump.stuck, **self._cloud.waiting, **self._coordinator.waiting},
            refused=self._coordinator.refused,
            spool=spool_entry(
                self._store.usage(),
                [{**entry, "note": self._coordinator.why(entry["edge"])} for entry in self._pump.orphans()],
                self._pump.unsafe,
            ),
            discovery=self._coordinator.counts.entry(),
            processes=self._processes.reports(),
            http_url=self._web_url,
        )

    def _greeting(self) -> str:
        parts = [f"instance {self._instance}", *self._brokers.shown]
        if self._web_url:
            parts.append(self._web_url)
        count = len(self._boards.records())
        parts.append(f"{count} board{'' if count == 1 else 's'}")
        return f"gateway ready: {', '.join(parts)}"
