"""A graph as commands: byte for byte the reference's streams, and a live upload that goes by the board's own answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.graphs.compile import compile_command
from gateway.cli.main import main
from gateway.errors import GraphError
from gateway.fbp.text.graph_files import parse_graph
from gateway.model.component import ComponentLibrary
from gateway.model.graph import Graph
from gateway.serial_link.description.component_map import dump_component_map
from gateway.serial_link.graph.upload import Uploader, check_graph, compile_stream
from gateway.serial_link.protocol.codec import W10, Command, Wire, decode, encode
from gateway.serial_link.protocol.commandformat import CommandKind
from tests.support.vectors import each, library

COMPILED = [entry for entry in each("graph_compilation") if "reference_tool" not in entry.values[1]]
"""The 0.4 tool crashes on one of the graphs."""


def graph_of(entry: dict[str, Any]) -> Graph:
    return parse_graph(entry["graph_text"], entry["name"])


def split(wire: Wire, stream: bytes) -> list[str]:
    return [stream[at : at + wire.size].hex() for at in range(0, len(stream), wire.size)]


@pytest.mark.parametrize(("wire", "entry"), COMPILED)
def test_an_embedded_stream_is_the_references_byte_for_byte(wire: Wire, entry: dict[str, Any]) -> None:
    expected = entry.get("correct_embedded") or entry["reference_tool_embedded"]
    assert split(wire, compile_stream(graph_of(entry), library(wire), wire, embedded=True)) == expected


@pytest.mark.parametrize(("wire", "entry"), COMPILED)
def test_an_upload_stream_is_the_same_without_open_and_end(wire: Wire, entry: dict[str, Any]) -> None:
    got = split(wire, compile_stream(graph_of(entry), library(wire), wire, embedded=False))
    if wire.request_ids:
        embedded = [bytes.fromhex(line) for line in entry["correct_embedded"][1:-1]]
        assert got == [(bytes((unit[0] - 1,)) + unit[1:]).hex() for unit in embedded]
        zeroed = {"00" * 9}  # the reference replaces initial packets by zero commands
        theirs = entry["reference_tool_upload"]
        same = [line for line in got if line[2:4] != "0d"]
        assert [line[2:] for line in same] == [line[2:] for line in theirs if line[2:] not in zeroed]
    else:
        assert got == entry["reference_tool_upload"]


@pytest.mark.parametrize(("wire", "entry"), COMPILED)
def test_a_live_upload_sends_the_stream_and_takes_the_numbers_of_the_answers(wire: Wire, entry: dict[str, Any]) -> None:
    graph = graph_of(entry)
    uploader = Uploader(graph, library(wire))
    answers = [bytes.fromhex(line) for line in entry.get("firmware_answers_to_correct") or entry["firmware_answers"]]
    answers = answers[1:-1]  # without those of open and End
    if wire.clear_stops:
        answers.insert(0, encode(wire, Command(0, CommandKind.NETWORK_STOPPED)))
    while unit := uploader.next_command():
        if unit.kind == CommandKind.SUBSCRIBE_TO_PORT:  # not in an embedded stream
            answers.insert(0, encode(wire, Command(0, CommandKind.PORT_SUBSCRIPTION_CHANGED, unit.args)))
        uploader.accept(decode(wire, answers.pop(0)))
    assert answers == []
    assert uploader.done == uploader.total
    assert dict(uploader.names.nodes) == entry["node_ids"]


def test_a_stream_longer_than_the_request_ids_is_whole() -> None:
    lines = "\n".join(f"n{i}(Split) OUT{k} -> IN n{(i + k) % 40}" for i in range(40) for k in range(1, 9))
    stream = compile_stream(parse_graph(lines, "wide.fbp"), library(), W10, embedded=True)
    ids = [bytes.fromhex(line)[0] for line in split(W10, stream)[1:]]
    assert len(ids) == 4 + 40 + 320 + 1
    assert 0 not in ids


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a(Nope) OUT -> IN b(Forward)", "no such component"),
        ("a(Forward) OUT -> NOWHERE b(Forward)", "nowhere"),
        ("a(Forward) SIDE -> IN b(Forward)", "side"),
        ("'9.9' -> IN a(Forward)", "9.9"),
        ("a(Forward) OUT -> IN b(Forward)\na OUT -> IN c(Forward)", "use a Split"),
        ("\n".join(f"n{i}(Forward) OUT -> IN m" for i in range(49)) + "\nm(Forward) OUT -> IN n0", "room for 49"),
        ("\n".join("'1' -> IN a(Forward)" for _ in range(49)), "queue takes 48"),
    ],
    ids=["component", "inport", "outport", "fraction", "two-targets", "nodes", "packets"],
)
def test_a_graph_that_the_firmware_can_not_run_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        check_graph(parse_graph(text, "bad.fbp"), library())


@pytest.mark.parametrize("number", [0, 1, 50, 161])
def test_a_node_number_that_no_sane_board_gives_ends_the_upload(number: int) -> None:
    uploader = Uploader(parse_graph("a(Forward) OUT -> IN b(Forward)", "two.fbp"), library())
    for reply in (CommandKind.NETWORK_STOPPED, CommandKind.NODES_CLEARED, CommandKind.DEBUG_CHANGED):
        uploader.next_command()
        uploader.accept(Command(0, reply, b"\1"))
    uploader.next_command()
    uploader.accept(Command(0, CommandKind.NODE_ADDED, bytes((9, 1, 0))))
    uploader.next_command()
    with pytest.raises(GraphError, match="numbered it"):
        uploader.accept(Command(0, CommandKind.NODE_ADDED, bytes((9, number, 0))))


def test_an_answer_of_another_kind_ends_the_upload() -> None:
    uploader = Uploader(Graph(), ComponentLibrary())
    uploader.next_command()
    with pytest.raises(GraphError, match="unexpected"):
        uploader.accept(Command(0, CommandKind.NODES_CLEARED))


@pytest.mark.parametrize(("wire", "entry"), COMPILED)
def test_graph_compile_writes_the_references_stream(wire: Wire, entry: dict[str, Any], tmp_path: Path) -> None:
    graph, components, out = tmp_path / entry["name"], tmp_path / "map.json", tmp_path / "out"
    graph.write_text(entry["graph_text"])
    components.write_text(dump_component_map(library(wire)))
    options = [str(graph), "--components", str(components), "--wire", wire.name, "--embedded"]
    expected = entry.get("correct_embedded") or entry["reference_tool_embedded"]
    run = CliRunner().invoke(compile_command, options)
    assert (run.exit_code, run.output.split()) == (0, expected)
    CliRunner().invoke(compile_command, [*options, "--format", "bin", "-o", str(out)])
    assert out.read_bytes().hex() == "".join(expected)
    header = CliRunner().invoke(compile_command, [*options, "--format", "c-header"]).output
    assert re.findall(r"0x(..)", header) == re.findall("..", "".join(expected))


def test_graph_compile_refuses_a_literal_that_the_reference_cuts_short(tmp_path: Path) -> None:
    (tmp_path / "g.fbp").write_text("'9.9' -> IN a(Forward)")
    (tmp_path / "map.json").write_text(dump_component_map(library()))
    run = CliRunner().invoke(main, ["graph", "compile", f"{tmp_path}/g.fbp", "--components", f"{tmp_path}/map.json"])
    assert run.exit_code == 1
    assert "9.9" in run.output
    assert "numbers are whole" in run.output
