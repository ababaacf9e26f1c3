"""The daemon's control socket: JSON lines, for the command line on the same machine.

One request a connection: ``{"op": NAME, ...}``. The answer is any number of ``{"item": …}`` lines and one last line,
``{"done": true}`` or ``{"error": TEXT, "exit": CODE}``. The socket is mode 600 (660 for a service, whose group
is made for this), and whoever may open it may do what the daemon's user may do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.places import is_aside
from gateway.errors import EXIT_FAILED, EXIT_USAGE, Conflict, GatewayError
from gateway.files import LARGEST_REQUEST, make_private_directory

log = logging.getLogger(__name__)

SERVICE_DIRECTORY = "RUNTIME_DIRECTORY"
"""Set by a service manager that made the directory of the socket."""

Request = dict[str, Any]
Handler = Callable[[Request], AsyncIterator[Any]]
"""Yields items; what it yields last is what a one-answer request returns."""


class ControlServer:
    """Answers requests by a table of handlers."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the block runs. The caller holds the state directory's lock, so a socket found is a dead one."""
        try:
            bound = self._bound()
        except OSError as exc:
            raise Conflict(f"control socket {self._path}: {exc.strerror}") from exc
        server = await asyncio.start_unix_server(self._client, sock=bound, limit=LARGEST_REQUEST)
        try:
            yield
        finally:
            server.close()
            with suppress(FileNotFoundError):
                self._path.unlink()

    def _bound(self) -> socket.socket:
        """The socket at its place; without waiting for anything, for the mask of file modes is everybody's."""
        place = self._path.parent
        if is_aside(self._path):
            make_private_directory(place)
        else:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._path.unlink()
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117 if SERVICE_DIRECTORY in os.environ else 0o177)
        try:
            bound.bind(str(self._path))
        except OSError:
            bound.close()
            raise
        finally:
            os.umask(before)
        return bound

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                if line := await _line(reader):
                    await self._answer(line, reader, writer)
        except asyncio.CancelledError:
            return  # the daemon ends, and its clients see the line close
        finally:
            writer.close()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request: Request = msgspec.json.decode(line, type=dict[str, Any])
            handler = self._handlers.get(str(request.get("op")))
            if handler is None:
                raise GatewayError(f"the daemon knows no request {request.get('op')!r}: is it another version?")
            await _stream(handler(request), reader, writer)
            reply: Request = {"done": True}
        except msgspec.MsgspecError as exc:
            reply = {"error": f"no request: {exc}", "exit": EXIT_USAGE}
        except GatewayError as exc:
            reply = {"error": str(exc), "exit": exc.exit_code}
        except ConnectionError:
            raise
        except Exception as exc:
            log.exception("control: a request failed unexpectedly")
            reply = {"error": f"the daemon could not answer: {exc!r}; its log says more", "exit": EXIT_FAILED}
        writer.write(msgspec.json.encode(reply) + b"\n")
        await writer.drain()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The request; nothing where it is longer than ``LARGEST_REQUEST``, which ends the conversation."""
    try:
        return await reader.readline()
    except ValueError:
        return b""


async def _stream(items: AsyncIterator[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass items on until they end, or the client hangs up (which a silent stream would not notice by itself)."""

    async def pump() -> None:
        async for item in items:
            writer.write(msgspec.json.encode({"item": item}) + b"\n")
            await writer.drain()

    sending = asyncio.ensure_future(pump())
    hung_up = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((sending, hung_up), return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            raise ConnectionResetError
        sending.result()
    finally:
        sending.cancel()
        hung_up.cancel()
        await asyncio.gather(sending, hung_up, return_exceptions=True)
