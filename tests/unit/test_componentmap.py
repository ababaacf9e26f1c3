"""Components of a firmware: from the reference tool's map, and from the comments in its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError, NotFound
from gateway.model.port import Direction
from gateway.serial_link.description.component_files import load_components, read_component_map
from gateway.serial_link.description.component_map import dump_component_map, parse_component_map
from gateway.serial_link.description.cpp_metadata import parse_component_sources
from tests.support.vectors import library

DIMMER = """{"components": {"Dimmer": {
  "name": "Dimmer", "description": "own example", "id": 4, "inports": null, "outports": null,
  "inPorts": {"level": {"type": "integer", "id": 0}, "pin": {"type": "integer", "id": 1}},
  "outPorts": {"out": {"type": "integer", "id": 0}}}}}"""

SOURCE = """// a driver
/* microflo_component yaml
name: Dimmer
description: Sets the light
inports:
  level:
    type: integer
  pin:
    type: integer
microflo_component */
class Dimmer : public SingleOutputComponent {};

/* microflo_component json
{"name": "NotRead"}
microflo_component */

/* microflo_component yaml
name: Blinker
id: 9
inports: {}
outports:
  first: {id: 3}
  second: {id: 4, type: boolean}
microflo_component */

/* microflo_component yaml
name: Next
microflo_component */

/* microflo_component yaml
name: Unused
.skip: true
microflo_component */

/* microflo_component yaml
name: Drawn
graphFile: other.fbp
microflo_component */
"""


def test_the_filled_ports_of_a_map_are_those_with_the_capital_letter() -> None:
    dimmer = parse_component_map(DIMMER, "map.json").component("Dimmer")
    assert (dimmer.number, [port.id for port in dimmer.inports]) == (4, ["level", "pin"])
    assert dimmer.port(Direction.IN, "pin").number == 1


def test_a_library_survives_being_written_as_a_map() -> None:
    assert parse_component_map(dump_component_map(library()), "map.json") == library()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no valid JSON"),
        ("[]", "no component map"),
        ('{"components": {"A": {"id": 300}}}', "components.A.id: must be a number from 0 to 255"),
        ('{"components": {"A": {"id": 1}, "B": {"id": 1}}}', "1 is A already"),
        ('{"components": {"A": {"id": 1, "inPorts": {"x": {"id": 200}}}}}', "components.A.inPorts.x.id"),
    ],
)
def test_a_wrong_map_names_the_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_component_map(text, "map.json")
    assert str(raised.value).startswith("map.json")
    assert says in str(raised.value)


def test_comments_in_sources_read_as_the_generator_of_the_firmware_reads_them() -> None:
    found = parse_component_sources([("a.hpp", SOURCE)]).by_name
    assert {name: component.number for name, component in found.items()} == {"Dimmer": 1, "Blinker": 9, "Next": 10}
    assert [(port.id, port.number, port.type) for port in found["Dimmer"].inports] == [
        ("level", 0, "integer"),
        ("pin", 1, "integer"),
    ]
    assert [(port.id, port.number) for port in found["Dimmer"].outports] == [("out", 0)]
    assert found["Blinker"].inports == ()
    assert [(port.id, port.number) for port in found["Blinker"].outports] == [("first", 3), ("second", 4)]
    assert [port.id for port in found["Next"].inports] == ["in"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("name: [", "a.hpp: microflo_component: no valid YAML"),
        ("id: 3", "a component needs a name"),
        ("name: A\nid: 100", "A.id: 100 is that of subgraphs"),
        ("name: A\nid: 999", "A.id: must be a number from 0 to 255"),
        ("name: A\ninports: [x]", "A.inports: must be a map of ports"),
        ("name: A\ninports:\n  x: {id: 1}\n  y: {}", "A.inports.y.id"),
    ],
)
def test_a_wrong_comment_names_the_place(body: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_component_sources([("a.hpp", f"/* microflo_component yaml\n{body}\nmicroflo_component */\n")])
    assert says in str(raised.value)


def test_two_components_never_share_a_name_or_a_number() -> None:
    one = "/* microflo_component yaml\nname: {}\nid: 7\nmicroflo_component */\n"
    with pytest.raises(ConfigError, match="7 is that of A"):
        parse_component_sources([("a.hpp", one.format("A")), ("b.hpp", one.format("B"))])
    with pytest.raises(ConfigError, match="already"):
        parse_component_sources([("a.hpp", one.format("A")), ("b.hpp", one.format("A"))])


def test_a_directory_of_sources_serves_as_a_map(tmp_path: Path) -> None:
    (tmp_path / "b.hpp").write_text(SOURCE)
    (tmp_path / "a.cpp").write_text("/* microflo_component yaml\nname: First\nmicroflo_component */\n")
    (tmp_path / "notes.txt").write_text("name: none")
    found = load_components(tmp_path)
    assert {name: component.number for name, component in found.by_name.items()} == {
        "First": 1,
        "Dimmer": 2,
        "Blinker": 9,
        "Next": 10,
    }
    assert parse_component_map(read_component_map(tmp_path), "made") == found


def test_what_is_not_there_or_holds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such component map"):
        load_components(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="microflo_component comment"):
        load_components(tmp_path)


@pytest.mark.parametrize("name", ["map.json", "part.hpp"])
def test_a_file_that_is_too_long_for_components_is_not_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    for read in (load_components, read_component_map):
        with pytest.raises(ConfigError, match=f"{name}: can't be read: longer than 16777216 bytes"):
            read(path)


def test_what_is_no_text_is_told_and_the_mark_of_an_editor_is_none_of_the_map(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        load_components(path)
    path.write_text(DIMMER, "utf-8-sig")
    assert list(load_components(path).by_name) == ["Dimmer"]
    assert parse_component_map(read_component_map(path), "made") == load_components(path)
