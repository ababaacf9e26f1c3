"""What a participant says of itself, and what a graph asks to be wired."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.errors import ConfigError, PortUnknown
from gateway.fbp.text.language import parse
from gateway.model.address import amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import BindingKind
from gateway.model.port import PortRef
from gateway.participant.core.definition import (
    announcement,
    complete_definition,
    decode,
    encode,
    parse_iips,
    seat,
)
from gateway.participant.core.msgflo_setup import (
    Forwarding,
    amqp_bindings,
    iips_by_role,
    joint_lines,
    joints_of,
    static_queues,
    wires_of,
)
from gateway.participant.gevent_shim import stand_in
from gateway.participant.run import make_broker

CLASS = """\
from gateway.participant import Participant
class Mine(Participant):
    def __init__(self, role):
"""


def test_a_definition_gets_what_it_leaves_out() -> None:
    done = complete_definition({"component": "A"}, "hall", "1f")
    assert done == {
        "component": "A",
        "role": "hall",
        "id": "hall-1f",
        "icon": "file-word-o",
        "label": "",
        "inports": [{"type": "any", "id": "in", "queue": "hall/in"}],
        "outports": [{"type": "any", "id": "out", "queue": "hall/out"}],
    }


def test_what_a_definition_says_itself_stays_and_only_seven_keys_are_announced() -> None:
    ports = [{"id": "x", "queue": "q", "schema": "s"}]
    done = complete_definition({"component": "A", "id": "me", "mine": 1, "inports": ports, "outports": []}, "r", "1")
    payload = json.loads(announcement(done))["payload"]
    assert set(payload) == {"id", "icon", "role", "component", "label", "inports", "outports"}
    assert (payload["id"], payload["inports"]) == ("me", [{"type": "any", "id": "x", "queue": "q", "schema": "s"}])


@pytest.mark.parametrize(
    ("definition", "role", "message"),
    [
        ({}, "r", "participant r: component: must name"),
        ({"component": "A"}, "", "participant .: role: must not be empty"),
        ({"component": "A", "inports": {}}, "r", "participant r: inports: must be a list"),
        ({"component": "A", "outports": [{"type": "any"}]}, "r", r"participant r: outports\[0\]: must have an id"),
        ({"component": "A", "inports": [{"id": "a"}, {"id": "a"}]}, "r", "inports: two ports of one name among a, a"),
        ({"component": "A", "inports": [{"id": "a", "queue": 5}]}, "r", r"inports\[0\]: queue must be a text, not 5"),
        ({"component": "A", "id": 5}, "r", "participant r: id: must be a text"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_place(definition: dict[str, Any], role: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_definition(definition, role, "1")


def test_ports_are_topics_on_mqtt_and_queues_and_exchanges_on_amqp() -> None:
    done = complete_definition({"component": "A"}, "hall", "1f")
    assert seat(done, "mqtt").outport("out") == mqtt("hall/out")
    place = seat(done, "amqp")
    assert list(place.inports) == [amqp_queue("hall/in")]
    assert place.outport("out") == amqp_exchange("hall/out")
    with pytest.raises(PortUnknown, match=r"hall.other: role hall has no outport other \(it has: out\)"):
        place.outport("other")


def test_a_port_is_its_name_and_its_dictionary_too() -> None:
    [port] = seat(complete_definition({"component": "A"}, "hall", "1"), "mqtt").inports.values()
    assert port == "in"
    assert (port["id"], port["queue"], port[0], port[:1]) == ("in", "hall/in", "i", "i")


@pytest.mark.parametrize("data", [None, True, 0, -1.5, 10**30, "ä", [1, [2]], {"a": {"b": None}}])
def test_data_comes_back_as_it_was(data: Any) -> None:
    assert decode(encode(data)) == (data, True)


@pytest.mark.parametrize("body", [b"", b"plain", b"\xff", b"NaN", b"[" * 100_000, b"{'a': 1}"])
def test_what_is_no_json_stays_bytes(body: bytes) -> None:
    assert decode(body) == (body, False)
    assert encode(body) == body


@pytest.mark.parametrize("url", ["mqtt://[::1", "amqp://[::1", "mqtt://h:x", "amqp://h:x", "amqp://h:99999", "x", ""])
def test_a_broker_that_is_no_address_is_refused_before_anything_is_connected(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_broker(url, "r")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def (", r"SyntaxError: invalid syntax \(line 1\)"),
        ("x = 1\n\nraise RuntimeError('no\\nway')", r"RuntimeError: no way \(line 3\)"),
        ("\0", "null bytes"),
        (f"{CLASS}        raise ValueError('never')", r"ValueError: never \(line 4\)"),
        (f"{CLASS}        super().__init__({{'component': 5}}, role)", "component: must name the kind"),
    ],
)
def test_what_fails_in_the_authors_file_is_said_with_its_place(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    result = CliRunner().invoke(main, ["participant", "run", str(file), "r", "--broker", "mqtt://localhost:1"])
    assert result.exit_code in (1, 78)
    assert re.search(problem, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1
    assert "a bug" not in result.stderr


def test_iips_are_an_object_of_ports() -> None:
    assert parse_iips('{"in": [1]}', "--iips") == {"in": [1]}
    for text in ("[1]", "{", "3", "[" * 100_000):
        with pytest.raises(ConfigError, match="--iips: IIPs must be"):
            parse_iips(text, "--iips")


GRAPH = parse(
    """
    a(A) OUT -> IN b(B) OUT -> IN c(C)
    src(A) OUT -> IN share(msgflo/RoundRobin)
    share OUT -> IN w(W)
    share DEADLETTER -> IN dead(D)
    5 -> IN b
    'x' -> IN b
    """.replace("    5 ->", "    '5' ->")
)


def test_a_graph_gives_plain_wires_and_those_of_its_round_robins() -> None:
    assert joint_lines(joints_of(wires_of(GRAPH), static_queues)) == [
        "PUBSUB: \t a.OUT -> b.IN",
        "PUBSUB: \t b.OUT -> c.IN",
        "DEADLETTER:\t w.IN -> dead.IN",
        "ROUNDROBIN:\t src.OUT -> w.IN",
    ]
    assert iips_by_role(GRAPH) == {"b": {"in": "x"}}


def test_on_amqp_the_broker_carries_them_with_the_dead_letters_of_the_shared_queue() -> None:
    plain, _, shared = amqp_bindings(joints_of(wires_of(GRAPH), static_queues))
    assert (plain.src, plain.tgt, plain.kind) == (amqp_exchange("a.OUT"), amqp_queue("b.IN"), BindingKind.PUBSUB)
    assert plain.contract.deadletter is None
    assert (shared.src, shared.kind) == (amqp_exchange("src.OUT"), BindingKind.ROUNDROBIN)
    assert shared.contract.deadletter == amqp_queue("dead.IN")


def two_each(ref: PortRef, _: bool) -> tuple[str, ...]:
    return (f"{ref.node}/1", f"{ref.node}/2")


def test_everybody_of_a_role_gets_a_copy_or_they_take_turns() -> None:
    forwarding = Forwarding(joints_of(wires_of(GRAPH), two_each))
    assert forwarding.next_targets("a/1") == ["b/1", "b/2"]
    assert [forwarding.next_targets("src/1") for _ in range(3)] == [["w/1"], ["w/2"], ["w/1"]]
    assert set(forwarding.sources) == {"a/1", "a/2", "b/1", "b/2", "src/1", "src/2"}


def test_nothing_is_forwarded_from_a_topic_to_itself() -> None:
    assert Forwarding(joints_of(wires_of(GRAPH), lambda ref, _: ("same",))).sources == ()


def test_the_stand_in_for_gevent_spawns_waits_and_hands_over_results() -> None:
    gevent = stand_in()["gevent"]
    result = gevent.event.AsyncResult()
    greenlet = gevent.Greenlet.spawn(lambda value: (result.set(value), value + 1)[1], 41)
    assert result.get(timeout=60) == 41
    assert gevent.joinall([greenlet], timeout=60) == [greenlet]
    assert greenlet.get() == 42
    assert gevent.spawn_later(0.01, lambda: "later").get() == "later"
    never = gevent.spawn_later(60, lambda: "never")
    never.kill()
    never.join(5)
    assert never.ready()
