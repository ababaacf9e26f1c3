"""A bad line for tests without a loop of their own: ``Proxy`` on a loop in a thread."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.loopthread import LoopThread
from tests.support.proxy import Proxy


class BadLine:
    """A line to a server on loopback. All its methods return once it is so."""

    def __init__(self, port: int) -> None:
        self._proxy = Proxy("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._loop = LoopThread()
        try:
            self._loop.do(self._proxy.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._loop.do(self._proxy.__aexit__(kind, error, trace))
        finally:
            self._loop.close()

    def _do(self, what: Callable[[], None]) -> None:
        async def done() -> None:
            what()

        self._loop.do(done())

    @property
    def port(self) -> int:
        """Where programs connect to."""
        return self._proxy.port

    @property
    def open(self) -> int:
        """Connections that are open at the moment."""
        return self._proxy.open

    @property
    def refused(self) -> int:
        """Connections that were closed at once while it flapped."""
        return self._proxy.refused

    def cut(self) -> None:
        """Break every connection."""
        self._do(self._proxy.cut)

    def stall(self) -> None:
        """Pass nothing on, in no direction."""
        self._do(self._proxy.stall)

    def resume(self) -> None:
        """Pass on again."""
        self._do(self._proxy.resume)

    def withhold_answers(self) -> None:
        """Pass nothing back from the server."""
        self._do(self._proxy.withhold_answers)

    def release_answers(self) -> None:
        """Pass back again."""
        self._do(self._proxy.release_answers)

    def half_close(self) -> None:
        """The server's side ends every connection, and still takes what comes."""
        self._do(self._proxy.half_close)

    def flap(self, on: bool) -> None:
        """Close every new connection at once, or no longer; what is open breaks."""

        def change() -> None:
            self._proxy.flapping = on
            if on:
                self._proxy.cut()

        self._do(change)
