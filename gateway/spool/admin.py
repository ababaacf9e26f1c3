"""A person's hands in the spool: through the daemon that runs, or on the file alone."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from gateway.errors import NotFound
from gateway.spool.core.listing import concerns
from gateway.spool.core.record import SpoolRecord
from gateway.spool.core.store import Store

AT_ONCE = 500
"""Records looked at together, so that a large spool is never in memory as a whole."""

NAMED = 8
"""Records that are named of those with which something is wrong."""


class RunningRouter(Protocol):
    """Who has to know when records come and go under its feet: the daemon's pump."""

    def requeued(self, records: Sequence[SpoolRecord]) -> None:
        """These are pending now."""

    def removed(self, records: Sequence[SpoolRecord]) -> set[int]:
        """These are to go; the numbers of those in flight, which can't."""

    def ledger(self) -> list[dict[str, Any]]:
        """The books."""


class SpoolAdmin:
    """``router`` is None where no daemon runs."""

    def __init__(self, store: Store, router: RunningRouter | None = None) -> None:
        self._store = store
        self._router = router

    async def records(self, *, dead: bool | None, edge: str) -> AsyncIterator[list[SpoolRecord]]:
        """What matches, in order, some at a time. What comes meanwhile is not meant: it might come for ever."""
        after, newest = 0, await self._store.newest()
        while after < newest:
            some = await self._store.look(dead=dead, after=after, limit=AT_ONCE)
            if not some:
                return
            after = some[-1].seq
            yield [record for record in some if record.seq <= newest and concerns(record, edge)]

    async def requeue(self, seqs: Sequence[int], edge: str = "") -> int:
        """Give these dead letters (or without numbers all of an edge) another try; how many."""
        if seqs:
            states = await self._states(seqs)
            waiting = [str(seq) for seq, dead in states.items() if not dead]
            if waiting:
                raise NotFound(f"record {named(waiting)}: is no dead letter; it is tried anyway")
        chosen = self._named(seqs) if seqs else self.records(dead=True, edge=edge)
        count = 0
        async for some in chosen:
            count += await self._requeue(some)
        return count

    async def _requeue(self, records: Sequence[SpoolRecord]) -> int:
        made = await self._store.requeue([record.seq for record in records])
        if self._router is not None:
            self._router.requeued(made)
        return len(made)

    async def drop(self, seqs: Sequence[int]) -> dict[str, int]:
        """Throw these away, waiting or dead. What is in flight stays."""
        await self._states(seqs)
        return await self._remove_all(self._named(seqs))

    async def purge(self, *, dead: bool | None, edge: str) -> dict[str, int]:
        """Throw away what matches."""
        return await self._remove_all(self.records(dead=dead, edge=edge))

    async def _remove_all(self, chosen: AsyncIterator[list[SpoolRecord]]) -> dict[str, int]:
        total = {"dropped": 0, "in_flight": 0}
        async for some in chosen:
            for key, value in (await self._remove(some)).items():
                total[key] += value
        return total

    async def _remove(self, records: Sequence[SpoolRecord]) -> dict[str, int]:
        if self._router is None:
            self._store.forget([record.seq for record in records])
            return {"dropped": len(records), "in_flight": 0}
        self._store.forget([record.seq for record in records if record.dead])
        flying = self._router.removed([record for record in records if not record.dead])
        return {"dropped": len(records) - len(flying), "in_flight": len(flying)}

    async def _states(self, seqs: Sequence[int]) -> dict[int, bool]:
        """Whether each of these is dead. ``NotFound`` if one is not there: then nothing is done to the others either."""
        states = await self._store.states(seqs)
        missing = [str(seq) for seq in sorted(set(seqs) - states.keys())]
        if missing:
            raise NotFound(f"record {named(missing)}: not in the spool; see: gateway spool list")
        return states

    async def _named(self, seqs: Sequence[int]) -> AsyncIterator[list[SpoolRecord]]:
        """These records, in order, some at a time."""
        left = deque(sorted(set(seqs)))
        while left:
            asked = list(islice(left, AT_ONCE))
            some = await self._store.find(asked)
            upto = some[-1].seq if some else asked[-1]
            while left and left[0] <= upto:
                left.popleft()
            yield some


def named(numbers: Sequence[str]) -> str:
    """Some numbers for a person to read."""
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{', '.join(numbers[:NAMED])}{more}"


Handler = Callable[[dict[str, Any]], AsyncIterator[Any]]


def handlers(router: RunningRouter, store: Store) -> dict[str, Handler]:
    """What the daemon answers about its spool and its books, for the control server."""
    desk = SpoolAdmin(store, router)

    async def requeue(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield {"requeued": await desk.requeue(_seqs(request), str(request.get("edge", "")))}

    async def drop(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield await desk.drop(_seqs(request))

    async def purge(request: dict[str, Any]) -> AsyncIterator[Any]:
        dead = request.get("dead")
        yield await desk.purge(dead=None if dead is None else bool(dead), edge=str(request.get("edge", "")))

    async def ledger(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield router.ledger()

    return {"spool.requeue": requeue, "spool.drop": drop, "spool.purge": purge, "ledger": ledger}


def _seqs(request: dict[str, Any]) -> list[int]:
    return [int(seq) for seq in request.get("seqs", ())]
