"""Where the sources of our firmware are."""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).parents[2] / "firmware_stubs"
"""Beside the package, in the repository as in an installation."""


def component_map() -> Path:
    """The component map that the firmware and the simulator are made from."""
    return SOURCES / "components.json"
