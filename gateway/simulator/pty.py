"""A simulated board on a pty, with a control socket beside it for what a finger or the weather does to a real one."""

from __future__ import annotations

import asyncio
import json
import os
import termios
import time
import tty
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from gateway.errors import Conflict, GatewayError, ValueUnfit
from gateway.files import is_served
from gateway.simulator.core.components import Pins
from gateway.simulator.core.faults import FaultyLine, Reset, Unplug

CRASH_S = 1.0
"""How long a board that crashed is away."""

CHUNK = 4096
HARM = 0x10
"""The bit that ``harm`` turns over."""

REQUESTS = "set PIN VALUE, get PIN, stats, reset, unplug, plug [LINK], hang, resume, pause, run, noise HEX, harm in|out"
BACKLOG = 4095
"""Bytes unread by the host at which stock firmware stands still until they are read (section 10)."""


class Playable(Protocol):
    """What can sit on a pty: a ``Board``, or a ``ReplayBoard``."""

    pins: Pins
    crashed: str
    packets_in: int

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the host."""

    def tick(self, now: float) -> None:
        """``deadline`` has come."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due."""

    def data_to_send(self) -> bytes:
        """Bytes for the host, once."""

    def statistics(self) -> dict[str, int]:
        """What there is to count."""

    def set_input(self, pin: int, value: int) -> None:
        """Somebody outside changes an input pin."""


class SimulatedBoard:
    """Runs a board while the block lasts. ``link`` is a symbolic link to the pty; ``LINK.ctl`` takes requests.

    ``outport_names`` says what the statistics call an outport (``2.0``, numbers of node and port). ``make`` gives a board as it
    is after reset; ``line`` is what goes wrong on the way to it. Stale links are replaced, other files never: ``Conflict``.
    ``on_crash`` is told the rule that was broken when stock firmware would have died.
    """

    def __init__(
        self,
        make: Callable[[float], Playable],
        link: Path,
        outport_names: Mapping[str, str] | None = None,
        line: FaultyLine | None = None,
        on_crash: Callable[[str], None] = lambda rule: None,
    ) -> None:
        self._make = make
        self._line = line
        self._on_crash = on_crash
        self._link = self._first_link = link
        self._renamed = 0
        self._replug_at: float | None = None
        self._outport_names = outport_names or {}
        self._control = Path(f"{link}.ctl")
        self._started = time.monotonic()
        self._wake = asyncio.Event()
        self._held = False
        self._paused_at: float | None = None
        self._skipped = 0.0
        self.board = make(0.0)
        self._out = bytearray(self.board.data_to_send())
        self._master = -1
        self._slave = -1
        self.path = ""
        self.crashes = 0
        self._last_crash = ""
        self._harm: set[str] = set()

    # -- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        _make_room(self._control)
        self._plug()
        self._server = await asyncio.start_unix_server(self._client, str(self._control))
        self._task = asyncio.create_task(self._run(), name=f"board:{self._link.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._server.close()
        self._unplug()
        with suppress(FileNotFoundError):
            self._control.unlink()

    def _plug(self) -> None:
        _make_room(self._link)
        master, slave = os.openpty()  # our own hand on the other end: a host that closes is no hang-up
        try:
            tty.setraw(slave, termios.TCSANOW)
            os.set_blocking(master, False)
            self.path = os.ttyname(slave)
            self._link.symlink_to(self.path)
        except OSError as exc:
            os.close(master)
            os.close(slave)
            raise GatewayError(f"{self._link}: no link can be made there: {exc.strerror}") from exc
        self._master, self._slave = master, slave
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def _unplug(self) -> None:
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        with suppress(FileNotFoundError):
            self._link.unlink()

    # -- time and bytes --------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """The board's own clock: it stands still while the board is paused."""
        real = self._paused_at if self._paused_at is not None else time.monotonic()
        return real - self._started - self._skipped

    async def _run(self) -> None:
        """Sleep until the board's next turn is due, or something came."""
        while True:
            self._wake.clear()
            due = [] if self._still else [self.board.deadline]
            due += [self._line.deadline] if self._line is not None and self._paused_at is None else []
            due += [self._replug_at]
            delay = min((max(0.0, time - self._now()) for time in due if time is not None), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            self._misfortune()
            if not self._still:
                self.board.tick(self._now())
                self._flush()

    def _misfortune(self) -> None:
        """What the faulty line has in store."""
        now = self._now()
        if self._replug_at is not None and now >= self._replug_at:
            self._replug_at = None
            self.request(["plug"])
        if self._line is None or self._paused_at is not None:
            return
        for action in self._line.tick(now):
            match action:
                case Reset():
                    self.request(["reset"])
                case Unplug(seconds=seconds, rename=rename) if self._master >= 0:
                    self._unplug()
                    self._replug_at = now + seconds
                    if rename:
                        self._link = self._next_name()
        if self._master >= 0:
            self._reach_board(self._line.for_board(now))

    def _next_name(self) -> Path:
        """Another name, that no other file has."""
        while True:
            self._renamed += 1
            link = Path(f"{self._first_link}.{self._renamed}")
            if link.is_symlink() or not link.exists():
                return link

    @property
    def _still(self) -> bool:
        return self._held or self._paused_at is not None or len(self._out) >= BACKLOG or self._master < 0

    def _readable(self) -> None:
        with suppress(BlockingIOError, OSError):
            data = os.read(self._master, CHUNK)
            if self._line is not None:
                self._line.to_board(data, self._now())
                data = self._line.for_board(self._now())
            self._reach_board(data)
            self._wake.set()

    def _reach_board(self, data: bytes) -> None:
        if self._held or not data:
            return
        if "in" in self._harm:
            self._harm.remove("in")
            data = bytes((data[0] ^ HARM,)) + data[1:]
        self.board.receive(data, self._now())
        self._flush()

    def _flush(self) -> None:
        said = self.board.data_to_send()
        if said and "out" in self._harm:
            self._harm.remove("out")
            said = bytes((said[0] ^ HARM,)) + said[1:]
        if self._line is not None:
            if said:
                self._line.to_host(said, self._now())
            said = self._line.for_host(self._now())
        self._out += said
        if self.board.crashed and self._master >= 0 and self._replug_at is None:
            self._hang_up(self.board.crashed)
        if self._master < 0:
            self._out.clear()
            if self._line is not None:
                self._line.cut()
            return
        if self._out:
            with suppress(BlockingIOError):
                written = os.write(self._master, self._out)
                del self._out[:written]
        loop = asyncio.get_running_loop()
        if self._out:
            loop.add_writer(self._master, self._flush)
        else:
            loop.remove_writer(self._master)
            self._wake.set()

    def _hang_up(self, rule: str) -> None:
        """Stock firmware died: the port goes, and comes back with a board as it is after reset."""
        self.crashes += 1
        self._last_crash = rule
        self._on_crash(rule)
        self._unplug()
        self._replug_at = self._now() + CRASH_S

    # -- requests --------------------------------------------------------------------------------------------------

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    answer = self.request(line.decode("utf-8", "replace").split())
                except (GatewayError, ValueError, OSError) as exc:
                    answer = {"error": str(exc)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    def request(self, words: list[str]) -> Any:
        """One request: ``set PIN VALUE``, ``get PIN``, ``stats``, ``reset``, ``unplug``, ``plug``, ``hang`` (it stands
        still, and what comes is lost: until ``resume``, or a reset), ``pause`` (its clock stands still too) until ``run``,
        ``noise HEX`` (bytes that a disturbed line would carry to the host), ``harm in`` or ``harm out`` (a bit of the next
        byte that way is turned over); ``plug LINK`` plugs it in under another name."""
        match words:
            case ["set", pin, value]:
                self.board.set_input(int(pin), int(value))
            case ["get", pin]:
                return {"pin": int(pin), "value": self.board.pins.outputs.get(int(pin))}
            case ["stats"]:
                return self._statistics()
            case ["reset"]:
                self._restart()
            case ["unplug"]:
                self._unplug()
            case ["plug", *link] if self._master < 0 and len(link) < 2:
                before, self._link = self._link, Path(link[0]) if link else self._link
                try:
                    self._plug()
                except (GatewayError, OSError):
                    self._link = before
                    raise
                self._replug_at = None
                self._restart()
            case ["hang"]:
                self._held = True
            case ["resume"]:
                self._held = False
            case ["pause"]:
                self._paused_at = self._paused_at or time.monotonic()
            case ["run"] if self._paused_at is not None:
                self._skipped += time.monotonic() - self._paused_at
                self._paused_at = None
            case ["noise", data]:
                self._out += bytes.fromhex(data)
            case ["harm", "in" | "out" as way]:
                self._harm.add(way)
            case _:
                raise ValueUnfit(f"unknown request: {' '.join(words)}; there are: {REQUESTS}")
        self._flush()
        self._wake.set()
        return {"ok": True}

    def _restart(self) -> None:
        """A board as it is after reset: that ends a hang, as a finger on the button of a real one does."""
        self._held = False
        self.board = self._make(self._now())

    def _statistics(self) -> dict[str, Any]:
        return {
            "packets_sent": {
                self._outport_names.get(outport, outport): count for outport, count in self.board.statistics().items()
            },
            "packets_in": self.board.packets_in,
            "pin_writes": {str(pin): count for pin, count in self.board.pins.writes.items()},
            "pins": {str(pin): value for pin, value in self.board.pins.outputs.items()},
            "crashed": self.board.crashed or self._last_crash,
            "crashes": self.crashes,
            "harmed_bytes": self._line.harmed if self._line is not None else 0,
            "unread": len(self._out),
        }


def _make_room(path: Path) -> None:
    """Take away what an earlier simulated board left behind; ``Conflict`` for one that runs, and for any other file."""
    if path.is_socket() and is_served(path):
        raise Conflict(f"{path.with_suffix('')}: a simulated board runs there already; choose another name")
    if path.is_symlink() or path.is_socket():
        path.unlink()
    elif path.exists():
        raise Conflict(f"{path}: is there already, and no link of a simulated board; choose another name")
