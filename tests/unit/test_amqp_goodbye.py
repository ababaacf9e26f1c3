"""The end of a connection to a broker that has fallen silent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aio_pika
import pytest

from gateway.amqp.client import connected
from gateway.amqp.codec import frames
from gateway.amqp.codec.tables import encode_table
from gateway.amqp.core.settings import AmqpSettings, hosts_of

LIMIT_S = 60.0
UNSENT_BYTES = 1 << 25
"""More than what lies in the sockets on the way."""

START = b"\0\x09" + encode_table({}) + b"\0\0\0\x05PLAIN" + b"\0\0\0\x05en_US"
TUNE = b"\x07\xff" + b"\0\x02\0\0" + b"\0\0"
OPEN = (10, 40)
ANSWERS = {(10, 11): ((10, 30), TUNE), OPEN: ((10, 41), b"\0")}
"""StartOk -> Tune, Open -> OpenOk."""


class SilentBroker:
    """Speaks until the connection is open. Then it neither speaks nor reads, until the test lets it read the rest."""

    def __init__(self) -> None:
        self.url = ""
        self.read_on = asyncio.Event()
        self.rest: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(frames.method(0, (10, 10), START))
        name: frames.Method = (0, 0)
        while name != OPEN:
            _, _, size = struct.unpack(">BHI", await reader.readexactly(7))
            name = frames.method_name(await reader.readexactly(size + 1))
            writer.write(frames.method(0, *ANSWERS[name]) if name in ANSWERS else b"")
        await self.read_on.wait()
        count = 0
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                count += len(data)
        writer.close()
        self.rest.set_result(count)


@pytest.fixture
async def broker() -> AsyncIterator[SilentBroker]:
    silent = SilentBroker()
    async with await asyncio.start_server(silent.serve, "127.0.0.1", 0) as server:
        silent.url = f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield silent


async def test_who_is_cancelled_while_he_says_good_bye_leaves_no_socket_open(
    broker: SilentBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = asyncio.Event()
    close = aio_pika.Connection.close

    async def close_noticed(*arguments: Any) -> None:
        closing.set()
        await close(*arguments)

    monkeypatch.setattr("gateway.amqp.client.CLOSE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(aio_pika.Connection, "close", close_noticed)
    (host,) = hosts_of([broker.url])

    async def come_and_go() -> None:
        async with connected(host, AmqpSettings((host,), instance="test"), "testing") as client:
            client.wire.write(bytes(UNSENT_BYTES))

    going = asyncio.ensure_future(come_and_go())
    async with asyncio.timeout(LIMIT_S):
        await closing.wait()
        going.cancel()
        await asyncio.wait([going])
        broker.read_on.set()
        assert await broker.rest < UNSENT_BYTES, "a socket that is still open would send all of it"
