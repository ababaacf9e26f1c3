"""How wide a text will be, about, in the fonts that the drawing asks for: nobody here can measure it."""

from __future__ import annotations

import unicodedata

SIZE = 11.0
"""Of the letters, in pixels, where nothing else is said."""

BOLD = 1.13
"""How much wider bold letters are."""

_NARROW, _WIDE = frozenset("iljItfr.,:;'|!()[]{} /\\-\"`"), frozenset("mwMW@%&—…")
_OF_NARROW, _OF_WIDE, _OF_CAPITAL, _OF_OTHER = 0.43, 1.0, 0.76, 0.65
"""In letter sizes; the widest of their class in DejaVu Sans and Verdana, but for a few."""


def text_width(text: str, size: float = SIZE) -> float:
    """About how many pixels wide a text is, rather too many than too few."""
    return sum(map(_em, text)) * size


def _em(char: str) -> float:
    if char in _NARROW:
        return _OF_NARROW
    if char in _WIDE:
        return _OF_WIDE
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    if unicodedata.combining(char):
        return 0.0
    return _OF_CAPITAL if char.isupper() else _OF_OTHER


def clipped(text: str, most: float, size: float = SIZE) -> str:
    """A text that is at most so many pixels wide; of a longer one the beginning, and ``…``."""
    if text_width(text, size) <= most:
        return text
    room = most - text_width("…", size)
    taken = 0
    for char in text:
        room -= _em(char) * size
        if room < 0:
            break
        taken += 1
    return text[:taken] + "…"
