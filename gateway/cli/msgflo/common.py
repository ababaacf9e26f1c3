"""What the MsgFlo tools share: the broker option, switches that may have a value, library files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway import files
from gateway.errors import ConfigError
from gateway.library.core.components import Library, add_directory, parse_library


def broker_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--broker``."""
    text = "mqtt:// or amqp://; default: MSGFLO_BROKER, else CLOUDAMQP_URL, else amqp://localhost."
    return click.option("--broker", metavar="URL", help=text)(function)


def switch(name: str, text: str, *, default: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a switch that may be given a value: ``--forever``, ``--forever true``, ``--forever false``."""
    return click.option(
        name, type=bool, is_flag=False, flag_value=True, default=default, metavar="[BOOL]", help=text, show_default=True
    )


def names(text: str) -> frozenset[str]:
    """The names of a list with commas."""
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def read_text(path: Path) -> str:
    """A file the user named. ``ConfigError`` says why it can't be read."""
    try:
        return files.read_text(path)
    except FileNotFoundError:
        raise ConfigError(str(path), "", "no such file") from None
    except OSError as exc:
        raise ConfigError(str(path), "", f"can't be read: {exc.strerror}") from None


def read_library(library: Path | None, directory: Path | None) -> Library:
    """The library file (``package.json`` where none is named and one is there) and the files of the directory.

    Without a directory: ``participants``, else ``components``, whichever is there.
    """
    file = library or Path("package.json")
    found = parse_library(read_text(file), str(file)) if library or file.exists() else Library()
    if directory is not None and not directory.is_dir():
        raise ConfigError(str(directory), "", "no such directory")
    places = (Path("participants"), Path("components")) if directory is None else (directory,)
    place = next((one for one in places if one.is_dir()), None)
    if place is None:
        return found
    try:
        return add_directory(found, str(place), [entry.name for entry in place.iterdir() if entry.is_file()])
    except OSError as exc:
        raise ConfigError(str(place), "", f"can't be read: {exc.strerror}") from None
