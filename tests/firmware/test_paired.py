"""A board with our firmware in a running gateway: paired without a flag, asked, and flashed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.anyboard import AnyBoard, running
from tests.support.firmware import EXAMPLES, build
from tests.support.gateway import Gateway, Process, gateway_with, until
from tests.support.mosquitto import Mosquitto

CONFIG = """\
[mqtt]
url = "{mqtt}"
[http]
listen = ""
"""
GRAPH = EXAMPLES / "thermometer.fbp"
UNO = "tty-uno"
FAST = GRAPH.read_text().replace("'1000'", "'20'")

AVRDUDE = """\
#!/usr/bin/python3
# Stands for avrdude: it succeeds if nobody else holds the port, as the real one needs it.
import fcntl, os, sys, termios
port = os.open(sys.argv[sys.argv.index("-P") + 1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.ioctl(port, termios.TIOCEXCL)
fcntl.ioctl(port, termios.TIOCNXCL)
"""


@pytest.fixture(params=["host", "uno", "strict"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBoard]:
    """A board with the example's graph built in."""
    graph = tmp_path / "thermometer.fbp"
    graph.write_text(FAST)
    with running(request.param, tmp_path, graph) as board:
        yield board


@pytest.fixture
def gateway(board: AnyBoard, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Gateway]:
    """A running gateway that the board was paired with by nothing but its port."""
    with gateway_with(tmp_path / "gateway", CONFIG.format(mqtt=mosquitto.url)) as gateway:
        gateway.good("pair", str(board.link), "--role", f"attic-{board.link.name[4:]}")
        gateway.start()
        until("the board runs", lambda: state(gateway) == "running")
        yield gateway


def state(gateway: Gateway) -> str:
    """Of the one board."""
    return str(gateway.json("devices")["devices"][0]["state"])


def test_its_own_description_is_all_that_pairing_needs(board: AnyBoard, gateway: Gateway) -> None:
    device = gateway.json("devices")["devices"][0]
    assert [(port["name"], port["direction"]) for port in device["ports"]] == [("fan", "in"), ("temp", "out")]
    gateway.good("send", device["role"], "fan", "true")
    until("the pin is on", lambda: board.ask("get 7")["value"] == 1)
    until("readings come", lambda: gateway.json("devices")["devices"][0]["counters"]["readings"] > 0)


def device(gateway: Gateway) -> Any:
    """The one board, as ``gateway devices --json`` shows it."""
    return gateway.json("devices")["devices"][0]


def counted(gateway: Gateway, name: str) -> int:
    """One of its counters."""
    return int(device(gateway)["counters"][name])


def lost(board: AnyBoard, gateway: Gateway) -> int:
    """Readings that were lost though nothing harmed the line.

    The emulated Uno's bytes come one by one, as on a wire: a machine that stands still in the middle of a command makes the
    gateway give it up, and the reading in it. So nothing is said of that one.
    """
    return 0 if board.link.name == UNO else counted(gateway, "readings_lost")


def test_everything_that_the_board_offers_is_used_and_shown(board: AnyBoard, gateway: Gateway) -> None:
    assert device(gateway)["extensions"] == ["sequence", "credit", "checksum", "floats", "counters"]
    assert "seq+credit+sum+float+count" in gateway.good("devices")
    until("the board tells its own counters", lambda: device(gateway)["board_counters"]["reported"] > 0)
    assert device(gateway)["board_counters"]["bad_checksums"] == 0
    assert counted(gateway, "link_grants") > 0


def test_bytes_that_nobody_sent_lose_no_alignment(board: AnyBoard, gateway: Gateway) -> None:
    noise = {"ok": True}
    until(
        "noise is noticed",
        lambda: board.ask("noise 00ff00") == noise and counted(gateway, "link_bad_checksums") > 0,
    )
    before = counted(gateway, "readings")
    until("readings come", lambda: counted(gateway, "readings") > before)
    assert counted(gateway, "link_desyncs") == 0
    assert counted(gateway, "uploads") == 0


def test_what_a_bad_line_loses_is_counted(board: AnyBoard, gateway: Gateway) -> None:
    assert lost(board, gateway) == 0
    until(
        "a lost reading is counted",
        lambda: board.ask("harm out") == {"ok": True} and counted(gateway, "readings_lost") > 0,
    )


def test_a_damaged_command_is_repeated_and_the_board_runs_on(board: AnyBoard, gateway: Gateway) -> None:
    role = device(gateway)["role"]
    assert board.ask("harm in") == {"ok": True}
    gateway.good("send", role, "fan", "true")  # or a grant that came before it: whatever it was, it is sent again
    until("the pin is on", lambda: board.ask("get 7")["value"] == 1)
    assert counted(gateway, "link_commands_damaged") == 1
    until("the board tells of it", lambda: device(gateway)["board_counters"]["bad_checksums"] == 1)
    assert state(gateway) == "running"
    assert device(gateway)["extensions"] == ["sequence", "credit", "checksum", "floats", "counters"]
    assert counted(gateway, "uploads") == 0
    assert lost(board, gateway) == 0  # it went on reporting until it was opened again


def test_a_managed_boards_graph_goes_on_after_a_damaged_command(mosquitto: Mosquitto, tmp_path: Path) -> None:
    graph = tmp_path / "thermometer.fbp"
    graph.write_text(FAST)
    with (
        running("host", tmp_path) as board,
        gateway_with(tmp_path / "gateway", CONFIG.format(mqtt=mosquitto.url)) as gateway,
    ):
        gateway.good("pair", str(board.link), "--role", "attic", "--graph", str(graph))
        gateway.start()
        until("readings come", lambda: counted(gateway, "readings") > 0)
        assert counted(gateway, "uploads") == 1
        assert board.ask("harm in") == {"ok": True}
        gateway.good("send", "attic", "fan", "true")
        until("the board was opened again", lambda: counted(gateway, "handshakes") > 0)
        until("the board runs", lambda: state(gateway) == "running")
        assert counted(gateway, "uploads") == 1
        assert counted(gateway, "readings_lost") == 0
        board.ask("reset")
        until("the board that restarted gets its graph again", lambda: counted(gateway, "uploads") == 2)


def test_the_line_is_shown_in_words_with_checksums_too(board: AnyBoard, gateway: Gateway) -> None:
    role = device(gateway)["role"]
    monitor = Process(*gateway.arguments("monitor", role))
    try:
        monitor.wait_line("packet sent sensor.out")
        gateway.good("send", role, "fan", "true")
        assert "fan.in: true" in monitor.wait_line("> send packet")
    finally:
        monitor.kill()


def test_after_a_reset_everything_is_agreed_on_again(board: AnyBoard, gateway: Gateway) -> None:
    assert board.ask("reset") == {"ok": True}
    until("the reset is noticed", lambda: counted(gateway, "handshakes") > 0)
    until("the board runs again", lambda: state(gateway) == "running")
    assert device(gateway)["extensions"] == ["sequence", "credit", "checksum", "floats", "counters"]
    before = counted(gateway, "readings")
    until("readings come again", lambda: counted(gateway, "readings") > before)
    assert lost(board, gateway) == 0


def test_floats_go_through_a_number_port_without_a_scale(tmp_path: Path, mosquitto: Mosquitto) -> None:
    graph = tmp_path / "echo.fbp"
    graph.write_text("INPORT=echo.IN:value\nOUTPORT=next.OUT:back\necho(Forward) OUT -> IN next(Forward)\n")
    with (
        running("host", tmp_path, graph) as board,
        gateway_with(tmp_path / "gateway", CONFIG.format(mqtt=mosquitto.url)) as gateway,
    ):
        gateway.good("pair", str(board.link), "--role", "echo", "--port", "value:type=number")
        gateway.start()
        until("the board runs", lambda: state(gateway) == "running")
        watch = Process(*gateway.arguments("watch", "echo.back"))
        try:
            until(
                "the float came back as it was",
                lambda: (
                    bool(gateway.good("send", "echo", "value", "21.54")) and any("  21.54" in x for x in watch.lines)
                ),
            )
        finally:
            watch.kill()


def test_flashing_borrows_the_port_from_a_running_gateway_and_gives_it_back(
    board: AnyBoard, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "avrdude").write_text(AVRDUDE)
    (directory / "avrdude").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    image = build("uno", GRAPH)
    for target in (gateway.json("devices")["devices"][0]["role"], str(board.link)):
        assert "is on the board" in gateway.good("flash", target, str(image))
        until("the board runs again", lambda: state(gateway) == "running")


def test_a_board_is_asked_while_the_gateway_runs(gateway: Gateway) -> None:
    role = gateway.json("devices")["devices"][0]["role"]
    assert gateway.json("firmware", "info", role)["firmware"]["graph"] == "thermometer"
    until("the board runs again", lambda: state(gateway) == "running")
