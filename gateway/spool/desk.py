"""A person's hands in the spool: through the daemon that runs, or on the file alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from gateway.errors import NotFound
from gateway.spool.entries import concerns
from gateway.spool.record import SpoolRecord
from gateway.spool.store import Store

AT_ONCE = 500
"""Records looked at together, so that a large spool is never in memory as a whole."""


class Router(Protocol):
    """Who has to know when records come and go under its feet: the daemon's pump."""

    def requeued(self, records: Sequence[SpoolRecord]) -> None:
        """These are pending now."""

    def removed(self, records: Sequence[SpoolRecord]) -> set[int]:
        """These are to go; the numbers of those in flight, which can't."""

    def ledger(self) -> list[dict[str, Any]]:
        """The books."""


class Desk:
    """``router`` is None where no daemon runs."""

    def __init__(self, store: Store, router: Router | None = None) -> None:
        self._store = store
        self._router = router

    async def records(self, *, dead: bool | None, edge: str) -> AsyncIterator[list[SpoolRecord]]:
        """What matches, in order, some at a time."""
        after = 0
        while True:
            some = await self._store.look(dead=dead, after=after, limit=AT_ONCE)
            if not some:
                return
            after = some[-1].seq
            yield [record for record in some if concerns(record, edge)]

    async def requeue(self, seqs: Sequence[int], edge: str = "") -> int:
        """Give these dead letters (or without numbers all of an edge) another try; how many."""
        if seqs:
            found = await self._found(seqs)
            waiting = [str(record.seq) for record in found if not record.dead]
            if waiting:
                raise NotFound(f"record {', '.join(waiting)}: is no dead letter; it is tried anyway")
            return await self._requeue(found)
        count = 0
        async for some in self.records(dead=True, edge=edge):
            count += await self._requeue(some)
        return count

    async def _requeue(self, records: Sequence[SpoolRecord]) -> int:
        made = await self._store.requeue([record.seq for record in records])
        if self._router is not None:
            self._router.requeued(made)
        return len(made)

    async def drop(self, seqs: Sequence[int]) -> dict[str, int]:
        """Throw these away, waiting or dead. What is in flight stays."""
        return await self._remove(await self._found(seqs))

    async def purge(self, *, dead: bool | None, edge: str) -> dict[str, int]:
        """Throw away what matches."""
        total = {"dropped": 0, "in_flight": 0}
        async for some in self.records(dead=dead, edge=edge):
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

    async def _found(self, seqs: Sequence[int]) -> list[SpoolRecord]:
        found = await self._store.find(seqs)
        missing = set(seqs) - {record.seq for record in found}
        if missing:
            raise NotFound(f"record {', '.join(map(str, sorted(missing)))}: not in the spool; see: gateway spool list")
        return found


Handler = Callable[[dict[str, Any]], AsyncIterator[Any]]


def handlers(router: Router, store: Store) -> dict[str, Handler]:
    """What the daemon answers about its spool and its books, for the control server."""
    desk = Desk(store, router)

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
