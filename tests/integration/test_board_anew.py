"""A board that was pulled, or paired again, may be another or have another firmware: what failed before is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConnectionLost
from gateway.serial_link.connected.negotiation import MOST_FAILURES
from gateway.serial_link.protocol.extensions import BoardCounts
from gateway.serial_link.records.board_status import BoardStatus
from tests.support.boards import Registry, request, simulated


async def failing(registry: Registry, link: Path) -> tuple[str, BoardStatus]:
    """A board whose line has fallen silent with extensions."""
    paired = await registry.boards.pair(request(link))
    status = registry.boards.state(paired["id"])
    status.failed_negotiations, status.counts = MOST_FAILURES, BoardCounts(reported=7)
    return str(paired["id"]), status


async def test_pulling_a_board_is_a_new_start_for_its_extensions(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty") as board:
        board_id, status = await failing(registry, tmp_path / "tty")
        with pytest.raises(ConnectionLost, match="unplugged"):  # noqa: PT012 - it also must come out of the block
            async with registry.boards.connector(board_id).connect() as session:
                assert status.failed_negotiations == MOST_FAILURES
                board.request(["unplug"])
                await anext(session.deliveries())
        assert status.failed_negotiations == 0


async def test_pairing_a_board_again_is_a_new_start_for_its_extensions_and_counters(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty"):
        _, status = await failing(registry, tmp_path / "tty")
        assert registry.boards.status()[0]["board_counters"]["reported"] == 7
        await registry.boards.pair(request(tmp_path / "tty"))
        assert status.failed_negotiations == 0
        assert registry.boards.status()[0]["board_counters"] is None
