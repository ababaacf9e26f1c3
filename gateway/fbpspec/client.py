"""A client of the FBP runtime protocol over WebSocket (reference: fbp-runtime-protocol). A home of aiohttp."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from gateway.errors import ConnectFailed, ConnectionLost, NotFound, RemoteProtocolError

SUBPROTOCOL = "noflo"
CONNECT_S = 10.0
CLOSE_S = 2.0
TRY_AGAIN_S = 0.2
LARGEST_FRAME = 64 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """A message from the runtime."""

    protocol: str
    command: str
    payload: Any
    response_to: str = ""


class RuntimeClient:
    """One conversation. ``timeout_s`` bounds the wait for each answer."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, address: str, secret: str, timeout_s: float) -> None:
        self._socket = socket
        self._address = address
        self._secret = secret
        self._timeout_s = timeout_s
        self._listeners: list[asyncio.Queue[Said | None]] = []
        self.capabilities: frozenset[str] = frozenset()

    async def read(self) -> None:
        """Hand what the runtime says to those who listen, until it hangs up."""
        try:
            async for frame in self._socket:
                if frame.type is aiohttp.WSMsgType.TEXT and (said := _parse(frame.data)) is not None:
                    self._tell(said)
        finally:
            self._tell(None)

    def _tell(self, said: Said | None) -> None:
        for listener in self._listeners:
            listener.put_nowait(said)

    @contextmanager
    def listening(self) -> Iterator[AsyncIterator[Said]]:
        """Everything the runtime says from now on. ``ConnectionLost`` when it hangs up."""
        queue: asyncio.Queue[Said | None] = asyncio.Queue()
        self._listeners.append(queue)
        if self._socket.closed:
            queue.put_nowait(None)
        try:
            yield self._from(queue)
        finally:
            self._listeners.remove(queue)

    async def _from(self, queue: asyncio.Queue[Said | None]) -> AsyncIterator[Said]:
        while (said := await queue.get()) is not None:
            yield said
        raise ConnectionLost("runtime", f"{self._address} closed the connection")

    async def send(self, protocol: str, command: str, payload: Mapping[str, Any]) -> str:
        """Send a message; the id that its answer will carry."""
        request_id = secrets.token_hex(8)
        message: dict[str, Any] = {"protocol": protocol, "command": command, "payload": dict(payload)}
        message["requestId"] = request_id
        if self._secret:
            message["secret"] = self._secret
            message["payload"]["secret"] = self._secret  # where runtimes before protocol version 0.8 look
        with suppress(ConnectionResetError):  # then whoever listens hears that it is closed
            await self._socket.send_str(json.dumps(message, ensure_ascii=False))
        return request_id

    async def ask(self, protocol: str, command: str, payload: Mapping[str, Any], *answers: str) -> Any:
        """Send a message, and return the payload of its answer: ``command`` itself, or one of ``answers``.

        ``RemoteProtocolError`` with the runtime's own words if it says error, or nothing in time.
        """
        collected = await self.collect(protocol, command, payload, answers or (command,))
        return collected[-1].payload

    async def collect(
        self, protocol: str, command: str, payload: Mapping[str, Any], ends: Collection[str]
    ) -> list[Said]:
        """Send a message; what the runtime says on this protocol from then on, up to one of ``ends``."""
        said: list[Said] = []
        with self.listening() as messages:
            request_id = await self.send(protocol, command, payload)
            try:
                async with asyncio.timeout(self._timeout_s):
                    async for message in messages:
                        if message.protocol != protocol or message.response_to not in ("", request_id):
                            continue
                        if message.command == "error":
                            raise RemoteProtocolError(f"{protocol}:{command}: {error_text(message.payload)}")
                        said.append(message)
                        if message.command in ends:
                            return said
            except TimeoutError:
                raise RemoteProtocolError(f"{protocol}:{command}: no answer within {self._timeout_s:g} s") from None
        raise AssertionError("unreachable")


def error_text(payload: Any) -> str:
    """What an error message of a runtime says."""
    if isinstance(payload, dict):
        return str(payload.get("message") or payload.get("error") or json.dumps(payload))
    return str(payload)


def _parse(text: str) -> Said | None:
    """A message; None for anything else."""
    try:
        message = json.loads(text)
        return Said(message["protocol"], message["command"], message.get("payload"), message.get("responseTo") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@asynccontextmanager
async def connected(
    address: str, secret: str, timeout_s: float, start_timeout_s: float
) -> AsyncIterator[RuntimeClient]:
    """A client of the runtime at ``ws://…`` that has told its capabilities.

    Tries again for ``start_timeout_s``. ``ConnectFailed`` says why in the end.
    """
    async with aiohttp.ClientSession() as http:
        socket = await _connect(http, address, start_timeout_s)
        problem: Exception | None = None
        client = RuntimeClient(socket, address, secret, timeout_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(client.read(), name="fbp-client:reader")
            try:
                runtime = await client.ask("runtime", "getruntime", {}, "runtime")
                capabilities = runtime.get("capabilities") if isinstance(runtime, dict) else None
                client.capabilities = frozenset(map(str, capabilities if isinstance(capabilities, list) else ()))
                yield client
            except Exception as exc:  # noqa: BLE001 - leaves as it is, not wrapped in a group
                problem = exc
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await socket.close()
        if problem is not None:
            raise problem


async def _connect(http: aiohttp.ClientSession, address: str, timeout_s: float) -> aiohttp.ClientWebSocketResponse:
    deadline = time.monotonic() + timeout_s
    protocols: tuple[str, ...] = (SUBPROTOCOL,)
    while True:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await http.ws_connect(address, protocols=protocols, max_msg_size=LARGEST_FRAME)
        except aiohttp.WSServerHandshakeError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                raise NotFound(f"{address}: there is no such runtime; boards are shown by: gateway devices") from exc
            reason, protocols = f"answers {exc.status} {exc.message}", ()  # some know no sub-protocol
        except ValueError as exc:  # aiohttp's InvalidURL is one
            raise ConnectFailed("runtime", f"{address}: no address of a runtime, as in ws://127.0.0.1:3569") from exc
        except (aiohttp.ClientError, OSError) as exc:
            reason = str(exc) or f"no answer within {CONNECT_S:g} s"
        if time.monotonic() >= deadline:
            raise ConnectFailed("runtime", f"{address}: {reason}; does it run?")
        await asyncio.sleep(TRY_AGAIN_S)
