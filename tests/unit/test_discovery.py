"""Discovery messages: what others send is understood, what we send they understand."""

from __future__ import annotations

import json

import pytest

from gateway.errors import ValueUnfit
from gateway.model.discovery import parse_discovery, render_discovery, sender
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef

REPEATER = {
    "id": "repeater-1f0c",
    "role": "repeater",
    "component": "Repeat",
    "label": None,
    "icon": "repeat",
    "inports": [{"id": "in", "type": "any", "queue": "repeater.IN", "hidden": False, "_": None}],
    "outports": [{"id": "out", "type": "any", "queue": "repeater.OUT"}, {"id": "hidden", "hidden": True}],
}


def message(payload: object, protocol: str = "discovery", command: str = "participant") -> bytes:
    return json.dumps({"protocol": protocol, "command": command, "payload": payload}).encode()


def test_a_participant_is_read_with_its_queues_and_strange_fields_are_tolerated() -> None:
    participant = parse_discovery(message(REPEATER | {"extra": {"firstSeen": 1}}), "amqp", 5.0)
    assert (participant.id, participant.role, participant.transport) == ("repeater-1f0c", "repeater", "amqp")
    assert [port.queue for port in participant.inports] == ["repeater.IN"]
    assert [port.id for port in participant.outports] == ["out"]
    assert participant.last_seen == 5.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b'{"protocol":"discovery"',
        b'{"a":1}],"b":,',
        b'{"protocol":"discovery","x":' + b"[" * 100_000,
        message(REPEATER, command="actor"),
        message([]),
        message({key: value for key, value in REPEATER.items() if key != "role"}),
        message(REPEATER | {"role": ""}),
        message(REPEATER | {"id": 7}),
        message(REPEATER | {"inports": {"in": {"queue": "x"}}}),
        message(REPEATER | {"inports": [{"id": "in", "queue": 3}]}),
        message(REPEATER | {"inports": [{"id": "in"}] * 1000}),
        message(REPEATER | {"role": "x" * 1000}),
        message(REPEATER | {"label": "x" * 70_000}),
        json.dumps(REPEATER).encode(),
    ],
)
def test_what_is_no_discovery_message_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(ValueUnfit) as caught:
        parse_discovery(body, "mqtt", 0.0)
    assert "\n" not in str(caught.value)


def test_ours_has_exactly_the_seven_keys_and_reads_back() -> None:
    port = PortDef("temp", Direction.OUT, type="number", queue="attic/temp", unit="°C")
    ours = Participant("ID", "attic", "thermometer", "mqtt", outports=(port,))
    body = render_discovery(ours)
    payload = json.loads(body)["payload"]
    assert set(payload) == {"id", "icon", "role", "component", "label", "inports", "outports"}
    assert parse_discovery(body, "mqtt", 0.0).outports[0].queue == "attic/temp"


@pytest.mark.parametrize(
    ("given", "taken"), [(90, 90.0), (2.5, 2.5), (None, 0.0), ("soon", 0.0), (True, 0.0), (-1, 0.0), (1e300, 0.0)]
)
def test_a_ttl_is_taken_if_it_can_be_one_and_else_harms_nobody(given: object, taken: float) -> None:
    assert parse_discovery(message(REPEATER | {"ttl": given}), "mqtt", 0.0).ttl_s == taken


def test_who_sent_a_bad_message_is_told_where_it_can_be_seen() -> None:
    broken = b'{"protocol":"discovery","payload":{"id":"x","role": "attic","inports":[{"id":"a"}{"id":"b"}]}}'
    assert sender(broken) == "attic"
    assert sender(b"\xff\x00") == ""
