"""One AMQP session against a real RabbitMQ: publishing, taking, settling, and what goes wrong with each."""

from __future__ import annotations

import asyncio
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
import uvloop
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.connection import Connection
from pytest_mock import MockerFixture

from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.errors import (
    AccessRefused,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    DeliveryDeferred,
    DeliveryRefused,
    TransportDown,
)
from gateway.model.address import amqp_exchange, amqp_queue
from gateway.model.message import Delivery, Message, Outcome
from tests.support.relay import Relay

WAIT_S = 120.0


def settings(*urls: str) -> AmqpSettings:
    return AmqpSettings(hosts_of(urls), instance="test")


@pytest.fixture
async def outside(rabbitmq: str) -> AsyncIterator[AbstractChannel]:
    """Somebody else's channel on the same broker."""
    async with await aio_pika.connect(rabbitmq) as connection:
        yield await connection.channel()


@pytest.fixture
async def session(rabbitmq: str) -> AsyncIterator[AmqpSession]:
    async with AmqpConnector(settings(rabbitmq)).connect() as connected:
        yield connected


async def queue_of(channel: AbstractChannel, name: str, **arguments: str) -> AbstractQueue:
    return await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def put(channel: AbstractChannel, queue: str, *bodies: bytes, message_id: str | None = None) -> None:
    for body in bodies:
        await channel.default_exchange.publish(aio_pika.Message(body, message_id=message_id), queue)


async def next_of(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(WAIT_S):
        return await anext(deliveries)


async def until_waiting(channel: AbstractChannel, queue: str, count: int) -> None:
    """Until so many messages wait in a queue, ready to be taken by somebody."""
    async with asyncio.timeout(WAIT_S):
        while True:
            state = await channel.declare_queue(queue, passive=True)
            if state.declaration_result.message_count == count:
                return
            await asyncio.sleep(0.02)


# -- publishing ---------------------------------------------------------------------------------------------------


async def test_a_publication_is_persistent_and_carries_id_time_origin_and_hops(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    message = Message("id-1", b"21.5", "application/json", time_ms=1_700_000_000_123, origin="attic", hops=1)
    await session.publish(amqp_queue(queue.name), message)
    got = await queue.get(no_ack=True)
    assert (got.body, got.message_id, got.content_type, got.delivery_mode) == (b"21.5", "id-1", "application/json", 2)
    assert got.timestamp is not None
    assert int(got.timestamp.timestamp()) == 1_700_000_000
    assert got.headers == {"hops": 2, "origin": "attic", "time": 1_700_000_000_123}


async def test_a_publication_to_an_exchange_that_nobody_listens_to_is_no_failure(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    await outside.declare_exchange(f"{unique}OUT", "fanout", durable=True)
    await session.publish(amqp_exchange(f"{unique}OUT"), Message("id", b"x"))


async def test_a_missing_queue_defers_and_names_it_and_costs_no_attempt(session: AmqpSession, unique: str) -> None:
    with pytest.raises(DeliveryDeferred, match=f"there is no queue {unique}q") as caught:
        await session.publish(amqp_queue(f"{unique}q"), Message("id", b"x"))
    assert not caught.value.counts


async def test_a_missing_exchange_defers_and_disturbs_nobody_else(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    await outside.declare_exchange(f"{unique}there", "fanout", durable=True)

    async def to_the_missing() -> None:
        with pytest.raises(DeliveryDeferred, match=f"there is no exchange {unique}missing"):
            await session.publish(amqp_exchange(f"{unique}missing"), Message("id", b"x"))

    there = amqp_exchange(f"{unique}there")
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(to_the_missing())
            group.create_task(session.publish(there, Message(f"id-{number}", b"x")))


async def test_an_exchange_deleted_meanwhile_defers_and_works_once_it_is_back(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    exchange = amqp_exchange(f"{unique}OUT")
    await outside.declare_exchange(exchange.name, "fanout", durable=True)
    await session.publish(exchange, Message("id-1", b"x"))
    await outside.exchange_delete(exchange.name)
    with pytest.raises(DeliveryDeferred):
        await session.publish(exchange, Message("id-2", b"x"))
    await outside.declare_exchange(exchange.name, "fanout", durable=True)
    await session.publish(exchange, Message("id-3", b"x"))


async def test_of_many_under_way_exactly_those_without_a_queue_are_deferred(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    targets = [amqp_queue(queue.name if number % 3 else f"{unique}missing") for number in range(300)]
    results = await asyncio.gather(
        *(session.publish(target, Message(f"id-{number}", b"x")) for number, target in enumerate(targets)),
        return_exceptions=True,
    )
    assert [isinstance(result, DeliveryDeferred) for result in results] == [n % 3 == 0 for n in range(300)]
    await until_waiting(outside, queue.name, 200)


async def test_a_queue_that_refuses_defers(session: AmqpSession, outside: AbstractChannel, unique: str) -> None:
    queue = await outside.declare_queue(
        f"{unique}q", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await session.publish(amqp_queue(queue.name), Message("id-1", b"x"))
    with pytest.raises(DeliveryDeferred, match="nack"):
        await session.publish(amqp_queue(queue.name), Message("id-2", b"x"))


async def test_messages_keep_the_order_of_the_calls(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    async with asyncio.TaskGroup() as group:
        for number in range(3000):
            group.create_task(session.publish(amqp_queue(queue.name), Message(f"id-{number}", b"%d" % number)))
    await session.subscribe(amqp_queue(queue.name), 256)
    deliveries = session.deliveries()
    for number in range(3000):
        delivery = await next_of(deliveries)
        assert delivery.message.body == b"%d" % number
        await session.settle(delivery, Outcome.ACCEPTED)


async def test_messages_to_an_exchange_keep_their_order_from_the_very_first(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await queue.bind(await outside.declare_exchange(f"{unique}OUT", "fanout", durable=True))
    window = asyncio.Semaphore(64)

    async def publish(number: int) -> None:
        await session.publish(amqp_exchange(f"{unique}OUT"), Message(f"id-{number}", b"%d" % number))
        window.release()

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            await window.acquire()
            group.create_task(publish(number))
    await session.subscribe(amqp_queue(queue.name), 256)
    deliveries = session.deliveries()
    for number in range(1000):
        delivery = await next_of(deliveries)
        assert delivery.message.body == b"%d" % number
        await session.settle(delivery, Outcome.ACCEPTED)


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 1_000_000])
async def test_a_body_of_any_size_travels_whole(
    session: AmqpSession, outside: AbstractChannel, unique: str, size: int
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    body = bytes(range(256)) * (size // 256 + 1)
    await session.publish(amqp_queue(queue.name), Message("id", body[:size]))
    await session.subscribe(amqp_queue(queue.name), 8)
    delivery = await next_of(session.deliveries())
    assert delivery.message.body == body[:size]


async def test_what_the_broker_would_close_the_channel_for_is_refused_here(rabbitmq: str, unique: str) -> None:
    async with AmqpConnector(replace(settings(rabbitmq), max_message_bytes=10)).connect() as session:
        with pytest.raises(DeliveryRefused, match="11 bytes are more") as caught:
            await session.publish(amqp_queue(f"{unique}q"), Message("id", b"x" * 11))
        assert caught.value.permanent
        with pytest.raises(DeliveryRefused, match="longer than 255 bytes"):
            await session.publish(amqp_queue(f"{unique}q"), Message("i" * 300, b"x"))


async def test_cancelled_publications_cost_no_slot(rabbitmq: str, outside: AbstractChannel, unique: str) -> None:
    queue = await queue_of(outside, f"{unique}q")
    async with AmqpConnector(replace(settings(rabbitmq), window=4)).connect() as session:
        for number in range(50):
            task = asyncio.ensure_future(session.publish(amqp_queue(queue.name), Message(f"c-{number}", b"x")))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(WAIT_S):
            await session.publish(amqp_queue(queue.name), Message("last", b"x"))


# -- taking -------------------------------------------------------------------------------------------------------


async def test_no_more_than_the_credit_is_unsettled_at_a_time(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await put(outside, queue.name, *[b"%d" % number for number in range(9)])
    await session.subscribe(amqp_queue(queue.name), 4)
    deliveries = session.deliveries()
    taken = [await next_of(deliveries) for _ in range(4)]
    await until_waiting(outside, queue.name, 5)
    await session.settle(taken[2], Outcome.ACCEPTED)
    assert (await next_of(deliveries)).message.body == b"4"
    await until_waiting(outside, queue.name, 4)


async def test_one_source_without_credit_holds_up_no_other(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    for name in ("slow", "quick"):
        await queue_of(outside, unique + name)
    await put(outside, f"{unique}slow", *[b"s"] * 5)
    await session.subscribe(amqp_queue(f"{unique}slow"), 2)
    await session.subscribe(amqp_queue(f"{unique}quick"), 2)
    deliveries = session.deliveries()
    assert [(await next_of(deliveries)).message.body for _ in range(2)] == [b"s", b"s"]
    for _ in range(20):
        await put(outside, f"{unique}quick", b"q")
        delivery = await next_of(deliveries)
        assert delivery.message.body == b"q"
        await session.settle(delivery, Outcome.ACCEPTED)


async def test_what_was_not_accepted_comes_again_and_what_was_does_not(
    rabbitmq: str, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await put(outside, queue.name, *[b"%d" % number for number in range(6)])
    connector = AmqpConnector(settings(rabbitmq))
    async with connector.connect() as session:
        await session.subscribe(amqp_queue(queue.name), 10)
        deliveries = session.deliveries()
        taken = [await next_of(deliveries) for _ in range(6)]
        for index in (5, 0, 3, 1):  # a prefix, and some that overtook
            await session.settle(taken[index], Outcome.ACCEPTED)
    async with connector.connect() as again:
        await again.subscribe(amqp_queue(queue.name), 10)
        deliveries = again.deliveries()
        assert [(await next_of(deliveries)).message.body for _ in range(2)] == [b"2", b"4"]
        await again.settle(taken[2], Outcome.ACCEPTED)  # of the dead epoch: nothing happens
        await again.unsubscribe(amqp_queue(queue.name))
    await until_waiting(outside, queue.name, 2)


async def test_released_comes_again_rejected_does_not(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await put(outside, queue.name, b"released", b"rejected")
    await session.subscribe(amqp_queue(queue.name), 10)
    deliveries = session.deliveries()
    first, second = await next_of(deliveries), await next_of(deliveries)
    await session.settle(first, Outcome.RELEASED)
    await session.settle(second, Outcome.REJECTED)
    third = await next_of(deliveries)
    assert (third.message.body, third.redelivered) == (b"released", True)
    await session.settle(third, Outcome.ACCEPTED)
    await session.settle(third, Outcome.ACCEPTED)  # twice: ignored
    await session.unsubscribe(amqp_queue(queue.name))
    await until_waiting(outside, queue.name, 0)


async def test_a_message_without_an_id_gets_one_here_and_strange_headers_do_no_harm(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    strange = aio_pika.Message(b"x", headers={"hops": "many", "time": [1, {"a": None}], "origin": 5, "d": 1.5})
    strange.message_id = None
    for _ in range(2):
        channel = await outside.get_underlay_channel()
        await channel.basic_publish(b"x", routing_key=queue.name, properties=strange.properties)
        await put(outside, queue.name, b"plain")
    await session.subscribe(amqp_queue(queue.name), 10)
    deliveries = session.deliveries()
    messages = [(await next_of(deliveries)).message for _ in range(4)]
    assert len({message.id for message in messages}) == 4
    assert all(message.id for message in messages)
    assert all((message.hops, message.origin, message.time_ms) == (0, "", 0) for message in messages)


async def test_unsubscribed_returns_what_nobody_has_seen(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await put(outside, queue.name, *[b"x"] * 10)
    await session.subscribe(amqp_queue(queue.name), 10)
    first = await next_of(session.deliveries())
    await session.unsubscribe(amqp_queue(queue.name))
    await until_waiting(outside, queue.name, 9)
    await session.settle(first, Outcome.ACCEPTED)
    assert await session.consumer_count(queue.name) == 0


async def test_a_deleted_queue_is_taken_from_anew_once_it_is_back(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    await put(outside, queue.name, b"before")
    await session.subscribe(amqp_queue(queue.name), 10)
    deliveries = session.deliveries()
    before = await next_of(deliveries)
    coming = asyncio.ensure_future(next_of(deliveries))
    await queue.delete(if_unused=False, if_empty=False)
    await queue_of(outside, queue.name)
    await put(outside, queue.name, b"after")
    after = await coming
    assert after.message.body == b"after"
    await session.settle(before, Outcome.ACCEPTED)  # its queue is gone: ignored, and the new delivery isn't touched
    await session.settle(after, Outcome.RELEASED)
    assert (await next_of(deliveries)).redelivered


# -- connecting and losing it -------------------------------------------------------------------------------------


async def test_a_lost_connection_is_told_to_everybody_who_waits(
    rabbitmq: str, outside: AbstractChannel, unique: str
) -> None:
    parts = urlsplit(rabbitmq)
    assert parts.port
    queue = await queue_of(outside, f"{unique}q")
    async with Relay("127.0.0.1", parts.port) as relay:
        connector = AmqpConnector(settings(f"amqp://127.0.0.1:{relay.port}/"))
        async with connector.connect() as session:
            await session.subscribe(amqp_queue(queue.name), 10)
            waiting = asyncio.ensure_future(next_of(session.deliveries()))
            relay.stall()
            publishing = asyncio.ensure_future(session.publish(amqp_queue(queue.name), Message("id", b"x")))
            await asyncio.sleep(0.05)
            relay.cut()
            with pytest.raises(ConnectionLost):
                await waiting
            with pytest.raises(ConnectionLost):
                await publishing
            with pytest.raises(TransportDown):
                await session.publish(amqp_queue(queue.name), Message("id", b"x"))
            relay.resume()
        async with connector.connect() as again:
            assert again.epoch > session.epoch
            await again.publish(amqp_queue(queue.name), Message("id", b"x"))


async def test_a_silent_broker_is_given_up(rabbitmq: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = urlsplit(rabbitmq)
    assert parts.port
    monkeypatch.setattr("gateway.amqp.session.SILENT_HEARTBEATS", 0.5)  # long before the broker gives us up
    async with Relay("127.0.0.1", parts.port) as relay:
        quick = replace(settings(f"amqp://127.0.0.1:{relay.port}/"), heartbeat_s=8)
        with pytest.raises(ConnectionLost, match="nothing heard"):  # noqa: PT012
            async with AmqpConnector(quick).connect() as session:
                relay.stall()
                await next_of(session.deliveries())


async def test_wrong_password_and_unknown_vhost_are_refused_access_with_the_host_named(rabbitmq: str) -> None:
    port = urlsplit(rabbitmq).port
    for url in (f"amqp://guest:wrong@127.0.0.1:{port}/", f"amqp://127.0.0.1:{port}/nowhere"):
        with pytest.raises(AccessRefused, match=f"127.0.0.1:{port}") as caught:
            async with AmqpConnector(settings(url)).connect():
                pass
        assert "wrong" not in str(caught.value)


async def test_nobody_there_is_said_in_one_line() -> None:
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1: ") as caught:
        async with AmqpConnector(settings("amqp://127.0.0.1:1/")).connect():
            pass
    assert "\n" not in str(caught.value)


async def test_something_that_is_no_broker_is_said_in_one_line() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}"):
            async with AmqpConnector(settings(f"amqp://127.0.0.1:{port}/")).connect():
                pass


async def test_the_second_host_is_taken_when_the_first_is_down(rabbitmq: str, unique: str) -> None:
    connector = AmqpConnector(settings("amqp://127.0.0.1:1/", rabbitmq))
    async with connector.connect() as session:
        await session.declare_discovery()
        assert await session.consumer_count(f"{unique}nothing") == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 12, 18, 25, 40, 60])
async def test_connecting_can_be_cancelled_at_any_step_and_leaves_nothing(rabbitmq: str, steps: int) -> None:
    port = urlsplit(rabbitmq).port
    assert port
    async with Relay("127.0.0.1", port) as relay:
        connector = AmqpConnector(settings(f"amqp://127.0.0.1:{relay.port}/"))

        async def connect() -> None:
            async with connector.connect():
                await asyncio.Event().wait()

        before = asyncio.all_tasks()
        task = asyncio.ensure_future(connect())
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(WAIT_S):
            while relay.open or asyncio.all_tasks() - before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


# -- TLS, and the other event loop --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for ``localhost`` that only its own file vouches for, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not installed; install it with: apt-get install openssl", pytrace=False)
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    command = [*request.split(), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
    return cert, key


@pytest.fixture
async def tls_port(rabbitmq: str, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """Where the broker is reached by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    port = urlsplit(rabbitmq).port
    assert port
    async with Relay("127.0.0.1", port, context) as relay:
        yield relay.port


async def test_tls_with_the_brokers_authority_works(
    tls_port: int, certificate: tuple[Path, Path], outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}q")
    trusting = replace(settings(f"amqps://localhost:{tls_port}/"), ca_file=str(certificate[0]))
    async with AmqpConnector(trusting).connect() as session:
        await session.publish(amqp_queue(queue.name), Message("id", b"x" * 500_000))
        await session.subscribe(amqp_queue(queue.name), 1)
        assert len((await next_of(session.deliveries())).message.body) == 500_000


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    with pytest.raises(AccessRefused, match="certificate is not trusted"):
        async with AmqpConnector(settings(f"amqps://localhost:{tls_port}/")).connect():
            pass


async def test_a_certificate_for_another_name_is_refused(tls_port: int, certificate: tuple[Path, Path]) -> None:
    other_name = replace(settings(f"amqps://127.0.0.1:{tls_port}/"), ca_file=str(certificate[0]))
    with pytest.raises(AccessRefused, match="certificate is not trusted"):
        async with AmqpConnector(other_name).connect():
            pass


async def test_a_broker_that_goes_anywhere_in_the_greeting_is_one_that_could_not_be_reached(rabbitmq: str) -> None:
    port = urlsplit(rabbitmq).port or 0
    start = length_of_the_first_frame(port)
    for allowed in (0, 4, start // 2, start, start + 4, start + TUNE, start + TUNE + 4):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            relay = threading.Thread(target=pass_some, args=(listener, port, allowed))
            relay.start()
            try:
                there = rabbitmq.replace(f":{port}", f":{listener.getsockname()[1]}")
                with pytest.raises(TransportDown):
                    async with AmqpConnector(settings(there)).connect():
                        pass
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                await asyncio.to_thread(relay.join)


async def test_a_broker_that_goes_before_its_first_byte_is_no_bug_of_ours(mocker: MockerFixture) -> None:
    # aiormq says so in this way when the end is there before it asks for a frame, which takes luck to bring about.
    mocker.patch.object(Connection, "connect", side_effect=StopAsyncIteration)
    with pytest.raises(ConnectFailed, match="in the middle of the greeting"):
        async with AmqpConnector(settings("amqp://127.0.0.1:1/")).connect():
            pass


TUNE = 20
"""Bytes of the broker's second frame."""


def length_of_the_first_frame(port: int) -> int:
    """Bytes of the frame with which the broker greets: seven before the payload, one behind it."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return 7 + int.from_bytes(answers.read(7)[3:7]) + 1


def pass_some(listener: socket.socket, port: int, allowed: int) -> None:
    """Pass so many of the broker's bytes on to each who connects, then hang up; until the listener is shut down."""
    while True:
        try:
            near = listener.accept()[0]
        except OSError:
            return
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as far:
            left = allowed
            while left and (ready := select.select([near, far], [], [], 10)[0]):
                data = ready[0].recv(left if ready[0] is far else 4096)
                if not data:
                    break
                if ready[0] is far:
                    left -= len(data)
                (near if ready[0] is far else far).sendall(data)


def test_a_missing_authority_file_is_named_before_anything_starts() -> None:
    missing = replace(settings("amqps://localhost:1/"), ca_file="/nowhere/ca.pem")
    with pytest.raises(ConfigError, match=r"amqp\.ca_file: /nowhere/ca\.pem"):
        AmqpConnector(missing)


def test_uvloop_carries_it_too(rabbitmq: str, unique: str) -> None:
    async def there_and_back() -> bytes:
        async with AmqpConnector(settings(rabbitmq)).connect() as session:
            await session.declare_export([f"{unique}q"], [])
            await session.publish(amqp_queue(f"{unique}q"), Message("id", b"x"))
            await session.subscribe(amqp_queue(f"{unique}q"), 1)
            return (await next_of(session.deliveries())).message.body

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(there_and_back()) == b"x"


async def test_a_question_that_was_given_up_answers_no_other(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    queue = await queue_of(outside, f"{unique}.taken")
    await session.subscribe(amqp_queue(queue.name), 1)
    asking = asyncio.create_task(session.consumer_count(queue.name))
    await asyncio.sleep(0)
    asking.cancel()
    assert await session.consumer_count(f"{unique}.nothing") == 0
    assert await session.consumer_count(queue.name) == 1
