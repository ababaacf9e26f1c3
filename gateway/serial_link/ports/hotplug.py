"""The serial ports that are there, and waiting for one to come: by inotify, or by a look once a second."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serial.tools import list_ports

from gateway.serial_link.ports.core.identity import Identity, PortFacts, is_network, recognise

if TYPE_CHECKING:
    from asyncinotify import Inotify

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often we look where the kernel can't tell us."""

LOST_EVENT_S = 15.0
"""We look this often all the same: a directory may have come and gone between two looks."""

DEVICES = (Path("/dev"), Path("/dev/serial"), Path("/dev/serial/by-id"), Path("/dev/serial/by-path"))

Scan = Callable[[], Sequence[PortFacts]]


class Ports:
    """One for the gateway: tells what is where, and wakes who waits for a port."""

    def __init__(self, scan: Scan | None = None) -> None:
        self._scan = scan or scan_ports
        self._inotify: Inotify | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def present(self) -> Sequence[PortFacts]:
        """Every port of this machine that may have a board on it; ptys and network ports are not listed."""
        return self._scan()

    def facts(self, path: str) -> PortFacts:
        """What is known of a port that somebody named, under whatever name."""
        if is_network(path):
            return PortFacts(path=path)
        where, real = os.path.abspath(path), os.path.realpath(path)
        for port in self.present():
            if os.path.realpath(port.path) == real:
                return port
        return PortFacts(path=where, is_pty=real.startswith("/dev/pts/"))

    def find(self, identity: Identity, known: PortFacts) -> PortFacts | None:
        """Where the board of this identity is now."""
        if known.is_named or identity.kind == "path":
            return known if is_network(known.path) or os.path.exists(known.path) else None
        return recognise(identity, known, self.present())

    async def wait_for(self, identity: Identity, known: PortFacts, timeout_s: float) -> PortFacts | None:
        """The port of the board as soon as it is there; None after ``timeout_s``."""
        found: PortFacts | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while found is None:
                    change = self._next_change(known.path)
                    try:
                        found = self.find(identity, known)
                        if found is None:
                            await change
                    finally:
                        change.cancel()
        return found

    async def changed(self, path: str, timeout_s: float) -> None:
        """Until ports came or went, ``timeout_s`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._next_change(path)

    def _next_change(self, path: str) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        change: asyncio.Future[None] = loop.create_future()
        self._waiting.add(change)
        change.add_done_callback(self._leave)
        told = self._watch(loop, [*DEVICES, Path(path).parent])
        look = loop.call_later(LOST_EVENT_S if told else LOOK_S, _wake, change)
        change.add_done_callback(lambda _: look.cancel())
        return change

    def _watch(self, loop: asyncio.AbstractEventLoop, directories: Iterable[Path]) -> bool:
        """Have the kernel tell of changes in these directories; whether it does."""
        try:
            if self._inotify is None:
                from asyncinotify import Inotify

                self._inotify = Inotify(sync_timeout=0)
                loop.add_reader(self._inotify.fd, self._readable)
            for directory in directories:
                self._watch_directory(self._inotify, directory)
        except (ImportError, OSError) as exc:
            log.debug("ports: the kernel tells of no changes (%s); looking once a second", exc)
            return False
        return True

    def _watch_directory(self, inotify: Inotify, directory: Path) -> None:
        """Again and again: a directory that was removed and made anew must be watched anew."""
        from asyncinotify import Mask

        with suppress(FileNotFoundError, NotADirectoryError):
            inotify.add_watch(directory, Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.ATTRIB | Mask.ONLYDIR)

    def _readable(self) -> None:
        if self._inotify is None:
            return
        while self._inotify.sync_get() is not None:
            pass
        for change in tuple(self._waiting):
            _wake(change)

    def _leave(self, change: asyncio.Future[None]) -> None:
        """The last one who waits puts the watch away: nothing is watched while all boards are there."""
        self._waiting.discard(change)
        if not self._waiting and self._inotify is not None:
            inotify, self._inotify = self._inotify, None
            change.get_loop().remove_reader(inotify.fd)
            inotify.close()


def _wake(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)


def scan_ports() -> tuple[PortFacts, ...]:
    """The serial ports of this machine as the kernel and udev tell of them."""
    by_id, by_path = _links(Path("/dev/serial/by-id")), _links(Path("/dev/serial/by-path"))
    return tuple(port_facts(info, by_id, by_path) for info in list_ports.comports() if info.device)


def _links(directory: Path) -> dict[str, str]:
    """Real device -> name in a directory of links."""
    found = {}
    with suppress(OSError):
        for link in sorted(directory.iterdir()):
            found[os.path.realpath(link)] = link.name
    return found


def port_facts(info: Any, by_id: Mapping[str, str], by_path: Mapping[str, str]) -> PortFacts:
    """What pyserial tells of one port, and the names udev has for it. Without udev the place in the USB tree will do."""
    device = os.path.realpath(info.device)
    place = by_path.get(device) or (f"usb-{info.location}" if info.location else "")
    if not place and getattr(info, "device_path", None):
        place = info.device_path.removeprefix("/sys/devices/")
    return PortFacts(
        path=info.device,
        usb_serial=info.serial_number or "",
        usb_vid=info.vid or 0,
        usb_pid=info.pid or 0,
        product=info.product or "",
        maker=info.manufacturer or "",
        by_id=by_id.get(device, ""),
        by_path=place,
    )
