"""A TCP relay on loopback between a program and a server, for tests that cut or stall the line between them."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType


class Relay:
    """Forwards to ``host:port``. ``cut`` breaks every connection, ``stall`` lets nothing through any more.

    With a server's TLS ``context`` it speaks TLS to the program and plain text to the server.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._host, self._upstream_port = host, port
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._ended = False
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._ended = True
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(5):  # whoever was accepted a moment ago sees that this is the end
            await asyncio.sleep(0)

    @property
    def open(self) -> int:
        """Connections of the program that are open at the moment."""
        return len(self._tasks)

    def cut(self) -> None:
        """Break every connection, without good-bye."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Keep the connections and pass nothing on, as a cable that was pulled out."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on again."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._ended:
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        both_ends = [writer]
        try:
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(self._host, self._upstream_port)
                both_ends.append(far_writer)
                self._writers.add(far_writer)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, far_writer), name="relay:out")
                    both.create_task(self._copy(far_reader, writer), name="relay:back")
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for end in both_ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort()
