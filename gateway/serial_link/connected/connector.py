"""How to reach one paired board; implements ``transport.Connector``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import AccessRefused, ConnectFailed, EndedOnPurpose, PortMissing, TransportDown
from gateway.model.participant import BoardState
from gateway.model.port import PortRef
from gateway.serial_link.connected.board_session import BoardSession
from gateway.serial_link.connected.core.recovery import Recovery, Rung
from gateway.serial_link.connected.packet_reader import OnValue
from gateway.serial_link.connected.setup_steps import wait_for_boot
from gateway.serial_link.ports.core.identity import PortFacts
from gateway.serial_link.ports.hotplug import Ports
from gateway.serial_link.ports.schemes import OpenPort
from gateway.serial_link.ports.tap import LineTap, TappedPort
from gateway.serial_link.ports.tty import UNPLUGGED, Port, PortOptions
from gateway.serial_link.ports.usb import SYSFS, CannotReauthorise, reauthorise
from gateway.serial_link.records.board_status import BoardStatus
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)

LET_GO_S = 5.0
ABSENT_LOOK_S = 60.0
"""So long an absent board is waited for by what we knew of it when it left; then by what is known now."""

REAUTHORISED_S = 10.0
"""So long a board may take to be there again after its USB device was given back: then it is absent."""


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """What a connector takes from the configuration, in seconds. ``sysfs`` is where the kernel tells of USB devices."""

    boot_wait_s: float = 2.0
    request_timeout_s: float = 0.5
    usb_reauthorise: bool = False
    sysfs: Path = SYSFS


async def _stays(board_id: str, facts: PortFacts) -> None:
    """Nobody keeps where it is."""


class BoardConnector:
    """How to reach one paired board. It lives as long as the pairing; ``let_go`` lends its port to others."""

    def __init__(
        self,
        record: BoardRecord,
        profile: BoardProfile,
        status: BoardStatus,
        settings: BoardSettings,
        ports: Ports,
        open_port: OpenPort,
        *,
        on_running: Callable[[str], None] = lambda board_id: None,
        on_moved: Callable[[str, PortFacts], Awaitable[None]] = _stays,
    ) -> None:
        self.record = record
        self.profile = profile
        self.status = status
        self._settings = settings
        self._open_port = open_port
        self._on_running = on_running
        self._on_moved = on_moved
        self._ports = ports
        self._ladder = Recovery()
        self._told_absent = False
        self._told_reauthorise = ""
        self._on_purpose = ""
        self._epoch = 0
        self._session: BoardSession | None = None
        self._ready = False
        self._runs_another = False
        """The last connection left a graph on the board that is not kept, or half of one."""
        self._inspected: frozenset[PortRef] = frozenset()
        self._inspector: OnValue | None = None
        self.line = LineTap()
        self._lent = 0
        self._back = asyncio.Event()
        self._back.set()
        self._borrowed = asyncio.Event()
        self._closed = asyncio.Event()
        self._closed.set()

    @property
    def name(self) -> str:
        """``serial:ID``."""
        return f"serial:{self.record.id}"

    def change(self, record: BoardRecord, profile: BoardProfile) -> None:
        """What is known of the board changed: the next connection goes by this."""
        self.record, self.profile = record, profile
        if self._session is not None:
            self._session.record = record

    def leave_alone(self) -> None:
        """What the last connection left on the board stays."""
        self._runs_another = False

    @property
    def session(self) -> BoardSession | None:
        """The connection, while there is one."""
        return self._session if self._ready else None

    def inspect(self, ports: frozenset[PortRef], inspector: OnValue | None) -> None:
        """Have what these outports of nodes send told too, now and in every later connection."""
        self._inspected, self._inspector = ports, inspector
        if self._session is not None:
            self._session.network.inspect(ports, inspector)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BoardSession]:
        """Wait until the board is there, open, wait for its boot, shake hands, and make it run what it should."""
        if self.profile.problem:
            self.status.enter(BoardState.REFUSED, self.profile.problem)
            raise AccessRefused(f"device {self.record.role}", self.profile.problem)
        found = await self._free()
        self._closed.clear()
        try:
            port = await self._open(found)
            if self._lent:
                port.close()
                raise self._was_lent()
            self._epoch += 1
            session = BoardSession(
                port,
                self._epoch,
                self.record,
                self.profile,
                self.status,
                request_timeout_s=self._settings.request_timeout_s,
                on_running=self._on_running,
            )
            session.network.inspect(self._inspected, self._inspector)
            if self._runs_another:
                session.network.give_back(self.profile)
            self._session = session
            try:
                await self._make_ready(session)
                self._ready = True
                problem: Exception | None = None
                async with asyncio.TaskGroup() as tasks:
                    keeper = tasks.create_task(session.keep(), name=f"device:{self.record.role}:keep")
                    try:
                        yield session
                    except Exception as exc:  # noqa: BLE001 - raised again below: the group would wrap it
                        problem = exc
                    finally:
                        keeper.cancel()
                if problem is not None and self._on_purpose and _is_down(problem):
                    raise self._ended_on_purpose() from problem
                if problem is not None:
                    raise problem
            finally:
                self._session, self._ready, self._on_purpose = None, False, ""
                self._runs_another = not session.network.leaves(self.profile)
                session.close()
                self._down(session.problem)
        finally:
            self._closed.set()

    async def _free(self) -> PortFacts:
        """Where the board is, once it is there, its turn has come, and nobody has borrowed its port."""
        while True:
            await self._back.wait()
            await self._take_turn()
            found = await self._find()
            if self._back.is_set():
                return found

    async def _open(self, found: PortFacts) -> Port:
        rung, found = await self._climbed(found)
        if found.path != self.record.path:
            await self._on_moved(self.record.id, found)
        record, status = self.record, self.status
        try:
            opened = await self._open_port(found.path, PortOptions(record.baud, record.dtr))
            port: Port = TappedPort(opened, self.line)
        except PortMissing as exc:
            status.enter(BoardState.ABSENT, exc.reason)
            raise
        except AccessRefused as exc:
            status.enter(BoardState.REFUSED, exc.reason)
            raise
        except TransportDown as exc:
            status.enter(BoardState.BACKING_OFF, exc.reason)
            raise
        status.enter(BoardState.OPENING, f"opening {found.path}")
        try:
            await self._boot(port, rung)
        except BaseException:
            port.close()
            raise
        return port

    async def _climbed(self, found: PortFacts) -> tuple[Rung, PortFacts]:
        """Which rung it is, and where the board is after what that one does before the port is opened."""
        own = self.record.usb_reauthorise
        rung = self._ladder.attempt(
            time.monotonic(), reauthorises=self._settings.usb_reauthorise if own is None else own
        )
        if rung is not Rung.REAUTHORISE:
            return rung, found
        try:
            await asyncio.to_thread(reauthorise, found.path, self._settings.sysfs)
        except CannotReauthorise as exc:
            level = logging.DEBUG if self._told_reauthorise == str(exc) else logging.WARNING
            self._told_reauthorise = str(exc)
            log.log(level, "device %s: USB re-authorise is not possible: %s; going on without", self.record.role, exc)
            return Rung.DTR_RESET, found
        self.status.counters.usb_reauthorisations += 1
        log.warning("device %s: silent: its USB device on %s was authorised anew", self.record.role, found.path)
        back = await self._ports.wait_for(self.record.identity, self.record.known, REAUTHORISED_S)
        if back is None:
            reason = f"not there again {REAUTHORISED_S:.0f} s after its USB device was authorised anew"
            self.status.enter(BoardState.ABSENT, reason)
            raise PortMissing(f"device {self.record.role}", reason)
        return rung, back

    async def _take_turn(self) -> None:
        """A board that was silent for long is tried once a minute; unplugging it, or plugging it in, is a new start."""
        while (wait_s := self._ladder.wait_s(time.monotonic())) > 0:
            await self._ports.changed(self.record.path, wait_s)
            if self._ports.find(self.record.identity, self.record.known) is None:
                self._ladder.answered()

    async def _find(self) -> PortFacts:
        """Where the board is; one that isn't plugged in is waited for."""
        while True:
            record = self.record
            found = self._ports.find(record.identity, record.known)
            if found is None:
                self._ladder.answered()
                self._tell_absent()
                found = await self._ports.wait_for(record.identity, record.known, ABSENT_LOOK_S)
            if found is not None:
                return found

    def _tell_absent(self) -> None:
        if self.status.state is not BoardState.ABSENT or not self._told_absent:
            log.warning("device %s: not plugged in (it was on %s); waiting for it", self.record.role, self.record.path)
        self._told_absent = True
        self.status.begin_anew()
        self.status.enter(BoardState.ABSENT, f"not plugged in (it was on {self.record.path})")

    async def _boot(self, port: Port, rung: Rung) -> None:
        record = self.record
        if not port.resets:
            return
        if rung is Rung.DTR_RESET:
            self.status.counters.dtr_resets += 1
            await port.reset()
        wait_s = self._settings.boot_wait_s if record.boot_wait_s is None else record.boot_wait_s
        booting = asyncio.ensure_future(wait_for_boot(port, wait_s))
        borrowed = asyncio.ensure_future(self._borrowed.wait())
        try:
            await asyncio.wait((booting, borrowed), return_when=asyncio.FIRST_COMPLETED)
            if not booting.done():
                raise self._was_lent()
            booting.result()
        finally:
            for waiting in (booting, borrowed):
                waiting.cancel()
            await asyncio.gather(booting, borrowed, return_exceptions=True)

    async def _make_ready(self, session: BoardSession) -> None:
        """Open the link and prepare the board, or raise ``TransportDown`` with the state to show."""
        name, status = session.name, self.status
        try:
            await session.open()
        except AccessRefused as exc:
            status.enter(BoardState.REFUSED, exc.reason)
            raise
        except TransportDown as exc:
            if self._on_purpose:
                raise self._ended_on_purpose() from exc
            self._ladder.failed(time.monotonic())
            status.counters.reopens += 1
            status.enter(BoardState.BACKING_OFF, exc.reason)
            raise ConnectFailed(name, exc.reason) from exc
        self._ladder.answered()
        self._told_reauthorise = ""
        status.counters.connects += 1

    def _down(self, problem: str) -> None:
        if problem == UNPLUGGED:
            self.status.begin_anew()
        if self.status.state not in (BoardState.REFUSED, BoardState.ABSENT):
            self.status.enter(BoardState.BACKING_OFF, problem or self.status.reason or "the connection ended")

    @asynccontextmanager
    async def let_go(self, reason: str = "its port was lent") -> AsyncIterator[None]:
        """Keep hands off the board's port while the block runs; a connection is ended first."""
        self._lent += 1
        self._back.clear()
        self._borrowed.set()
        try:
            self.restart(reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(LET_GO_S):
                    await self._closed.wait()
            yield
        finally:
            self._lent -= 1
            if not self._lent:
                self._borrowed.clear()
                self._back.set()

    def _was_lent(self) -> EndedOnPurpose:
        return EndedOnPurpose(f"device {self.record.role}", "its port was lent")

    def _ended_on_purpose(self) -> EndedOnPurpose:
        return EndedOnPurpose(f"device {self.record.role}", self._on_purpose)

    def restart(self, reason: str) -> None:
        """End the connection; the supervisor makes a new one."""
        if self._session is not None and not self._session.problem:
            self._on_purpose = reason
            self._session.lose(reason)


def _is_down(problem: Exception) -> bool:
    """Whether this is the end of a connection, and nothing else besides."""
    if isinstance(problem, ExceptionGroup):
        return problem.split(TransportDown)[1] is None
    return isinstance(problem, TransportDown)
