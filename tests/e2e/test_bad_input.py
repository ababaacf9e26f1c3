"""``gateway run`` where something is wrong: one line that names the place and the remedy, the right exit code."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from examples.private_rabbitmq import free_port
from tests.support.gateway import EXAMPLES, Gateway, gateway_with, pair_thermometer, simulated_board, until

BROKER = '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway without a broker that answers."""
    with gateway_with(tmp_path / "gateway", BROKER) as gateway:
        gateway.state.mkdir()
        yield gateway


def refused(gateway: Gateway, code: int, *words: str, options: tuple[str, ...] = ()) -> None:
    """``run`` ends by itself with this code, and its last line, the only one of its kind, has all these words."""
    done = gateway.run("run", *options)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("gateway: ")
    assert sum(one.startswith("gateway: ") for one in done.stderr.splitlines()) == 1
    for word in words:
        assert word in line


def test_a_port_that_was_asked_for_and_is_taken(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(gateway, 5, f"127.0.0.1:{port}", "address already in use", "http.listen", options=("--port", port))


def test_a_server_that_nobody_asked_for_is_left_out_where_its_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        taken = socket.create_server(("127.0.0.1", 3569))
    except OSError:
        taken = socket.socket()  # somebody has it: just as well
    with taken, gateway_with(tmp_path / "gateway", BROKER) as gateway:
        monkeypatch.setattr("tests.support.gateway.clean_environment", environment_as_it_is)
        gateway.start()
        assert "3569" in gateway.daemon.wait_line("going on without editors")
        assert gateway.status()["gateway"]["instance"]


def environment_as_it_is() -> dict[str, str]:
    """Without the port of tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "MSGFLO_"))}


def test_a_state_directory_that_can_not_be_made(tmp_path: Path) -> None:
    with gateway_with(tmp_path / "gateway", BROKER) as gateway:
        gateway.state.write_text("a file")
        refused(gateway, 1, f"state directory {gateway.state}", "--state-dir")


def test_a_state_directory_on_a_disk_that_is_read_only(gateway: Gateway) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount")
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(gateway.state)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    try:
        refused(gateway, 1, f"state directory {gateway.state}: Read-only file system", "--state-dir")
    finally:
        subprocess.run(["umount", "-l", str(gateway.state)], check=True)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"[]"])
def test_a_damaged_registry_comes_with_the_line_that_restores_it(
    tmp_path: Path, gateway: Gateway, damage: Callable[[bytes], bytes]
) -> None:
    registry = gateway.state / "devices.json"
    with simulated_board(tmp_path) as board:
        pair_thermometer(gateway, board)
        gateway.good("rename", "attic", "loft")
        registry.write_bytes(damage(registry.read_bytes()))
        restore = f"cp {registry}.1 {registry}"
        refused(gateway, 78, f"{registry}: the registry of boards is damaged", restore)
        subprocess.run(restore.split(), check=True)
        gateway.start()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b"no database at all" * 1000), id="garbage"),
        pytest.param(lambda path: path.write_bytes(b""), id="zero bytes"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), id="cut short"),
    ],
)
def test_a_damaged_spool_is_left_alone_and_comes_with_the_line_that_sets_it_aside(
    gateway: Gateway, damage: Callable[[Path], object]
) -> None:
    gateway.start()
    assert gateway.daemon.stop() == 0
    spool = gateway.state / "spool.db"
    damage(spool)
    before = spool.read_bytes()
    refused(gateway, 78, f"spool: {spool} is damaged", ".recover", "mv ")
    assert spool.read_bytes() == before
    done = gateway.run("run")
    command = done.stderr.rpartition("aside with `")[2].partition("`")[0]
    subprocess.run(["sh", "-c", command], check=True)
    gateway.start()


def test_a_spool_that_is_no_file(gateway: Gateway) -> None:
    (gateway.state / "spool.db").mkdir()
    refused(gateway, 1, f"{gateway.state}/spool.db")


@pytest.mark.parametrize(
    ("name", "text", "code", "words"),
    [
        ("g.fbp", "a(A) OUT -> -> b\n", 78, "g.fbp:1:"),
        ("g.fbp", "a(A) OUT -> IN\n", 78, "no node IN"),
        ("g.fbp", "a(A) OUT -> IN b(B)\nc OUT ->\n", 78, "g.fbp:2:"),
        ("g.json", "{", 78, "g.json"),
        ("g.json", '{"processes": []}', 78, "g.json"),
        ("g.json", "\x00\x01", 78, "g.json"),
        ("g.txt", "a(A) OUT -> IN b(B)", 78, "g.txt"),
    ],
)
def test_a_graph_that_is_none(gateway: Gateway, tmp_path: Path, name: str, text: str, code: int, words: str) -> None:
    graph = tmp_path / name
    graph.write_text(text)
    refused(gateway, code, words, options=("--graph", str(graph)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('[http]\nsecret_file = "{d}/none"\n', ("{d}/none", "http.secret_file", "No such file")),
        ('[http]\nlisten = "0.0.0.0:0"\n', ("http.listen", "secret_file")),
        ('[mqtt]\nurl = "mqtts://127.0.0.1:1"\nca_file = "{d}/none"\n', ("mqtt.ca_file", "{d}/none")),
        ('[mqtt]\nurl = "mqtt://a@127.0.0.1:1"\npassword_file = "{d}/none"\n', ("mqtt.password_file", "{d}/none")),
        ('[amqp]\nurl = "amqps://127.0.0.1:1"\nca_file = "{d}/none"\n', ("amqp.ca_file", "{d}/none")),
        ('[amqp]\nurl = "amqp://127.0.0.1:1"\nimport = ["a={d}/none.yaml"]\n', ("{d}/none.yaml", "amqp.import")),
        ('[coordinator]\nlibrary = "{d}/none"\n', ("{d}/none", "coordinator.library")),
        ('[delivery.edge."a.b->c.d"]\nmode = "hold"\n', ("delivery.edge", "hold")),
        ('[gateway]\ninstance = "a/b"\n', ("gateway.instance",)),
    ],
)
def test_what_the_configuration_names_and_is_not_so(tmp_path: Path, config: str, words: tuple[str, ...]) -> None:
    text = config.format(d=tmp_path)
    with gateway_with(tmp_path / "gateway", text if "[mqtt]" in text else BROKER + text) as gateway:
        done = gateway.run("run") if "[http]\nlisten" not in text else run_without_variable(gateway)
        assert (done.returncode, done.stdout) == (78, ""), done.stderr
        assert "Traceback" not in done.stderr
        for word in words:
            assert word.format(d=tmp_path) in done.stderr.splitlines()[-1]


def run_without_variable(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    """``run`` with what the file says of the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.gateway.clean_environment", environment_as_it_is)
        return gateway.run("run")


def test_a_file_of_participants_that_is_damaged_is_made_anew(gateway: Gateway) -> None:
    (gateway.state / "participants.json").write_bytes(b"\x00")
    gateway.start()
    assert "made anew" in gateway.daemon.wait_line("participants.json can't be read")


def test_every_broker_away_is_no_reason_not_to_start(tmp_path: Path) -> None:
    config = f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n[amqp]\nurl = "amqp://127.0.0.1:{free_port()}"\n'
    config += f'[coordinator]\ngraph = "{EXAMPLES / "demo.fbp"}"\n'
    with gateway_with(tmp_path / "gateway", config) as gateway:
        gateway.start()
        for link in ("mqtt", "amqp"):
            until(f"{link} says why it is not up", partial(says_that_nobody_listens, gateway, link))
        assert gateway.daemon.stop() == 0


def says_that_nobody_listens(gateway: Gateway, link: str) -> bool:
    """Whether that is told as the reason why a broker is away."""
    reason = next(str(one["reason"]) for one in gateway.status()["links"] if one["name"] == link).lower()
    return "connection refused" in reason or "can't" in reason
