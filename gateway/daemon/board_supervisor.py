"""One supervised task for every paired board, started and ended as the registry changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gateway.supervise import Backoff, ConnectionReport, keep_connected
from gateway.transport import Connector, Session

Serve: TypeAlias = Callable[[Session, str], Awaitable[None]]


class BoardSupervisor:
    """Runs ``keep_connected`` for each board that ``wanted`` names. A board never stops another."""

    def __init__(
        self,
        wanted: Callable[[], tuple[str, ...]],
        connector: Callable[[str], Connector],
        serve: Serve,
        longest_delay_s: float,
    ) -> None:
        self._wanted = wanted
        self._connector = connector
        self._serve = serve
        self._longest_delay_s = longest_delay_s
        self._changed = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self.reports: dict[str, ConnectionReport] = {}

    def change(self) -> None:
        """The registry changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = self._wanted()
                for board_id in self._running.keys() - set(wanted):
                    self._running.pop(board_id).cancel()
                    self.reports.pop(board_id)
                for board_id in wanted:
                    if board_id not in self._running:
                        self._running[board_id] = group.create_task(self._keep(board_id), name=f"device:{board_id}")
                await self._changed.wait()

    async def _keep(self, board_id: str) -> None:
        connector = self._connector(board_id)
        report = self.reports.setdefault(board_id, ConnectionReport(connector.name))

        async def serve(session: Session) -> None:
            await self._serve(session, connector.name)

        await keep_connected(connector, serve, Backoff(self._longest_delay_s), report)
