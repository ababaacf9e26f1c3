"""How an AMQP connection begins, as bytes. Expected ones come from the protocol's specification."""

from __future__ import annotations

from contextlib import suppress

import pytest

from gateway.amqp.greeting import OPEN, OPEN_OK, START, START_OK, TUNE, TUNE_OK, Greeting
from gateway.amqp.tables import Plain, decode_table, encode_table, table_end
from gateway.config.schema import Secret


def greeting() -> Greeting:
    return Greeting("me", Secret("s3cret"), "plant", 30, "gateway attic consuming")


def start(properties: dict[str, Plain], mechanisms: bytes = b"AMQPLAIN PLAIN") -> bytes:
    head = bytes.fromhex("000a 000a 00 09")
    return head + encode_table(properties) + len(mechanisms).to_bytes(4) + mechanisms + b"\0\0\0\x05en_US"


TUNE_2047_131072_60 = bytes.fromhex("000a 001e 07ff 00020000 003c")
OPEN_OK_BYTES = bytes.fromhex("000a 0029 00")


def test_the_broker_is_told_who_comes_and_what_for() -> None:
    ((name, arguments),) = greeting().receive(START, start({"version": "3.10.8"}))
    assert name == START_OK
    told = decode_table(arguments, 0)
    assert told["product"] == "microflo-gateway"
    assert told["connection_name"] == "gateway attic consuming"
    assert told["capabilities"] == dict.fromkeys(
        ("authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify"), True
    )
    assert arguments[table_end(arguments, 0) :] == b"\x05PLAIN" + b"\0\0\0\x0a\0me\0s3cret" + b"\x05en_US"


def test_its_limits_are_kept_and_the_heartbeat_is_ours() -> None:
    connection = greeting()
    connection.receive(START, start({"version": "3.10.8"}))
    answers = connection.receive(TUNE, TUNE_2047_131072_60)
    assert answers == ((TUNE_OK, bytes.fromhex("07ff 00020000 001e")), (OPEN, b"\x05plant\0\0"))
    assert (connection.channel_max, connection.frame_max, connection.broker_version) == (2047, 131072, "3.10.8")
    assert not connection.done
    assert connection.receive(OPEN_OK, OPEN_OK_BYTES) == ()
    assert connection.done


def test_only_a_broker_that_would_not_say_so_refuses_by_just_going() -> None:
    for capabilities, silent in (({}, True), ({"authentication_failure_close": True}, False)):
        connection = greeting()
        assert not connection.refused
        connection.receive(START, start({"capabilities": capabilities}))
        assert connection.refused is silent
        connection.receive(TUNE, TUNE_2047_131072_60)
        assert not connection.refused


def test_what_comes_at_the_wrong_time_is_refused() -> None:
    with pytest.raises(ValueError, match="wrong time"):
        greeting().receive(TUNE, TUNE_2047_131072_60)
    connection = greeting()
    connection.receive(START, start({}))
    with pytest.raises(ValueError, match="wrong time"):
        connection.receive(START, start({}))


def test_a_broker_that_takes_no_passwords_is_told_from_others() -> None:
    with pytest.raises(ValueError, match="only EXTERNAL"):
        greeting().receive(START, start({}, b"EXTERNAL"))


@pytest.mark.parametrize("cut", range(4, len(start({"version": "3.10.8"}, b"PLAIN"))))
def test_a_greeting_cut_anywhere_is_refused_or_answered_and_nothing_else(cut: int) -> None:
    connection = greeting()
    with suppress(ValueError):
        connection.receive(START, start({"version": "3.10.8"}, b"PLAIN")[:cut])
    with pytest.raises(ValueError, match=r"cut short|wrong time"):
        connection.receive(TUNE, TUNE_2047_131072_60[: min(cut, 11)])
