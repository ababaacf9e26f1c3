"""A bounded window of message ids that a target port has already been given."""

from __future__ import annotations

from collections import deque

WINDOW = 65_536
"""Ids remembered for all target ports together; about 10 MB."""

Key = tuple[str, str]
"""Target port and message id."""


class _Port:
    """The ids of one target port, and the order in which they came."""

    __slots__ = ("ids", "order")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.order: deque[str] = deque()


class DedupeWindow:
    """Remembers what a target port has. "Seen" means committed or confirmed, never merely under way.

    One busy port never pushes out what is remembered for the others: who has more than his share gives way first.
    """

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._total = 0
        self._ports: dict[str, _Port] = {}

    def add(self, key: Key) -> None:
        """This target has (or will certainly get) this message."""
        target, message_id = key
        port = self._ports.get(target)
        if port is None:
            port = self._ports[target] = _Port()
        if message_id in port.ids:
            return
        port.ids.add(message_id)
        port.order.append(message_id)
        self._total += 1
        if self._total > self._size:
            self._give_way(port)

    def _give_way(self, port: _Port) -> None:
        share = len(port.ids) * len(self._ports) > self._size
        longest = port if share else max(self._ports.values(), key=lambda one: len(one.ids))
        longest.ids.discard(longest.order.popleft())
        self._total -= 1

    def __contains__(self, key: Key) -> bool:
        port = self._ports.get(key[0])
        return port is not None and key[1] in port.ids

    def __len__(self) -> int:
        return self._total
