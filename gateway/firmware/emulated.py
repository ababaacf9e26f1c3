"""A board that runs our firmware as a child process: the Linux build, or an Uno's image in the emulator."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import Conflict, GatewayError
from gateway.files import is_served

END_S = 3.0
START_S = 10.0
NOT_RUNNING = json.dumps({"error": "the board's process has ended"}).encode() + b"\n"

OnPin = Callable[[int, int, str], None]
"""A pin changed: number, value, ``digital`` or ``pwm``."""


class EmulatedBoard:
    """Runs ``command`` while the block lasts. ``LINK.ctl`` takes a request a line, as that of a simulated board.

    The child speaks on the pty that it links to ``link``, takes requests on its stdin, and answers each with a line of
    JSON; other lines tell what happens to its pins. ``ended`` is done when it ends by itself.
    """

    def __init__(self, command: Sequence[str | Path], link: Path, on_pin: OnPin) -> None:
        self._command = [str(word) for word in command]
        self._control = Path(f"{link}.ctl")
        self._on_pin = on_pin
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.path = ""

    async def __aenter__(self) -> Self:
        if self._control.exists() and not self._control.is_socket():
            raise Conflict(f"{self._control}: is there already, and no socket of a board; choose another name")
        if is_served(self._control):
            raise Conflict(
                f"{self._control.with_suffix('')}: a simulated board runs there already; choose another name"
            )
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read(), name=f"board:{self._control.name}")
        try:
            async with asyncio.timeout(START_S):
                self.path = await self._ready
            with suppress(FileNotFoundError):
                self._control.unlink()
            self._server = await asyncio.start_unix_server(self._client, str(self._control))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        with suppress(FileNotFoundError):
            self._control.unlink()
        await self._end()

    async def _end(self) -> None:
        """The end of its stdin ends the child; if it doesn't, a signal does."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._child.wait()
        if self._child.returncode is None:
            self._child.kill()
        await self._reading

    async def _read(self) -> None:
        assert self._child.stdout is not None
        async for line in self._child.stdout:
            if line.startswith(b"{"):
                for answer in self._waiting:
                    if not answer.done():  # the oldest; those before it are answered, and still have to wake up
                        answer.set_result(line)
                        break
            else:
                self._happened(line.decode("utf-8", "replace").split())
        code = await self._child.wait()
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(NOT_RUNNING)
        if not self._ready.done():
            self._ready.set_exception(GatewayError(f"{self._command[0]}: ended with {code} before it was ready"))
        self.ended.set_result(code)

    def _happened(self, words: list[str]) -> None:
        match words:
            case ["ready", path] if not self._ready.done():
                self._ready.set_result(path)
            case ["pin", pin, value, kind]:
                self._on_pin(int(pin), int(value), kind)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(await self.request(line.decode("utf-8", "replace").strip()))
                await writer.drain()
        writer.close()

    async def request(self, text: str) -> bytes:
        """One request to the child; its answer, a line of JSON."""
        if self._child.returncode is not None:
            return NOT_RUNNING
        assert self._child.stdin is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        try:
            self._child.stdin.write(f"{text}\n".encode())
            return await answer
        finally:
            self._waiting.remove(answer)
