"""A board's port lent to another program, as to the one that writes its firmware."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from gateway.errors import NotFound
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.records.devices_json import BoardRecord

Handler: TypeAlias = Callable[[dict[str, Any]], AsyncIterator[Any]]


def lending_handlers(boards: Boards) -> dict[str, Handler]:
    """The request ``lend`` of the control socket."""

    async def lend(request: dict[str, Any]) -> AsyncIterator[Any]:
        """Keep everybody's hands off a port until the client hangs up. None if that is on no port that we know of;
        the port of no paired board is an item without an id. ``PortBusy`` while it is lent to another client.
        """
        path = str(request.get("path", ""))
        record = _on_port(boards, path) or _named(boards, str(request.get("name", "")))
        if record is None and not path:
            yield None
            return
        async with AsyncExitStack() as stack:
            at = path or (record.path if record is not None else "")
            stack.enter_context(boards.lent.lend(at, str(request.get("borrower", ""))))
            if record is None:
                yield {"path": at}
            else:
                await stack.enter_async_context(boards.connector(record.id).let_go())
                yield {"id": record.id, "role": record.role, "path": record.path}
            await asyncio.get_running_loop().create_future()  # the client's hanging up ends it

    return {"lend": lend}


def _on_port(boards: Boards, path: str) -> BoardRecord | None:
    if not path:
        return None
    real = os.path.realpath(path)
    return next((record for record in boards.records() if os.path.realpath(record.path) == real), None)


def _named(boards: Boards, name: str) -> BoardRecord | None:
    try:
        return boards.find(name) if name else None
    except NotFound:
        return None
