"""``gateway graph`` on files, as a user sees it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.firmware.sources import component_map
from tests.support.gateway import COMMAND

HALL = "# @name hall\npir(io/Pir) MOTION -> ON lamp(io/Lamp)\n'5' -> HOLD lamp\n"


def gateway(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=given)


@pytest.fixture
def hall(tmp_path: Path) -> Path:
    path = tmp_path / "hall.fbp"
    path.write_text(HALL)
    return path


def test_a_graph_goes_to_json_and_back_to_the_same_graph(hall: Path, tmp_path: Path) -> None:
    json_file = tmp_path / "hall.json"
    assert gateway("graph", "convert", str(hall), "--to", "json", "-o", str(json_file)).exit_code == 0
    assert list(json.loads(json_file.read_text())["processes"]) == ["pir", "lamp"]
    back = gateway("graph", "convert", str(json_file), "--to", "fbp")
    assert back.output == ("# @name hall\n\npir(io/Pir)\nlamp(io/Lamp)\n\npir MOTION -> ON lamp\n'5' -> HOLD lamp\n")
    assert gateway("graph", "diff", str(hall), str(json_file), "--exit-code").exit_code == 0


def test_a_graph_on_standard_input_is_known_by_its_first_character() -> None:
    as_json = gateway("graph", "convert", "-", "--to", "json", given=HALL)
    assert as_json.exit_code == 0
    assert gateway("graph", "convert", "-", "--to", "json", given=as_json.output).output == as_json.output


def test_case_is_kept_only_where_it_is_asked_for() -> None:
    text = "A(X) boolOut -> In B(Y)\n"
    assert '"boolout"' in gateway("graph", "convert", "-", "--to", "json", given=text).output
    kept = gateway("graph", "convert", "-", "--to", "json", "--case-sensitive", given=text).output
    assert '"boolOut"' in kept
    assert "A boolOut -> In B" in gateway("graph", "convert", "-", "--to", "fbp", given=kept).output


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ('{"processes": {"a/b": {"component": "X"}}}', "node 'a/b'"),
        ('{"processes": {"a": {"component": "X"}}, "groups": [{"name": "g", "nodes": ["a"]}]}', "group g"),
        ('{"processes":{"a":{"component":"X"}},"connections":[{"data":true,"tgt":{"process":"a","port":"i"}}]}', "a.i"),
        ('{"processes": {"a": {"component": "X", "metadata": {"x": -1}}}}', "node a: metadata x"),
        ('{"processes": {"a": {"component": "X.Y"}}}', "component 'X.Y'"),
    ],
)
def test_what_the_language_has_no_words_for_is_refused_by_name(document: str, words: str) -> None:
    result = gateway("graph", "convert", "-", "--to", "fbp", given=document)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_mistake_is_one_line_with_line_and_column(hall: Path) -> None:
    hall.write_text(HALL + "lamp STATE ->\n")
    result = gateway("graph", "check", str(hall))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"gateway: {hall}:4:14: can't read the end of the line; expected ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("check",), ("compile",)])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fan(DigitalWrit)", "fan(DigitalWrit): no such component on this board (it has: "),
        ("a(Forward) OUT -> INN b(Forward)", "a.out->b.inn: component Forward has no inport inn (it has: in)"),
        ("OUTPORT=a.OUTT:x\na(Forward)", "outport x: component Forward has no outport outt (it has: out)"),
    ],
)
def test_what_a_board_does_not_have_is_said_with_file_and_place(
    command: tuple[str, ...], text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "board.fbp"
    path.write_text(text)
    result = gateway("graph", *command, str(path), "--components", str(component_map()))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"gateway: {path}: {words}")
    assert result.stderr.count("\n") == 1


def test_check_counts_and_remarks(hall: Path) -> None:
    hall.write_text(HALL + "spare(io/Lamp)\n")
    result = gateway("graph", "check", str(hall))
    assert result.output == f"{hall}: good; nodes: 3, edges: 1, IIPs: 1\n  node spare has no edge\n"


def test_a_missing_file_is_not_found() -> None:
    result = gateway("graph", "show", "/nowhere/hall.fbp")
    assert result.exit_code == 4
    assert "no such graph file" in result.stderr


def test_diff_tells_what_has_to_change(hall: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.fbp"
    other.write_text(HALL.replace("'5'", "6") + "lamp STATE -> IN log(db/Log)\n")
    result = gateway("graph", "diff", str(hall), str(other))
    assert result.output.splitlines() == [
        "+ node log (db/Log)",
        "+ edge lamp.state->log.in",
        "- iip -> lamp.hold",
        "+ iip 6 -> lamp.hold",
    ]
    assert gateway("graph", "diff", str(hall), str(other), "--exit-code").exit_code == 1


def test_draw_knows_the_kind_by_the_name_of_the_file(hall: Path, tmp_path: Path) -> None:
    for name, start in (("hall.svg", "<svg"), ("hall.mmd", "flowchart LR"), ("hall.dot", "digraph")):
        assert gateway("graph", "draw", str(hall), "-o", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_text().startswith(start)


def test_show_has_a_stable_json_shape(hall: Path) -> None:
    shown = json.loads(gateway("graph", "show", str(hall), "--json").output)
    assert shown["version"] == 1
    assert shown["graph"]["properties"] == {"name": "hall"}
    assert "pir.motion -> lamp.on" in gateway("graph", "show", str(hall)).output


def test_a_drawing_is_known_by_its_name_and_asked_for_where_it_is_not(hall: Path, tmp_path: Path) -> None:
    drawn = gateway("graph", "draw", str(hall), "-o", str(tmp_path / "hall.png"))
    assert drawn.exit_code == 2
    assert "--as" in drawn.output
    assert not (tmp_path / "hall.png").exists()


@pytest.mark.parametrize("words", [("connect", "attic"), ("disconnect", "attic", "temp", "hall.in")])
def test_an_edge_without_two_ends_is_no_command(words: tuple[str, ...]) -> None:
    refused = gateway("graph", *words)
    assert refused.exit_code == 2
    assert "each as ROLE.PORT" in refused.output


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"", "is empty; the least graph is {}"),
        ("a.fbp", b"\xcd\x00", "can't be read: no UTF-8 text: "),
        ("a.fbp", b"\x00", "a.fbp:1:1: can't read "),
        ("a.fbp", None, "can't be read: Is a directory"),
    ],
)
def test_what_is_no_graph_file_is_refused_in_one_line(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    result = gateway("graph", "check", str(path))
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_without_end_is_refused() -> None:
    for arguments in (("graph", "check", "/dev/zero"), ("msgflo", "procfile", "/dev/zero"), ("test", "/dev/zero")):
        result = gateway(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) in ((1, 1), (78, 1)), result.output
        assert "/dev/zero: can't be read: longer than 16777216 bytes" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("upload", "attic", "/dev/zero"), "/dev/zero: the graph can't be read: longer than 16777216 bytes"),
        (("pair", "--from", "/dev/zero"), "/dev/zero: can't be read: longer than 16777216 bytes"),
        (("flash", "attic", "/dev/zero"), "/dev/zero: can't be read: longer than 16777216 bytes"),
        (("firmware", "info", "{large}"), "large: can't be read: longer than 16777216 bytes"),
        (
            ("simulate", "--link", "{large}.tty", "--faults", "@/dev/zero"),
            "/dev/zero: can't be read: longer than 16777216 bytes",
        ),
        (
            ("simulate", "--link", "{large}.tty", "--replay", "/dev/zero"),
            "/dev/zero: can't be read: longer than 1000 bytes",
        ),
        (("--config", "{http}", "check"), "/dev/zero: http.secret_file: can't be read: longer than 65536 bytes"),
        (("--config", "{mqtt}", "check"), "/dev/zero: mqtt.password_file: can't be read: longer than 65536 bytes"),
    ],
)
def test_no_file_that_a_command_or_the_configuration_names_is_read_without_end(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.serial_link.protocol.capture_format.LARGEST_CAPTURE", 1000)  # a recording may be long
    large, http, mqtt = tmp_path / "large", tmp_path / "http.toml", tmp_path / "mqtt.toml"
    with large.open("wb") as file:
        file.truncate((16 << 20) + 1)
    http.write_text('[http]\nsecret_file = "/dev/zero"\n')
    mqtt.write_text('[mqtt]\nurl = "mqtt://me@127.0.0.1:1"\npassword_file = "/dev/zero"\n')
    result = gateway("--state-dir", str(tmp_path), *(word.format(large=large, http=http, mqtt=mqtt) for word in words))
    assert result.exit_code in (1, 78), result.output
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_mark_that_some_editors_put_before_a_text_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.fbp"
    path.write_bytes(b"\xef\xbb\xbf" + HALL.encode())
    assert gateway("graph", "check", str(path)).exit_code == 0
    assert gateway("graph", "check", "-", given="\ufeff" + HALL).exit_code == 0


def test_an_output_that_finds_no_room_is_no_bug(hall: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMAND, "graph", "show", hall], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[0] == "gateway: there is no space left where the output goes"
    assert b"Traceback" not in done.stderr
