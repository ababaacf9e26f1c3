"""The graph that a gateway starts with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.daemon.fbp_runtimes import start_graph
from gateway.errors import ConfigError


def test_without_a_file_the_graph_is_empty_unless_the_file_was_named(tmp_path: Path) -> None:
    assert not start_graph(tmp_path / "graph.json", needed=False).nodes
    with pytest.raises(ConfigError, match=r"graph\.json: no such graph file"):
        start_graph(tmp_path / "graph.json", needed=True)


def test_a_damaged_graph_file_is_an_error_with_the_line_that_restores_the_one_before(tmp_path: Path) -> None:
    damaged = tmp_path / "graph.json"
    damaged.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        start_graph(damaged, needed=False)
    assert "restore" not in str(caught.value)  # there is none

    (tmp_path / "graph.json.1").write_text('{"processes": {}, "connections": []}')
    with pytest.raises(ConfigError) as caught:
        start_graph(damaged, needed=False)
    assert str(caught.value).endswith(f"restore the one before: cp {damaged}.1 {damaged}")
    assert caught.value.exit_code == 78
