"""An edge is named to ``gateway spool`` as it is shown: by the graph, by ``gateway bindings``, or by its id."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import EXIT_NOT_FOUND
from tests.support.gateway import Gateway, gateway_with, pair_thermometer, simulated_board, until

NOBODY_THERE = """\
[mqtt]
url = "mqtt://127.0.0.1:1"
[http]
listen = ""
"""

SHOWN = "attic.temp->mqtt:attic/temp"


def records(gateway: Gateway, *options: str) -> int:
    return len(gateway.json("spool", "list", *options)["records"])


def waiting(gateway: Gateway) -> int:
    """How many messages wait for any edge, on disk or on the way there."""
    return sum(int(edge["pending"]) for edge in gateway.status()["edges"])


def test_spool_takes_the_name_that_bindings_shows_and_names_the_edges_there_are(tmp_path: Path) -> None:
    with simulated_board(tmp_path) as board, gateway_with(tmp_path / "gateway", NOBODY_THERE) as gateway:
        pair_thermometer(gateway, board)
        gateway.start()
        until("readings wait on disk", lambda: records(gateway) > 0)
        assert SHOWN in gateway.good("bindings")
        board.ask("pause")
        gateway.good("send", "attic", "fan", "true")  # what the board said before it answered this has arrived
        until("the last reading is on disk", lambda: waiting(gateway) == records(gateway))
        (binding,) = {one["binding"] for one in gateway.json("spool", "list")["records"]}
        assert binding != SHOWN
        assert records(gateway, "--edge", SHOWN) == records(gateway, "--edge", binding)
        mistaken = gateway.run("spool", "purge", "--edge", "attic.tmp->mqtt:attic/temp")
        assert mistaken.returncode == EXIT_NOT_FOUND
        assert SHOWN in mistaken.stderr
        assert gateway.good("spool", "requeue", "--edge", SHOWN) == "requeued 0\n"
        assert gateway.good("spool", "purge", "--edge", SHOWN).startswith("dropped ")
        until("all of them are gone", lambda: not records(gateway))

        assert gateway.daemon.stop() == 0
        unknown = gateway.run("spool", "list", "--edge", SHOWN)
        assert (unknown.returncode, unknown.stdout) == (0, "nothing waits\n")
        assert "known while a gateway runs" in unknown.stderr
