"""What the commands share: where things are, the configuration, output as text or JSON."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click

from gateway.config.places import Places, find_places
from gateway.config.schema import Config
from gateway.errors import ConfigError, GatewayError

Command: TypeAlias = Callable[..., Any]

JSON_VERSION = 1
"""The version of every ``--json`` shape; raised when a key changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The places a command works with."""

    places: Places

    def config(self, overrides: Mapping[tuple[str, str], Any] | None = None) -> Config:
        """The configuration; ``ConfigError`` names the place. A missing default file is fine, a named one is not."""
        from gateway.config.load import parse_config
        from gateway.files import read_text

        path = self.places.config
        try:
            text = read_text(path)
        except FileNotFoundError:
            if self.places.config_named:
                raise ConfigError(str(path), "", "no such file; see --config and GATEWAY_CONFIG") from None
            text = ""
        except OSError as exc:
            raise ConfigError(str(path), "", f"can't be read: {exc.strerror}") from exc
        return parse_config(text, str(path), os.environ, overrides or {})


def placed(function: Command) -> Command:
    """Add ``--config`` and ``--state-dir`` behind the command too; the command gets ``here``."""

    @click.option("--config", metavar="FILE", default="", hidden=True)
    @click.option("--state-dir", metavar="DIR", default="", hidden=True)
    @click.pass_context
    @functools.wraps(function)
    def wrapper(ctx: click.Context, /, config: str, state_dir: str, **kwargs: Any) -> Any:
        above = ctx.find_root().obj or {}
        places = find_places(
            os.environ,
            is_root=os.geteuid() == 0,
            home=Path.home(),
            config=config or above.get("config", ""),
            state_dir=state_dir or above.get("state_dir", ""),
        )
        return function(here=CommandContext(places), **kwargs)

    return wrapper


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the user wanted written there; ``GatewayError`` with the reason if it can't be."""
    try:
        yield
    except OSError as exc:
        raise GatewayError(f"{path}: can't be written: {exc.strerror or exc}") from exc


def json_option(function: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with a stable shape.")(function)


def print_json(kind: str, value: Any) -> None:
    """One JSON document: ``{"version": 1, KIND: value}``."""
    click.echo(json.dumps({"version": JSON_VERSION, kind: value}, ensure_ascii=False, indent=2))


def json_line(value: Mapping[str, Any]) -> str:
    """One of many documents, each a line: ``{"version": 1, …}``."""
    return json.dumps({"version": JSON_VERSION, **value}, ensure_ascii=False)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns, as wide as they need to be."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def edge_names(entries: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """The names that people know edges by; where boards share a role, the one with the board's id, under ``key``."""
    count = Counter(entry["label"] for entry in entries)
    return [str(entry["label"] if count[entry["label"]] == 1 else entry[key]) for entry in entries]
