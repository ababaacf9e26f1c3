"""What is remembered of edges from one run to the next, and what follows from it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.coordinator.bindings_file import BindingsFile
from gateway.coordinator.core.planner import Plan
from gateway.daemon.binding_store import BindingStore
from gateway.files import write_file_safely
from gateway.memory.transport import MemoryBroker, MemoryConnector
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding, Contract, DeliveryMode
from gateway.model.message import Message
from gateway.routing.core import events as ev
from gateway.routing.core.table import RouteTable
from gateway.routing.pump import Pump
from gateway.spool.core.record import SpoolRecord
from gateway.spool.memory import MemoryStore
from tests.support.routing import Bench, backlog, edge
from tests.support.wait import soon

FROM_CLOUD = Binding(
    "cloud.out->lamp.in",
    amqp_exchange("cloud.OUT"),
    mqtt("lamp/in"),
    Contract(mode=DeliveryMode.STORED, ttl_s=1.5, deadletter=amqp_queue("grave")),
    intake=amqp_queue("gateway.shed.cloud.out->lamp.in"),
    label="cloud.out->lamp.in",
)


def plan(*bindings: Binding, waiting: Mapping[str, str] | None = None) -> Plan:
    return Plan(bindings, (), waiting or {})


async def one_run(path: Path, *plans: Plan) -> tuple[Binding, ...]:
    """A gateway's run with these plans one after the other; the edges that it undid."""
    pump = Pump(MemoryStore())
    record = BindingStore(path, pump)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pump.run()), group.create_task(record.run())]
        for one in plans:
            record.install(one)
            await asyncio.sleep(0)
        undone = pump.unfinished()[1]
        for task in tasks:
            task.cancel()
    return undone


async def test_an_edge_that_went_while_the_gateway_was_stopped_is_undone_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "edges.json"
    assert await one_run(path, plan(FROM_CLOUD)) == ()
    assert BindingsFile(path).load() == (FROM_CLOUD,)
    assert await one_run(path, plan(FROM_CLOUD)) == ()
    assert await one_run(path, plan()) == (FROM_CLOUD,)
    assert BindingsFile(path).load() == (FROM_CLOUD,)  # the broker has not been there to undo it
    assert await one_run(path, plan()) == (FROM_CLOUD,)


async def test_an_edge_that_only_waits_for_its_source_keeps_its_queue_until_it_leaves_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "edges.json"
    await one_run(path, plan(FROM_CLOUD))
    waits = plan(waiting={FROM_CLOUD.label: "waits for role cloud"})
    assert await one_run(path, waits) == ()
    assert await one_run(path, waits, plan()) == (FROM_CLOUD,)


async def test_the_end_in_the_middle_of_writing_leaves_what_was_wanted_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.daemon.binding_store.CALM_S", 0)
    begun, go_on, done, write = threading.Event(), threading.Event(), threading.Event(), write_file_safely

    def slowly(path: Path, data: bytes) -> None:
        first = not begun.is_set()
        begun.set()
        if first:
            go_on.wait(60)
        write(path, data)
        if first:
            done.set()

    monkeypatch.setattr("gateway.coordinator.bindings_file.write_file_safely", slowly)
    path = tmp_path / "edges.json"
    record = BindingStore(path, Pump(MemoryStore()))
    running = asyncio.create_task(record.run())
    record.install(plan())
    record.install(plan(FROM_CLOUD))
    await soon(begun.is_set)
    later = replace(FROM_CLOUD, id="later", label="later")
    record.install(plan(FROM_CLOUD, later))
    running.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait((running,))
    await soon(done.is_set)
    assert BindingsFile(path).load() == (FROM_CLOUD, later)


@pytest.mark.parametrize("damaged", [b"[{", b'[{"id":"\xff"}]', b"{}"])
async def test_a_damaged_record_undoes_nothing_and_is_made_anew(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "edges.json"
    path.write_bytes(damaged)
    assert await one_run(path, plan(FROM_CLOUD)) == ()
    assert BindingsFile(path).load() == (FROM_CLOUD,)


async def test_after_a_restart_the_records_of_a_removed_edge_reach_its_target_and_it_is_forgotten(
    tmp_path: Path,
) -> None:
    path, store, shed = tmp_path / "edges.json", MemoryStore(), MemoryBroker("shed")
    BindingsFile(path).save([edge("gone", Address("shed", "in"))])
    store.submit([SpoolRecord("gone", Message(name, name.encode())) for name in "ab"], lambda answer: None)
    pump = Pump(store)
    record = BindingStore(path, pump)
    record.install(plan())
    async with asyncio.TaskGroup() as group, MemoryConnector(shed).connect() as session:
        tasks = [group.create_task(one) for one in (pump.run(), record.run(), pump.serve(session, "shed"))]
        async with asyncio.timeout(60):
            while BindingsFile(path).load() or store.records:
                await asyncio.sleep(0.02)
                record.install(plan())
        for task in tasks:
            task.cancel()
    assert [message.id for message in shed.waiting("in")] == ["a", "b"]


def test_what_waits_for_an_edge_that_left_the_graph_still_goes_to_its_target() -> None:
    bench = Bench([])
    bench.disk[1] = SpoolRecord("edge", Message("old", b"x"), 1)
    bench.tell(ev.Recovered([backlog("edge", 1, 1, 1)], (), 0))
    effects = bench.tell(ev.TableInstalled(RouteTable.of([], former=[edge()])))
    assert bench.settle_down(effects) == ["old"]
    assert len(bench.router.orphans) == 0


def test_what_waits_for_an_edge_without_a_known_target_waits_for_a_person() -> None:
    bench = Bench([])
    bench.tell(ev.Recovered([backlog("edge", 2, 2, 2)], (), 0))
    bench.tell(ev.TableInstalled(RouteTable.of([], former=[edge(target=None)])))
    assert len(bench.router.orphans) == 2
    bench.tell(ev.Removed([("edge", 1, 1), ("edge", 2, 1)]))
    assert len(bench.router.orphans) == 0
