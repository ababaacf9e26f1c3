"""What waits on disk for an edge that is not in the graph (any more)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.model.binding import DEAD_SUFFIX, Binding
from gateway.routing.core.deadletter import dead_binding
from gateway.routing.core.table import RouteTable
from gateway.spool.core.record import Backlog, SpoolRecord


class UnboundRecords:
    """Backlogs from before the start, until a table has their edge, or they are purged by hand."""

    def __init__(self) -> None:
        self.backlogs: dict[str, Backlog] = {}

    def __len__(self) -> int:
        return sum(backlog.records for backlog in self.backlogs.values())

    def add(self, backlogs: Iterable[Backlog]) -> None:
        """What the spool held at the start."""
        self.backlogs.update({backlog.binding_id: backlog for backlog in backlogs})

    def adopt(self, table: RouteTable) -> Iterator[tuple[Binding, Backlog]]:
        """Take out the backlogs that have an edge in this table, or had one, with that edge."""
        for binding_id, backlog in list(self.backlogs.items()):
            plain = binding_id.removesuffix(DEAD_SUFFIX)
            base = table.by_id.get(plain) or table.former.get(plain)
            binding = dead_binding(base) if base and binding_id.endswith(DEAD_SUFFIX) else base
            if binding is not None:
                del self.backlogs[binding_id]
                yield binding, backlog

    def join(self, record: SpoolRecord) -> None:
        """One more, whose edge is not in the graph."""
        known = self.backlogs.get(record.binding_id, Backlog(record.binding_id, 0, 0, 0))
        size = len(record.message.body)
        self.backlogs[record.binding_id] = Backlog(
            record.binding_id, known.records + 1, known.bytes + size, max(known.last_seq, record.seq)
        )

    def leave(self, binding_id: str, size: int) -> None:
        """One less: it was taken out by hand."""
        known = self.backlogs.get(binding_id)
        if known is None:
            return
        if known.records > 1:
            self.backlogs[binding_id] = replace(known, records=known.records - 1, bytes=known.bytes - size)
        else:
            del self.backlogs[binding_id]
