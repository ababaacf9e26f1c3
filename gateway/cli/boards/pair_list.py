"""``gateway pair --from FILE``: a declarative list of boards, for images and fleets."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.boards.pair import pair, read, summary
from gateway.cli.common import CommandContext, print_json
from gateway.config.mistakes import mistake
from gateway.errors import ConfigError, GatewayError, NotFound
from gateway.files import read_text
from gateway.serial_link.paired.pairing import PairRequest
from gateway.serial_link.records.board_settings import PORT_KEYS
from gateway.serial_link.records.profile import PortMeaning


class PairListEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One board of the list."""

    port: str
    role: str = ""
    graph: str = ""
    components: str = ""
    upload: bool = True
    baud: int = 0
    wire: str = "auto"
    boot_wait_s: float | None = None
    dtr: bool | None = None
    ports: dict[str, PortMeaning] = msgspec.field(default_factory=dict)


def load_list(path: Path) -> tuple[PairRequest, ...]:
    """What the list asks for. ``ConfigError`` names the place."""
    try:
        table = tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such list of boards") from None
    except OSError as exc:
        raise ConfigError(str(path), "", f"can't be read: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(str(path), "", f"no valid TOML: {exc}") from exc
    boards = table.pop("board", [])
    if table or not isinstance(boards, list):
        raise ConfigError(str(path), next(iter(table), "board"), "a list has tables [[board]], and nothing else")
    return tuple(_request(_entry(board, n, str(path)), path.parent) for n, board in enumerate(boards))


def _entry(board: Any, number: int, source: str) -> PairListEntry:
    """One table of the list. ``ConfigError`` names the place and what may be there."""
    place = f"board[{number}]"
    if not isinstance(board, dict):
        raise ConfigError(source, place, "must be a table")
    _refuse_unknown(board, [field.name for field in msgspec.structs.fields(PairListEntry)], source, place)
    ports = board.get("ports")
    for name, port in ports.items() if isinstance(ports, dict) else ():
        if isinstance(port, dict):
            _refuse_unknown(port, PORT_KEYS, source, f"{place}.ports.{name}")
    if "port" not in board:
        raise ConfigError(source, f"{place}.port", "is missing: which port is the board on?")
    try:
        return msgspec.convert(board, PairListEntry)
    except msgspec.ValidationError as exc:
        if isinstance(exc.__cause__, ValueError):  # what PortMeaning itself says of a scale or a topic
            raise ConfigError(source, place, str(exc.__cause__)) from exc
        problem = mistake(str(exc), board, source, PairListEntry)
        raise ConfigError(source, f"{place}.{problem.key}", problem.problem) from exc


def _refuse_unknown(table: dict[str, Any], known: Sequence[str], source: str, place: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(source, f"{place}.{key}", f"unknown key (known: {', '.join(known)})")


def _request(entry: PairListEntry, directory: Path) -> PairRequest:
    def near(name: str) -> Path | None:
        return directory / name if name else None

    port = entry.port if "://" in entry.port else str((directory / entry.port).absolute())
    return PairRequest(
        path=port,
        role=entry.role,
        graph=read(near(entry.graph), "graph"),
        components=read(near(entry.components), "component map"),
        upload=entry.upload,
        baud=entry.baud,
        wire=entry.wire,
        boot_wait_s=entry.boot_wait_s,
        dtr=entry.dtr,
        ports=entry.ports,
    )


def pair_all(here: CommandContext, path: Path, *, as_json: bool) -> None:
    """Pair all, one after the other. One that fails does not stop the others; the first failure is the exit code."""
    first: GatewayError | None = None
    results: list[dict[str, Any]] = []
    for request in load_list(path):
        try:
            paired = pair(here, request)
        except GatewayError as exc:
            first = first or exc
            results.append({"port": request.path, "role": request.role, "error": str(exc)})
            if not as_json:
                click.echo(f"{request.role or request.path}: {exc}", err=True)
            continue
        results.append(paired)
        if not as_json:
            click.echo(summary(paired))
    if as_json:
        print_json("devices", results)
    if first is not None:
        failed = sum("error" in result for result in results)
        text = f"{path}: {failed} of {len(results)} boards could not be paired; the first problem: {first}"
        problem = GatewayError(text)
        problem.exit_code = first.exit_code
        raise problem
