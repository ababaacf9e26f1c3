"""``gateway bindings``: what is shown of an edge."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from pytest_mock import MockerFixture

from gateway.cli.main import main
from gateway.model.address import mqtt, serial
from gateway.routing.core.ledger import binding_entries
from gateway.routing.core.table import RouteTable
from tests.support.routing import Bench, edge

BOARD = serial("one", "temp")


@pytest.fixture
def gateway_runs(mocker: MockerFixture) -> None:
    """With a board's own retained topic, and an edge that is not."""
    own = replace(edge("own", mqtt("attic/temp"), BOARD), retain=True)
    bench = Bench([own, edge("plain", mqtt("b/in"), BOARD)])
    entries = binding_entries(bench.router, RouteTable.of(bench.bindings), bench.now)
    mocker.patch("gateway.cli.bindings.ask_one", return_value={"edges": entries, "waiting": {}})


def shown(*options: str) -> str:
    result = CliRunner().invoke(main, ("bindings", *options))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("gateway_runs")
def test_a_retained_edge_is_marked() -> None:
    modes = {line.split()[0]: line for line in shown().splitlines()}
    assert "held, retained" in modes["own"]
    assert "retained" not in modes["plain"]
    entries: list[dict[str, Any]] = json.loads(shown("--json"))["bindings"]
    assert {entry["id"]: entry["retain"] for entry in entries} == {"own": True, "plain": False}
