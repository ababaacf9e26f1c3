"""Waiting for what only shows from outside, in a test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_S = 10.0


async def soon(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Until it is so; ``TimeoutError`` if that takes too long."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - nothing tells when something outside changes
            await asyncio.sleep(0.005)
