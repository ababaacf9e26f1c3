"""Bodies in the form a target wants, and what becomes of those that have no such form."""

from __future__ import annotations

import cbor2
import pytest

from gateway.model.address import serial
from gateway.model.message import Message
from gateway.routing.core import events as ev
from gateway.routing.core.payload import CBOR, JSON, Unfit, converted
from tests.support.routing import CLOUD, Bench, edge, stores


@pytest.mark.parametrize("body", [b"21.5", b'{"a":[1,null,true]}', b'"text"', b"-7"])
def test_json_and_cbor_are_turned_into_each_other(body: bytes) -> None:
    there = converted(Message("m", body), CBOR)
    assert there.content_type == CBOR
    assert converted(there, JSON).body == body


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe", b""])
def test_what_is_no_json_passes_untouched(body: bytes) -> None:
    message = Message("m", body, "text/plain")
    assert converted(message, CBOR) == message
    assert converted(message, JSON) == message


def test_cbor_that_is_wanted_as_cbor_passes_untouched() -> None:
    message = Message("m", cbor2.dumps({"t": b"raw"}), CBOR)
    assert converted(message, CBOR) is message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (cbor2.dumps({"t": b"raw"}), "bytes"),
        (cbor2.dumps(float("nan")), "number"),
        (b"\xff\xff", "is none"),
        (cbor2.dumps({(1, 2): 3}), "no form in JSON"),
    ],
)
def test_cbor_without_a_form_in_json_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        converted(Message("m", body, CBOR), JSON)


def test_an_edge_gives_its_target_what_it_asked_for() -> None:
    bench = Bench([edge(target=CLOUD, content_type=CBOR)])
    (publish,) = bench.deliver("m", body=b'{"t":1}')
    assert isinstance(publish, ev.Publish)
    assert (cbor2.loads(publish.message.body), publish.message.content_type) == ({"t": 1}, CBOR)


def test_a_board_gets_json_whatever_came() -> None:
    bench = Bench([edge(target=serial("attic", "fan"))], up=("serial:attic",))
    (publish,) = bench.deliver("m", body=cbor2.dumps(True), content_type=CBOR)
    assert isinstance(publish, ev.Publish)
    assert publish.message.body == b"true"


def test_a_body_without_the_wanted_form_is_dead_with_the_reason_and_untouched() -> None:
    bench = Bench([edge(content_type=JSON)])
    (store,) = stores(bench.deliver("m", body=b"\xff\xff", content_type=CBOR))
    assert store.records[0].last_error.startswith("is marked as CBOR")
    assert store.records[0].message.body == b"\xff\xff"
