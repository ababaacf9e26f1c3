"""The coordinator: owns the graph and the registry, makes plans and has them installed, delivers IIPs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gateway.coordinator.core.planner import Plan, PlannedIip, Planner
from gateway.coordinator.core.registry import Registry
from gateway.coordinator.participants_file import load_participants, save_participants
from gateway.errors import DeliveryError, TransportDown, ValueUnfit
from gateway.model.address import Address
from gateway.model.discovery import parse_discovery, sender
from gateway.model.graph import Graph
from gateway.model.participant import Participant

log = logging.getLogger(__name__)

EXPIRY_CHECK_S = 30.0
LEAST_PATIENCE_S = 1.0
IIP_RETRY_S = 1.0
IIP_PATIENCE_S = 5.0
"""For one IIP: a broker that takes nothing holds up neither the others nor the plans."""
SETTLE_S = 0.02
"""Changes that come together are planned together: a broker that is back brings all its participants at once."""

REJECTED_KEPT = 64
"""Distinct reasons for which discovery messages were refused that are remembered for ``status``."""


@dataclass(slots=True)
class Counts:
    """Discovery messages heard, and those refused by reason."""

    heard: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def entry(self) -> dict[str, Any]:
        """For ``status``."""
        return {"heard": self.heard, "refused": dict(self.rejected)}


Install = Callable[[Plan], None]
Send = Callable[[Address, bytes], Awaitable[None]]


class Coordinator:
    """One graph over boards, MQTT and AMQP. All its methods belong to the loop that runs it."""

    def __init__(
        self,
        graph: Graph,
        planner: Planner,
        registry: Registry,
        boards: Callable[[], tuple[Participant, ...]],
        install: Install,
        send: Send,
        participants_file: Path,
        bound: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``bound`` returns once the edges that were installed last are really there."""
        self._graph = graph
        self._planner = planner
        self._registry = registry
        self._boards = boards
        self._install = install
        self._send = send
        self._bound = bound
        self._file = participants_file
        self._changed = asyncio.Event()
        self._due = asyncio.Event()
        self._served: set[tuple[str, str, str]] = set()
        self._shown: set[tuple[str, str, str]] = set()
        self._on_plan: Callable[[], None] = lambda: None
        self._on_iip: Callable[[PlannedIip], None] = lambda planned: None
        self._unsaved = False
        self.counts = Counts()
        self.plan = Plan((), (), {})
        registry.remember(load_participants(participants_file), time.monotonic())

    @property
    def registry(self) -> Registry:
        """Who takes part."""
        return self._registry

    @property
    def graph(self) -> Graph:
        """The graph as it is wanted."""
        return self._graph

    @property
    def refused(self) -> dict[str, str]:
        """Edges that can't be, and why."""
        return {edge: problem.problem for edge, problem in self.plan.refused.items()}

    @property
    def waiting(self) -> dict[str, str]:
        """What is waited for, by edge; by ``data -> ROLE.PORT`` where data waits for one that is known from before."""
        unheard = {
            f"data -> {one.iip.tgt}": f"waits for an announcement of role {one.participant.role}"
            for one in self.plan.iips
            if self._key(one) not in self._served and not self._is_here(one.participant)
        }
        return {**self.plan.waiting, **unheard}

    def why(self, edge: str) -> str:
        """Why nothing carries the messages of an edge."""
        return self.plan.waiting.get(edge) or self.refused.get(edge) or "edge not in the graph"

    def observe(self, on_plan: Callable[[], None], on_iip: Callable[[PlannedIip], None]) -> None:
        """Call these after every plan that was installed, and before every IIP that is sent."""
        self._on_plan, self._on_iip = on_plan, on_iip

    def proposed(self, graph: Graph) -> Plan:
        """What would be planned for another graph now. ``GraphError`` for what can't work in it and is not wrong already."""
        boards = self._boards()
        plan = self._planner.plan(graph, self._registry, boards)
        if plan.refused:
            known = self._planner.plan(self._graph, self._registry, boards).refused
            for edge, problem in plan.refused.items():
                if edge not in known or str(known[edge]) != str(problem):
                    raise problem
        return plan

    def use(self, graph: Graph) -> None:
        """This is the graph from now on; its edges are installed before this returns."""
        self._graph = graph
        self.replan()
        self._changed.set()

    def send_iips_again(self, nodes: Collection[str]) -> None:
        """The IIPs of these nodes are due again: their network was started."""
        self._served = {key for key in self._served if key[1] not in nodes}
        self._due.set()

    def exported(self) -> tuple[Participant, ...]:
        """Who is to be announced on AMQP."""
        return self._planner.border.exported(self._boards(), self._registry)

    def imported(self) -> tuple[Participant, ...]:
        """Who is to be announced on MQTT, besides the boards."""
        return self._planner.border.imported(self._registry)

    def members(self, role: str) -> list[Participant]:
        """Who takes a role: boards of ours first, then participants, gone ones too."""
        return [board for board in self._boards() if board.role == role] + list(self._registry.role(role))

    @property
    def awaits_a_source(self) -> bool:
        """Whether an edge takes from a role that was never seen."""
        sources = {edge.partition("->")[0].rpartition(".")[0] for edge in self.plan.waiting}
        return any(not self.members(role) for role in sources)

    def is_present(self, role: str) -> bool:
        """Whether somebody who takes this role is there at the moment."""
        return any(self._is_here(one) for one in self.members(role))

    def left(self, role: str) -> None:
        """The process that took this role was ended here: who comes next is somebody else."""
        self._registry.leave(role)

    def everyone(self) -> list[Participant]:
        """All boards of ours, and all participants ever heard."""
        return [*self._boards(), *self._registry.everyone()]

    def announced(self, body: bytes, transport: str, *, alive: bool = True) -> None:
        """A discovery message arrived. A bad one is counted and shown, and harms nobody.

        Not ``alive``: it had lain in a queue for who knows how long, so its sender may be long gone.
        """
        now = time.monotonic()
        try:
            participant = parse_discovery(body, transport, now)
        except ValueUnfit as exc:
            who = sender(body)
            self._reject(f"{transport}: {exc}{f' (role {who})' if who else ''}", body)
            return
        if self._planner.border.is_echo(participant, self._boards(), self._registry):
            return
        full = self._registry.make_room(participant, lambda one: self._graph.has_node(one.role))
        if full:
            self._reject(f"{transport}: {full}", body)
            return
        self.counts.heard += 1
        heard = self._registry.heard(participant, now, alive=alive)
        if heard.appeared:
            unheard = "" if alive else ", by an announcement that had waited for us; not heard yet"
            log.info("participant %s: role %s on %s%s", participant.id, participant.role, transport, unheard)
            self._served -= {key for key in self._served if key[0] == f"{transport}/{participant.id}"}
        if heard.matters:
            self._unsaved = True
            self._changed.set()

    def doubtful_queues(self) -> tuple[str, ...]:
        """Queues to be asked who takes from them: of participants whose announcements had lain in a queue."""
        return self._registry.doubtful_queues()

    def taken(self, queue: str, takers: int) -> None:
        """So many take from one of these queues."""
        for one in self._registry.confirm(queue, takers, time.monotonic()):
            log.info("participant %s: is there: it takes from %s", one.id, queue)
            self._changed.set()

    def _reject(self, reason: str, body: bytes) -> None:
        if reason not in self.counts.rejected and len(self.counts.rejected) >= REJECTED_KEPT:
            reason = "further reasons"
        first = reason not in self.counts.rejected
        self.counts.rejected[reason] += 1
        if first:
            log.warning("discovery: ignored a message on %s", reason)
        log.debug("discovery: ignored %r", body[:64])

    def boards_changed(self) -> None:
        """A board was paired, unpaired, or its ports are now known."""
        self._changed.set()

    def board_appeared(self, board_id: str) -> None:
        """A board's network (re)started: its IIPs are due again."""
        self._served -= {key for key in self._served if key[0] == f"serial/{board_id}"}
        self._changed.set()
        self._due.set()

    def replan(self) -> None:
        """Make the plan anew and have it installed. An edge that can't work is said once, and holds up no other."""
        before, self.plan = self.plan, self._planner.plan(self._graph, self._registry, self._boards())
        keys = {self._key(planned) for planned in self.plan.iips}
        self._served &= keys  # one that comes back is sent again
        self._shown &= keys
        self._due.set()
        for edge, why in self.plan.waiting.items():
            if edge not in before.waiting:
                log.info("edge %s: %s", edge, why)
        for edge, problem in self.plan.refused.items():
            if edge not in before.refused or str(before.refused[edge]) != str(problem):
                log.error("edge %s: is left out: %s", edge, problem.problem)
        for edge in before.refused.keys() - self.plan.refused.keys():
            log.info("edge %s: nothing is wrong with it any more", edge)
        self._install(self.plan)
        self._on_plan()

    async def run(self) -> None:
        """Plan whenever something changed, deliver IIPs, let participants expire. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_planned(), name="coordinator:plans")
            group.create_task(self._keep_served(), name="coordinator:iips")

    async def _keep_planned(self) -> None:
        self._changed.set()
        while True:
            if self._changed.is_set():
                self._changed.clear()
                self.replan()
            if self._unsaved:
                self._unsaved = False
                await asyncio.to_thread(save_participants, self._file, self._registry.everyone())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s()):
                    await self._changed.wait()
                await asyncio.sleep(SETTLE_S)
            self._notice_silence(time.monotonic())

    def _patience_s(self) -> float:
        """Until somebody may have been silent for too long; looked at now and then, not to the millisecond."""
        deadline = self._registry.deadline()
        until = EXPIRY_CHECK_S if deadline is None else deadline - time.monotonic()
        return min(EXPIRY_CHECK_S, max(LEAST_PATIENCE_S, until))

    def _notice_silence(self, now: float) -> None:
        for one in self._registry.expire(now):
            log.warning("participant %s: gone: silent for %.0f s, role %s", one.id, now - one.last_seen, one.role)
            self._changed.set()
        for one in self._registry.grow_late(now):
            log.info(
                "participant %s: late: silent for %.0f s, it usually announces itself every %.0f s, role %s",
                one.id,
                now - one.last_seen,
                self._registry.period_s(one),
                one.role,
            )

    async def _keep_served(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if await self._serve_iips():
                with suppress(TimeoutError):
                    async with asyncio.timeout(IIP_RETRY_S):
                        await self._due.wait()
                self._due.set()

    async def _serve_iips(self) -> bool:
        """Send what is due to those that are here; returns whether something is still due."""
        due = [one for one in self.plan.iips if self._key(one) not in self._served and self._is_here(one.participant)]
        if due and self._bound is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(IIP_PATIENCE_S):
                    await self._bound()  # else the answer to an IIP could be lost before its edge is there
        stuck: set[str] = set()
        for planned in due:
            if planned.address.target in stuck:
                continue
            self._show(planned)
            try:
                async with asyncio.timeout(IIP_PATIENCE_S):
                    await self._send(planned.address, msgspec.json.encode(planned.iip.data))
            except (DeliveryError, TransportDown, TimeoutError) as exc:
                log.debug("iip for %s: %s", planned.iip.tgt, exc or "not confirmed in time")
                if not isinstance(exc, DeliveryError):
                    stuck.add(planned.address.target)
                continue
            self._served.add(self._key(planned))
            self._shown.discard(self._key(planned))
        return any(self._key(planned) not in self._served for planned in due)

    def _show(self, planned: PlannedIip) -> None:
        """Tell once that it is sent, and before it is: an answer may be there sooner than the confirmation."""
        key = self._key(planned)
        if key not in self._shown:
            self._shown.add(key)
            self._on_iip(planned)

    def _is_here(self, participant: Participant) -> bool:
        return participant.transport == "serial" or self._registry.is_here(participant)

    @staticmethod
    def _key(planned: PlannedIip) -> tuple[str, str, str]:
        participant, iip = planned.participant, planned.iip
        return (f"{participant.transport}/{participant.id}", iip.tgt.node, f"{iip.tgt} {iip.data!r}")
