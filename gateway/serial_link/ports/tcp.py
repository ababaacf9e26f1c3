"""A serial port at the other end of a TCP connection, as ser2net offers it: ``tcp://host:port``."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from gateway.errors import ConfigError, ConnectFailed
from gateway.serial_link.ports.tty import OnBytes, OnLost

CONNECT_TIMEOUT_S = 5.0
SCHEME = "tcp://"


class TcpPort(asyncio.Protocol):
    """See ``Port``. Speed and control lines are the other end's business."""

    resets = True
    """Whoever serves the port opens it when we come, which may reset the board."""

    has_speed = False

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._on_bytes: OnBytes | None = None
        self._on_lost: OnLost | None = None
        self._lost = ""

    def listen(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """See ``Port``."""
        self._on_bytes, self._on_lost = on_bytes, on_lost
        if self._lost:
            asyncio.get_running_loop().call_soon(on_lost, self._lost)

    def write(self, data: bytes) -> None:
        """See ``Port``."""
        if self._transport is not None:
            self._transport.write(data)

    def set_baud(self, baud: int) -> None:
        """The serving end has its own setting."""

    async def reset(self) -> None:
        """There is no line to pull."""

    def close(self) -> None:
        """See ``Port``."""
        self._on_lost = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the board."""
        if self._on_bytes is not None:
            self._on_bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end closed, or the network failed."""
        self._transport = None
        self._lost = f"the connection failed: {exc}" if exc else "the other end closed the connection"
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self._lost)


async def open_tcp(path: str) -> TcpPort:
    """Connect to ``tcp://host:port``. ``ConnectFailed`` with the reason, ``ConfigError`` for a bad address."""
    name = f"port {path}"
    try:
        parts = urlsplit(path)
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or not number:
        raise ConfigError(path, "", "a network port is written tcp://host:port")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, port = await loop.create_connection(TcpPort, host, number)
    except TimeoutError:
        raise ConnectFailed(name, f"no answer within {CONNECT_TIMEOUT_S:.0f} s") from None
    except OSError as exc:
        text = exc.strerror or str(exc)
        raise ConnectFailed(name, f"can't be reached: {text}; does ser2net run there?") from exc
    return port
