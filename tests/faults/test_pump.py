"""The pump with brokers in memory and a real spool: what a user sees when one side is away, slow, or gone for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, SpoolCorrupt, TransportDown
from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.model.address import Address
from gateway.model.binding import Binding, Contract, DeliveryMode, OverflowPolicy
from gateway.model.message import Delivery, Message
from gateway.routing.core.binding_queue import BindingQueue
from gateway.routing.core.router import Router
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import CREDIT, Pump
from gateway.spool.sqlite import SqliteStore
from gateway.transport import Done, FastSession, Session

LIMIT_S = 120.0


def edge(name: str, source: str, target: str, **contract: Any) -> Binding:
    return Binding(name, address(source), address(target), Contract(**contract))


def address(text: str) -> Address:
    transport, _, name = text.partition(":")
    return Address(transport, name)


class Slow:
    """A session without the fast ways: the pump has to make do with ``publish`` and ``settle``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name in ("submit", "settle_soon"):
            raise AttributeError(name)
        return getattr(self._session, name)


class House:
    """A gateway's inside: one pump, one spool, and the brokers by name."""

    def __init__(self, path: Path, names: tuple[str, ...] = ("shed", "cloud"), *, fast: bool = True) -> None:
        self.brokers = {name: MemoryBroker(name) for name in names}
        self._connectors = {name: MemoryConnector(broker) for name, broker in self.brokers.items()}
        self._path = path
        self.around: dict[str, Callable[[Session], Any]] = {} if fast else dict.fromkeys(names, Slow)

    @asynccontextmanager
    async def running(self, *bindings: Binding) -> AsyncIterator[Pump]:
        store = SqliteStore(self._path / "spool.db", max_bytes=1 << 30, disk_reserve_bytes=0)
        pump = Pump(store)
        pump.install(RouteTable.of(bindings))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(pump.run())]
                tasks += [group.create_task(self._keep(pump, name)) for name in self.brokers]
                yield pump
                await pump.drain(LIMIT_S)
                for task in tasks:
                    task.cancel()
        finally:
            await store.close()

    async def _keep(self, pump: Pump, name: str) -> None:
        while True:
            try:
                async with self._connectors[name].connect() as session:
                    await pump.serve(self.around[name](session) if name in self.around else session, name)
            except* TransportDown:
                await asyncio.sleep(0.02)

    def offer(self, queue: str, start: int, stop: int, width: int = 0) -> None:
        name, _, place = queue.partition(":")
        for number in range(start, stop):
            self.brokers[name].offer(place, Message(f"{place}-{number}", str(number).zfill(width).encode()))

    def arrived(self, queue: str) -> list[int]:
        name, _, place = queue.partition(":")
        return [int(message.body) for message in self.brokers[name].waiting(place)]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        late = time.monotonic() >= deadline  # asked before: it may have come about while this process stood still
        if condition():
            return
        assert not late, "it never came about"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("fast", [True, False])
async def test_messages_pass_in_order_and_the_disk_stays_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    patient = partial(Router, spill_after_s=LIMIT_S)  # a process that stands still for a second is no slow target
    monkeypatch.setattr("gateway.routing.pump.Router", patient)
    house = House(tmp_path, fast=fast)
    async with house.running(edge("e", "shed:out", "cloud:in")) as pump:
        house.offer("shed:out", 0, 2000)
        await until(lambda: len(house.arrived("cloud:in")) == 2000)
        await until(lambda: house.brokers["shed"].unsettled("out") == 0)
        assert house.arrived("cloud:in") == list(range(2000))
        assert pump.status()[0]["spilled"] == 0


@pytest.mark.parametrize("mode", [DeliveryMode.HELD, DeliveryMode.STORED])
async def test_an_outage_is_bridged_by_the_spool_in_order(tmp_path: Path, mode: DeliveryMode) -> None:
    house = House(tmp_path)
    cloud = house.brokers["cloud"]
    async with house.running(edge("e", "shed:out", "cloud:in", mode=mode)) as pump:
        house.offer("shed:out", 0, 300)
        await until(lambda: len(house.arrived("cloud:in")) == 300)
        cloud.reachable = False
        cloud.cut()
        house.offer("shed:out", 300, 3000)
        await until(lambda: not house.brokers["shed"].waiting("out") and not house.brokers["shed"].unsettled("out"))
        assert pump.status()[0]["pending"] == 2700
        cloud.reachable = True
        await until(lambda: pump.status()[0]["pending"] == 0)
    assert list(dict.fromkeys(house.arrived("cloud:in"))) == list(range(3000))


async def test_a_full_edge_that_blocks_leaves_its_messages_at_the_source_until_there_is_room(tmp_path: Path) -> None:
    house = House(tmp_path)
    cloud, shed = house.brokers["cloud"], house.brokers["shed"]
    blocking = edge("e", "shed:out", "cloud:in", overflow=OverflowPolicy.BLOCK, max_pending=500)
    async with house.running(blocking) as pump:
        house.offer("shed:out", 0, 10)
        await until(lambda: len(house.arrived("cloud:in")) == 10)
        cloud.reachable = False
        cloud.cut()
        house.offer("shed:out", 10, 3000)
        await until(lambda: pump.status()[0]["pending"] >= 500 and not shed.unsettled("out"))
        taken = pump.status()[0]["pending"]
        assert taken <= 500 + CREDIT
        assert len(shed.waiting("out")) == 2990 - taken
        cloud.reachable = True
        await until(lambda: len(house.arrived("cloud:in")) >= 3000)
        await until(lambda: pump.status()[0]["pending"] == 0)
    assert list(dict.fromkeys(house.arrived("cloud:in"))) == list(range(3000))


async def test_a_full_edge_takes_from_its_source_again_when_what_it_held_has_expired(tmp_path: Path) -> None:
    house = House(tmp_path)
    shed = house.brokers["shed"]
    house.brokers["cloud"].reachable = False
    bound = edge("e", "shed:out", "cloud:in", max_pending=2, ttl_s=1.0, overflow=OverflowPolicy.BLOCK)
    async with house.running(bound) as pump:
        house.offer("shed:out", 0, 6)
        await until(lambda: pump.status()[0]["accepted"] == 6 and not shed.unsettled("out"))
        house.offer("shed:out", 6, 12)
        await until(lambda: pump.status()[0]["expired"] == 12)


class Retiring:
    """Shows what was retired: a queue that is unbound and not taken from may be deleted then."""

    def __init__(self, session: Session, retired: list[Binding]) -> None:
        self._session = session
        self._retired = retired

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def retire(self, bindings: Collection[Binding]) -> Collection[Binding]:
        self._retired += bindings
        return await self._session.retire(bindings)


async def test_a_queue_is_not_retired_while_its_edge_is_full_and_so_not_taken_from(tmp_path: Path) -> None:
    house = House(tmp_path)
    shed, cloud = house.brokers["shed"], house.brokers["cloud"]
    retired: list[Binding] = []
    house.around["shed"] = lambda session: Retiring(session, retired)
    cloud.reachable = False
    contract = Contract(max_pending=2, overflow=OverflowPolicy.BLOCK)
    bound = Binding("e", address("shed:exchange"), address("cloud:in"), contract, intake=address("shed:out"))
    async with house.running(bound) as pump:
        house.offer("shed:out", 0, 6)
        await until(lambda: pump.status()[0]["accepted"] == 6 and not shed.unsettled("out"))
        pump.install(RouteTable())
        await pump.caught_up()
        assert not retired
        cloud.reachable = True
        await until(lambda: bool(retired))
        assert house.arrived("cloud:in") == list(range(6))


async def test_what_waited_when_the_gateway_ended_is_delivered_by_the_next_one(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.brokers["cloud"].reachable = False
    binding = edge("e", "shed:out", "cloud:in")
    async with house.running(binding):
        house.offer("shed:out", 0, 1000)
        await until(lambda: not house.brokers["shed"].waiting("out") and not house.brokers["shed"].unsettled("out"))
    house.brokers["cloud"].reachable = True
    async with house.running(binding) as pump:
        await until(lambda: len(house.arrived("cloud:in")) == 1000)
        assert pump.status()[0]["opening"] == 1000
    assert house.arrived("cloud:in") == list(range(1000))


async def test_draining_brings_to_the_disk_what_the_target_does_not_confirm(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.brokers["cloud"].confirming = False
    async with house.running(edge("e", "shed:out", "cloud:in")) as pump:
        house.offer("shed:out", 0, 10)
        await until(lambda: pump.unsafe == 10)
    assert pump.unsafe == 0
    assert house.brokers["shed"].unsettled("out") == 0


async def test_one_blocked_edge_does_not_hold_another_up(tmp_path: Path) -> None:
    """Both edges take from one broker; the first one's target confirms nothing, and then is slow for good."""
    house = House(tmp_path, ("shed", "cloud", "stuck"))
    house.brokers["stuck"].confirming = False
    blocked, free = edge("blocked", "shed:one", "stuck:in"), edge("free", "shed:two", "cloud:in")
    async with house.running(blocked, free) as pump:
        house.offer("shed:one", 0, 5000)
        for number in range(200):
            house.offer("shed:two", number, number + 1)
            await until(lambda: len(house.arrived("cloud:in")) > number)  # noqa: B023
        assert pump.status()[0]["delivered"] == 0
        await until(lambda: pump.status()[0]["spilled"] > 0)


async def test_a_connection_that_flaps_loses_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with house.running(edge("e", "shed:out", "cloud:in"), edge("f", "cloud:out", "shed:in")) as pump:
        for number in range(40):
            house.offer("shed:out", number * 25, number * 25 + 25)
            house.offer("cloud:out", number * 25, number * 25 + 25)
            if number % 4 == 3:
                house.brokers["cloud" if number % 8 == 3 else "shed"].cut()
            await asyncio.sleep(0.002)
        await until(lambda: len(set(house.arrived("cloud:in"))) == 1000 == len(set(house.arrived("shed:in"))))
        await until(lambda: all(one["pending"] == 0 for one in pump.status()))


async def test_a_removed_edge_takes_no_more_and_delivers_what_it_took(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.brokers["cloud"].reachable = False
    async with house.running(edge("e", "shed:out", "cloud:in")) as pump:
        house.offer("shed:out", 0, 10)
        await until(lambda: pump.status()[0]["pending"] == 10)
        pump.install(RouteTable.of(()))
        await pump.caught_up()
        house.offer("shed:out", 10, 20)
        house.brokers["cloud"].reachable = True
        await until(lambda: len(house.arrived("cloud:in")) == 10)
        assert len(house.brokers["shed"].waiting("out")) == 10


class Hesitant:
    """A session that subscribes when it is let."""

    asked, let = asyncio.Event(), asyncio.Event()

    def __init__(self, session: Session) -> None:
        self._session = session

    async def subscribe(self, source: Address, credit: int) -> None:
        self.asked.set()
        await self.let.wait()
        await self._session.subscribe(source, credit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


async def test_an_edge_that_comes_while_a_session_subscribes_is_not_forgotten(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.around["shed"] = Hesitant
    first, second = edge("one", "shed:one", "cloud:in"), edge("two", "shed:two", "cloud:in")
    async with house.running(first) as pump:
        await Hesitant.asked.wait()
        pump.install(RouteTable.of((first, second)))
        Hesitant.let.set()
        house.offer("shed:two", 0, 1)
        await until(lambda: house.arrived("cloud:in") == [0])


class Clumsy:
    """A session that a certain message brings out of step."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def submit(self, target: Address, message: Message, done: Done) -> None:
        if message.id == "out-3":
            raise OverflowError("an unforeseen number")
        cast(FastSession, self._session).submit(target, message, done)


async def test_a_message_that_brings_out_a_bug_dies_alone(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.around["cloud"] = Clumsy
    async with house.running(edge("e", "shed:out", "cloud:in", max_attempts=2)) as pump:
        house.offer("shed:out", 0, 6)
        await until(lambda: pump.status()[0]["dead"] == 1 and not pump.status()[0]["pending"])
        assert sorted(house.arrived("cloud:in")) == [0, 1, 2, 4, 5]
        await until(lambda: house.brokers["shed"].unsettled("out") == 0)


async def test_whoever_listens_in_and_fails_holds_no_message_up(tmp_path: Path) -> None:
    def fails(delivery: Delivery) -> None:
        raise RecursionError

    house = House(tmp_path)
    async with house.running(edge("e", "shed:out", "cloud:in")) as pump:
        pump.tap(address("shed:out"), fails)
        house.offer("shed:out", 0, 3)
        await until(lambda: house.arrived("cloud:in") == [0, 1, 2])


async def serve_for_good(house: House) -> None:
    async with house.running(edge("e", "shed:out", "cloud:in")):
        await asyncio.sleep(LIMIT_S)


async def test_a_bug_in_the_router_ends_the_pump_and_not_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lane: BindingQueue, size: int, window: int, now: float) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(BindingQueue, "is_clear", broken)
    house = House(tmp_path)
    house.offer("shed:out", 0, 1)
    with pytest.raises(ExceptionGroup) as caught:
        await serve_for_good(house)
    assert caught.group_contains(GatewayError, match="routing: a bug: ZeroDivisionError")
    assert [message.id for message in house.brokers["shed"].waiting("out")] == ["out-0"]


async def test_a_spool_found_damaged_while_running_ends_the_pump(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await drain_a_damaged_spool(tmp_path)
    assert caught.group_contains(SpoolCorrupt)


async def drain_a_damaged_spool(place: Path) -> None:
    house = House(place)
    house.brokers["cloud"].reachable = False
    async with house.running(edge("e", "shed:out", "cloud:in")) as pump:
        house.offer("shed:out", 0, 2000, width=4000)  # more than SQLite keeps in memory
        await until(lambda: pump.status()[0]["pending"] == 2000)
        damage(place / "spool.db")
        house.brokers["cloud"].reachable = True
        await asyncio.sleep(LIMIT_S)


def damage(path: Path) -> None:
    """Spoil everything behind the first page, in the file and in its log."""
    for file in (path, path.with_name("spool.db-wal")):
        with file.open("r+b") as stream:
            size = stream.seek(0, 2)
            for place in range(4096, size, 4096):
                stream.seek(place)
                stream.write(b"\xa5" * 2048)
