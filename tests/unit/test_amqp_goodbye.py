"""The end of a connection to a broker that has fallen silent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest

from gateway.amqp import frames
from gateway.amqp.client import connected
from gateway.amqp.settings import AmqpSettings, hosts_of
from gateway.amqp.tables import encode_table

LIMIT_S = 60.0

START = b"\0\x09" + encode_table({}) + b"\0\0\0\x05PLAIN" + b"\0\0\0\x05en_US"
TUNE = b"\x07\xff" + b"\0\x02\0\0" + b"\0\0"
ANSWERS = {(10, 11): ((10, 30), TUNE), (10, 40): ((10, 41), b"\0")}
"""StartOk -> Tune, Open -> OpenOk; Close is not answered."""


class SilentBroker:
    """Speaks until the connection is open, and says nothing any more."""

    def __init__(self) -> None:
        self.heard_close = asyncio.Event()
        self.heard_end = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(frames.method(0, (10, 10), START))
        try:
            while True:
                kind, _, size = struct.unpack(">BHI", await reader.readexactly(7))
                payload = await reader.readexactly(size + 1)
                name = frames.method_name(payload) if kind == frames.METHOD else (0, 0)
                if name in ANSWERS:
                    writer.write(frames.method(0, *ANSWERS[name]))
                elif name == frames.CONNECTION_CLOSE:
                    self.heard_close.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.heard_end.set()
        finally:
            writer.close()


@pytest.fixture
async def broker() -> AsyncIterator[SilentBroker]:
    silent = SilentBroker()
    async with await asyncio.start_server(silent.serve, "127.0.0.1", 0) as server:
        silent.url = f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield silent


async def test_who_is_cancelled_while_he_says_good_bye_leaves_no_socket_open(
    broker: SilentBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.amqp.client.CLOSE_TIMEOUT_S", 10 * LIMIT_S)
    (host,) = hosts_of([broker.url])

    async def come_and_go() -> None:
        async with connected(host, AmqpSettings((host,), instance="test"), "testing"):
            pass

    going = asyncio.ensure_future(come_and_go())
    async with asyncio.timeout(LIMIT_S):
        await broker.heard_close.wait()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        await broker.heard_end.wait()
