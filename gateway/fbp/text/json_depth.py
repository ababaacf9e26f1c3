"""How deep JSON from outside may be nested: whatever handles it later needs some of Python's stack for each level."""

from __future__ import annotations

from typing import Any

DEEPEST = 128
"""Arrays and objects within each other."""

DEEPEST_MESSAGE = DEEPEST - 8
"""In a message of a client: what it brings lies deeper in the graph's file, which must be readable again."""


def is_too_deep(value: Any, deepest: int = DEEPEST) -> bool:
    """Whether a JSON value is nested deeper than that. Looks level by level, so that it needs no stack itself."""
    level = [value]
    for _ in range(deepest + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
