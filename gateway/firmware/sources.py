"""Where the sources of our firmware are: in the repository, or within the installed package."""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).with_name("sources")
"""A link to ``firmware_stubs`` in the repository, a copy of it in an installed package."""


def component_map() -> Path:
    """The component map that every build of the firmware is made from."""
    return SOURCES / "components.json"
