"""Writes ``docs/commands.md`` from the commands' own help: ``python tools/command_pages.py``.

``tests/unit/test_docs.py`` fails while the page differs from what this prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """\
# Commands

Written from the commands' own help by `tools/command_pages.py`. Every command takes `--config FILE` and
`--state-dir DIR`, also behind its name; every command that reads has `--json` with a stable, versioned shape.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | usage |
| 3 | could not reach a board, a broker or the daemon: try again |
| 4 | not found |
| 5 | conflict, or locked by somebody else |
| 78 | configuration: a service manager must not restart it |
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(sections(main, "gateway", None))


def sections(command: click.Command, name: str, above: click.Context | None) -> Iterator[str]:
    """One section a command, groups before their commands; in the context that a user's call would have."""
    context = click.Context(command, info_name=name, parent=above, **command.context_settings)
    context.terminal_width = context.max_content_width = 100
    if above is not None:
        yield f"\n## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for other in command.list_commands(context):
            found = command.get_command(context, other)
            if found is not None:
                yield from sections(found, other, context)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
