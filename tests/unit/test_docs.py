"""The documentation says what is true: every command, every key, in the words of the program itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.cli.main import COMMANDS
from gateway.config.schema import Config, Section
from tools.command_pages import PAGE

DOCS = Path(__file__).parents[2] / "docs"


def test_the_command_page_is_what_the_commands_say() -> None:
    # in a process of its own: click remembers the help option from whoever asked a command first
    ask = [sys.executable, "-c", "from tools.command_pages import page; print(page(), end='')"]
    said = subprocess.run(ask, cwd=DOCS.parent, capture_output=True, text=True, check=True, timeout=120).stdout
    assert PAGE.read_text("utf-8") == said, "run: .venv/bin/python -m tools.command_pages"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    assert f"## gateway {name}" in PAGE.read_text("utf-8")


def keys(kind: type[Section], path: str) -> list[str]:
    found: list[str] = []
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            found += keys(field.type, f"{path}{field.name}.")
        else:
            found.append(f"{path}{field.encode_name}")
    return found


@pytest.mark.parametrize("key", [key for key in keys(Config, "") if key != "delivery.edge"])
def test_every_key_is_explained(key: str) -> None:
    assert f"`{key}`" in (DOCS / "configuration.md").read_text("utf-8")
