"""A port's ``retained``: how it is said, who refuses it, which edges carry it, and what the router publishes then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click import UsageError

from gateway.cli.boards.pair import port_meanings
from gateway.cli.boards.pair_list import load_list
from gateway.errors import BadValue, ConfigError, GraphError
from gateway.firmware.sources import component_map
from gateway.model.address import mqtt, serial
from gateway.model.binding import Binding
from gateway.model.message import Message
from gateway.model.port import Direction, PortDef
from gateway.routing.core import events as ev
from gateway.routing.core.table import RouteTable
from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.records.board_settings import changed, is_delivery
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import (
    BoardProfile,
    PortMeaning,
    exported_only,
    parse_board_graph,
    parse_library,
)
from gateway.spool.core.record import SpoolRecord
from tests.support.gateway import EXAMPLES
from tests.support.routing import CLOUD, SOURCE, Bench, backlog, edge
from tests.unit.test_planner import graph, participant, plan

GRAPH = parse_board_graph((EXAMPLES / "thermometer.fbp").read_text(), "thermometer.fbp")
LIBRARY = parse_library(component_map().read_text(), "components.json")
RETAINED = PortMeaning(retained=True)


# -- said --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "means"), [("true", True), ("off", False)])
def test_a_port_option_says_whether_its_topic_is_retained(text: str, means: bool) -> None:
    assert port_meanings((f"temp:retained={text},unit=K",), ())["temp"] == PortMeaning(unit="K", retained=means)


def test_a_port_option_that_says_neither_is_refused() -> None:
    with pytest.raises(UsageError, match="retained must be true or false"):
        port_meanings(("temp:retained=",), ())


def test_a_list_says_it_as_toml_does(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_text('[[board]]\nport = "x"\n[board.ports.temp]\nretained = true\n')
    (request,) = load_list(path)
    assert request.ports["temp"] == RETAINED
    path.write_text('[[board]]\nport = "x"\n[board.ports.temp]\nretained = "often"\n')
    with pytest.raises(ConfigError, match="retained"):
        load_list(path)


def record() -> BoardRecord:
    return BoardRecord(
        id="one",
        role="attic",
        identity=Identity("path", "/dev/x"),
        known=PortFacts(path="/dev/x"),
        path="/dev/x",
        baud=9600,
        wire="w10",
    )


def test_it_can_be_set_and_taken_back_without_disturbing_the_board() -> None:
    before = record()
    ports = changed(before, "temp.retained", "true")["ports"]
    assert ports == {"temp": RETAINED}
    assert is_delivery("temp.retained")
    with pytest.raises(BadValue, match="must be true or false"):
        changed(before, "temp.retained", "")


# -- refused -----------------------------------------------------------------------------------------------------------


def test_an_inport_can_not_be_retained() -> None:
    assert BoardProfile.of(GRAPH, LIBRARY, {"temp": RETAINED}).ports["temp"].retained
    with pytest.raises(GraphError, match="port fan: is an inport: retained=true is for outports") as caught:
        BoardProfile.of(GRAPH, LIBRARY, {"fan": RETAINED})
    assert "\n" not in str(caught.value)


def test_an_outport_that_is_an_inport_in_the_graph_of_today_does_no_harm() -> None:
    meanings = exported_only(GRAPH, {"fan": PortMeaning(type="boolean", retained=True), "temp": RETAINED})
    assert meanings == {"fan": PortMeaning(type="boolean"), "temp": RETAINED}


# -- planned -----------------------------------------------------------------------------------------------------------


def test_the_port_s_own_topic_is_retained_and_no_other_edge_of_the_port() -> None:
    board = participant("attic", "serial", ins="fan", outs="temp light")
    temp, light = board.outports
    board = replace(board, outports=(replace(temp, retained=True), light))
    made = plan(graph("attic.temp->b.in", "attic.temp->c.in"), participant("b", "mqtt"), boards=(board,))
    assert [binding.label for binding in made.bindings if binding.retain] == ["attic.temp->mqtt:attic/temp"]


def test_an_edge_that_is_the_same_as_the_port_s_own_is_retained_with_it() -> None:
    board = participant("attic", "serial", ins="", outs="temp")
    board = replace(board, outports=(replace(board.outports[0], retained=True),))
    listener = replace(participant("b", "mqtt"), inports=(PortDef("in", Direction.IN, queue="attic/temp"),))
    made = plan(graph("attic.temp->b.in"), listener, boards=(board,))
    assert [binding.retain for binding in made.bindings] == [True, True]


# -- routed ------------------------------------------------------------------------------------------------------------

OWN = mqtt("attic/temp")
BOARD = serial("one", "temp")


def binding(**contract: object) -> Binding:
    return replace(edge("own", OWN, BOARD, **contract), retain=True)


def sent(effects: list[ev.Effect]) -> list[tuple[str, bool]]:
    return [(one.target.name, one.message.retain) for one in effects if isinstance(one, ev.Publish)]


def test_a_reading_is_retained_on_the_own_topic_alone_and_is_itself_no_retained_message() -> None:
    bench = Bench([edge("other", mqtt("b/in"), BOARD), binding(), edge("cloud", CLOUD, BOARD)])
    assert sent(bench.deliver("a", BOARD)) == [("b/in", False), ("attic/temp", True), (CLOUD.name, False)]


@pytest.mark.parametrize("contract", [{"mode": "volatile"}, {"latest": True}])
def test_it_is_retained_under_every_contract(contract: dict[str, object]) -> None:
    assert sent(Bench([binding(**contract)]).deliver("a", BOARD)) == [("attic/temp", True)]


def test_what_waited_in_the_spool_is_retained_when_it_goes() -> None:
    bench = Bench([binding()], up=())
    bench.commit(bench.deliver("a", BOARD))
    assert sent(bench.tell(ev.TargetUp("mqtt"))) == [("attic/temp", True)]


def test_what_comes_from_the_spool_of_the_run_before_is_retained() -> None:
    bench = Bench([binding()])
    bench.disk = {1: SpoolRecord("own", Message("a", b"21.5"), 1)}
    assert sent(bench.fetch(bench.tell(ev.Recovered([backlog("own", 1, 1, 4)], (), 0)))) == [("attic/temp", True)]


def test_what_waited_while_it_was_switched_off_is_not_retained() -> None:
    bench = Bench([binding()], up=())
    bench.commit(bench.deliver("a", BOARD))
    bench.install(replace(binding(), retain=False))
    assert sent(bench.tell(ev.TargetUp("mqtt"))) == [("attic/temp", False)]


def test_what_still_waits_for_a_topic_that_is_the_port_s_no_more_is_not_retained_there() -> None:
    bench = Bench([binding()], up=())
    bench.commit(bench.deliver("a", BOARD))
    bench.tell(ev.TableInstalled(RouteTable.of([edge("next", SOURCE, BOARD)], [binding()])))
    assert sent(bench.tell(ev.TargetUp("mqtt"))) == [("attic/temp", False)]
    bench = Bench([binding()], up=())
    bench.commit(bench.deliver("a", BOARD))
    bench.install()
    assert sent(bench.tell(ev.TargetUp("mqtt"))) == [("attic/temp", False)]
