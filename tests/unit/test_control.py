"""The control socket: who may open it, and that a request always gets an answer."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.common import CommandContext
from gateway.cli.daemon import ask_one, find_daemon
from gateway.config.places import Places, find_places
from gateway.daemon.control_socket import ControlServer
from gateway.errors import EXIT_FAILED, EXIT_UNREACHABLE, Conflict, GatewayError
from gateway.files import LARGEST_REQUEST


async def broken(request: dict[str, Any]) -> AsyncIterator[Any]:
    yield 1
    raise ValueError("no such number")


async def answers(path: Path, request: bytes) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    lines = [json.loads(line) async for line in reader]
    writer.close()
    return lines


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Places]:
    """Places with a state directory whose path is too long for a socket."""
    places = find_places({}, is_root=False, home=tmp_path, state_dir=str(tmp_path / ("x" * 120)))
    yield places
    places.socket.unlink(missing_ok=True)
    if places.socket.parent.is_dir():
        places.socket.parent.rmdir()


async def test_a_request_that_fails_unexpectedly_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with ControlServer(path, {"broken": broken}).listening():
        item, error = await answers(path, b'{"op":"broken"}\n')
        assert item == {"item": 1}
        assert (error["exit"], "no such number" in error["error"]) == (EXIT_FAILED, True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def echo(request: dict[str, Any]) -> AsyncIterator[Any]:
    yield len(request["text"])


async def test_a_request_that_is_too_long_is_refused_in_words_and_what_just_fits_is_answered(tmp_path: Path) -> None:
    places = find_places({}, is_root=False, home=tmp_path, state_dir=str(tmp_path))
    here = CommandContext(places)

    def asked(length: int) -> Any:
        return ask_one(here, "echo", text="\u00e9" * length)

    async with ControlServer(places.socket, {"echo": echo}).listening():
        just = (LARGEST_REQUEST - 100) // len(r"\u00e9")
        assert await asyncio.to_thread(asked, just) == just
        with pytest.raises(GatewayError, match="a request of more than"):
            await asyncio.to_thread(asked, LARGEST_REQUEST)


async def test_a_daemon_that_ends_while_it_is_asked_is_said_to_have_ended(tmp_path: Path) -> None:
    """A pipe that breaks is no reader who has seen enough: nothing was done, and the exit code tells."""
    places = find_places({}, is_root=False, home=tmp_path, state_dir=str(tmp_path))
    places.socket.parent.mkdir(parents=True, exist_ok=True)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_unix_server(hang_up, places.socket):
        with pytest.raises(GatewayError, match="the daemon ended") as caught:
            await asyncio.to_thread(ask_one, CommandContext(places), "echo", text="x" * (LARGEST_REQUEST - 100))
    assert caught.value.exit_code == EXIT_UNREACHABLE


async def test_the_group_of_a_service_may_use_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    async with ControlServer(tmp_path / "s", {}).listening():
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660


async def test_a_socket_aside_lies_in_a_directory_that_nobody_else_can_enter(deep: Places) -> None:
    async with ControlServer(deep.socket, {}).listening():
        assert stat.S_IMODE(deep.socket.parent.stat().st_mode) == 0o700
        assert find_daemon(CommandContext(deep)) == deep.socket


async def test_a_directory_that_somebody_else_could_have_made_is_not_used(deep: Places) -> None:
    deep.socket.parent.mkdir()
    os.chmod(deep.socket.parent, 0o777)
    with pytest.raises(Conflict, match="nobody else can enter"):
        async with ControlServer(deep.socket, {}).listening():
            pass
    with pytest.raises(Conflict, match="not the gateway's own"):
        find_daemon(CommandContext(deep))
