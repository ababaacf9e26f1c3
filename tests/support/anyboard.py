"""A board of any kind while a block runs: the simulator as its command, or our firmware as machine code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.cortex import cortex_board
from tests.support.firmware import firmware_board
from tests.support.gateway import SimulatedBoard

OUR_BOARDS = ["host", "uno", pytest.param("lm3s", marks=pytest.mark.slow)]
"""The Cortex-M3's compiler and emulator take half a gigabyte: it is not part of ``make test``."""


EXTENDED_BOARDS = ["strict", *OUR_BOARDS]
"""Who offers our extensions: the simulator does as ``strict``."""


class AnyBoard(Protocol):
    """What every kind of board has: a port, and a hand that does what happens to a board."""

    @property
    def link(self) -> Path:
        """The port."""

    def ask(self, request: str) -> Any:
        """``set 3 2154``, ``get 7``, ``reset`` …"""


@contextmanager
def running(kind: str, directory: Path, graph: Path | None = None) -> Iterator[AnyBoard]:
    """A board of this kind, with a graph built in or without."""
    if kind == "lm3s":
        with cortex_board(directory, graph) as emulated:
            yield emulated
        return
    if kind not in ("simulator", "strict"):
        with firmware_board(kind, directory, graph) as board:
            yield board
        return
    simulated = SimulatedBoard(directory, graph, *(("--strict",) if kind == "strict" else ()))
    try:
        yield simulated
    finally:
        simulated.process.stop()


def warm(board: AnyBoard, pin: int, hundredths: int) -> None:
    """Set what a board's thermometer on a pin feels, in hundredths of a degree."""
    verb = "temperature" if board.link.name == "tty-uno" else "set"  # there, a voltage that stands for it
    assert board.ask(f"{verb} {pin} {hundredths}") == {"ok": True}
