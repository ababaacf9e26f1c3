"""MsgFlo's command line tools: the same options, on real brokers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from tests.support.gateway import COMMAND, Process, clean_environment
from tests.support.mosquitto import Mosquitto
from tests.support.peer import AmqpPeer, MqttPeer, peer_on

WAIT_S = 120.0

PARTS = {
    "Double.py": """
import msgflo
class Double(msgflo.Participant):
    def __init__(self, role):
        queues = {"in": role + ".IN", "out": role + ".OUT", "error": role + ".ERROR"}
        super().__init__({"component": "Double", "inports": [{"id": "in", "queue": queues["in"]}],
                          "outports": [{"id": "out", "queue": queues["out"]}]}, role)
        self.factor = 2
    def process(self, inport, msg):
        if msg.data == "odd":
            return self.nack(msg)
        self.send("out", msg.data * self.factor)
        self.ack(msg)
""",
}


def tool(*arguments: str, code: int = 0) -> str:
    """The output of a tool that ends with this exit code."""
    done = subprocess.run(
        [str(COMMAND), "msgflo", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(*arguments: str) -> Iterator[Process]:
    """A tool that stays."""
    process = Process("msgflo", *arguments)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(params=["amqp", "mqtt"])
def broker(request: pytest.FixtureRequest) -> str:
    """The url of a real broker, one of each kind."""
    if request.param == "amqp":
        return str(request.getfixturevalue("rabbitmq"))
    return str(request.getfixturevalue("mosquitto").url)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A directory of participants."""
    (tmp_path / "components").mkdir()
    for name, text in PARTS.items():
        (tmp_path / "components" / name).write_text(text)
    return tmp_path


def graph(house: Path, text: str) -> str:
    """A graph file."""
    path = house / "graph.fbp"
    path.write_text(text)
    return str(path)


def test_messages_sent_to_a_queue_can_be_dumped(rabbitmq: str, unique: str) -> None:
    queue, broker = ("--queue", f"{unique}in"), ("--broker", rabbitmq)
    with AmqpPeer(rabbitmq) as peer:
        peer.do(peer.channel.declare_queue(f"{unique}in", durable=True))
        peer.send(f"{unique}in", b"no json")
    for data in ('{"a": "\u00e4"}', "3"):
        assert tool("send-message", *queue, *broker, "--json", data) == ""
    assert tool("dump-message", *queue, *broker) == '"no json"\n'
    assert tool("dump-message", *queue, *broker, "--amount", "2") == '[{"a":"\u00e4"},3]\n'


def test_a_topic_can_be_dumped(mosquitto: Mosquitto, unique: str) -> None:
    with (
        running("dump-message", "--broker", mosquitto.url, "--queue", f"{unique}in") as dump,
        peer_on(mosquitto.url) as peer,
    ):
        while dump.running:
            peer.send(f"{unique}in", b"[true]")
        assert dump.stop() == 0
        assert dump.lines == ["[true]"]


def test_sending_to_a_queue_that_is_not_there_says_so(rabbitmq: str, unique: str) -> None:
    said = tool("send-message", "--queue", f"{unique}x", "--broker", rabbitmq, "--json", "1", code=1)
    assert f"there is no queue {unique}x" in said


def test_no_broker_is_exit_code_3() -> None:
    assert "amqp: " in tool("send-message", "--queue", "x", "--broker", "amqp://127.0.0.1:1", "--json", "1", code=3)


LAMP = """
component: house/Lamp
inports:
  on: {queue: "#ROLE/switch/on", type: boolean}
outports:
  state: {queue: "#ROLE/state"}
"""


def test_foreign_participants_are_announced_again_and_again(tmp_path: Path, broker: str, unique: str) -> None:
    (tmp_path / "lamp.yaml").write_text(LAMP)
    roles = ("--role", f"{unique}a:{tmp_path}/lamp.yaml", "--role", f"{unique}b:{tmp_path}/lamp.yaml")
    with peer_on(broker) as peer, running("register", *roles, "--broker", broker, "--interval", "1.1") as register:
        register.wait_line(f"Sent discovery message for {unique}b")
        assert peer.definition(f"{unique}a")["inports"] == [
            {"queue": f"{unique}a/switch/on", "type": "boolean", "id": "on"}
        ]
        peer.heard.wait_for("three of each", lambda: len(peer.heard.now("fbp")) >= 6)
        assert len(register.lines) == 2
        (tmp_path / "bad.yaml").write_text("label: x")
    skipping = ("--skip-bad", "--role", f"x:{tmp_path}/bad.yaml", "--forever", "false", "--broker", broker)
    said = tool("register", *roles[:2], *skipping)
    assert f"Sent discovery message for {unique}a\n" in said
    assert "bad.yaml: component: must name the kind" in said
    once = ("register-foreign", f"{tmp_path}/lamp.yaml", "--role", f"{unique}c", "--broker", broker)
    assert tool(*once) == f"Sent discovery message for {unique}c\n"
    again = ("register", *roles[:2], "--forever", "false", "--broker", broker)
    assert tool(*again) == f"Sent discovery message for {unique}a\n"


def test_a_graph_is_set_up_with_its_participants_and_ends_with_them(house: Path, broker: str, unique: str) -> None:
    a, b = f"{unique}a".replace(".", "_"), f"{unique}b".replace(".", "_")
    file = graph(house, f"{a}(Double) OUT -> IN {b}(Double)")
    options = ("--broker", broker, "--participants", "--forever", "--componentdir", str(house / "components"))
    with peer_on(broker) as peer, running("setup", file, *options) as setup:
        assert setup.wait_line("Set up participants") == f"Set up participants [ '{a}', '{b}' ]"
        setup.wait_line("--forever enabled, keeping alive")
        assert f" PUBSUB: \t {a}.OUT -> {b}.IN" in setup.lines
        assert peer.definition(a)
        assert peer.definition(b)
        peer.listen(f"{b}.OUT")
        until_answered(peer, f"{a}.IN", f"{b}.OUT", b"5")
        assert set(peer.heard.now(f"{b}.OUT")) == {b"20"}
        assert setup.stop() == 0
        assert f"{a}: {a}(Double) running on {broker.partition(':')[0]}://127.0.0.1" in setup.lines


def until_answered(peer: AmqpPeer | MqttPeer, inport: str, outport: str, body: bytes) -> None:
    """Send until something comes out: on MQTT nobody can see when a subscription of another one is there."""
    deadline = time.monotonic() + WAIT_S
    while not peer.heard.now(outport):
        assert time.monotonic() < deadline, f"nothing on {outport}"
        peer.send(inport, body)
        time.sleep(0.1)


def test_a_round_robin_on_amqp_shares_the_work_and_takes_dead_letters(house: Path, rabbitmq: str, unique: str) -> None:
    r = unique.replace(".", "_")
    file = graph(
        house,
        f"""
        {r}src(Double) OUT -> IN {r}share(msgflo/RoundRobin)
        {r}share OUT -> IN {r}w(Double)
        {r}share DEADLETTER -> IN {r}dead(Double)
        """,
    )
    options = ("--broker", rabbitmq, "--participants", "--componentdir", str(house / "components"))
    with AmqpPeer(rabbitmq) as peer, running("setup", file, *options) as setup:
        setup.wait_line("keeping alive")
        assert f" DEADLETTER:\t {r}w.IN -> {r}dead.IN" in setup.lines
        assert f"ROUNDROBIN:\t {r}src.OUT -> {r}w.IN" in setup.lines
        peer.listen(f"{r}w.OUT")
        peer.send(f"{r}src.IN", b"5")
        assert peer.wait(f"{r}w.OUT", 1) == [b"20"]
        peer.send(f"{r}w.IN", b'"odd"')
        peer.listen_queue(f"dead-{r}dead.IN")  # the one for dead letters refuses it in turn
        assert peer.wait(f"dead-{r}dead.IN", 1) == [b'"odd"']


def test_with_discover_the_queues_are_those_announced(tmp_path: Path, broker: str, unique: str) -> None:
    (tmp_path / "lamp.yaml").write_text(LAMP)
    a, b = f"{unique}a".replace(".", "_"), f"{unique}b".replace(".", "_")
    (tmp_path / "graph.fbp").write_text(f"{a}(house/Lamp) STATE -> ON {b}(house/Lamp)")
    roles = ("--role", f"{a}:{tmp_path}/lamp.yaml", "--role", f"{b}:{tmp_path}/lamp.yaml")
    with peer_on(broker) as peer:
        if isinstance(peer, AmqpPeer):
            peer.do(peer.channel.declare_queue(f"{b}/switch/on", durable=True))
            peer.do(peer.channel.declare_exchange(f"{a}/state", "fanout", durable=True))
    with running("register", *roles, "--broker", broker, "--interval", "1.1") as register:
        register.wait_line(f"for {b}")
        with running("setup", str(tmp_path / "graph.fbp"), "--discover", "--broker", broker) as setup:
            assert setup.wait_line("PUBSUB") == f" PUBSUB: \t {a}/state -> {b}/switch/on"


def test_who_is_not_heard_in_time_is_named(tmp_path: Path, broker: str, unique: str) -> None:
    role = f"{unique}nobody".replace(".", "_")
    (tmp_path / "graph.fbp").write_text(f"{role}(A) OUT -> IN {role}2(A)")
    options = ("--broker", broker, "--timeout", "1")
    said = tool("setup", str(tmp_path / "graph.fbp"), "--discover", *options, code=3)
    assert f"not heard within 1 s: {role}, {role}2; are they running?" in said
    if broker.startswith("amqp"):
        assert f"queue {role}2.IN is not there yet" in tool("setup", str(tmp_path / "graph.fbp"), *options, code=3)


def test_a_procfile_has_a_line_for_each_participant(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house)
    Path("package.json").write_text('{"msgflo": {"components": {"Lamp": "./lamp --role #ROLE --data #IIPS"}}}')
    file = graph(house, "a(Lamp) OUT -> IN r(msgflo/RoundRobin) OUT -> IN b(Double), '\"x\"' -> IN a, c(Nowhere)")
    done = CliRunner().invoke(main, ["msgflo", "procfile", file, "--ignore", "c", "--include", "web: ./serve"])
    assert done.output.splitlines() == [
        """a: ./lamp --role a --data '{"in": "\\"x\\""}'""",
        "b: gateway participant run components/Double.py b --iips '{}'",
        "web: ./serve",
    ]
    done = CliRunner().invoke(main, ["msgflo", "procfile", file])
    assert (done.exit_code, done.output.splitlines()[-1]) == (
        1,
        f"gateway: {file}: No component Nowhere defined for role c",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("send-message",), "Missing queue to send to (--queue)"),
        (("send-message", "--queue", "a"), "Missing message payload (--json)"),
        (("send-message", "--queue", "a", "--json", "{"), "Invalid JSON:"),
        (("send-message", "--queue", "a", "--json", "NaN"), "Invalid JSON: NaN is no JSON"),
        (("send-message", "--queue", "a", "--json", "[" * 100_000), "Invalid JSON:"),
        (("register", "--role", "a"), "write ROLE:FILE.yaml"),
    ],
)
def test_a_wrong_use_says_why(arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(main, ["msgflo", *arguments])
    assert (done.exit_code, words in done.output) == (2, True)
