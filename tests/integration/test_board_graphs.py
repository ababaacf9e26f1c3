"""Graphs of a connected board, over a real pty: uploads and live edits, all or nothing, and what is kept of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.errors import (
    BoardRefused,
    ConnectFailed,
    ConnectionLost,
    DeliveryDeferred,
    GatewayError,
    GraphError,
    NotFound,
    RequestTimeout,
)
from gateway.fbp.text.language import parse
from gateway.model.address import serial
from gateway.model.graph import Graph, Json
from gateway.model.message import Message
from gateway.model.participant import BoardState
from gateway.model.port import PortRef
from gateway.serial_link.connected.board_session import BoardSession
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.graph_store import BoardGraphStore
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, Command, Wire
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.serial_link.records.devices_json import GRAPH_JSON
from gateway.simulator.core.components import Pins
from gateway.simulator.pty import SimulatedBoard
from tests.support.boards import COMPONENTS, FAST_GRAPH, LOOP_GRAPH, Registry, board_maker, network_of
from tests.support.wait import soon

GHOST = {"name": "Ghost", "id": 99, "inPorts": {"in": {"id": 0}}, "outPorts": {"out": {"id": 0}}}
"""A component that the map has and the firmware has not: the board itself refuses it."""

WITH_GHOST = LOOP_GRAPH + "ghost(Ghost)\n"
TWO = "INPORT=first.IN:in\nOUTPORT=second.OUT:out\nfirst(Forward) OUT -> IN second(Forward)\n"
INVERTED = "INPORT=echo.IN:in\nOUTPORT=not.OUT:out\necho(Forward) OUT -> IN not(InvertBoolean)\n"


def components() -> str:
    """The example's map, with the ghost."""
    document = json.loads(COMPONENTS)
    document["components"]["Ghost"] = GHOST
    return json.dumps(document)


@dataclass
class Bench:
    """A paired and connected board."""

    board: SimulatedBoard
    registry: Registry
    graphs: BoardGraphStore
    connector: BoardConnector
    state_dir: Path

    @property
    def id(self) -> str:
        return self.connector.record.id

    @property
    def boards(self) -> Boards:
        return self.registry.boards

    @property
    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.boards.status()[0]["counters"]
        return counters

    def kinds(self) -> list[str]:
        """The components of the nodes that the board really has."""
        return sorted(node.component.name for node in network_of(self.board)._nodes.values())

    def board_subscriptions(self) -> int:
        """How many outports report what they send."""
        nodes = network_of(self.board)._nodes.values()
        return sum(outport.subscribed for node in nodes for outport in node.outports.values())

    def stored(self) -> Graph | None:
        """The graph that another start of the gateway would find."""
        return Registry(self.state_dir).boards.profile(self.id).graph

    async def echoes(self, session: BoardSession, value: Json) -> Json:
        """What comes out for what goes in."""
        source = serial(self.id, "out")
        await session.subscribe(source, 100)
        await session.publish(serial(self.id, "in"), Message("m", msgspec.json.encode(value)))
        async with asyncio.timeout(120):
            delivery = await anext(session.deliveries())
        answer: Json = msgspec.json.decode(delivery.message.body)
        return answer


@asynccontextmanager
async def bench(
    tmp_path: Path, graph: str = LOOP_GRAPH, *, upload: bool = True, wire: Wire = W10
) -> AsyncIterator[Bench]:
    registry = Registry(tmp_path / "state")
    make = board_maker("" if upload else graph, wire, Pins())
    async with SimulatedBoard(make, tmp_path / "tty") as board:
        await registry.boards.pair(
            PairRequest(
                path=str(tmp_path / "tty"),
                role="attic",
                graph=Text("device.fbp", graph),
                components=Text("components.json", components()),
                upload=upload,
                wire=wire.name,
                baud=115200,
            )
        )
        (record,) = registry.boards.records()
        connector = registry.boards.connector(record.id)
        yield Bench(board, registry, BoardGraphStore(registry.boards), connector, tmp_path / "state")


WIRES = pytest.mark.parametrize("wire", [W10, W8_06, W8_04], ids=lambda wire: wire.name)


@WIRES
async def test_an_uploaded_graph_runs_and_is_kept_and_its_ports_are_the_board_s(tmp_path: Path, wire: Wire) -> None:
    async with bench(tmp_path, FAST_GRAPH, wire=wire) as it, it.connector.connect() as session:
        steps: list[tuple[int, int]] = []
        done = await it.graphs.upload("attic", Text("loop.fbp", LOOP_GRAPH), lambda *step: steps.append(step))
        assert done["nodes"] == 1
        assert it.kinds() == ["Forward"]
        assert await it.echoes(session, 7) == 7
        (participant,) = it.boards.participants()
        assert [port.id for port in (*participant.inports, *participant.outports)] == ["in", "out"]
        stored = it.stored()
        assert stored is not None
        assert [node.id for node in stored.nodes] == ["echo"]
    total = steps[0][1]
    assert steps == [(number, total) for number in range(1, total + 1)]


@WIRES
async def test_a_refused_upload_leaves_the_graph_before_running_and_kept(tmp_path: Path, wire: Wire) -> None:
    async with bench(tmp_path, wire=wire) as it, it.connector.connect() as session:
        with pytest.raises(GatewayError, match="the board runs what it ran before"):
            await it.graphs.upload("attic", Text("ghost.fbp", WITH_GHOST))
        assert it.kinds() == ["Forward"]
        assert await it.echoes(session, 7) == 7
        assert it.stored() == it.boards.profile(it.id).graph == parse(LOOP_GRAPH, "")
        assert it.boards.status()[0]["state"] == BoardState.RUNNING


async def test_what_no_board_could_run_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect():
        requests = it.counters["link_requests"]
        for text in ("a(Oven)\n", "a(Forward) OUT -> IN b(Forward)\na OUT -> IN c(Forward)\n", "a(Forward"):
            with pytest.raises(GraphError):
                await it.graphs.upload("attic", Text("wrong.fbp", text))
        assert it.counters["link_requests"] == requests


async def test_a_board_that_is_reset_in_mid_upload_gets_the_graph_before_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:

        def step(done: int, total: int) -> None:
            if done == 4:
                it.board.request(["reset"])

        with pytest.raises(ConnectionLost):
            await it.graphs.upload("attic", Text("two.fbp", TWO), step)
        assert await it.echoes(session, 7) == 7
        assert it.kinds() == ["Forward"]
        assert it.stored() == parse(LOOP_GRAPH, "")


async def test_an_interrupted_upload_ends_the_connection_and_the_next_one_mends_the_board(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(ConnectionLost):  # noqa: PT012 - it comes out of the block
            async with it.connector.connect() as session:
                begun = asyncio.Event()
                uploading = asyncio.ensure_future(
                    it.graphs.upload("attic", Text("two.fbp", TWO), lambda done, total: begun.set())
                )
                await begun.wait()
                uploading.cancel()
                await asyncio.gather(uploading, return_exceptions=True)
                await anext(session.deliveries())
        async with it.connector.connect() as session:
            assert await it.echoes(session, 7) == 7
            assert it.kinds() == ["Forward"]


@pytest.mark.parametrize("way", ["edit", "try out"])
async def test_a_board_that_keeps_what_runs_gets_its_own_graph_after_another_one_that_is_not_kept(
    tmp_path: Path, way: str
) -> None:
    other = parse(LOOP_GRAPH + "extra(Forward) OUT -> IN more(Forward)\n", "")
    async with bench(tmp_path) as it:
        await it.boards.set("attic", "keep_running", "true")
        with suppress(ConnectionLost):
            async with it.connector.connect() as session:
                if way == "try out":
                    await it.graphs.try_out(it.id, other)
                else:
                    await edit_broken_off(it, session, other)
                session.lose("the line is cut")
        assert it.kinds() == ["Forward"] * 3
        async with it.connector.connect():
            assert it.kinds() == ["Forward"]
            assert it.stored() == it.boards.profile(it.id).graph == parse(LOOP_GRAPH, "")


async def edit_broken_off(it: Bench, session: BoardSession, graph: Graph) -> None:
    """Have the board run a graph, and hang up before it is known that it does."""

    async def never(ports: frozenset[PortRef]) -> None:
        done.set()
        await asyncio.Event().wait()

    done = asyncio.Event()
    session._graph.inspect = never  # type: ignore[method-assign]
    editing = asyncio.ensure_future(it.graphs.edit(it.id, graph))
    await done.wait()
    editing.cancel()
    await asyncio.gather(editing, return_exceptions=True)


async def test_a_board_that_falls_silent_at_the_end_of_an_edit_gets_its_own_graph_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:

        async def silent(ports: frozenset[PortRef]) -> None:
            session._graph.inspect = inspect  # type: ignore[method-assign]
            raise RequestTimeout("device attic", "subscribe", "no answer")

        inspect = session._graph.inspect
        session._graph.inspect = silent  # type: ignore[method-assign]
        with pytest.raises(ConnectionLost):
            await it.graphs.edit(it.id, parse(TWO, ""))
        await soon(lambda: it.kinds() == ["Forward"] and it.boards.status()[0]["state"] == BoardState.RUNNING)
        assert await it.echoes(session, 7) == 7
        assert it.stored() == parse(LOOP_GRAPH, "")


@WIRES
@pytest.mark.parametrize("way", ["only stopped", "started half"])
async def test_a_board_that_keeps_what_runs_is_not_left_stopped_nor_half_started(
    tmp_path: Path, wire: Wire, way: str
) -> None:
    async with bench(tmp_path, TWO, wire=wire) as it:
        await it.boards.set("attic", "keep_running", "true")
        with suppress(ConnectionLost):
            async with it.connector.connect() as session:
                await session.network.stop()
                if way == "started half":
                    await start_broken_off(it, session)
                session.lose("the line is cut")
        async with it.connector.connect() as session:
            assert await it.echoes(session, 7) == 7


async def start_broken_off(it: Bench, session: BoardSession) -> None:
    """Have the board's network started, and cut the line when its nodes are there and nothing else is."""

    async def cut(unit: Command) -> Command:
        answer = await ask(unit)
        if unit.kind == CommandKind.CREATE_COMPONENT and it.kinds() == ["Forward"] * 2:
            session.lose("the line is cut")
        return answer

    ask = session._conversation.ask
    session._conversation.ask = cut  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost):
        await session.network.start()


async def test_a_board_that_is_watched_from_now_on_is_left_alone_whatever_was_on_trial_on_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with suppress(ConnectionLost):
            async with it.connector.connect() as session:
                await it.graphs.try_out(it.id, parse(LOOP_GRAPH + "extra(Forward)\n", ""))
                session.lose("the line is cut")
        (record,) = it.boards.records()
        graph, firmware = Text("device.fbp", LOOP_GRAPH), Text("components.json", components())
        await it.boards.pair(PairRequest(path=record.path, graph=graph, components=firmware, upload=False))
        async with it.connector.connect():
            assert it.kinds() == ["Forward"] * 2


async def test_an_upload_ends_with_its_connection_and_leaves_the_turn_to_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        async with it.connector.connect() as session:
            begun = asyncio.Event()
            uploading = asyncio.ensure_future(
                it.graphs.upload("attic", Text("two.fbp", TWO), lambda done, total: begun.set())
            )
            await begun.wait()
            sending = asyncio.ensure_future(session.publish(serial(it.id, "in"), Message("m", b"1")))
        async with asyncio.timeout(120):
            for waiting in (uploading, sending):
                with pytest.raises(ConnectionLost, match="closed"):
                    await waiting
        async with it.connector.connect() as session:
            await it.graphs.edit(it.id, parse(INVERTED, ""))
            assert await it.echoes(session, True) is False


async def test_a_message_under_way_ends_with_its_connection(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        async with it.connector.connect() as session:
            it.board.request(["hang"])
            sending = asyncio.ensure_future(session.publish(serial(it.id, "in"), Message("m", b"1")))
            await asyncio.sleep(0)  # it is with the board now
        async with asyncio.timeout(120):
            with pytest.raises(DeliveryDeferred):
                await sending


async def test_a_graph_that_cannot_be_kept_is_taken_off_the_board_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        directory = it.state_dir / "boards" / it.id
        (directory / GRAPH_JSON).mkdir()  # nothing can be renamed onto it
        (directory / GRAPH_JSON / "x").touch()
        with pytest.raises(GatewayError, match="can't be written"):
            await it.graphs.edit(it.id, parse(TWO, ""))
        assert await it.echoes(session, 7) == 7
        assert it.kinds() == ["Forward"]


async def hung_up_before_it_is_kept(it: Bench, change: Coroutine[Any, Any, Any]) -> None:
    """Have a change made on the board, and whoever wants it hang up before the file could be written. Until all is over."""
    changed = asyncio.Event()
    session = it.connector.session
    assert session is not None
    asked = session.network

    def telling(ask: Any) -> Any:
        async def then(*args: Any) -> None:
            await ask(*args)
            changed.set()

        return then

    asked.upload, asked.change = telling(asked.upload), telling(asked.change)  # type: ignore[method-assign]
    async with it.boards._writing:  # somebody else writes
        changing = asyncio.ensure_future(change)
        await changed.wait()
        changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)
    assert changing.cancelled()


@pytest.mark.parametrize("way", ["edit", "upload"])
async def test_who_hangs_up_between_the_board_and_its_file_leaves_one_graph_in_both(tmp_path: Path, way: str) -> None:
    async with bench(tmp_path) as it, it.connector.connect():
        told: list[Graph] = []
        it.graphs.on_graph = lambda board_id, before, after: told.append(after)
        if way == "edit":
            await hung_up_before_it_is_kept(
                it, it.graphs.edit(it.id, parse(TWO, ""), then=lambda: told.append(parse(TWO, "")))
            )
        else:
            await hung_up_before_it_is_kept(it, it.graphs.upload("attic", Text("two.fbp", TWO)))
        assert it.kinds() == ["Forward", "Forward"]
        assert it.stored() == it.boards.profile(it.id).graph == parse(TWO, "")
        assert told == [parse(TWO, "")]


async def test_who_hangs_up_before_the_file_turns_out_not_to_be_writable_leaves_the_graph_before(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as it, it.connector.connect():
        directory = it.state_dir / "boards" / it.id
        (directory / GRAPH_JSON).mkdir()  # nothing can be renamed onto it
        (directory / GRAPH_JSON / "x").touch()
        await hung_up_before_it_is_kept(it, it.graphs.edit(it.id, parse(TWO, "")))
        assert it.kinds() == ["Forward"]
        assert it.stored() == it.boards.profile(it.id).graph == parse(LOOP_GRAPH, "")


async def test_what_is_said_of_a_port_while_a_graph_is_uploaded_holds_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        upload = session.network.upload

        async def meanwhile(*args: Any) -> None:
            await it.boards.set("attic", "out.mode", "stored")
            await upload(*args)

        session.network.upload = meanwhile  # type: ignore[assignment, method-assign]
        await it.graphs.upload("attic", Text("inverted.fbp", INVERTED))
        for boards in (it.boards, Registry(it.state_dir).boards):
            (participant,) = boards.participants()
            assert dict(participant.outports[0].delivery) == {"mode": "stored"}


@WIRES
async def test_a_live_edit_sends_the_least_and_what_runs_goes_on(tmp_path: Path, wire: Wire) -> None:
    async with bench(tmp_path, FAST_GRAPH, wire=wire) as it, it.connector.connect() as session:
        network = network_of(it.board)
        timer = next(node for node in network._nodes.values() if node.component.name == "Timer")
        await session.subscribe(serial(it.id, "temp"), 1000)
        before = it.counters["link_requests"]
        await it.graphs.edit(it.id, parse(FAST_GRAPH + "sensor OUT -> IN copy(Forward)\n", ""))
        assert it.counters["link_requests"] - before == 2  # make the node, connect it
        assert it.kinds() == ["DigitalWrite", "Forward", "Thermometer", "Timer"]
        assert network_of(it.board) is network
        assert timer in network._nodes.values()
        seen = it.counters["readings"]
        await soon(lambda: it.counters["readings"] > seen + 2)
        await it.graphs.edit(it.id, parse(FAST_GRAPH, ""))
        assert "Forward" not in it.kinds()
        seen = it.counters["readings"]
        await soon(lambda: it.counters["readings"] > seen + 2)
    assert it.counters["uploads"] == 1
    assert it.counters["handshakes"] == 0


async def test_ports_that_an_edit_exports_or_takes_back_are_the_board_s_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.boards.set("attic", "out.scale", "0.5")
        async with it.connector.connect():
            changes = it.registry.changes
            await it.graphs.edit(it.id, parse("INPORT=echo.IN:in\necho(Forward)\n", ""))
            (participant,) = it.boards.participants()
            assert participant.outports == ()
            assert it.registry.changes > changes
            await it.graphs.edit(it.id, parse(LOOP_GRAPH + "OUTPORT=echo.OUT:again\n", ""))
            (participant,) = it.boards.participants()
            assert [(port.id, port.scale) for port in participant.outports] == [("out", 0.5), ("again", None)]
            assert it.stored() == it.boards.profile(it.id).graph
    assert it.counters["uploads"] == 1


@WIRES
async def test_a_refused_edit_is_taken_back_and_what_was_sent_first_too(tmp_path: Path, wire: Wire) -> None:
    async with bench(tmp_path, wire=wire) as it, it.connector.connect() as session:
        wrong = "INPORT=echo.IN:in\nOUTPORT=not.OUT:out\necho(Forward) OUT -> IN not(InvertBoolean)\nghost(Ghost)\n"
        with pytest.raises(BoardRefused):
            await it.graphs.edit(it.id, parse(wrong, ""))
        assert it.kinds() == ["Forward"]
        assert await it.echoes(session, 5) == 5
        await it.graphs.edit(it.id, parse(INVERTED, ""))
        assert await it.echoes(session, True) is False
    assert it.counters["uploads"] == 1


async def test_ports_keep_their_scale_when_the_edit_that_took_them_back_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.boards.set("attic", "out.scale", "0.5")
        async with it.connector.connect() as session:
            with pytest.raises(BoardRefused):
                await it.graphs.edit(it.id, parse("INPORT=echo.IN:in\necho(Forward)\nghost(Ghost)\n", ""))
            assert await it.echoes(session, 7) == 3.5


async def test_edits_go_on_beyond_the_nodes_that_a_board_can_ever_make(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        for _ in range(30):
            await it.graphs.edit(it.id, parse(TWO, ""))
            await it.graphs.edit(it.id, parse(LOOP_GRAPH, ""))
        assert await it.echoes(session, 7) == 7
    assert it.board.crashes == 0
    assert it.counters["uploads"] > 1


async def test_messages_go_on_while_the_graph_is_edited_and_reach_the_right_nodes(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        source, target = serial(it.id, "out"), serial(it.id, "in")
        await session.subscribe(source, 1000)

        async def send() -> None:
            for number in range(60):
                await session.publish(target, Message(f"m{number}", b"%d" % number))

        async def edit() -> None:
            for _ in range(6):
                await it.graphs.edit(it.id, parse(LOOP_GRAPH + "extra(Forward) OUT -> IN more(Forward)\n", ""))
                await it.graphs.upload("attic", Text("loop.fbp", LOOP_GRAPH))

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            group.create_task(edit())
        got: list[int] = []
        while not got or got[-1] != 59:
            async with asyncio.timeout(120):
                got.append(int((await anext(session.deliveries())).message.body))
    assert it.board.crashes == 0
    assert got == sorted(got)


@WIRES
async def test_inspected_edges_are_reported_until_nobody_looks_and_after_every_change(
    tmp_path: Path, wire: Wire
) -> None:
    heard: list[tuple[str, Json]] = []
    async with bench(tmp_path, TWO, wire=wire) as it, it.connector.connect() as session:
        first = PortRef("first", "out")
        it.connector.inspect(frozenset({first}), lambda ref, value: heard.append((str(ref), value)))
        await soon(lambda: it.board_subscriptions() == 2)
        await session.publish(serial(it.id, "in"), Message("m", b"[1,2]"))
        await soon(lambda: ("first.out", [1, 2]) in heard)
        for graph in (TWO + "third(Forward)\n", TWO):
            await it.graphs.edit(it.id, parse(graph, ""))
        await it.graphs.upload("attic", Text("two.fbp", TWO))
        heard.clear()
        await session.publish(serial(it.id, "in"), Message("m", b"3"))
        await soon(lambda: heard == [("first.out", 3), ("second.out", 3)])
        it.board.request(["noise", "ff" * 13])
        await soon(lambda: it.counters["uploads"] == 3)
        await soon(lambda: it.board_subscriptions() == 2)
        it.connector.inspect(frozenset(), None)
        await soon(lambda: it.board_subscriptions() == 1)


async def test_a_stopped_network_stays_so_until_it_is_started_from_its_beginning(tmp_path: Path) -> None:
    async with bench(tmp_path, FAST_GRAPH) as it, it.connector.connect() as session:
        await session.subscribe(serial(it.id, "temp"), 10000)
        await session.network.stop()
        assert not session.network.is_running
        seen = it.counters["readings"]
        it.board.request(["noise", "ffffffffffffffffffffffffff"])
        await soon(lambda: it.counters["uploads"] == 2)
        await soon(lambda: it.boards.status()[0]["state"] == BoardState.RUNNING)
        await it.graphs.edit(it.id, parse(FAST_GRAPH + "sensor OUT -> IN copy(Forward)\n", ""))
        assert not network_of(it.board).running
        assert it.counters["readings"] <= seen + 2
        await session.network.start()
        assert session.network.is_running
        await soon(lambda: it.counters["readings"] > seen + 5)


async def test_a_graph_on_trial_is_not_kept_and_the_own_one_comes_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        await it.graphs.try_out(it.id, parse(INVERTED, ""))
        assert it.kinds() == ["Forward", "InvertBoolean"]
        assert it.stored() == it.boards.profile(it.id).graph == parse(LOOP_GRAPH, "")
        await session.network.stop()
        it.graphs.give_back(it.id)
        await soon(lambda: it.kinds() == ["Forward"])
        assert await it.echoes(session, 7) == 7
        await it.graphs.try_out(it.id, parse(INVERTED, ""))
        it.graphs.give_back(it.id)
        it.board.request(["noise", "ff" * 13])  # at the worst moment
        await soon(lambda: it.kinds() == ["Forward"] and it.boards.status()[0]["state"] == BoardState.RUNNING)
        assert it.stored() == parse(LOOP_GRAPH, "")


async def test_an_edit_that_comes_before_the_graph_on_trial_has_gone_is_not_undone_by_its_going(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        await it.graphs.try_out(it.id, parse(TWO, ""))
        it.graphs.give_back(it.id)
        await it.graphs.edit(it.id, parse(INVERTED, ""))
        async with session.network.turn:  # whoever waited for it has had it
            assert it.kinds() == ["Forward", "InvertBoolean"]
        assert it.stored() == parse(INVERTED, "")


async def test_an_upload_that_can_not_be_kept_brings_no_graph_back_whose_trial_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:

        async def full(*what: object) -> None:
            raise GatewayError("no space left on device")

        monkeypatch.setattr(it.boards, "keep_graph", full)
        await it.graphs.try_out(it.id, parse(TWO, ""))
        it.graphs.give_back(it.id)
        with pytest.raises(GatewayError, match="no space"):
            await it.graphs.upload("attic", Text("inverted.fbp", INVERTED))
        async with session.network.turn:  # whoever waited for it has had it
            assert it.kinds() == ["Forward"]


@pytest.mark.parametrize("way", ["upload", "edit", "try out"])
async def test_who_waits_for_a_board_that_is_unpaired_meanwhile_is_told_so(tmp_path: Path, way: str) -> None:
    async with bench(tmp_path) as it, it.connector.connect():
        waiting: list[asyncio.Future[object]] = []

        def step(done: int, total: int) -> None:
            if waiting:
                return
            if way == "upload":
                waiting.append(asyncio.ensure_future(it.graphs.upload("attic", Text("inverted.fbp", INVERTED))))
            elif way == "edit":
                waiting.append(asyncio.ensure_future(it.graphs.edit(it.id, parse(INVERTED, ""))))
            else:
                waiting.append(asyncio.ensure_future(it.graphs.try_out(it.id, parse(INVERTED, ""))))
            waiting.append(asyncio.ensure_future(it.boards.unpair("attic")))

        with suppress(NotFound):
            await it.graphs.upload("attic", Text("two.fbp", TWO), step)
        await waiting[1]
        with pytest.raises(NotFound, match="no paired board"):
            await waiting[0]


async def test_a_watched_board_is_not_edited_until_it_is_given_a_graph(tmp_path: Path) -> None:
    async with bench(tmp_path, upload=False) as it, it.connector.connect() as session:
        with pytest.raises(GatewayError, match="gateway upload attic"):
            await it.graphs.edit(it.id, parse(TWO, ""))
        await it.graphs.upload("attic", Text("two.fbp", TWO))
        assert it.boards.record(it.id).managed
        await it.graphs.edit(it.id, parse(LOOP_GRAPH, ""))
        assert await it.echoes(session, 7) == 7


async def test_a_board_that_is_not_connected_is_not_changed(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(ConnectFailed, match="device attic: is not connected"):
            await it.graphs.upload("attic", Text("two.fbp", TWO))
        assert it.stored() == parse(LOOP_GRAPH, "")


async def test_a_full_queue_of_a_stopped_board_defers_messages_and_loses_none(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, it.connector.connect() as session:
        await session.subscribe(serial(it.id, "out"), 1000)
        await session.network.stop()
        for number in range(48):
            await session.publish(serial(it.id, "in"), Message(f"m{number}", b"%d" % number))
        with pytest.raises(DeliveryDeferred, match="wait for the network to start") as caught:
            await session.publish(serial(it.id, "in"), Message("late", b"48"))
        assert not caught.value.counts
    assert it.board.crashes == 0


async def test_the_contract_of_a_port_is_kept_and_checked(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.boards.set("attic", "out.mode", "stored")
        await it.boards.set("attic", "out.max_pending", "10")
        (participant,) = Registry(it.state_dir).boards.participants()
        assert dict(participant.outports[0].delivery) == {"mode": "stored", "max_pending": 10}
        for key, value in (("out.mode", "sturdy"), ("out.overflow", "block"), ("out.max_pending", "many")):
            with pytest.raises(GatewayError, match=f"set {key}={value}"):
                await it.boards.set("attic", key, value)
        with pytest.raises(NotFound, match="port heat: the graph exports no such port"):
            await it.boards.set("attic", "heat.mode", "stored")
        await it.boards.set("attic", "out.mode", "")
        (participant,) = it.boards.participants()
        assert dict(participant.outports[0].delivery) == {"max_pending": 10}
