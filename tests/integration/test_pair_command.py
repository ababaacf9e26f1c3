"""``gateway pair``, ``devices``, ``set``, ``rename``, ``unpair`` and ``ports`` as commands, with and without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.boards.pair_list import load_list
from gateway.errors import ConfigError
from gateway.firmware.sources import component_map
from tests.support.gateway import (
    EXAMPLES,
    Gateway,
    SimulatedBoard,
    gateway_with,
    pair_thermometer,
    simulated_board,
    until,
)

TYPES = "{} must be one of any, boolean, integer, number, bang"
LIST = """\
[[board]]
port = "ttySIM"
role = "attic"
graph = "{examples}/thermometer.fbp"
components = "{components}"
[board.ports.temp]
type = "number"
scale = 0.01

[[board]]
port = "ttyNONE"
role = "cellar"
"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with simulated_board(tmp_path) as board:
        yield board


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with gateway_with(tmp_path) as gateway:
        yield gateway


def state_of(gateway: Gateway) -> str:
    return str(gateway.json("devices")["devices"][0]["state"])


def test_a_board_is_paired_listed_changed_and_forgotten_without_a_daemon(
    board: SimulatedBoard, gateway: Gateway
) -> None:
    pair_thermometer(gateway, board)
    (device,) = gateway.json("devices")["devices"]
    assert (device["role"], device["port"], device["state"]) == ("attic", str(board.link), "unknown")
    (port,) = [one for one in gateway.json("ports")["ports"] if one["board"]]
    assert (port["port"], port["board"], port["may_open"]) == (str(board.link), "attic", True)
    again = json.loads(gateway.good("pair", str(board.link), "--json"))["device"]
    assert (again["again"], again["state"], again["reason"]) == (True, "unknown", "no gateway runs")
    assert gateway.good("rename", "attic", "cellar") == f"{device['id']}: its role is cellar now (it was attic)\n"
    assert gateway.good("set", "cellar", "keep_running=true", "temp.unit=K").splitlines() == [
        "cellar: keep_running = true",
        "cellar: temp.unit = K",
    ]
    assert gateway.good("unpair", "cellar") == f"cellar: unpaired ({device['id']})\n"
    assert gateway.json("devices")["devices"] == []


def test_the_daemon_adopts_a_board_at_once_and_lets_it_go(board: SimulatedBoard, gateway: Gateway) -> None:
    gateway.start()
    pair_thermometer(gateway, board)
    until("the board runs", lambda: state_of(gateway) == "running")
    pair_thermometer(gateway, board, role="shed")
    until("it runs again, in its new role", lambda: state_of(gateway) == "running")
    assert gateway.json("devices")["devices"][0]["role"] == "shed"
    gateway.good("set", "shed", "boot_wait_s=0.5")
    gateway.daemon.wait_line("boot_wait_s was changed; connecting again")
    until("it runs again", lambda: state_of(gateway) == "running")
    told = [line for line in gateway.daemon.lines if "connecting again" in line]
    assert ["it is being paired again; connecting again" in line for line in told] == [True, False]
    trouble = [line for line in gateway.daemon.lines if "serial:" in line and "trying again" in line]
    assert [line for line in trouble if "no answer" not in line] == []  # a board's process may get no time for a while
    assert gateway.good("send", "shed", "fan", "true").startswith("shed.fan: confirmed by serial:")
    board.ask("unplug")
    until("its absence shows", lambda: state_of(gateway) == "absent")
    board.ask("plug")
    until("it is back", lambda: state_of(gateway) == "running")
    gateway.good("unpair", "shed")
    assert gateway.json("devices")["devices"] == []
    assert gateway.daemon.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("pair", "nothing"), 4, "there is no such port; see: gateway ports"),
        (("pair", "/dev/null"), 3, "is no serial port"),
        (("pair",), 2, "name the PORT of one board, or a list with --from FILE"),
        (("pair", "x", "--graph", "nowhere.fbp"), 4, "nowhere.fbp: no such graph"),
        (("pair", "x", "--port", "temp"), 2, "write NAME:type=…,scale=…,unit=…,topic=…,retained=…"),
        (("pair", "x", "--port", "temp:type=text"), 2, TYPES.format("temp:type=text: type text")),
        (
            ("pair", "x", "--port", "temp:colour=red"),
            2,
            "colour: there is no such key (there are: type, scale, unit, topic, retained)",
        ),
        (("pair", "x", "--port", "temp:scale=big"), 2, "--port temp:scale=big: scale must be a number"),
        (("pair", "x", "--port", "temp:scale=0"), 2, "a scale of 0 makes no sense"),
        (("pair", "x", "--port", "temp:retained=maybe"), 2, "temp:retained=maybe: retained must be true or false"),
        (("pair", "x", "--topic", "temp=a/#"), 2, "topic a/#: a topic to publish on can't have the wildcards"),
        (("pair", "x", "--topic", "temp=fbp"), 2, "topic fbp: fbp, gateway/… and $… are not for ports"),
        (("pair", "x", "--wire", "w9"), 4, "there is no such port"),
        (("pair", "--from", "nothing.toml"), 4, "nothing.toml: no such list of boards"),
        (("unpair", "nobody"), 4, "no paired board has this role or id (none is paired; see: gateway pair --help)"),
        (("set", "nobody", "baud=9600"), 4, "no paired board"),
        (("set", "nobody", "baud"), 2, "write KEY=VALUE"),
        (("pair", "/dev/null", "--role", "the attic"), 2, "role the attic: a role has letters, digits, _ and -"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    gateway: Gateway, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = gateway.run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_list_pairs_what_is_there_and_tells_what_is_not(
    board: SimulatedBoard, gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "boards.toml").write_text(LIST.format(examples=EXAMPLES, components=component_map()))
    done = gateway.run("pair", "--from", str(tmp_path / "boards.toml"))
    assert done.returncode == 4
    assert done.stdout.startswith("attic: paired as ttysim-")
    assert "1 of 2 boards could not be paired" in done.stderr
    assert [device["role"] for device in gateway.json("devices")["devices"]] == ["attic"]
    again = gateway.run("pair", "--from", str(tmp_path / "boards.toml"))
    assert again.stdout.startswith("attic: paired again as ttysim-")


def test_a_list_with_an_unknown_key_names_the_place(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "boards.toml").write_text('[[board]]\nport = "x"\ncolour = "red"\n')
    done = gateway.run("pair", "--from", str(tmp_path / "boards.toml"))
    assert done.returncode == 78
    assert "boards.toml: board[0].colour: unknown key (known: port, role, " in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[board]]\nport = "x"\nbaud = "fast"\n', "board[0].baud: 'fast': must be a whole number"),
        (
            '[[board]]\nport = "x"\n[board.ports.t]\ntype = "text"\n',
            'board[0].ports."t".type: \'text\': must be "any", ',
        ),
        ('[[board]]\nport = "x"\n[board.ports.t]\nscale = 0\n', "board[0]: a scale of 0 makes no sense"),
        (
            '[[board]]\nport = "x"\n[board.ports.t]\ntopic = "a/#"\n',
            "board[0]: topic a/#: a topic to publish on can't ",
        ),
        ('[[board]]\nport = "x"\n[board.ports.t]\ncolour = 0\n', "board[0].ports.t.colour: unknown key (known: type, "),
        (
            '[[board]]\nport = "x"\n[board.ports.t.delivery]\nmode = "often"\n',
            "board[0].ports.t.delivery: unknown key (known: type, scale, unit, topic, retained)",
        ),
        ('[[board]]\nrole = "x"\n', "board[0].port: is missing: which port is the board on?"),
        ('[boards]\nport = "x"\n', "boards.toml: boards: a list has tables [[board]], and nothing else"),
        ("board = 3\n", "boards.toml: board: a list has tables [[board]], and nothing else"),
        ("board = [3]\n", "boards.toml: board[0]: must be a table"),
    ],
)
def test_what_is_wrong_in_a_list_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "boards.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_list(tmp_path / "boards.toml")
    assert words in str(caught.value)


def test_a_board_that_reports_only_16_bits_is_paired_with_that_said(tmp_path: Path, gateway: Gateway) -> None:
    board = SimulatedBoard(tmp_path, EXAMPLES / "thermometer.fbp", "--wire", "w8-0.6")
    try:
        said = gateway.good(
            *("pair", str(board.link), "--graph", f"{EXAMPLES}/thermometer.fbp"),
            *("--components", str(component_map()), "--wire", "w8-0.6"),
        )
    finally:
        board.process.stop()
    assert "ports: fan (in), temp (out, int16)" in said


def test_ports_are_listed_without_opening_any(gateway: Gateway) -> None:
    for port in json.loads(gateway.good("ports", "--json"))["ports"]:
        assert {"port", "board", "holder", "may_open", "what", "serial_number", "identity"} <= port.keys()


def test_a_damaged_registry_stops_every_command_with_the_way_back(board: SimulatedBoard, gateway: Gateway) -> None:
    pair_thermometer(gateway, board)
    gateway.good("rename", "attic", "cellar")
    registry = gateway.state / "devices.json"
    registry.write_bytes(b"")
    for command in (("devices",), ("check",), ("run",), ("pair", str(board.link))):
        done = gateway.run(*command)
        assert done.returncode == 78, command
        assert f"cp {registry}.1 {registry}" in done.stderr
    registry.write_bytes(Path(f"{registry}.1").read_bytes())
    assert gateway.json("devices")["devices"][0]["role"] == "attic"


REFUSED = [
    (("set", "attic", "colour=red"), 2, "set colour: there is no such setting (there are: baud, "),
    (("set", "attic", "usb_reauthorise=perhaps"), 2, "set usb_reauthorise=perhaps: must be true or false"),
    (("set", "attic", "temp.type=text"), 2, TYPES.format("set temp.type=text:")),
    (("set", "attic", "temp.mode=sturdy"), 2, 'set temp.mode=sturdy: must be "volatile", "held" or "stored"'),
    (("set", "attic", "temp.dead_letter=x"), 2, "dead letter 'x': write mqtt:TOPIC"),
    (("set", "attic", "heat.unit=K"), 4, "set heat.unit: port heat: the graph exports no such port"),
    (("rename", "attic", "the attic"), 2, "role the attic: a role has letters, digits, _ and -"),
]


@pytest.mark.parametrize("with_daemon", [True, False], ids=["daemon", "alone"])
def test_a_change_that_cannot_be_is_one_line_with_its_exit_code(
    board: SimulatedBoard, gateway: Gateway, *, with_daemon: bool
) -> None:
    if with_daemon:
        gateway.start()
    pair_thermometer(gateway, board)
    before = gateway.state.joinpath("devices.json").read_bytes()
    for arguments, code, words in REFUSED:
        done = gateway.run(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert words in done.stderr
    assert gateway.state.joinpath("devices.json").read_bytes() == before
