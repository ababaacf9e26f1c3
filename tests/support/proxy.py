"""A relay that can also withhold answers, half-close, and flap: the lines between a broker and us as they really are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.support.relay import Relay


class Proxy(Relay):
    """``Relay``, and more ways to be a bad line. ``flapping`` closes every new connection at once."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.flapping = False
        self.refused = 0
        self._answering = asyncio.Event()
        self._answering.set()

    async def __aenter__(self) -> Proxy:
        await super().__aenter__()
        return self

    def withhold_answers(self) -> None:
        """Let everything through to the server and nothing back: what it confirms is not heard of."""
        self._answering.clear()

    def release_answers(self) -> None:
        """Let the answers through, late."""
        self._answering.set()

    def say(self, data: bytes) -> None:
        """Put words into the server's mouth."""
        for writer in tuple(self._writers):
            if self._faces_program(writer):
                writer.write(data)

    def half_close(self) -> None:
        """The server's side of every connection says it will send no more, and still takes what comes."""
        for writer in tuple(self._writers):
            if self._faces_program(writer):
                with suppress(OSError):
                    writer.write_eof()

    def _faces_program(self, writer: asyncio.StreamWriter) -> bool:
        port: int = writer.get_extra_info("sockname")[1]
        return port == self.port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.flapping:
            self.refused += 1
            writer.transport.abort()
            return
        await super()._accept(reader, writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = self._faces_program(writer)
        with suppress(OSError, RuntimeError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if answers:
                    await self._answering.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort()
