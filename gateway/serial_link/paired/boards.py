"""All paired boards of this gateway: the registry, and the state of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.schema import SerialSection
from gateway.errors import Conflict, GatewayError, NotFound, PortUnknown
from gateway.model.participant import Participant
from gateway.serial_link.connected.connector import BoardConnector, BoardSettings
from gateway.serial_link.paired.paired_board import PairedBoard
from gateway.serial_link.paired.pairing import Paired, PairRequest, opened_as_before, shake_hands
from gateway.serial_link.paired.pairing_record import PairingRecord, completed, kept_components, new_board, tell_paired
from gateway.serial_link.ports.core.identity import PortFacts
from gateway.serial_link.ports.hotplug import Ports
from gateway.serial_link.ports.port_locks import PortLocks, borrower
from gateway.serial_link.ports.schemes import OpenPort, opener
from gateway.serial_link.ports.tty import Port, PortOptions
from gateway.serial_link.ports.usb import SYSFS
from gateway.serial_link.records.board_dir import BoardFiles
from gateway.serial_link.records.board_settings import changed, check_role, is_delivery
from gateway.serial_link.records.board_status import BoardStatus, board_entry
from gateway.serial_link.records.devices_json import BoardRecord, DevicesFile, written
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)


class Boards:
    """Owns the registry. ``on_change`` is called when records or states change, ``on_running`` when a board (re)started,
    ``on_connector`` when a board gets its connector, and ``on_repaired`` with what a board was before it was paired again.

    What is changed is on the disk before it is so here, and before whoever asked for it is answered.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: SerialSection,
        *,
        on_change: Callable[[], None],
        on_running: Callable[[str], None],
        open_port: OpenPort | None = None,
        ports: Ports | None = None,
        on_connector: Callable[[BoardConnector], None] = lambda connector: None,
        sysfs: Path = SYSFS,
    ) -> None:
        self._on_connector = on_connector
        self._file = DevicesFile(state_dir / "devices.json")
        self._files = BoardFiles(state_dir)
        self.lent = PortLocks.of(state_dir)
        self._settings = settings
        self._on_change = on_change
        self._on_running = on_running
        self._open_any = open_port or opener()
        self._ports = ports or Ports()
        self._sysfs = sysfs
        self._boards: dict[str, PairedBoard] = {}
        self._writing = asyncio.Lock()
        self.on_repaired: Callable[[str, BoardProfile], None] = lambda board_id, before: None

    # -- what there is ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the registry. ``ConfigError`` when it is damaged; one board's damaged files are that board's trouble."""
        for record in self._file.load():
            try:
                profile = self._files.profile(record)
            except GatewayError as exc:
                log.error("device %s: can't be used: %s", record.role, exc)
                profile = replace(BoardProfile.empty(), problem=str(exc))
            self._boards[record.id] = self._board(record, profile)
        self._on_change()

    def records(self) -> tuple[BoardRecord, ...]:
        """The paired boards, in the order of their pairing."""
        return tuple(board.record for board in self._boards.values())

    def participants(self) -> tuple[Participant, ...]:
        """The same as participants of the graph."""
        return tuple(board.participant for board in self._boards.values())

    def retained_topics(self) -> frozenset[str]:
        """Where the broker keeps what outports said last, as long as the ports are there."""
        return frozenset().union(*(board.retained_topics() for board in self._boards.values()))

    def connector(self, device_id: str) -> BoardConnector:
        """The connector of a board: always the same one while the board is paired."""
        board = self._boards[device_id]
        if board.connector is None:
            board.connector = BoardConnector(
                board.record,
                board.profile,
                board.status,
                BoardSettings(
                    self._settings.boot_wait_s,
                    self._settings.request_timeout_s,
                    self._settings.usb_reauthorise,
                    self._sysfs,
                ),
                self._ports,
                self._open_free,
                on_running=self._on_running,
                on_moved=self._moved,
            )
            self._on_connector(board.connector)
        return board.connector

    def status(self) -> list[dict[str, Any]]:
        """One entry a board: the stable shape of ``gateway devices --json``."""
        return [board.entry() for board in self._boards.values()]

    def states(self) -> list[dict[str, Any]]:
        """The same without ports and counters."""
        return [board_entry(board.record, board.status) for board in self._boards.values()]

    def find(self, name: str) -> BoardRecord:
        """The board of an id, or of a role that only one has. ``NotFound``, ``Conflict``."""
        return self._find(name).record

    def record(self, device_id: str) -> BoardRecord:
        """What is remembered of a board."""
        return self._boards[device_id].record

    def profile(self, device_id: str) -> BoardProfile:
        """Its graph and firmware."""
        return self._boards[device_id].profile

    def state(self, device_id: str) -> BoardStatus:
        """Where it stands."""
        return self._boards[device_id].status

    def is_present(self, device_id: str) -> bool:
        """Whether its port is there."""
        record = self._boards[device_id].record
        return self._ports.find(record.identity, record.known) is not None

    def _find(self, name: str) -> PairedBoard:
        if name in self._boards:
            return self._boards[name]
        found = [board for board in self._boards.values() if board.record.role == name]
        if len(found) > 1:
            ids = ", ".join(board.record.id for board in found)
            raise Conflict(f"role {name}: several boards have it; name one by its id: {ids}")
        if not found:
            known = ", ".join(sorted({board.record.role for board in self._boards.values()}))
            there = f"there are: {known}" if known else "none is paired; see: gateway pair --help"
            raise NotFound(f"board {name}: no paired board has this role or id ({there})")
        return found[0]

    # -- changing it -----------------------------------------------------------------------------------------------

    async def pair(self, request: PairRequest) -> dict[str, Any]:
        """Shake hands with what is on a port, and remember it. Nothing is remembered on failure.

        ``PortBusy`` while the port is lent.
        """
        request = completed(request, self._settings)
        async with AsyncExitStack() as stack:
            stack.enter_context(self.lent.lend(request.path, borrower("gateway pair")))
            facts = self._ports.facts(request.path)
            there = self._on(facts)
            if there is not None and there.connector is not None:
                await stack.enter_async_context(there.connector.let_go("it is being paired again"))
            paired = await shake_hands(
                opened_as_before(request, there.record) if there is not None else request,
                self._open_any,
                boot_wait_s=self._settings.boot_wait_s,
                request_timeout_s=self._settings.request_timeout_s,
                kept=kept_components(request, self._files.of(there.record.id) if there is not None else None),
            )
            async with self._writing:
                new = await self._adopt(request, paired, facts)
        return self._boards[new.record.id].entry() | {
            "was_running": paired.running,
            "again": new.again,
            "forgotten": list(new.forgotten),
        }

    def _on(self, facts: PortFacts) -> PairedBoard | None:
        """The paired board that is on this port now."""
        for board in self._boards.values():
            found = self._ports.find(board.record.identity, board.record.known)
            if found is not None and found.path == facts.path:
                return board
        return None

    async def _adopt(self, request: PairRequest, paired: Paired, facts: PortFacts) -> PairingRecord:
        """Remember what answered."""
        there = self._on(facts)
        records = {record.id: record for record in self.records()}
        new = new_board(request, paired, facts, there.record if there else None, records, self._ports, self._files)
        changed_ones = [new.record] if new.displaced is None else [new.displaced, new.record]
        records |= {record.id: record for record in changed_ones}

        def write() -> None:
            self._files.of(new.record.id).save(new.files)
            self._file.save(records.values())

        def remember() -> None:
            if new.displaced is not None:
                displaced = self._boards[new.displaced.id]
                displaced.change(new.displaced, displaced.profile)
            board = self._boards.get(new.record.id)
            before = board.profile if board is not None else None
            if board is None:
                board = self._boards[new.record.id] = self._board(new.record, new.profile)
            else:
                board.change(new.record, new.profile)
                board.begin_anew()
            tell_paired(new, board.participant)
            self._on_change()
            if before is not None:
                self.on_repaired(new.record.id, before)

        await written(write, remember)
        return new

    async def unpair(self, name: str) -> dict[str, Any]:
        """Forget a board. Its messages in the spool stay."""
        async with self._writing:
            record = self.find(name)
            left = [other for other in self.records() if other.id != record.id]

            def forget() -> None:
                del self._boards[record.id]
                self._files.of(record.id).remove()
                self._on_change()

            await written(lambda: self._file.save(left), forget)
        return {"id": record.id, "role": record.role}

    async def rename(self, name: str, new_role: str) -> dict[str, Any]:
        """Give a board another role; its id stays."""
        check_role(new_role)
        async with self._board_to_change(name) as board:
            before = board.record.role
            await self._replace(board, board.profile, role=new_role)
        return {"id": board.record.id, "role": new_role, "before": before}

    async def set(self, name: str, key: str, value: str) -> dict[str, Any]:
        """Change what may change of a board: see ``settings``."""
        async with self._board_to_change(name) as board:
            changes = changed(board.record, key, value)
            profile = board.profile
            if "ports" in changes:
                port = key.rpartition(".")[0]
                try:
                    BoardProfile.of(profile.graph, profile.library, {port: changes["ports"][port]})
                except PortUnknown as exc:
                    raise NotFound(f"set {key}: {exc}") from exc
                profile = self._files.profile(msgspec.structs.replace(board.record, **changes))
            await self._replace(board, profile, **changes)
        if board.connector is not None and not is_delivery(key):
            board.connector.restart(f"{key} was changed")
        return {"id": board.record.id, "role": board.record.role, "key": key, "value": value}

    async def keep_graph(self, board_id: str, profile: Callable[[], BoardProfile], file: str, text: bytes) -> None:
        """The board runs another graph now, from us: remember it in ``file`` of its directory. ``GatewayError`` if that can't
        be written: then nothing changed.

        ``profile`` is asked when no other change is under way: what was said of ports while the board got the graph holds.
        The registry may name the graph's file before or after it was replaced: either is whole.
        """
        async with self._board_to_change(board_id) as board:
            await self._replace(board, profile(), {file: text}, graph=file, managed=True)

    @asynccontextmanager
    async def _board_to_change(self, name: str) -> AsyncIterator[PairedBoard]:
        """One change after the other: each begins with what the one before has left."""
        async with self._writing:
            yield self._find(name)

    async def _replace(
        self, board: PairedBoard, profile: BoardProfile, files: Mapping[str, bytes] | None = None, **changes: Any
    ) -> None:
        record = msgspec.structs.replace(board.record, **changes)
        records = [record if other.id == record.id else other for other in self.records()]

        def write() -> None:
            self._files.of(record.id).save(files or {})
            self._file.save(records)

        def remember() -> None:
            board.change(record, profile)
            self._on_change()

        await written(write, remember)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _board(self, record: BoardRecord, profile: BoardProfile) -> PairedBoard:
        return PairedBoard(record, profile, BoardStatus(self._on_change, reason="not looked for yet"))

    async def _open_free(self, path: str, options: PortOptions) -> Port:
        """A port that nobody has borrowed."""
        self.lent.check(path)
        return await self._open_any(path, options)

    async def _moved(self, board_id: str, facts: PortFacts) -> None:
        """A board came back under another name. Nothing is lost if that can't be written: it is recognised again."""
        async with self._board_to_change(board_id) as board:
            log.info("device %s: is on %s now (it was on %s)", board.record.role, facts.path, board.record.path)
            try:
                await self._replace(board, board.profile, path=facts.path, known=facts)
            except GatewayError:
                record = msgspec.structs.replace(board.record, path=facts.path, known=facts)
                board.change(record, board.profile)
                self._on_change()
