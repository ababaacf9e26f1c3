"""An event loop on a thread of its own, for what a test without a loop needs one for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_S = 120.0


class LoopThread:
    """Runs until ``close``, which ends what still runs on it and lets every socket be closed before the loop is."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(WAIT_S), "the loop did not start"

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # cancels and turns the loop a few times more: a transport closes a turn later
            runner.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Something on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Something on the loop, to its end."""
        return self.begin(coroutine).result(WAIT_S)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call something on the loop, soon."""
        self._loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """Returns when the loop is closed."""
        self.call(self._stop.set)
        self._thread.join()
