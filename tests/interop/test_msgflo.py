"""Our participants and tools together with MsgFlo's own, on real brokers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.conftest import Msgflo, environment
from tests.support.gateway import COMMAND, gateway_with, until
from tests.support.lines import Program
from tests.support.mosquitto import Mosquitto
from tests.support.peer import AmqpPeer, MqttPeer, peer_on

PYTHON_PART = """
    import msgflo

    class Count(msgflo.Participant):
        def __init__(self, role):
            msgflo.Participant.__init__(self, {"component": "PythonCount"}, role)
            self.count = 0

        def process(self, inport, msg):
            self.count += 1
            self.send("out", [self.count, msg.data])
            self.ack(msg)
"""

LAMP = """
component: house/Lamp
inports:
  on: {queue: "#ROLE/on"}
"""


@contextmanager
def python_participant(directory: Path, role: str, broker: str) -> Iterator[Program]:
    """A file for the old library, run by us, once it is connected."""
    file = directory / "count.py"
    file.write_text(textwrap.dedent(PYTHON_PART))
    with ours(directory, "participant", "run", str(file), role, "--broker", broker) as program:
        program.wait_line("running on")
        yield program


def ours(directory: Path, *arguments: str) -> Program:
    """A command of ours."""
    return Program([str(COMMAND), *arguments], directory, environment())


def until_answered(peer: AmqpPeer | MqttPeer, inport: str, outport: str, body: bytes) -> list[bytes]:
    """Send until something comes out: a subscription of somebody else can't be seen."""

    def answered() -> bool:
        peer.send(inport, body)
        return bool(peer.heard.now(outport))

    until(f"there is something on {outport}", answered)
    return peer.heard.now(outport)


def names(unique: str, *roles: str) -> tuple[str, ...]:
    """Roles that no other test on the shared broker has, fit for a graph."""
    return tuple(f"{unique.replace('.', '_')}{role}" for role in roles)


def test_the_real_coordinator_wires_our_participants_to_those_of_msgflo_nodejs(
    tmp_path: Path, msgflo: Msgflo, broker: str, unique: str
) -> None:
    a, b, c = names(unique, "a", "b", "c")
    graph = f"{a}(NodeRepeat) OUT -> IN {b}(PythonCount) OUT -> IN {c}(NodeRepeat)"
    with (
        peer_on(broker, takes_discovery=False) as peer,
        msgflo.participant(a, broker),
        python_participant(tmp_path, b, broker),
        msgflo.participant(c, broker),
        msgflo.coordinator(tmp_path, graph, broker),
    ):
        peer.listen(f"{c}.OUT")
        said = until_answered(peer, f"{a}.IN", f"{c}.OUT", b'{"n": 5}')
        count, data = json.loads(said[0])
        assert (count >= 1, data) == (True, {"n": 5})  # what went through b before c was there, nobody heard


def test_the_real_coordinator_starts_our_participants_by_its_library_and_sends_them_iips(
    tmp_path: Path, msgflo: Msgflo, broker: str, unique: str
) -> None:
    (role,) = names(unique, "count")
    (tmp_path / "count.py").write_text(textwrap.dedent(PYTHON_PART))
    command = f"{COMMAND} participant run count.py #ROLE"
    library = json.dumps({"components": {"PythonCount": command}})
    with peer_on(broker) as peer:
        if isinstance(peer, AmqpPeer):
            peer.do(peer.channel.declare_exchange(f"{role}/out", "fanout", durable=True))
        peer.listen(f"{role}/out")
        with msgflo.coordinator(tmp_path, f"'hello' -> IN {role}(PythonCount)", broker, library):
            assert peer.definition(role)["component"] == "PythonCount"
            assert json.loads(peer.wait(f"{role}/out", 1)[0]) == [1, "hello"]


def test_our_setup_wires_participants_of_msgflo_nodejs_by_what_they_announce(
    tmp_path: Path, msgflo: Msgflo, broker: str, unique: str
) -> None:
    a, b = names(unique, "a", "b")
    (tmp_path / "graph.fbp").write_text(f"{a}(NodeRepeat) OUT -> IN {b}(NodeRepeat)")
    with (
        peer_on(broker, takes_discovery=False) as peer,
        msgflo.participant(a, broker),
        msgflo.participant(b, broker),
        ours(tmp_path, "msgflo", "setup", "graph.fbp", "--discover", "--forever", "--broker", broker) as setup,
    ):
        setup.wait_line("keeping alive")
        peer.listen(f"{b}.OUT")
        assert json.loads(until_answered(peer, f"{a}.IN", f"{b}.OUT", b'"hi"')[0]) == "hi"


def test_what_a_node_participant_refuses_goes_through_our_round_robin_to_a_python_participant(
    tmp_path: Path, msgflo: Msgflo, rabbitmq: str, unique: str
) -> None:
    src, share, worker, dead = names(unique, "src", "share", "w", "dead")
    broker = rabbitmq.rstrip("/")
    (tmp_path / "graph.fbp").write_text(
        f"{src}(NodeRepeat) OUT -> IN {share}(msgflo/RoundRobin) OUT -> IN {worker}(NodeRepeat)\n"
        f"{share} DEADLETTER -> IN {dead}(PythonCount)\n"
    )
    with (
        AmqpPeer(broker, takes_discovery=False) as peer,
        msgflo.participant(src, broker),
        msgflo.participant(worker, broker),
        python_participant(tmp_path, dead, broker),
        ours(tmp_path, "msgflo", "setup", "graph.fbp", "--discover", "--broker", broker) as setup,
    ):
        setup.wait_line("ROUNDROBIN:")
        peer.listen(f"{worker}.OUT")
        peer.listen(f"{dead}/out")
        peer.send(f"{src}.IN", b'"good"')
        peer.send(f"{worker}.IN", b'"refuse"')
        assert peer.wait(f"{worker}.OUT", 1) == [b'"good"']
        assert json.loads(peer.wait(f"{dead}/out", 1)[0]) == [1, "refuse"]


def test_the_real_coordinator_finds_the_foreign_participants_that_we_announce(
    tmp_path: Path, msgflo: Msgflo, mosquitto: Mosquitto, unique: str
) -> None:
    a, lamp = names(unique, "a", "lamp")
    url = mosquitto.url
    (tmp_path / "lamp.yaml").write_text(LAMP)
    register = ("msgflo", "register", "--role", f"{lamp}:lamp.yaml", "--interval", "3", "--broker", url)
    with (
        MqttPeer(url) as peer,
        msgflo.participant(a, url),
        ours(tmp_path, *register),
        msgflo.coordinator(tmp_path, f"{a}(NodeRepeat) OUT -> ON {lamp}(house/Lamp)", url),
    ):
        peer.listen(f"{lamp}/on")
        assert until_answered(peer, f"{a}.IN", f"{lamp}/on", b"true")[0] == b"true"


def test_our_coordinator_wires_participants_of_msgflo_nodejs_on_both_brokers_and_ours_between(
    tmp_path: Path, msgflo: Msgflo, mosquitto: Mosquitto, rabbitmq: str, unique: str
) -> None:
    a, b, c, d = names(unique, "a", "b", "c", "d")
    amqp, mqtt = rabbitmq.rstrip("/"), mosquitto.url
    (tmp_path / "house.fbp").write_text(
        f"{a}(NodeRepeat) OUT -> IN {b}(PythonCount) OUT -> IN {c}(NodeRepeat) OUT -> IN {d}(NodeRepeat)\n"
    )
    config = textwrap.dedent(f"""
        [mqtt]
        url = "{mqtt}"
        [amqp]
        url = "{amqp}"
        discover = "on"
        [coordinator]
        graph = "{tmp_path}/house.fbp"
        [http]
        listen = "127.0.0.1:0"
    """)
    with (
        gateway_with(tmp_path / "gateway", config) as gateway,
        MqttPeer(mqtt) as peer,
        msgflo.participant(a, mqtt),
        python_participant(tmp_path, b, amqp),
        msgflo.participant(c, amqp),
        msgflo.participant(d, mqtt),
    ):
        gateway.start()
        peer.listen(f"{d}.OUT")
        said = until_answered(peer, f"{a}.IN", f"{d}.OUT", b'{"n": 5}')
        assert json.loads(said[0])[1] == {"n": 5}


def test_our_setup_starts_noflo_networks_and_our_participants_and_wires_them(
    tmp_path: Path, noflo: Path, broker: str, unique: str
) -> None:
    a, b = names(unique, "a", "b")
    program = f"{noflo}/node_modules/.bin/noflo-runtime-msgflo"
    components = {"Repeat": f"{program} --name #ROLE --graph core/Repeat --basedir {noflo} --iips #IIPS"}
    (tmp_path / "package.json").write_text(json.dumps({"name": "house", "msgflo": {"components": components}}))
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "Count.py").write_text(textwrap.dedent(PYTHON_PART))
    (tmp_path / "graph.fbp").write_text(f"{a}(Repeat) OUT -> IN {b}(house/Count)")
    options = ("--participants", "--discover", "--broker", broker)
    with (
        peer_on(broker, takes_discovery=False) as peer,
        ours(tmp_path, "msgflo", "setup", "graph.fbp", *options) as setup,
    ):
        assert setup.wait_line("PUBSUB") == f" PUBSUB: \t {a}.OUT -> {b}/in"
        peer.listen(f"{b}/out")
        assert json.loads(until_answered(peer, f"{a}.IN", f"{b}/out", b'"hi"')[0]) == [1, "hi"]
