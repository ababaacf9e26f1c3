"""Listening in on a board's line: for ``gateway monitor``, and for recordings. Whoever listens holds up nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.serial_link.ports.tty import OnBytes, OnLost, Port
from gateway.serial_link.protocol.dissector import LineDirection

Listen: TypeAlias = Callable[[LineDirection, bytes], None]


class LineTap:
    """One for a board, over all its connections."""

    def __init__(self) -> None:
        self._listeners: list[Listen] = []

    def add(self, listener: Listen) -> Callable[[], None]:
        """Tell this one of every read and write, until the function that is returned is called."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def tell(self, way: LineDirection, data: bytes) -> None:
        """Bytes went this way."""
        for listener in tuple(self._listeners):
            listener(way, data)


class TappedPort:
    """A ``Port`` that tells a tap what passes."""

    def __init__(self, port: Port, tap: LineTap) -> None:
        self._port = port
        self._tap = tap

    @property
    def resets(self) -> bool:
        """See ``Port``."""
        return self._port.resets

    @property
    def has_speed(self) -> bool:
        """See ``Port``."""
        return self._port.has_speed

    def listen(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """See ``Port``."""
        tell = self._tap.tell

        def heard(data: bytes) -> None:
            tell(LineDirection.FROM_BOARD, data)
            on_bytes(data)

        self._port.listen(heard, on_lost)

    def write(self, data: bytes) -> None:
        """See ``Port``."""
        self._tap.tell(LineDirection.TO_BOARD, data)
        self._port.write(data)

    def set_baud(self, baud: int) -> None:
        """See ``Port``."""
        self._port.set_baud(baud)

    async def reset(self) -> None:
        """See ``Port``."""
        await self._port.reset()

    def close(self) -> None:
        """See ``Port``."""
        self._port.close()
