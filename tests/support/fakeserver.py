"""A server on loopback that is only as much of one as a test needs, and leaves no connection open behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(talk: Talk) -> AsyncIterator[int]:
    """Talks so to everybody who connects, while the block runs; gives its port."""
    talking: set[asyncio.Task[None] | None] = set()
    ended = False

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(asyncio.current_task())
        try:
            if not ended:
                await talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):  # who came is gone, or this is the end
            pass
        finally:
            talking.discard(asyncio.current_task())
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        ended = True
        for task in tuple(talking):
            if task is not None:
                task.cancel()
        for _ in range(5):  # whoever was accepted a moment ago sees that this is the end
            await asyncio.sleep(0)
