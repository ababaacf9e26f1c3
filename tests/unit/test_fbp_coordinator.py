"""The coordinator behind the FBP runtime protocol: what is saved when, what is planned, what is shown."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import DeliverySection
from gateway.coordinator import graph_handlers
from gateway.coordinator.coordinator import REJECTED_KEPT, Coordinator
from gateway.coordinator.core.delivery_contracts import EdgeSettings
from gateway.coordinator.core.graphs import MOST_GRAPHS
from gateway.coordinator.core.planner import Plan, Planner
from gateway.coordinator.core.registry import Registry
from gateway.coordinator.fbp_backend import MAIN, CoordinatorBackend
from gateway.coordinator.graph_file import GraphFile
from gateway.coordinator.graph_handlers import GraphHandlers
from gateway.coordinator.participants_file import load_participants
from gateway.errors import DeliveryDeferred, GraphError, NotFound, PortUnknown
from gateway.fbp.runtime.access import ALL
from gateway.fbp.runtime.backend import (
    Change,
    Cleared,
    ComponentKnown,
    Data,
    Edited,
    ImpliedEdge,
    NetworkStarted,
    PacketOut,
    RuntimeInfo,
)
from gateway.fbp.text.graph_files import load_graph
from gateway.fbp.text.language import parse
from gateway.model.address import Address, mqtt
from gateway.model.discovery import render_discovery
from gateway.model.edits import (
    AddEdge,
    AddExport,
    AddIip,
    AddNode,
    ChangeEdge,
    Edit,
    RemoveEdge,
    RemoveIips,
    RemoveNode,
    RenameNode,
)
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.message import Delivery, Message
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef, PortRef
from tests.support.wait import soon

A_OUT, B_IN = PortRef("a", "out"), PortRef("b", "in")


class Brokers:
    """The rest of the gateway, as far as the backend sees it: taps, and what was sent."""

    def __init__(self) -> None:
        self.taps: dict[Address, Callable[[Delivery], None]] = {}
        self.sent: list[tuple[Address, bytes]] = []
        self.answers: dict[Address, tuple[str, bytes]] = {}
        self.refusals = 0
        self.ready = asyncio.Event()
        self.ready.set()

    def tap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        self.taps[address] = handler

    def untap(self, address: Address, handler: Callable[[Delivery], None]) -> None:
        del self.taps[address]

    async def send(self, address: Address, body: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DeliveryDeferred(str(address), "m", "not now")
        if address in self.answers:
            self.arrive(*self.answers[address])
        self.sent.append((address, body))

    async def bound(self) -> None:
        await self.ready.wait()

    def is_busy(self, labels: Collection[str]) -> bool:
        return False

    def arrive(self, topic: str, body: bytes) -> None:
        self.taps[mqtt(topic)](Delivery(Message("m", body), mqtt(topic), 1, 1))


class House:
    """A coordinator with its backend; the graph file is real."""

    def __init__(
        self, directory: Path, graph: Graph | None = None, name: str = "graph.json", registry: Registry | None = None
    ) -> None:
        self.path = directory / name
        self.brokers = Brokers()
        self.plans: list[Plan] = []
        self.coordinator = Coordinator(
            graph or Graph(),
            Planner("shed", EdgeSettings(DeliverySection())),
            registry or Registry(600.0),
            tuple,
            self.plans.append,
            self.brokers.send,
            directory / "participants.json",
        )
        info = RuntimeInfo("id", "msgflo", "shed", MAIN, ALL)
        self.backend = CoordinatorBackend(self.coordinator, info, GraphFile(self.path), self.brokers)
        self.heard: list[Change] = []
        self.saved_when_heard: list[str] = []
        self.forget = self.backend.listen(self._hear)

    def _hear(self, change: Change) -> None:
        self.heard.append(change)
        self.saved_when_heard.append(self.path.read_text() if self.path.exists() else "")

    def announce(self, role: str, component: str = "x/Thing") -> None:
        ports = {
            direction: (PortDef(name, direction, queue=f"{role}/{name}"),)
            for direction, name in ((Direction.IN, "in"), (Direction.OUT, "out"))
        }
        participant = Participant(f"{role}-1", role, component, "mqtt", ports[Direction.IN], ports[Direction.OUT])
        self.coordinator.announced(render_discovery(participant), "mqtt")
        self.coordinator.replan()

    def heard_of(self, kind: type[Any]) -> list[Any]:
        return [change for change in self.heard if isinstance(change, kind)]


WIRED = parse("a(x/Thing) OUT -> IN b(x/Thing)")


def test_an_edge_awaits_its_source_until_that_is_seen_and_not_its_target(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.coordinator.replan()
    assert house.coordinator.awaits_a_source
    house.announce("a")
    assert house.coordinator.plan.waiting == {"a.out->b.in": "waits for role b"}
    assert not house.coordinator.awaits_a_source


async def test_an_edit_is_on_disk_before_anybody_hears_of_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.backend.apply(MAIN, [AddNode(Node("a", "x/Thing"))])
    (edited,) = house.heard_of(Edited)
    assert edited.after.has_node("a")
    assert list(json.loads(house.saved_when_heard[-1])["processes"]) == ["a"]
    assert load_graph(house.path).nodes == house.backend.graphs()[MAIN].nodes


async def clear(backend: CoordinatorBackend) -> None:
    await backend.clear(MAIN, {"name": "new"})


async def add(backend: CoordinatorBackend) -> None:
    await backend.apply(MAIN, [AddNode(Node("a", "x/Thing"))])


def held_up(
    house: House, monkeypatch: pytest.MonkeyPatch, problem: Exception | None = None
) -> tuple[asyncio.Event, threading.Event]:
    """Writing the graph file: set when it has begun, and to be set for it to go on (to its end, or to a problem)."""
    begun, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    write = house.backend._file._write

    def slowly(text: str) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        if problem is not None:
            raise problem
        write(text)

    monkeypatch.setattr(house.backend._file, "_write", slowly)
    return begun, go_on


@pytest.mark.parametrize("edit", [add, clear])
async def test_who_hangs_up_while_the_graph_is_saved_leaves_one_graph_in_the_file_and_running(
    edit: Callable[[CoordinatorBackend], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, parse("b(x/Thing)"))
    begun, go_on = held_up(house, monkeypatch)
    asking = asyncio.ensure_future(edit(house.backend))
    await begun.wait()
    asking.cancel()
    await asyncio.sleep(0)  # the cancellation has arrived
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    running = house.backend.graphs()[MAIN]
    assert running == house.coordinator.graph == load_graph(house.path)
    assert len(house.heard_of(Edited) + house.heard_of(Cleared)) == 1


async def test_who_hangs_up_while_the_graph_can_not_be_saved_has_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, WIRED)
    begun, go_on = held_up(house, monkeypatch, GraphError("graph.json", "can't be saved"))
    asking = asyncio.ensure_future(clear(house.backend))
    await begun.wait()
    asking.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert house.backend.graphs()[MAIN] == WIRED
    assert house.heard_of(Cleared) == []


async def test_edits_that_come_together_are_all_or_none(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    with pytest.raises(GraphError, match="no such edge"):
        await house.backend.apply(MAIN, [RemoveNode("a"), RemoveEdge(A_OUT, B_IN)])
    assert house.backend.graphs()[MAIN] == WIRED
    assert not house.path.exists()
    assert house.heard_of(Edited) == []


async def test_a_port_that_a_known_participant_lacks_is_refused_and_an_unseen_role_is_not(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.announce("a")
    with pytest.raises(PortUnknown, match="role a has no outport heat"):
        await house.backend.apply(MAIN, [AddEdge(Edge(PortRef("a", "heat"), B_IN))])
    await house.backend.apply(MAIN, [AddEdge(Edge(A_OUT, PortRef("b", "heat")))])
    assert house.coordinator.plan.waiting == {"a.out->b.in": "waits for role b", "a.out->b.heat": "waits for role b"}


async def test_what_a_newly_heard_participant_makes_wrong_blocks_neither_the_others_nor_other_edits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, parse("a(x/Thing) OUT -> IN b(x/Thing), a OUT -> HEAT c(x/Thing), d(x/Thing)"))
    house.announce("a")
    house.announce("c")
    house.announce("b")
    house.announce("d")
    assert [binding.label for binding in house.plans[-1].bindings] == ["a.out->b.in"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "edge a.out->c.heat: is left out: role c has no inport heat (it has: in)"
    ]
    await house.backend.apply(MAIN, [AddEdge(Edge(A_OUT, PortRef("d", "in")))])
    with pytest.raises(PortUnknown, match="role d has no inport heat"):
        await house.backend.apply(MAIN, [AddEdge(Edge(A_OUT, PortRef("d", "heat")))])
    assert (await ask(house, "graph.get"))["refused"] == {"a.out->c.heat": "role c has no inport heat (it has: in)"}


async def test_who_stays_silent_for_longer_than_its_own_ttl_is_gone_soon_after(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    silent = {"id": "a-1", "role": "a", "component": "x/Thing", "inports": [], "outports": [], "ttl": 0.1}
    body = json.dumps({"protocol": "discovery", "command": "participant", "payload": silent}).encode()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.coordinator.run())
        house.coordinator.announced(body, "mqtt")
        await soon(lambda: not house.coordinator.is_present("a"))
        running.cancel()


@asynccontextmanager
async def running(house: House) -> AsyncIterator[None]:
    """The coordinator's own tasks while the block runs."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.coordinator.run())
        yield
        task.cancel()


async def sent(house: House, count: int) -> list[tuple[Address, bytes]]:
    """What was sent, once that is so much; a little later it is not more."""
    await soon(lambda: len(house.brokers.sent) >= count)
    await asyncio.sleep(0.05)
    return house.brokers.sent


async def test_data_is_delivered_once_for_every_appearance_of_a_participant(tmp_path: Path) -> None:
    house = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    async with running(house):
        for _ in range(3):
            house.announce("b")
            assert len(await sent(house, 1)) == 1
        house.coordinator.left("b")
        house.announce("b")
        assert await sent(house, 2) == [(mqtt("b/in"), b'"5"')] * 2


async def test_data_waits_for_one_that_is_only_remembered_from_an_earlier_run(tmp_path: Path) -> None:
    first = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    async with running(first):
        first.announce("b")
        await sent(first, 1)
        await soon(lambda: bool(load_participants(tmp_path / "participants.json")))
    second = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    async with running(second):
        assert await sent(second, 0) == []
        assert [str(iip.address) for iip in second.coordinator.plan.iips] == ["mqtt:b/in"]
        second.announce("b")
        assert len(await sent(second, 1)) == 1


async def test_data_is_shown_before_its_answer_even_when_that_comes_before_the_confirmation(tmp_path: Path) -> None:
    house = House(tmp_path, parse("'5' -> IN b(x/Thing) OUT -> IN c(x/Thing)"))
    house.backend.watch("client", MAIN, None)
    house.brokers.answers = {mqtt("b/in"): ("b/out", b"6")}
    async with running(house):
        house.announce("b")
        await sent(house, 1)
    assert [(str(data.src), data.data) for data in house.heard_of(Data)] == [("None", "5"), ("b.out", 6)]


async def test_data_that_can_not_be_sent_at_first_is_shown_once(tmp_path: Path) -> None:
    house = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    house.brokers.refusals = 1
    async with running(house):
        house.announce("b")
        await sent(house, 1)
    assert [data.data for data in house.heard_of(Data)] == ["5"]


async def test_who_was_only_found_in_a_queue_is_bound_at_once_and_given_data_when_it_is_heard(tmp_path: Path) -> None:
    house = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    body = render_discovery(Participant("b-1", "b", "x/Thing", "amqp", (PortDef("in", Direction.IN, queue="b.IN"),)))
    async with running(house):
        house.coordinator.announced(body, "amqp", alive=False)
        house.coordinator.replan()
        assert await sent(house, 0) == []
        assert [str(iip.address) for iip in house.coordinator.plan.iips] == ["amqp:b.IN"]
        assert house.coordinator.waiting == {"data -> b.in": "waits for an announcement of role b"}
        house.coordinator.announced(body, "amqp")
        assert len(await sent(house, 1)) == 1
        assert house.coordinator.waiting == {}


async def test_a_flood_of_new_participants_is_refused_at_the_limit_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, registry=Registry(600.0, most=10))
    for number in range(30):
        house.announce(f"r{number}", f"x/Thing{number}")
    assert len(house.coordinator.registry.everyone()) == 10
    assert house.coordinator.counts.entry() == {"heard": 10, "refused": {"mqtt: 10 participants are known already": 20}}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_is_refused_for_ever_new_reasons_is_not_said_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    for number in range(3 * REJECTED_KEPT):
        house.coordinator.announced(b'{"role": "r%d"' % number, "mqtt")
    assert len(caplog.records) == len(house.coordinator.counts.rejected) == REJECTED_KEPT + 1
    assert house.coordinator.counts.rejected["further reasons"] == 2 * REJECTED_KEPT


async def test_data_that_is_taken_out_and_put_in_again_is_sent_again(tmp_path: Path) -> None:
    house = House(tmp_path, parse("'5' -> IN b(x/Thing)"))
    async with running(house):
        house.announce("b")
        await sent(house, 1)
        (iip,) = house.backend.graphs()[MAIN].iips
        await house.backend.apply(MAIN, [RemoveIips(iip.tgt)])
        assert len(await sent(house, 1)) == 1
        await house.backend.apply(MAIN, [AddIip(iip)])
        assert len(await sent(house, 2)) == 2


async def test_round_robin_and_its_dead_letters_are_drawn_and_erased_on_the_running_graph(tmp_path: Path) -> None:
    house = House(tmp_path, parse("a(x/Thing), b(x/Thing), c(x/Thing), grave(x/Thing)"))
    for role in ("a", "b", "c", "grave"):
        house.announce(role)

    def edge(text: str) -> Edge:
        src, tgt = (PortRef(node, port) for node, _, port in (end.partition(".") for end in text.split("->")))
        return Edge(src, tgt)

    share: list[Edit] = [AddNode(Node("share", "msgflo/RoundRobin"))]
    share += [AddEdge(edge(text)) for text in ("a.out->share.in", "share.one->b.in", "share.two->c.in")]
    await house.backend.apply(MAIN, share)
    (binding,) = house.plans[-1].bindings
    assert binding.targets == (mqtt("b/in"), mqtt("c/in"))
    letters = edge("share.deadletter->grave.in")
    await house.backend.apply(MAIN, [AddEdge(letters)])
    assert house.plans[-1].bindings[0].contract.deadletter == mqtt("grave/in")
    await house.backend.apply(MAIN, [RemoveEdge(letters.src, letters.tgt)])
    await house.backend.apply(MAIN, [RemoveEdge(PortRef("share", "two"), PortRef("c", "in"))])
    (binding,) = house.plans[-1].bindings
    assert (binding.targets, binding.tgt, binding.contract.deadletter) == ((), mqtt("b/in"), None)
    await house.backend.apply(MAIN, [RemoveNode("share")])
    assert house.plans[-1].bindings == ()


async def test_a_bad_announcement_is_said_once_with_its_role_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    for _ in range(3):
        house.coordinator.announced(b'{"payload": {"role": "attic", "inports": [{}{}]}}', "mqtt")
    ((reason, count),) = house.coordinator.counts.rejected.items()
    assert reason.startswith("mqtt: not a discovery message: ")
    assert (reason.endswith("(role attic)"), count) == (True, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_an_accepted_edge_is_installed_before_the_edit_returns(tmp_path: Path) -> None:
    house = House(tmp_path, parse("a(x/Thing), b(x/Thing)"))
    house.announce("a")
    house.announce("b")
    await house.backend.apply(MAIN, [AddEdge(Edge(A_OUT, B_IN))])
    assert [binding.label for binding in house.plans[-1].bindings] == ["a.out->b.in"]


async def test_a_fbp_file_stays_one_and_keeps_the_comments_at_its_top(tmp_path: Path) -> None:
    path = tmp_path / "hall.fbp"
    path.write_text("# the hall\n# !runtime msgflo\n\na(X)\n# lost\n")
    house = House(tmp_path, load_graph(path), "hall.fbp")
    await house.backend.apply(MAIN, [AddNode(Node("b", "Y"))])
    assert path.read_text() == "# the hall\n# !runtime msgflo\na(X)\nb(Y)\n"
    assert (tmp_path / "hall.fbp.1").read_text().endswith("# lost\n")
    with pytest.raises(GraphError, match=r"hall\.fbp: IIP for a\.in: a bare true"):
        await house.backend.apply(MAIN, [AddIip(Iip(PortRef("a", "in"), True))])
    assert house.backend.graphs()[MAIN].iips == ()


async def test_a_disk_that_takes_nothing_refuses_the_edit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    house = House(tmp_path, name="file/graph.json")
    with pytest.raises(GraphError, match="can't be saved"):
        await house.backend.apply(MAIN, [AddNode(Node("a", "X"))])
    assert house.backend.graphs()[MAIN] == Graph()


async def test_a_second_graph_shares_the_roles_and_is_carried_once_it_is_started(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    for role in ("a", "b", "c"):
        house.announce(role)
    await house.backend.clear("other", {"name": "Other"})
    with pytest.raises(GraphError, match="a: another graph has a node of this name"):
        await house.backend.apply("other", [AddNode(Node("a", "x/Thing"))])
    await house.backend.apply(
        "other", [AddNode(Node("c", "x/Thing")), AddEdge(Edge(PortRef("c", "out"), PortRef("c", "in")))]
    )
    assert [binding.label for binding in house.plans[-1].bindings] == ["a.out->b.in"]
    await house.backend.start("other")
    assert [binding.label for binding in house.plans[-1].bindings] == ["a.out->b.in", "c.out->c.in"]
    await house.backend.stop("other")
    assert [binding.label for binding in house.plans[-1].bindings] == ["a.out->b.in"]
    assert not house.path.exists()
    assert house.heard_of(Cleared)[0].graph_id == "other"
    assert house.heard_of(NetworkStarted)[0].status.running


async def test_graphs_that_were_emptied_make_room_for_new_ones_and_others_do_not(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(3 * MOST_GRAPHS):
        await house.backend.clear(f"test{number}", {})
        await house.backend.apply(f"test{number}", [AddNode(Node("a", "x/Thing"))])
        await house.backend.start(f"test{number}")
        await house.backend.stop(f"test{number}")
        await house.backend.clear(f"test{number}", {})
    assert len(house.backend.graphs()) == 1 + MOST_GRAPHS
    for number in range(MOST_GRAPHS):
        await house.backend.clear(f"full{number}", {})
        await house.backend.apply(f"full{number}", [AddNode(Node(f"n{number}", "x/Thing"))])
    with pytest.raises(GraphError, match=f"there are {MOST_GRAPHS} graphs already"):
        await house.backend.clear("more", {})
    assert MAIN in house.backend.graphs()


async def test_a_role_that_somebody_else_has_can_not_be_renamed(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    await house.backend.apply(MAIN, [RenameNode("b", "c")])
    house.announce("a")
    with pytest.raises(GraphError, match="a participant that was not started here"):
        await house.backend.apply(MAIN, [RenameNode("a", "z")])


async def test_a_watched_edge_is_tapped_as_long_as_somebody_watches(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.announce("a")
    house.announce("b")
    house.backend.watch("one", MAIN, None)
    house.backend.watch("two", MAIN, [(A_OUT, B_IN)])
    house.brokers.arrive("a/out", b'{"t": 1}')
    house.brokers.arrive("a/out", b"plain \xff")
    house.brokers.arrive("a/out", b"x" * 100_000)
    assert [data.data for data in house.heard_of(Data)] == [
        {"t": 1},
        "plain \N{REPLACEMENT CHARACTER}",
        "(100000 bytes)",
    ]
    house.backend.unwatch("one")
    assert list(house.brokers.taps) == [mqtt("a/out")]
    await house.backend.apply(MAIN, [RemoveEdge(A_OUT, B_IN)])
    assert house.brokers.taps == {}


def joined(house: House) -> None:
    """Two roles whose ports have one queue."""
    port = PortDef("out", Direction.OUT, queue="joint"), PortDef("in", Direction.IN, queue="joint")
    for one in (Participant("a-1", "a", "x", "mqtt", (), port[:1]), Participant("b-1", "b", "x", "mqtt", port[1:])):
        house.coordinator.announced(render_discovery(one), "mqtt")
    house.coordinator.replan()


async def test_an_implied_edge_is_shown_and_watched_but_neither_saved_nor_taken_out(tmp_path: Path) -> None:
    house = House(tmp_path, parse("a(x/Thing), b(x/Thing)"))
    joined(house)
    edge = Edge(A_OUT, B_IN, {"implied": True})
    assert house.heard_of(ImpliedEdge) == [ImpliedEdge(MAIN, edge, there=True)]
    assert house.backend.with_implied(house.backend.graphs()[MAIN]).edges == (edge,)
    assert house.backend.graphs()[MAIN].edges == ()
    house.backend.watch("c", MAIN, [(A_OUT, B_IN)])
    house.brokers.arrive("joint", b"7")
    assert [(data.src, data.tgt, data.data) for data in house.heard_of(Data)] == [(A_OUT, B_IN, 7)]
    for edit in (RemoveEdge(A_OUT, B_IN), ChangeEdge(A_OUT, B_IN, {"x": 1})):
        with pytest.raises(GraphError, match=r"a\.out->b\.in: is implied: both ports have one queue"):
            await house.backend.apply(MAIN, [edit])
    await house.backend.apply(MAIN, [AddNode(Node("c", "x/Thing"))])
    assert "joint" not in house.path.read_text()
    assert load_graph(house.path).edges == ()


async def test_an_implied_edge_that_is_drawn_is_drawn_and_is_implied_again_when_that_is_taken_out(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, parse("a(x/Thing), b(x/Thing)"))
    joined(house)
    await house.backend.apply(MAIN, [AddEdge(Edge(A_OUT, B_IN, {"implied": True, "route": 3}))])
    assert house.backend.graphs()[MAIN].edges == (Edge(A_OUT, B_IN, {"route": 3}),)
    await house.backend.apply(MAIN, [RemoveEdge(A_OUT, B_IN)])
    await house.backend.apply(MAIN, [RemoveNode("b")])
    told = [
        (change.there if isinstance(change, ImpliedEdge) else type(change.edit).__name__)
        for change in house.heard
        if isinstance(change, ImpliedEdge | Edited)
    ]
    assert told == [True, False, "AddEdge", "RemoveEdge", True, False, "RemoveNode"]


async def test_who_comes_later_is_not_told_again_of_the_implied_edges_that_are_there(tmp_path: Path) -> None:
    house = House(tmp_path, parse("a(x/Thing), b(x/Thing)"))
    house.forget()
    joined(house)
    house.backend.listen(house.heard.append)
    house.coordinator.replan()
    assert house.heard_of(ImpliedEdge) == []


async def test_a_participant_that_appears_later_is_tapped_then(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.backend.watch("one", MAIN, None)
    assert house.brokers.taps == {}
    house.announce("a")
    assert list(house.brokers.taps) == [mqtt("a/out")]


async def test_exported_ports_lead_in_and_out(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.announce("a")
    await house.backend.apply(
        MAIN,
        [AddExport(Direction.IN, Export("feed", PortRef("a", "in"))), AddExport(Direction.OUT, Export("tail", A_OUT))],
    )
    await house.backend.send(MAIN, "feed", {"x": 1})
    assert house.brokers.sent == [(mqtt("a/in"), b'{"x":1}')]
    house.brokers.arrive("a/out", b"2")
    assert house.heard_of(PacketOut) == [PacketOut(MAIN, "tail", 2)]


async def test_components_are_told_when_they_are_new(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.announce("a")
    house.announce("b")
    (known,) = house.heard_of(ComponentKnown)
    assert known.component.name == "x/Thing"
    assert (await house.backend.source("x/Thing")).language == "discovery"
    with pytest.raises(NotFound, match="Component not found for y/Other"):
        await house.backend.source("y/Other")


async def test_an_edge_whose_delivery_contract_can_not_be_kept_is_refused(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.announce("a")
    with pytest.raises(GraphError, match="overflow block needs an AMQP source"):
        await house.backend.apply(MAIN, [ChangeEdge(A_OUT, B_IN, {"overflow": "block"})])


# -- the command line's requests -----------------------------------------------------------------------------------


async def ask(house: House, op: str, **request: Any) -> Any:
    handlers = GraphHandlers(house.backend, house.coordinator).handlers()
    return [item async for item in handlers[op](request)][-1]


async def test_connect_adds_the_roles_it_needs(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.announce("a")
    answer = await ask(house, "graph.connect", src="a.out", tgt="b.in", components={"b": "y/Later"})
    assert answer == {
        "edits": ["+ node a (x/Thing)", "+ node b (y/Later)", "+ edge a.out->b.in"],
        "edges": ["+ mqtt:a/out -> b"],
        "waiting": {"a.out->b.in": "waits for role b"},
        "applied": True,
        "bound": True,
    }
    assert [str(edge) for edge in load_graph(house.path).edges] == ["a.out->b.in"]


async def test_an_edit_is_answered_when_the_brokers_have_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.announce("a")
    house.announce("b")
    house.brokers.ready.clear()
    asked = asyncio.create_task(ask(house, "graph.connect", src="a.out", tgt="b.in"))
    await soon(lambda: bool(house.plans and house.plans[-1].bindings))
    assert not asked.done()
    house.brokers.ready.set()
    assert (await asked)["bound"]


async def test_an_edit_says_when_a_broker_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_handlers, "BOUND_WAIT_S", 0.0)
    house = House(tmp_path)
    house.announce("a")
    house.announce("b")
    house.brokers.ready.clear()
    answer = await ask(house, "graph.connect", src="a.out", tgt="b.in")
    assert (answer["applied"], answer["bound"]) == (True, False)


async def test_connect_names_what_is_not_there(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.announce("a")
    with pytest.raises(NotFound, match=r"role b is not in the graph and was never seen \(seen: a\)"):
        await ask(house, "graph.connect", src="a.out", tgt="b.in")
    with pytest.raises(PortUnknown, match="role a has no outport heat"):
        await ask(house, "graph.connect", src="a.heat", tgt="a.in")
    with pytest.raises(GraphError, match=r"write ROLE\.PORT"):
        await ask(house, "graph.connect", src="a", tgt="a.in")


@pytest.mark.parametrize(
    "end", ["", "a", "a.", ".b", "a.b[", "a.b[1", "a.b[x]", "a.b[-1]", "a.b[1]x", f"a.b[{'9' * 5000}]"]
)
async def test_what_is_no_port_is_refused_in_one_line(end: str, tmp_path: Path) -> None:
    house = House(tmp_path)
    with pytest.raises(GraphError, match=r"write ROLE\.PORT") as raised:
        await ask(house, "graph.connect", src=end, tgt="c.d", components={"a": "X", "c": "Y"})
    assert "\n" not in str(raised.value)


async def test_connect_takes_indexes_and_roles_with_dots(tmp_path: Path) -> None:
    house = House(tmp_path)
    components = {"a.b": "X", "c": "Y"}
    answer = await ask(house, "graph.connect", src="a.b.out[3]", tgt="c.in", components=components)
    assert "+ edge a.b.out[3]->c.in" in answer["edits"]


async def test_a_dry_run_shows_and_does_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    house.announce("a")
    house.announce("b")
    answer = await ask(house, "graph.disconnect", src="a.out", tgt="b.in", dry_run=True)
    assert (answer["edges"], answer["applied"]) == (["- mqtt:a/out -> mqtt:b/in"], False)
    assert house.backend.graphs()[MAIN] == WIRED


async def test_apply_makes_the_running_graph_equal_to_the_file(tmp_path: Path) -> None:
    house = House(tmp_path, WIRED)
    document = {"processes": {"a": {"component": "x/Thing"}, "c": {"component": "Y"}}, "connections": []}
    answer = await ask(house, "graph.apply", graph=document)
    assert answer["edits"] == ["- node b", "+ node c (Y)"]
    assert [node.id for node in load_graph(house.path).nodes] == ["a", "c"]
    assert (await ask(house, "graph.apply", graph=document))["edits"] == []


async def test_apply_says_so_when_somebody_else_edits_the_graph_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, parse("b(x/Thing)"))
    begun, go_on = held_up(house, monkeypatch)
    first = asyncio.ensure_future(add(house.backend))
    await begun.wait()
    second = asyncio.ensure_future(ask(house, "graph.apply", graph={"processes": {"c": {"component": "Y"}}}))
    await asyncio.sleep(0)  # it has looked at the graph, and waits for its turn
    go_on.set()
    await first
    with pytest.raises(GraphError, match="somebody else edited it meanwhile; try again"):
        await second
    assert [node.id for node in load_graph(house.path).nodes] == ["b", "a"]
