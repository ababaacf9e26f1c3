"""Waiting for what only shows from outside, in a test's own loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WAIT_S = 60.0


async def soon(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Until it is so; ``TimeoutError`` if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # asked before: it may have come about while this process stood still
        if condition():
            return
        if late:
            raise TimeoutError(f"after {timeout_s:.0f} s still not so")
        await asyncio.sleep(0.005)
