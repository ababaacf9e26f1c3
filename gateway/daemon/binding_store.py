"""What edges were carried before: those that are gone are undone, and what waits for them still finds its target.

Live edits need no record. But an edge may be taken out of the file while the gateway is stopped: its queue on the AMQP
broker would fill for ever, and its messages in the spool would wait for nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from gateway.coordinator.bindings_file import BindingsFile
from gateway.coordinator.core.planner import Plan
from gateway.model.binding import Binding
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import Pump

CALM_S = 0.5
"""Changes that come together are written together."""

LOOK_S = 30.0
"""How often we look whether an edge that is gone is done with."""


class BindingStore:
    """Stands between the coordinator's plans and the pump."""

    def __init__(self, path: Path, pump: Pump) -> None:
        self._pump = pump
        self._file = BindingsFile(path)
        self._known: dict[Binding, None] = dict.fromkeys(self._file.load())
        self._wanted: tuple[Binding, ...] = ()
        self._held: set[Binding] = set()
        self._undone: set[Binding] = set()
        self._changed = asyncio.Event()

    def install(self, plan: Plan) -> None:
        """These are the edges from now on."""
        carried = {binding.label for binding in plan.bindings}
        absent = (plan.waiting.keys() | plan.refused.keys()) - carried
        wanted = set(plan.bindings)
        # an edge of the graph that only waits for its source keeps its queue: it fills for the day when it comes
        self._held = {binding for binding in self._known if binding not in wanted and binding.label in absent}
        former = [binding for binding in self._known if binding not in wanted]
        gone = [binding for binding in former if binding not in self._held and binding not in self._undone]
        self._undone = self._undone.union(gone) - wanted
        self._wanted = plan.bindings
        self._known |= dict.fromkeys(plan.bindings)
        self._pump.install(RouteTable.of(plan.bindings), gone=gone, former=former)
        self._changed.set()

    async def run(self) -> None:
        """Keep the file as things are. Until cancelled."""
        saving: asyncio.Future[None] | None = None
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
                        await asyncio.sleep(CALM_S)
                self._changed.clear()
                self._forget()
                saving = asyncio.ensure_future(asyncio.to_thread(self._file.save, tuple(self._known)))
                await asyncio.shield(saving)
        finally:
            if saving is not None:
                await asyncio.wait((saving,))  # what is being written is older than what follows
            self._file.save(self._known)

    def _forget(self) -> None:
        """Those that are gone, undone, and have no message waiting need not be known any more."""
        if not self._pump.has_recovered:
            return
        waiting, undone = self._pump.unfinished()
        needed = {*self._wanted, *self._held, *undone}
        self._known = {
            binding: None for binding in self._known if binding in needed or (binding.ends and binding.id in waiting)
        }
        self._undone &= self._known.keys()
