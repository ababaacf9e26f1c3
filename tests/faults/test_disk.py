"""The disk under the spool gets full: nothing ends, nothing is lost, and it heals by itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model.binding import DeliveryMode, OverflowPolicy
from gateway.routing.pump import CREDIT
from tests.faults.test_pump import House, edge, until
from tests.support.smalldisk import SmallDisk, kinds, small_disk_at

LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from gateway.errors import SpoolUnavailable
from gateway.model.message import Message
from gateway.spool.core.record import SpoolRecord
from gateway.spool.sqlite import SqliteStore

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SqliteStore(Path(sys.argv[1]), max_bytes=1 << 30, disk_reserve_bytes=0)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    taken = []
    try:
        for number in range(1000):
            taken += await store.append([SpoolRecord("edge", Message(str(number), b"x" * 10_000))])
    except SpoolUnavailable:
        assert store.usage().problem
    else:
        raise AssertionError("there was no limit")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    taken += await store.append([SpoolRecord("edge", Message("after", b""))])
    assert store.usage().problem == ""
    assert [one.seq for one in await store.load()] == taken
    await store.close()

asyncio.run(main())
"""


def test_a_file_that_may_grow_no_more_is_a_state_that_heals(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path / "spool.db")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=kinds())
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of two megabytes, or a limit on file sizes."""
    with small_disk_at(tmp_path / "disk", request.param, "2m") as disk:
        yield disk


@pytest.mark.parametrize("mode", [DeliveryMode.HELD, DeliveryMode.STORED])
async def test_messages_wait_at_their_source_while_the_disk_is_full_and_go_on_when_it_is_not(
    small_disk: SmallDisk, mode: DeliveryMode
) -> None:
    house = House(small_disk.place)
    shed, cloud = house.brokers["shed"], house.brokers["cloud"]
    cloud.reachable = False
    async with house.running(edge("e", "shed:out", "cloud:in", mode=mode, overflow=OverflowPolicy.BLOCK)) as pump:
        small_disk.fill(1_500_000)
        house.offer("shed:out", 0, 1500, width=2000)
        await until(lambda: pump.status()[0]["last_error"] != "" and shed.unsettled("out") == CREDIT)
        small_disk.relieve()
        await until(lambda: not shed.waiting("out") and not shed.unsettled("out"))
        cloud.reachable = True
        await until(lambda: pump.status()[0]["pending"] == 0)
    assert house.arrived("cloud:in") == list(range(1500))


async def test_a_held_edge_goes_on_over_a_full_disk_while_its_target_is_up(small_disk: SmallDisk) -> None:
    house = House(small_disk.place)
    async with house.running(edge("e", "shed:out", "cloud:in")):
        small_disk.fill(100_000)
        house.offer("shed:out", 0, 500, width=2000)
        await until(lambda: len(house.arrived("cloud:in")) == 500)


async def test_a_held_edge_goes_on_over_a_disk_that_is_read_only_and_the_other_when_it_is_not(
    small_disk: SmallDisk,
) -> None:
    house = House(small_disk.place, ("shed", "cloud", "away"))
    shed, away = house.brokers["shed"], house.brokers["away"]
    away.reachable = False
    free, stuck = edge("free", "shed:one", "cloud:in"), edge("stuck", "shed:two", "away:in")
    async with house.running(free, stuck) as pump:
        small_disk.read_only()
        house.offer("shed:two", 0, 2 * CREDIT)
        await until(lambda: pump.status()[1]["last_error"] != "")
        house.offer("shed:one", 0, 500)
        await until(lambda: len(house.arrived("cloud:in")) == 500)
        await until(lambda: shed.unsettled("two") == CREDIT)
        small_disk.writable()
        await until(lambda: not shed.waiting("two") and not shed.unsettled("two"))
        away.reachable = True
        await until(lambda: pump.status()[1]["pending"] == 0)
    assert house.arrived("away:in") == list(range(2 * CREDIT))
