"""A paired board as a transport, over a real pty: readings, commands, lost alignment, resets, unplugging."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from gateway.errors import ConfigError, ConnectionLost, DeliveryDeferred, DeliveryRefused, TransportDown
from gateway.model.address import Address, serial
from gateway.model.binding import Binding, Contract, OverflowPolicy
from gateway.model.message import Delivery, Message, Outcome
from gateway.model.participant import BoardState
from gateway.serial_link.connected import connector
from gateway.serial_link.connected.board_session import BoardSession
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.connected.receive_queue import MOST_WAITING
from gateway.serial_link.ports import hotplug
from gateway.simulator.pty import SimulatedBoard
from tests.support.boards import FAST_GRAPH, LOOP_GRAPH, Registry, network_of, request, simulated

WAIT_S = 120.0
FLOOD = MOST_WAITING + 500


@dataclass
class Paired:
    """A board, what is known of it, and how to reach it."""

    board: SimulatedBoard
    registry: Registry
    connector: BoardConnector

    def address(self, port: str) -> Address:
        return serial(self.connector.record.id, port)

    @property
    def state(self) -> str:
        return str(self.registry.boards.status()[0]["state"])

    @property
    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.registry.boards.status()[0]["counters"]
        return counters


@asynccontextmanager
async def paired(tmp_path: Path, graph: str = FAST_GRAPH, *, upload: bool = True) -> AsyncIterator[Paired]:
    registry = Registry(tmp_path / "state")
    async with simulated(tmp_path / "tty", "" if upload else graph) as board:
        await registry.boards.pair(request(tmp_path / "tty", graph, upload=upload))
        (record,) = registry.boards.records()
        yield Paired(board, registry, registry.boards.connector(record.id))


async def take(session: BoardSession, count: int) -> list[Delivery]:
    """The next deliveries; each is settled."""
    taken: list[Delivery] = []
    deliveries = session.deliveries()
    async with asyncio.timeout(WAIT_S):
        while len(taken) < count:
            delivery = await anext(deliveries)
            taken.append(delivery)
            await session.settle(delivery, Outcome.ACCEPTED)
    return taken


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():  # noqa: ASYNC110 - the board is seen from outside
            await asyncio.sleep(0.005)


def message(body: object, id_: str = "m1") -> Message:
    return Message(id_, msgspec.json.encode(body))


async def test_readings_arrive_in_the_unit_of_the_port(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        await session.subscribe(it.address("temp"), 10)
        one, two = await take(session, 2)
    assert one.source == it.address("temp")
    value = msgspec.json.decode(one.message.body)
    assert isinstance(value, float)
    assert 10 < value < 40
    assert one.message.content_type == "application/json"
    prefix, _, first = one.message.id.rpartition("-")
    assert two.message.id == f"{prefix}-{int(first) + 1}"
    assert prefix.startswith(f"{it.connector.record.id}-")
    assert it.state == BoardState.BACKING_OFF


async def test_ids_of_two_connections_never_meet(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        ids = []
        for _ in range(2):
            async with it.connector.connect() as session:
                await session.subscribe(it.address("temp"), 10)
                ids += [delivery.message.id for delivery in await take(session, 2)]
    assert len(set(ids)) == 4


async def test_a_command_is_confirmed_by_the_board_and_takes_effect(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        await session.publish(it.address("fan"), message(True))
        await until(lambda: it.board.board.pins.outputs.get(7) == 1)
    assert it.counters["commands"] == 1


@pytest.mark.parametrize("body", [b'"on"', b"1", b"not json", b"[true]", b"null"])
async def test_what_does_not_fit_the_port_never_reaches_the_board(tmp_path: Path, body: bytes) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        before = it.board.board.packets_in
        with pytest.raises(DeliveryRefused) as caught:
            await session.publish(it.address("fan"), Message("m1", body))
        assert caught.value.permanent
        assert "fan" in caught.value.reason
        assert it.board.board.packets_in == before


async def test_an_inport_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        with pytest.raises(DeliveryDeferred) as caught:
            await session.publish(it.address("heater"), message(True))
        assert not caught.value.counts


async def test_arrays_of_several_messages_never_mix(tmp_path: Path) -> None:
    async with paired(tmp_path, LOOP_GRAPH) as it, it.connector.connect() as session:
        await session.subscribe(it.address("out"), 100)
        bodies = [[number] * 5 for number in range(20)]
        async with asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                group.create_task(session.publish(it.address("in"), message(body, f"m{number}")))
        arrived = [msgspec.json.decode(delivery.message.body) for delivery in await take(session, 20)]
    assert arrived == bodies


async def test_a_cancelled_publish_leaves_the_session_usable_and_arrays_whole(tmp_path: Path) -> None:
    async with paired(tmp_path, LOOP_GRAPH) as it, it.connector.connect() as session:
        await session.subscribe(it.address("out"), 100)
        for number in range(50):
            sending = asyncio.ensure_future(session.publish(it.address("in"), message([number, number], f"m{number}")))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await session.publish(it.address("in"), message("99", "last"))
        arrived = []
        while 99 not in arrived:
            arrived += [msgspec.json.decode(delivery.message.body) for delivery in await take(session, 1)]
    assert all(value == 99 or (len(value) == 2 and value[0] == value[1]) for value in arrived)


async def test_credit_bounds_what_is_handed_out(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        await session.subscribe(it.address("temp"), 2)
        deliveries = session.deliveries()
        first = await anext(deliveries)
        await anext(deliveries)
        seen = it.counters["readings"]
        await until(lambda: it.counters["readings"] > seen + 3)
        waiting = asyncio.ensure_future(deliveries.__anext__())
        await asyncio.sleep(0)
        assert not waiting.done()
        await session.settle(first, Outcome.ACCEPTED)
        async with asyncio.timeout(WAIT_S):
            await waiting


@pytest.mark.parametrize(
    ("policy", "kept"), [(OverflowPolicy.DROP_OLDEST, FLOOD - 1), (OverflowPolicy.DROP_NEWEST, MOST_WAITING)]
)
async def test_a_flood_drops_the_oldest_or_the_newest_as_the_edge_says(
    tmp_path: Path, policy: OverflowPolicy, kept: int
) -> None:
    async with paired(tmp_path, LOOP_GRAPH) as it, it.connector.connect() as session:
        source = it.address("out")
        await session.declare([Binding("b", source, None, Contract(overflow=policy))])
        await session.subscribe(source, 1)
        for number in range(FLOOD):
            await session.publish(it.address("in"), message(number, f"m{number}"))
        await until(lambda: it.counters["readings"] == FLOOD)
        last = (await take(session, MOST_WAITING + 1))[-1]
        assert int(last.message.body) == kept
    assert it.counters["readings_dropped"] == FLOOD - MOST_WAITING - 1


async def test_unplugging_ends_deliveries_and_closes_the_port_at_once(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        with pytest.raises(ConnectionLost, match="unplugged"):  # noqa: PT012 - it also must come out of the block
            async with it.connector.connect() as session:
                await session.subscribe(it.address("temp"), 10)
                await take(session, 1)
                it.board.request(["unplug"])
                await take(session, 1000)
        assert it.state == BoardState.BACKING_OFF


async def test_an_absent_board_is_waited_for_and_taken_up_as_soon_as_the_kernel_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "LOST_EVENT_S", 10 * WAIT_S)
    monkeypatch.setattr(connector, "ABSENT_LOOK_S", 10 * WAIT_S)
    async with paired(tmp_path) as it:
        it.board.request(["unplug"])

        async def back() -> None:
            async with it.connector.connect() as session:
                await session.subscribe(it.address("temp"), 10)
                await take(session, 1)

        waiting = asyncio.ensure_future(back())
        await until(lambda: it.state == BoardState.ABSENT)
        it.board.request(["plug"])
        await asyncio.wait_for(waiting, WAIT_S)


async def test_publishing_to_an_unplugged_board_says_so(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        it.board.request(["unplug"])
        with pytest.raises((TransportDown, DeliveryDeferred)):
            await session.publish(it.address("fan"), message(True))
        with pytest.raises(TransportDown):
            await take(session, 1)
        with pytest.raises(TransportDown):
            await session.publish(it.address("fan"), message(True))


async def test_a_managed_board_is_uploaded_again_after_lost_alignment(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        await session.subscribe(it.address("temp"), 10)
        await take(session, 1)
        it.board.request(["noise", "ffffffffffffffffffffffffff"])
        await until(lambda: it.counters["uploads"] == 2)
        await until(lambda: it.state == BoardState.RUNNING)
        await take(session, 2)
    assert it.counters["handshakes"] == 1
    assert it.registry.restarted == [it.connector.record.id] * 2


async def test_a_board_that_was_reset_gets_its_graph_again(tmp_path: Path) -> None:
    async with paired(tmp_path) as it, it.connector.connect() as session:
        await session.subscribe(it.address("temp"), 10)
        await take(session, 1)
        it.board.request(["reset"])
        with pytest.raises(DeliveryDeferred) as caught:
            await session.publish(it.address("fan"), message(True))
        assert caught.value.counts
        await session.publish(it.address("fan"), message(True, "again"))
        await until(lambda: it.board.board.pins.outputs.get(7) == 1)
        await take(session, 2)
    assert it.counters["uploads"] == 2


async def test_a_watched_board_is_only_subscribed_again(tmp_path: Path) -> None:
    async with paired(tmp_path, upload=False) as it, it.connector.connect() as session:
        network = network_of(it.board)
        await session.subscribe(it.address("temp"), 10)
        await take(session, 1)
        it.board.request(["noise", "ff"])
        await until(lambda: it.counters["handshakes"] == 1)
        await until(lambda: it.state == BoardState.RUNNING)
        await take(session, 2)
        assert network_of(it.board) is network
    assert it.counters["uploads"] == 0


async def test_a_board_set_to_keep_running_is_not_uploaded_while_it_runs(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        await it.registry.boards.set("attic", "keep_running", "true")
        async with it.connector.connect() as session:
            await session.subscribe(it.address("temp"), 10)
            await take(session, 1)
        assert it.counters["uploads"] == 0
        it.board.request(["reset"])
        async with it.connector.connect() as session:
            await session.subscribe(it.address("temp"), 10)
            await take(session, 1)
        assert it.counters["uploads"] == 1


async def test_a_silent_board_is_given_up_in_time(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        it.board.request(["hang"])
        with pytest.raises(TransportDown):
            async with asyncio.timeout(WAIT_S), it.connector.connect():
                pass
        assert it.state == BoardState.BACKING_OFF
        it.board.request(["resume"])
        async with it.connector.connect():
            assert it.state == BoardState.RUNNING


async def test_every_failed_attempt_is_counted_and_an_answer_ends_the_episode(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        it.board.request(["hang"])
        for _ in range(2):
            with pytest.raises(TransportDown):
                async with it.connector.connect():
                    pass
        assert it.counters["reopens"] == 2
        assert "no answer" in str(it.registry.boards.status()[0]["reason"])
        it.board.request(["resume"])
        async with it.connector.connect():
            assert it.counters["connects"] == 1


async def test_pairing_again_takes_the_port_from_the_running_connection(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        ended = asyncio.Event()

        async def serve() -> None:
            try:
                async with it.connector.connect() as session:
                    await session.subscribe(it.address("temp"), 10)
                    ended.clear()
                    await take(session, 1_000_000)
            except* TransportDown:
                ended.set()

        serving = asyncio.ensure_future(serve())
        await until(lambda: it.state == BoardState.RUNNING)
        again = await it.registry.boards.pair(request(tmp_path / "tty", LOOP_GRAPH, role=""))
        assert ended.is_set()
        await serving
        assert [port["name"] for port in again["ports"]] == ["in", "out"]
        async with it.connector.connect() as session:
            await session.publish(it.address("in"), message(5))


async def test_cancelling_at_any_moment_closes_the_port(tmp_path: Path) -> None:
    async with paired(tmp_path) as it:
        for step in range(12):

            async def serve() -> None:
                async with it.connector.connect() as session:
                    await take(session, 1)

            serving = asyncio.ensure_future(serve())
            for _ in range(step * 3):
                await asyncio.sleep(0)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        async with it.connector.connect():
            assert it.state == BoardState.RUNNING


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_a_damaged_registry_is_an_error_with_the_way_back(tmp_path: Path, damage: str) -> None:
    async def pair() -> None:
        async with paired(tmp_path) as it:
            await it.registry.boards.rename("attic", "cellar")

    asyncio.run(pair())
    path = tmp_path / "state" / "devices.json"
    text = path.read_text()
    path.write_text({"empty": "", "cut": text[:100], "changed": text.replace("cellar", "celler")}[damage])
    with pytest.raises(ConfigError) as caught:
        Registry(tmp_path / "state")
    assert f"cp {path}.1 {path}" in str(caught.value)
    path.write_bytes(path.with_name("devices.json.1").read_bytes())
    assert Registry(tmp_path / "state").boards.find("attic")
