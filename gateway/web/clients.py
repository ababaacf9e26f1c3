"""One FBP client over its WebSocket: requests one after the other, answers and news in one bounded line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import assert_never

from gateway.errors import GatewayError
from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.backend import Backend, Change, Data, Ended, Printed
from gateway.fbp.runtime.client_session import FbpSession
from gateway.fbp.runtime.intents import (
    ClearGraph,
    EditGraph,
    GetSource,
    Intent,
    Result,
    SendPacket,
    SetSource,
    StartNetwork,
    StopNetwork,
    WatchEdges,
)
from gateway.fbp.runtime.protocol_messages import Reply, render
from gateway.model.graph import Json

log = logging.getLogger(__name__)

BACKLOG = 4 << 20
"""Characters of messages that may wait for one client. Beyond, its next request waits too; one for which so much news has
piled up is dropped. Not a number of messages: hundreds come at once where a large graph is applied, or a library read.
"""

SAMPLE_BACKLOG = 1 << 20
"""Beyond so many, messages of live edges and the output of participants are left out: they are a sample anyway."""

SEND_S = 30.0
"""For one packet to a target that does not confirm: the client's next requests wait behind it."""

SendText = Callable[[str], Awaitable[None]]


async def serve_client(
    client: str, backend: Backend, access: Access, frames: AsyncIterator[str], send: SendText, drop: Callable[[], None]
) -> None:
    """Serve one client until its ``frames`` end. ``drop`` cuts its connection at once, which ends them."""
    conversation = _Conversation(client, backend, access, send, drop)
    forget = backend.listen(conversation.hear)
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(conversation.write(), name=f"web:{client}:writer")
            await conversation.read(frames)
            writer.cancel()
    finally:
        forget()
        backend.unwatch(client)


class _Conversation:
    def __init__(self, client: str, backend: Backend, access: Access, send: SendText, drop: Callable[[], None]) -> None:
        self._client = client
        self._backend = backend
        self._session = FbpSession(client, backend, access)
        self._send = send
        self._drop = drop
        self._waiting: deque[tuple[str, bool]] = deque()  # the frame, and whether it is news (not its own answer)
        self._length = 0  # of all that waits, in characters
        self._news = 0  # and of the news in it
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._dropped = False

    def hear(self, change: Change) -> None:
        """Something happened. Never waits: a client that is too far behind is dropped."""
        if self._dropped or (isinstance(change, Data | Printed) and self._length > SAMPLE_BACKLOG):
            return
        if isinstance(change, Ended):
            self._end()
            return
        if self._news > BACKLOG:
            log.warning("fbp client %s: dropped: %d messages wait for it", self._client, len(self._waiting))
            self._end()
            return
        self._put(self._session.notify(change, time.monotonic()), news=True)

    def _end(self) -> None:
        self._dropped = True
        self._waiting.clear()
        self._length = self._news = 0
        self._room.set()
        self._drop()

    def _put(self, replies: list[Reply], *, news: bool) -> None:
        if self._dropped:
            return
        for reply in replies:
            text = render(reply)
            self._waiting.append((text, news))
            self._count(text, news, 1)
        if self._waiting:
            self._wake.set()
        if self._length > BACKLOG:
            self._room.clear()

    def _count(self, text: str, news: bool, sign: int) -> None:
        self._length += sign * len(text)
        self._news += sign * len(text) if news else 0

    async def read(self, frames: AsyncIterator[str]) -> None:
        """Requests one after the other; the next is not looked at before there is room for its answer."""
        async for text in frames:
            for item in self._session.receive(text):
                if isinstance(item, Reply):
                    self._put([item], news=False)
                else:
                    result = await carry_out(self._backend, self._client, item)
                    self._put(self._session.resolve(item, result), news=False)
            await self._room.wait()

    async def write(self) -> None:
        """Send what waits, in order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                text, news = self._waiting.popleft()
                self._count(text, news, -1)
                try:
                    await self._send(text)
                except ConnectionError:
                    self._end()
                if self._length <= BACKLOG:
                    self._room.set()


async def carry_out(backend: Backend, client: str, intent: Intent) -> Result:
    """Have an intent done. A refusal is a result; a bug in the backend is one too, told in general words."""
    try:
        return await _do(backend, client, intent)
    except GatewayError as exc:
        return exc
    except Exception:  # a bug behind one request takes neither the client nor the server down
        log.exception("web: %s: a request failed: %s", client, type(intent).__name__)
        return GatewayError("the gateway failed at this; its log says more")


async def _do(backend: Backend, client: str, intent: Intent) -> Result:
    match intent:
        case EditGraph(graph_id, edit, asked):
            await backend.apply(graph_id, [edit], asked)
        case ClearGraph(graph_id, fields, asked):
            await backend.clear(graph_id, fields, asked)
        case StartNetwork(graph_id, asked):
            await backend.start(graph_id, asked)
        case StopNetwork(graph_id, asked):
            await backend.stop(graph_id, asked)
        case SendPacket(graph_id, port, payload):
            await _send(backend, graph_id, port, payload)
        case WatchEdges(graph_id, edges):
            backend.watch(client, graph_id, edges)
        case GetSource(name):
            return await backend.source(name)
        case SetSource(source):
            await backend.set_source(source)
        case _:
            assert_never(intent)
    return None


async def _send(backend: Backend, graph_id: str, port: str, payload: Json) -> None:
    try:
        async with asyncio.timeout(SEND_S):
            await backend.send(graph_id, port, payload)
    except TimeoutError:
        raise GatewayError(f"{port}: not confirmed within {SEND_S:g} s; it may still arrive") from None
