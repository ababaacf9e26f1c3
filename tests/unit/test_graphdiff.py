"""From one running graph to another by the fewest commands, on a simulated board; and back when the board refuses."""

from __future__ import annotations

import random

import pytest

from gateway.errors import GraphError
from gateway.fbp.text.graph_files import parse_graph
from gateway.model.graph import Graph
from gateway.serial_link.graph.live_diff import GraphChange, Running
from gateway.serial_link.graph.upload import Uploader
from gateway.serial_link.protocol.board_model import BoardModel
from gateway.serial_link.protocol.codec import W10, Command, command, decode, encode, opening
from gateway.serial_link.protocol.commandformat import CommandKind
from gateway.simulator.core.board import Board
from tests.support.vectors import library

BASE = "a(Forward) OUT -> IN b(Forward) OUT -> IN c(Count)\n'5' -> IN a\nOUTPORT=c.OUT:TOTAL\nINPORT=a.IN:GO"


def graph(text: str) -> Graph:
    return parse_graph(text, "g.fbp")


class Rig:
    """A simulated board that is asked one command after the other, with the host's model in between."""

    def __init__(self, running: str) -> None:
        self.board = Board(library())
        self.board.receive(opening(W10, 1), 0.0)
        self.board.data_to_send()
        self.model = BoardModel(library())
        uploader = Uploader(graph(running), library())
        while unit := uploader.next_command():
            uploader.accept(self.ask(unit))
        self.running = Running.after_upload(graph(running), uploader.names.nodes)

    def ask(self, unit: Command) -> Command:
        self.model.check(unit)
        self.board.receive(encode(W10, Command(130, unit.kind, unit.args)), 0.0)
        data = self.board.data_to_send()
        replies = [decode(W10, data[at : at + 10]) for at in range(0, len(data), 10)]
        assert self.board.crashed == ""
        (reply,) = [reply for reply in replies if reply.request_id == 130]
        self.model.accept(unit, reply)
        return reply

    def change(self, wanted: str | Graph) -> list[str]:
        change = GraphChange(self.running, graph(wanted) if isinstance(wanted, str) else wanted, library())
        return self.run(change)

    def run(self, change: GraphChange, stop_after: int = 10**6) -> list[str]:
        done: list[str] = []
        while len(done) < stop_after and (unit := change.next_command()):
            change.accept(self.ask(unit))
            done.append(CommandKind(unit.kind).name)
        if len(done) < stop_after:
            self.running = change.running
        return done

    def is_running(self, wanted: Graph) -> bool:
        """Whether the board is, node by node and edge by edge, what the graph says."""
        fresh = Rig.__new__(Rig)
        Rig.__init__(fresh, "a(Forward) OUT -> IN b(Forward)")
        uploader = Uploader(wanted, library())
        while unit := uploader.next_command():
            uploader.accept(fresh.ask(unit))
        names = {number: name for name, number in uploader.names.nodes.items()}
        ours = {number: name for name, number in self.running.nodes.items()}
        return named(fresh.model, names) == named(self.model, ours)


def named(model: BoardModel, names: dict[int, str]) -> tuple[object, ...]:
    return (
        {names[number]: component for number, component in model.nodes.items()},
        {(names[src], src_port, names[tgt], tgt_port) for src, src_port, tgt, tgt_port in model.edges()},
        {(names[node], port) for node, port in model.subscriptions()},
    )


@pytest.mark.parametrize(
    ("wanted", "commands"),
    [
        (BASE, []),
        (BASE.replace("'5'", "'6'"), ["SEND_PACKET"]),
        (BASE.replace("'5'", "'[1,2]'"), ["SEND_PACKET"] * 4),
        (BASE + "\nOUTPORT=b.OUT:MIDDLE", ["SUBSCRIBE_TO_PORT"]),
        (BASE.replace("TOTAL", "SUM"), []),
        (BASE.replace("OUTPORT=c.OUT:TOTAL\n", ""), ["SUBSCRIBE_TO_PORT"]),
        (BASE + "\nc OUT -> IN d(Forward)", ["CREATE_COMPONENT", "CONNECT_NODES"]),
        (BASE.replace("OUT -> IN c(", "OUT -> RESET c("), ["CONNECT_NODES"]),
        (BASE.replace(" OUT -> IN c(Count)", "\nx(Split) OUT1 -> IN c(Count)"), None),
        (BASE.replace("b(Forward)", "b(InvertBoolean)"), ["CREATE_COMPONENT", *["CONNECT_NODES"] * 2, "REMOVE_NODE"]),
        ("a(Forward) OUT -> IN c(Count)\n'5' -> IN a\nOUTPORT=c.OUT:TOTAL", ["CONNECT_NODES", "REMOVE_NODE"]),
    ],
    ids=[
        "same",
        "iip",
        "array",
        "export",
        "public-name",
        "unexport",
        "node",
        "port",
        "rewire",
        "component",
        "shortcut",
    ],
)
def test_a_change_takes_the_fewest_commands(wanted: str, commands: list[str] | None) -> None:
    rig = Rig(BASE)
    done = rig.change(wanted)
    assert commands is None or done == commands
    assert rig.is_running(graph(wanted))


def test_a_circle_of_nodes_that_go_is_cut_first() -> None:
    rig = Rig("a(Forward) OUT -> IN b(Forward) OUT -> IN a\nc(Count) OUT -> IN d(Forward)")
    assert rig.change("c(Count) OUT -> IN d(Forward)") == ["DISCONNECT_NODES", "REMOVE_NODE", "REMOVE_NODE"]


def test_an_exported_outport_that_lost_its_edge_is_subscribed_again() -> None:
    rig = Rig("a(Forward) OUT -> IN b(Forward)\nOUTPORT=a.OUT:A\nOUTPORT=b.OUT:B")
    wanted = '{"processes": {"a": {"component": "Forward"}, "b": {"component": "Forward"}}, "connections": [],\
 "outports": {"a": {"process": "a", "port": "out"}, "b": {"process": "b", "port": "out"}}}'
    assert rig.change(parse_graph(wanted, "g.json")) == ["DISCONNECT_NODES", "SUBSCRIBE_TO_PORT"]


@pytest.mark.parametrize("seed", range(25))
def test_any_graph_is_reached_from_any_other_without_a_hazard(seed: int) -> None:
    """The host's model refuses what would harm the board, and the simulated board crashes on it: neither happens."""
    chance = random.Random(seed)
    rig = Rig(random_graph(chance))
    for _ in range(4):
        wanted = random_graph(chance)
        rig.change(wanted)
        assert rig.is_running(graph(wanted))


def random_graph(chance: random.Random) -> str:
    kinds = {name: chance.choice(["Forward", "Count", "Split"]) for name in "abcde"}
    out = {"Forward": ["OUT"], "Count": ["OUT"], "Split": ["OUT1", "OUT2", "OUT3"]}
    used = chance.sample("abcde", chance.randint(2, 5))
    lines = [f"{name}({kinds[name]}) {out[kinds[name]][0]} -> IN {chance.choice(used)}" for name in used]
    for name in used:
        lines += [
            f"{name} {port} -> IN {chance.choice(used)}" for port in out[kinds[name]][1:] if chance.random() < 0.5
        ]
        if chance.random() < 0.3:
            lines.append(f"OUTPORT={name}.{out[kinds[name]][0]}:{name}x")
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stop_after", [0, 1, 3, 6])
def test_a_change_that_stops_anywhere_rolls_back_to_what_ran_before(seed: int, stop_after: int) -> None:
    chance = random.Random(seed)
    before = random_graph(chance)
    rig = Rig(before)
    change = GraphChange(rig.running, graph(random_graph(chance)), library())
    rig.run(change, stop_after)
    rig.run(change.rollback())
    assert rig.is_running(graph(before))


def test_a_rollback_sends_the_initial_packets_of_kept_nodes_again() -> None:
    rig = Rig(BASE)
    change = GraphChange(rig.running, graph(BASE.replace("'5'", "'6'")), library())
    rig.run(change)
    assert rig.run(change.rollback()) == ["SEND_PACKET"]


def test_a_change_without_room_asks_for_a_whole_upload() -> None:
    with pytest.raises(GraphError, match="upload the whole graph"):
        GraphChange(
            Running(graph(BASE), {"a": 1, "b": 2, "c": 49}, 49), graph(BASE + "\nd(Forward) OUT -> IN a"), library()
        )


def test_a_wanted_graph_that_can_not_run_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(GraphError, match="no such component"):
        GraphChange(Rig(BASE).running, graph("a(Nope) OUT -> IN b(Forward)"), library())


def test_an_answer_of_another_kind_is_no_answer() -> None:
    change = GraphChange(Rig(BASE).running, graph(BASE + "\nOUTPORT=b.OUT:B"), library())
    assert change.next_command() == command(CommandKind.SUBSCRIBE_TO_PORT, node=2, port=0, enable=1)
    with pytest.raises(GraphError, match="unexpected"):
        change.accept(Command(0, CommandKind.NODE_ADDED))
