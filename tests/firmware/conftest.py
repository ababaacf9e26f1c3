"""Every kind of board there is, by fixture: the simulator, and our firmware as machine code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.anyboard import EXTENDED_BOARDS, OUR_BOARDS, AnyBoard, running
from tests.support.firmware import EXAMPLES

Fresh = Callable[[str, Path | None], AnyBoard]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Gives a board as it is after a reset: one process a kind and graph serves all tests of a module."""
    with ExitStack() as stack:
        known: dict[tuple[str, Path | None], AnyBoard] = {}

        def get(kind: str, graph: Path | None) -> AnyBoard:
            if kind == "lm3s":  # its start is heard on the line, which belongs to the test
                return stack.enter_context(running(kind, tmp_path_factory.mktemp(kind), graph))
            if (kind, graph) not in known:
                known[kind, graph] = stack.enter_context(running(kind, tmp_path_factory.mktemp(kind), graph))
            else:
                assert known[kind, graph].ask("reset") == {"ok": True}
            return known[kind, graph]

        yield get


@pytest.fixture(params=["simulator", *OUR_BOARDS])
def board(request: pytest.FixtureRequest, fresh: Fresh) -> AnyBoard:
    """One board of each kind, without a graph."""
    return fresh(request.param, None)


@pytest.fixture(params=OUR_BOARDS)
def our_board(request: pytest.FixtureRequest, fresh: Fresh) -> AnyBoard:
    """One board of each kind that runs our firmware, without a graph."""
    return fresh(request.param, None)


@pytest.fixture(params=EXTENDED_BOARDS)
def extended_board(request: pytest.FixtureRequest, fresh: Fresh) -> AnyBoard:
    """One board of each kind that offers our extensions, without a graph."""
    return fresh(request.param, None)


@pytest.fixture(params=EXTENDED_BOARDS)
def thermometer_board(request: pytest.FixtureRequest, fresh: Fresh) -> AnyBoard:
    """The same with the example's graph built in."""
    return fresh(request.param, EXAMPLES / "thermometer.fbp")
