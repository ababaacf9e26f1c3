"""Edges on a real RabbitMQ: what is declared, what waits, what is left alone, what goes when the edge goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from gateway.amqp.core.settings import AmqpSettings, hosts_of
from gateway.amqp.transport import AmqpConnector, AmqpSession
from gateway.errors import DeliveryRefused
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding, BindingKind, Contract
from gateway.model.message import Delivery, Message, Outcome

WAIT_S = 120.0


@pytest.fixture
async def outside(rabbitmq: str) -> AsyncIterator[AbstractChannel]:
    """Somebody else's channel on the same broker."""
    async with await aio_pika.connect(rabbitmq) as connection:
        yield await connection.channel()


@pytest.fixture
async def session(rabbitmq: str) -> AsyncIterator[AmqpSession]:
    async with AmqpConnector(AmqpSettings(hosts_of([rabbitmq]), instance="test")).connect() as connected:
        yield connected


async def participant(channel: AbstractChannel, role: str) -> None:
    """Declare the ports ``in`` and ``out`` of a role as MsgFlo's Node library does."""
    await channel.declare_exchange(f"{role}.OUT", "fanout", durable=True)
    queue = await channel.declare_queue(
        f"{role}.IN", durable=True, arguments={"x-dead-letter-exchange": f"dead-{role}.IN"}
    )
    await queue.bind(await channel.declare_exchange(f"{role}.IN", "fanout", durable=True))


async def send(channel: AbstractChannel, exchange: str, body: bytes) -> None:
    """What a participant does on its outport."""
    underlay = await channel.get_underlay_channel()
    await underlay.basic_publish(body, exchange=exchange)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that only shows from outside."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.1)  # to look may cost a channel, and a connection has two thousand


async def take_one(channel: AbstractChannel, queue: str) -> bytes:
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await (await channel.get_queue(queue)).get(no_ack=True, fail=False)
            if message is not None:
                return message.body
            await asyncio.sleep(0.02)


async def next_of(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(WAIT_S):
        return await anext(deliveries)


async def gone(channel: AbstractChannel, queue: str) -> bool:
    return not await exists(channel, queue)


async def exists(channel: AbstractChannel, queue: str) -> bool:
    fresh = await channel._connection.channel()  # type: ignore[attr-defined]
    try:
        await fresh.declare_queue(queue, passive=True)
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False
    return True


def taken_by_us(unique: str, role: str, contract: Contract | None = None) -> Binding:
    """An edge from the role's outport to an MQTT participant."""
    return Binding(
        f"{role}.out->lamp.on",
        amqp_exchange(f"{role}.OUT"),
        mqtt("lamp/on"),
        contract or Contract(),
        intake=amqp_queue(f"gateway.test.{unique}{role}.out-lamp.on"),
    )


def into(queue: str, contract: Contract | None = None) -> Binding:
    """An edge from an MQTT participant to an AMQP queue."""
    return Binding(f"x->{queue}", mqtt("x"), amqp_queue(queue), contract or Contract())


async def test_an_outport_is_taken_from_by_a_queue_that_fills_while_we_are_away(
    rabbitmq: str, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    connector = AmqpConnector(AmqpSettings(hosts_of([rabbitmq]), instance="test"))
    async with connector.connect() as session:
        await session.declare([binding])
        await session.declare([binding])  # twice is harmless
    await send(outside, f"{role}.OUT", b"meanwhile")
    async with connector.connect() as session:
        await session.declare([binding])
        await session.subscribe(binding.intake, 10)
        delivery = await next_of(session.deliveries())
        assert (delivery.message.body, delivery.source) == (b"meanwhile", binding.intake)
        await session.settle(delivery, Outcome.ACCEPTED)


async def test_listening_to_an_exchange_that_is_not_there_leaves_no_queue_behind_at_every_try(
    session: AmqpSession, outside: AbstractChannel, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.amqp.inbound.secrets.token_hex", lambda size: unique)
    missing = amqp_exchange(f"{unique}missing")
    await session.subscribe(missing, 10)
    assert "no exchange" in session.not_taken[missing]
    await session.unsubscribe(missing)
    assert await gone(outside, f"gateway.test.tap.{unique}")


async def test_names_may_hold_what_rabbitmq_allows(session: AmqpSession, unique: str) -> None:
    """The client library's own checks would refuse these."""
    name = f"{unique}gateway.hier.größe.out->lampe (2).an" + "x" * 100
    await session.declare_export([name], [f"{name}.OUT"])
    binding = Binding("e", amqp_exchange(f"{name}.OUT"), mqtt("x"), intake=amqp_queue(f"{name}.intake"))
    assert binding.intake is not None
    await session.declare([binding])
    await session.subscribe(binding.intake, 1)
    await session.publish(amqp_exchange(f"{name}.OUT"), Message("id", b"x"))
    assert (await next_of(session.deliveries())).message.body == b"x"


async def test_a_name_that_is_too_long_for_amqp_makes_its_edge_wait_and_no_other(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    long = Binding("long", amqp_exchange(f"{role}.OUT"), mqtt("x"), intake=amqp_queue("x" * 256))
    assert long.intake is not None
    await session.declare([long, taken_by_us(unique, role)])
    assert list(session.waiting) == ["long"]
    assert "longer than 255 bytes" in session.waiting["long"]
    await session.subscribe(long.intake, 10)
    with pytest.raises(DeliveryRefused, match="longer than 255 bytes"):
        await session.publish(amqp_exchange("x" * 256), Message("id", b"x"))


async def test_two_gateways_each_get_a_copy_and_two_of_one_name_share(
    rabbitmq: str, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    out = amqp_exchange(f"{role}.OUT")
    taken: dict[str, list[bytes]] = {"first": [], "second": [], "twin": []}
    connectors = {
        name: AmqpConnector(AmqpSettings(hosts_of([rabbitmq]), instance=unique + name)) for name in ("first", "second")
    }
    connectors["twin"] = connectors["second"]

    async def serve(name: str, ready: asyncio.Event) -> None:
        instance = "second" if name == "twin" else name
        binding = Binding("e", out, mqtt("x"), intake=amqp_queue(f"gateway.{unique}{instance}.e"))
        assert binding.intake is not None
        async with connectors[name].connect() as session:
            await session.declare([binding])
            await session.subscribe(binding.intake, 1)
            ready.set()
            async for delivery in session.deliveries():
                taken[name].append(delivery.message.body)
                await session.settle(delivery, Outcome.ACCEPTED)

    ready = [asyncio.Event() for _ in taken]
    tasks = [asyncio.ensure_future(serve(*each)) for each in zip(taken, ready, strict=True)]
    await asyncio.gather(*(event.wait() for event in ready))
    bodies = [b"%d" % number for number in range(20)]
    for body in bodies:
        await send(outside, out.name, body)

    async def all_there() -> bool:
        return len(taken["first"]) == len(taken["second"]) + len(taken["twin"]) == len(bodies)

    await until(all_there)
    assert taken["first"] == bodies
    assert sorted(taken["second"] + taken["twin"]) == sorted(bodies)
    assert taken["second"]
    assert taken["twin"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_edge_of_a_participant_that_is_not_there_yet_is_wired_when_it_comes(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}late"
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    await session.declare([binding])
    assert session.waiting == {binding.id: f"exchange {role}.OUT is not there yet"}
    await session.subscribe(binding.intake, 10)
    coming = asyncio.ensure_future(next_of(session.deliveries()))
    await participant(outside, role)

    async def wired() -> bool:
        return not session.waiting

    await until(wired)
    await send(outside, f"{role}.OUT", b"here")
    assert (await coming).message.body == b"here"


async def test_an_edge_between_two_amqp_participants_is_the_brokers_own(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    source, sink = f"{unique}source", f"{unique}sink"
    await participant(outside, source)
    await participant(outside, sink)
    binding = Binding("e", amqp_exchange(f"{source}.OUT"), amqp_queue(f"{sink}.IN"))
    await session.declare([binding])
    await send(outside, f"{source}.OUT", b"1")
    assert await take_one(outside, f"{sink}.IN") == b"1"
    await session.retire([binding])
    await session.retire([binding])  # twice is harmless
    await send(outside, f"{source}.OUT", b"2")
    await send(outside, f"{sink}.IN", b"3")
    assert await take_one(outside, f"{sink}.IN") == b"3"


async def test_round_robin_gives_each_message_to_one_worker_and_can_be_removed(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    source, sink = f"{unique}source", f"{unique}worker"
    await participant(outside, source)
    await participant(outside, sink)
    src, tgt = amqp_exchange(f"{source}.OUT"), amqp_queue(f"{sink}.IN")
    binding = Binding("e", src, tgt, kind=BindingKind.ROUNDROBIN)
    await session.declare([binding])
    await send(outside, src.name, b"1")
    assert await take_one(outside, tgt.name) == b"1"
    await session.retire([binding])
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await outside.declare_exchange(f"out-{src.name}", passive=True)


async def test_what_a_worker_refuses_is_kept_in_the_queue_of_dead_letters(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}worker"
    await participant(outside, role)
    await session.declare([into(f"{role}.IN")])
    await session.publish(amqp_queue(f"{role}.IN"), Message("bad", b"bad"))
    refused = await (await outside.get_queue(f"{role}.IN")).get()
    await refused.reject(requeue=False)
    assert await take_one(outside, f"dead-{role}.IN") == b"bad"


async def test_what_the_router_buries_goes_the_same_way_by_the_exchange(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    await session.declare([into(f"{unique}q")])
    await session.publish(amqp_exchange(f"dead-{unique}q"), Message("bad", b"bad", reason="it is too large"))
    buried = await (await outside.get_queue(f"dead-{unique}q")).get(no_ack=True)
    assert (buried.body, buried.headers["reason"]) == (b"bad", "it is too large")


async def test_dead_letters_that_somebody_else_takes_get_no_second_queue(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    theirs = await outside.declare_queue(f"{unique}errors", durable=True)
    await theirs.bind(await outside.declare_exchange(f"dead-{unique}q", "fanout", durable=True))
    await session.declare([into(f"{unique}q")])
    await session.publish(amqp_exchange(f"dead-{unique}q"), Message("bad", b"bad"))
    assert await take_one(outside, theirs.name) == b"bad"
    assert not await exists(outside, f"dead-{unique}q")


async def test_a_named_dead_letter_gets_what_workers_of_a_broker_edge_refuse(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    source, sink = f"{unique}source", f"{unique}sink"
    for role in (source, sink):
        await participant(outside, role)
    errors = await outside.declare_queue(f"{unique}errors", durable=True)
    contract = Contract(deadletter=amqp_queue(errors.name))
    await session.declare([Binding("e", amqp_exchange(f"{source}.OUT"), amqp_queue(f"{sink}.IN"), contract)])
    await send(outside, f"{source}.OUT", b"bad")
    queue = await outside.get_queue(f"{sink}.IN")
    async with queue.iterator(timeout=WAIT_S) as messages:
        await (await anext(messages)).reject(requeue=False)
    assert await take_one(outside, errors.name) == b"bad"


async def test_a_queue_that_two_edges_lead_into_stays_bound_until_both_are_gone(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    source, sink = f"{unique}source", f"{unique}sink"
    await participant(outside, source)
    await participant(outside, sink)
    edges = [Binding(name, amqp_exchange(f"{source}.OUT"), amqp_queue(f"{sink}.IN")) for name in ("one", "two")]
    await session.declare(edges)
    await session.declare(edges[1:])
    await session.retire(edges[:1])
    await send(outside, f"{source}.OUT", b"1")
    assert await take_one(outside, f"{sink}.IN") == b"1"
    await session.declare([])
    await session.retire(edges)
    await send(outside, f"{source}.OUT", b"2")
    await send(outside, f"{sink}.IN", b"3")
    assert await take_one(outside, f"{sink}.IN") == b"3"


async def test_dead_letters_go_to_their_own_queue_again_when_the_graph_names_no_other(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    source, sink = f"{unique}source", f"{unique}sink"
    for role in (source, sink):
        await participant(outside, role)
    errors = await outside.declare_queue(f"{unique}errors", durable=True)
    plain = Binding("e", amqp_exchange(f"{source}.OUT"), amqp_queue(f"{sink}.IN"))
    named = replace(plain, contract=Contract(deadletter=amqp_queue(errors.name)))
    await session.declare([named])
    await session.declare([plain])
    await session.retire([named])
    await send(outside, f"{source}.OUT", b"bad")
    queue = await outside.get_queue(f"{sink}.IN")
    async with queue.iterator(timeout=WAIT_S) as messages:
        await (await anext(messages)).reject(requeue=False)
    assert await take_one(outside, f"dead-{sink}.IN") == b"bad"
    assert await errors.get(fail=False) is None


async def test_a_participants_queue_with_other_arguments_is_used_as_it_is(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    name = f"{unique}odd"
    await outside.declare_queue(name, durable=False, auto_delete=False, arguments={"x-max-length": 7})
    await outside.declare_queue(f"dead-{name}", durable=False)
    await outside.declare_exchange(f"dead-{name}", "topic", durable=False)
    await session.declare([into(name)])
    await session.publish(amqp_queue(name), Message("id", b"x"))
    assert await take_one(outside, name) == b"x"
    assert session.waiting == {}


async def test_an_own_queue_with_other_arguments_is_used_as_it_is_and_said_once(
    rabbitmq: str, outside: AbstractChannel, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    await outside.declare_queue(binding.intake.name, durable=True)
    quorum = AmqpSettings(hosts_of([rabbitmq]), instance="test", queue_type="quorum")
    async with AmqpConnector(quorum).connect() as session:
        await session.declare([binding])
        await session.subscribe(binding.intake, 10)
        await send(outside, f"{role}.OUT", b"1")
        delivery = await next_of(session.deliveries())
        await session.settle(delivery, Outcome.ACCEPTED)
    told = [record.getMessage() for record in caplog.records if "exists in another way" in record.getMessage()]
    assert len(told) == 1
    assert binding.intake.name in told[0]
    assert "x-queue-type" in told[0]


async def test_somebody_elses_exclusive_queue_makes_the_edge_wait_and_disturbs_no_other(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    locked = await outside.declare_queue(f"{unique}locked", exclusive=True)
    await outside.declare_queue(f"{unique}free", durable=True)
    source = f"{unique}source"
    await participant(outside, source)
    edges = [Binding(name, amqp_exchange(f"{source}.OUT"), amqp_queue(unique + name)) for name in ("locked", "free")]
    await session.declare(edges)
    assert list(session.waiting) == ["locked"]
    assert "exclusive" in session.waiting["locked"]
    await send(outside, f"{source}.OUT", b"1")
    assert await take_one(outside, f"{unique}free") == b"1"
    assert await locked.get(fail=False) is None


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_an_edges_own_queue_goes_with_the_edge_once_it_is_empty(
    rabbitmq: str, outside: AbstractChannel, unique: str, queue_type: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    queue = binding.intake.name
    settings = AmqpSettings(hosts_of([rabbitmq]), instance="test", queue_type=queue_type)
    async with AmqpConnector(settings).connect() as session:
        await session.declare([binding])
        await session.subscribe(binding.intake, 10)
        await send(outside, f"{role}.OUT", b"1")
        deliveries = session.deliveries()
        delivery = await next_of(deliveries)
        mending = asyncio.ensure_future(anext(deliveries))
        await session.unsubscribe(binding.intake)
        await session.retire([binding])
        assert await exists(outside, queue)  # one is delivered and not settled
        await send(outside, f"{role}.OUT", b"2")
        await session.settle(delivery, Outcome.ACCEPTED)
        await until(lambda: gone(outside, queue))
        await session.retire([binding])
        mending.cancel()


async def test_a_queue_that_still_holds_messages_stays(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    await session.declare([binding])
    await send(outside, f"{role}.OUT", b"kept")
    await session.retire([binding])
    assert await take_one(outside, binding.intake.name) == b"kept"


async def test_a_queue_deleted_under_an_edge_is_made_and_bound_again(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    role = f"{unique}cloud"
    await participant(outside, role)
    binding = taken_by_us(unique, role)
    assert binding.intake is not None
    queue = binding.intake.name
    await session.declare([binding])
    await session.subscribe(binding.intake, 10)
    coming = asyncio.ensure_future(next_of(session.deliveries()))
    await outside.queue_delete(queue)

    async def taken_from() -> bool:
        return await session.consumer_count(queue) == 1

    await until(taken_from)
    await send(outside, f"{role}.OUT", b"again")
    assert (await coming).message.body == b"again"


async def test_an_exported_board_can_be_wired_by_somebody_elses_coordinator(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    board, worker = f"{unique}attic", f"{unique}worker"
    await session.declare_export([f"{board}.FAN"], [f"{board}.TEMP"])
    await participant(outside, board.replace("attic", "other"))
    await participant(outside, worker)
    await (await outside.get_queue(f"{worker}.IN")).bind(f"{board}.TEMP")
    await (await outside.get_queue(f"{board}.FAN")).bind(f"{worker}.OUT")
    await session.publish(amqp_exchange(f"{board}.TEMP"), Message("id", b"21.5"))
    assert await take_one(outside, f"{worker}.IN") == b"21.5"
    await send(outside, f"{worker}.OUT", b"true")
    assert await take_one(outside, f"{board}.FAN") == b"true"
    # A Node participant of that role would assert the queue with just these arguments.
    await outside.declare_queue(f"{board}.FAN", durable=True, arguments={"x-dead-letter-exchange": f"dead-{board}.FAN"})


async def test_the_discovery_queue_is_as_every_participant_asserts_it(
    session: AmqpSession, outside: AbstractChannel
) -> None:
    await session.declare_discovery()
    await outside.declare_queue("fbp", durable=True)

    async def nobody_takes() -> bool:
        return await session.consumer_count("fbp") == 0

    await until(nobody_takes)  # the broker may not have noticed yet that somebody of a test before is gone
    address: Address = amqp_queue("fbp")
    await session.subscribe(address, 10)
    assert await session.consumer_count("fbp") == 1
    await session.unsubscribe(address)
    assert await session.consumer_count("fbp") == 0


async def test_a_tap_on_an_exchange_sees_a_copy_and_leaves_nothing_behind(
    session: AmqpSession, outside: AbstractChannel, unique: str
) -> None:
    await participant(outside, unique)
    await session.subscribe(amqp_exchange(f"{unique}.OUT"), 10)
    await send(outside, f"{unique}.OUT", b"seen")
    delivery = await next_of(session.deliveries())
    assert (delivery.message.body, delivery.source) == (b"seen", amqp_exchange(f"{unique}.OUT"))
