"""What the daemon answers on its control socket about boards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from gateway.fbp.text.graph_json import dumps
from gateway.serial_link.description.component_map import dump_component_map
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.graph_store import BoardGraphStore
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.serial_link.protocol.dissector import LineDirection

Handler: TypeAlias = Callable[[dict[str, Any]], AsyncIterator[Any]]

MONITOR_QUEUE = 4096
"""Reads and writes that one ``monitor`` may be behind; what comes while it is, is left out."""


def board_handlers(boards: Boards, graphs: BoardGraphStore) -> dict[str, Handler]:
    """The table for the control server."""
    simple = _registry_handlers(boards)

    async def upload(request: dict[str, Any]) -> AsyncIterator[Any]:
        """Items ``{"done", "total"}`` on the way, then what was done. A client that hangs up has the board put back."""
        progress: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        graph = msgspec.convert(request["graph"], Text)
        uploading = asyncio.ensure_future(
            graphs.upload(
                str(request["name"]), graph, lambda done, total: progress.put_nowait({"done": done, "total": total})
            )
        )
        uploading.add_done_callback(lambda _: progress.put_nowait(None))
        try:
            while (step := await progress.get()) is not None:
                yield step
            yield uploading.result()
        finally:
            uploading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await uploading

    async def io_set(request: dict[str, Any]) -> AsyncIterator[Any]:
        record = boards.find(str(request["device"]))
        kind, pin, value = (int(request[name]) for name in ("kind", "pin", "value"))
        await graphs.session(record.id).network.set_io(kind, pin, value)
        yield {"id": record.id, "role": record.role, "kind": kind, "pin": pin, "value": value}

    async def monitor(request: dict[str, Any]) -> AsyncIterator[Any]:
        """First what the line is, then every read and write, until the client hangs up."""
        record = boards.find(str(request["device"]))
        connector = boards.connector(record.id)
        passed: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MONITOR_QUEUE)
        started = time.monotonic()

        def tell(way: LineDirection, data: bytes) -> None:
            if not passed.full():
                passed.put_nowait({"time": round(time.monotonic() - started, 6), "way": str(way), "hex": data.hex()})

        remove = connector.line.add(tell)
        try:
            yield _line(boards, record.id)
            while True:
                yield await passed.get()
        finally:
            remove()

    return {**simple, "upload": upload, "io_set": io_set, "monitor": monitor}


def _line(boards: Boards, board_id: str) -> dict[str, Any]:
    """What a board's line is, with what it takes to give its numbers names."""
    record, profile = boards.record(board_id), boards.profile(board_id)
    session = boards.connector(board_id).session
    head: dict[str, Any] = {"id": record.id, "role": record.role, "wire": record.wire}
    if profile.graph is not None:
        names = profile.predicted()
        nodes = session.network.nodes() if session is not None else dict(names.nodes) if names is not None else {}
        head |= {"graph": dumps(profile.graph), "graph_name": "graph.json", "nodes": nodes}
        head |= {"components": dump_component_map(profile.library)}
    return head


def _registry_handlers(boards: Boards) -> dict[str, Handler]:
    async def pair(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield await boards.pair(msgspec.convert(request["request"], PairRequest))

    async def unpair(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield await boards.unpair(str(request["name"]))

    async def devices(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield boards.status()

    async def change(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield await boards.set(str(request["name"]), str(request["key"]), str(request["value"]))

    async def rename(request: dict[str, Any]) -> AsyncIterator[Any]:
        yield await boards.rename(str(request["name"]), str(request["role"]))

    return {"pair": pair, "unpair": unpair, "devices": devices, "set": change, "rename": rename}


def unknown_states(boards: Boards) -> list[dict[str, Any]]:
    """The entries of boards whose state nobody follows at the moment, because no gateway runs."""
    return [entry | unknown_state() for entry in boards.status()]


def unknown_state() -> dict[str, Any]:
    """What is said of a board's state where no gateway runs."""
    return {"state": "unknown", "reason": "no gateway runs", "since": round(time.time(), 3)}
