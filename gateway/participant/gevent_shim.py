"""A stand-in for the few names of gevent that participants written for the old MsgFlo library use, made of threads.

The old library brought gevent along, so such files import it for ``sleep``, ``spawn`` and ``event``. Here a greenlet is a
thread; the names do what they say, no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any


class Greenlet:
    """A function that runs beside the others, in a thread that ends with the program."""

    def __init__(self, run: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> None:
        self._call = (run or self._run, args, kwargs)
        self._delay_s = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._killed = threading.Event()
        self.value: Any = None
        self.exception: BaseException | None = None

    def _run(self) -> Any:
        """What a derived class does."""

    def _work(self) -> None:
        if self._killed.wait(self._delay_s):
            return
        run, args, kwargs = self._call
        try:
            self.value = run(*args, **kwargs)
        except Exception as exc:
            self.exception = exc
            raise

    @classmethod
    def spawn(cls, *args: Any, **kwargs: Any) -> Greenlet:
        """Make one and start it."""
        greenlet = cls(*args, **kwargs)
        greenlet.start()
        return greenlet

    @classmethod
    def spawn_later(cls, seconds: float, *args: Any, **kwargs: Any) -> Greenlet:
        """Make one and start it after so many seconds."""
        greenlet = cls(*args, **kwargs)
        greenlet.start_later(seconds)
        return greenlet

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def start_later(self, seconds: float) -> None:
        """Begin after so many seconds."""
        self._delay_s = seconds
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Its result, or its exception."""
        if block:
            self.join(timeout)
        if self.exception is not None:
            raise self.exception
        return self.value

    def kill(self, *_: Any, **__: Any) -> None:
        """Keep it from beginning; one that runs can't be ended from outside."""
        self._killed.set()

    def ready(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.ready()

    def __bool__(self) -> bool:
        return self._thread.is_alive()


class AsyncResult:
    """A value that somebody waits for."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self.value: Any = None
        self.exception: BaseException | None = None

    def set(self, value: Any = None) -> None:
        """Give the value."""
        self.value = value
        self._there.set()

    def set_exception(self, exception: BaseException) -> None:
        """Give an exception in its place."""
        self.exception = exception
        self._there.set()

    def ready(self) -> bool:
        """Whether it is there."""
        return self._there.is_set()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The value once it is there, or the exception."""
        if not self._there.wait(timeout if block else 0):
            raise TimeoutError("no value yet")
        if self.exception is not None:
            raise self.exception
        return self.value

    def wait(self, timeout: float | None = None) -> Any:
        """The value once it is there; None when the time is over."""
        self._there.wait(timeout)
        return self.value


def sleep(seconds: float = 0, ref: bool = True) -> None:
    """Let the others work for so many seconds."""
    time.sleep(seconds)


def joinall(greenlets: Iterable[Greenlet], timeout: float | None = None, **_: Any) -> list[Greenlet]:
    """Wait for their end, for ``timeout`` seconds in all; those that have ended."""
    all_of_them = list(greenlets)
    deadline = None if timeout is None else time.monotonic() + timeout
    for greenlet in all_of_them:
        greenlet.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    return [greenlet for greenlet in all_of_them if greenlet.ready()]


def stand_in() -> dict[str, ModuleType]:
    """The modules ``gevent``, ``gevent.event`` and ``gevent.monkey`` to put into ``sys.modules``."""
    gevent, event, monkey = (ModuleType(name, __doc__) for name in ("gevent", "gevent.event", "gevent.monkey"))
    gevent.__path__ = []
    event.AsyncResult, event.Event = AsyncResult, threading.Event  # type: ignore[attr-defined]
    monkey.patch_all = monkey.patch_socket = lambda *_, **__: None  # type: ignore[attr-defined]
    names = {
        "Greenlet": Greenlet,
        "spawn": Greenlet.spawn,
        "spawn_later": Greenlet.spawn_later,
        "sleep": sleep,
        "idle": sleep,
        "joinall": joinall,
        "event": event,
        "monkey": monkey,
    }
    for name, value in names.items():
        setattr(gevent, name, value)
    return {module.__name__: module for module in (gevent, event, monkey)}
