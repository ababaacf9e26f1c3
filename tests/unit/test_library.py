"""The component library: what is found, and the commands that start it."""

from __future__ import annotations

import json

import pytest

from gateway.errors import ComponentUnknown, ConfigError
from gateway.formats.yaml import load_yaml
from gateway.library.core.components import add_directory, command_line, command_words, parse_library, share_announcer
from gateway.library.core.foreign import parse_foreign
from gateway.library.processes import only_and_ignore, resolve

PACKAGE = json.dumps(
    {
        "name": "house",
        "repository": {"url": "https://example.org/house"},
        "msgflo": {
            "variables": {"RUN": "python3 -u", "HERE": "./parts/#COMPONENTNAME"},
            "components": {"house/Lamp": "#RUN #HERE/lamp.py #ROLE", "Plain": "./plain '#ROLE of #COMPONENT'"},
            "handlers": {"rb": "ruby #FILENAME #ROLE"},
        },
    }
)


def words(name: str, role: str = "hall", **iips: object) -> tuple[str, ...]:
    library = add_directory(parse_library(PACKAGE, "package.json"), "components", ["Beep.py", "Sun.rb", "notes.txt"])
    return command_words(library, library.get(name, role), role, iips)


def test_a_package_json_gives_namespace_and_repository_from_outside_the_msgflo_key() -> None:
    library = parse_library(PACKAGE, "package.json")
    assert (library.namespace, library.repository) == ("house", "https://example.org/house")


def test_what_the_msgflo_key_says_wins() -> None:
    library = parse_library(json.dumps({"name": "a", "msgflo": {"namespace": "b", "repository": "r"}}), "package.json")
    assert (library.namespace, library.repository) == ("b", "r")


def test_a_bare_msgflo_json_is_the_same_without_the_key() -> None:
    assert parse_library('{"components": {"A": "run #ROLE"}}', "msgflo.json").find("A")


def test_variables_are_filled_in_before_the_standard_ones_which_they_may_use() -> None:
    assert words("house/Lamp") == ("python3", "-u", "./parts/Lamp/lamp.py", "hall")


def test_data_and_names_with_blanks_and_quotes_stay_one_word() -> None:
    assert words("Plain", "the hall") == ("./plain", "the hall of Plain")
    assert words("Beep", text='it\'s "so"')[-1] == '{"text": "it\'s \\"so\\""}'


def test_every_file_with_a_handler_is_a_component_under_the_namespace() -> None:
    assert words("house/Sun") == ("ruby", "components/Sun.rb", "hall")
    assert words("house/Beep") == (
        *("gateway", "participant", "run", "components/Beep.py", "hall"),
        *("--iips", "{}"),
    )


@pytest.mark.parametrize("name", ["house/Lamp", "other/Plain", "Plain", "Beep", "house/Beep"])
def test_a_component_is_found_with_and_without_its_namespace(name: str) -> None:
    assert words(name)


def test_a_component_of_the_same_last_name_in_two_namespaces_is_two_components() -> None:
    library = parse_library('{"components": {"core/Repeat": "a", "Repeat": "b"}}', "x.json")
    assert (library.get("core/Repeat", "r").template, library.get("Repeat", "r").template) == ("a", "b")


def test_an_unknown_component_is_refused_with_the_role_and_those_there_are() -> None:
    with pytest.raises(ComponentUnknown, match=r"hall: the library has no component Nope .*house/Lamp"):
        words("Nope")


def test_a_line_for_a_shell_quotes_what_was_filled_in() -> None:
    library = parse_library('{"components": {"A": "run #ROLE --iips #IIPS"}}', "x.json")
    assert command_line(library, library.get("A", "r"), "r", {"in": "it's"}) == (
        """run r --iips '{"in": "it'"'"'s"}'"""
    )


def test_one_process_announces_all_foreign_participants() -> None:
    announcer = ("gateway", "msgflo", "register")
    alone = {"a": (*announcer, "--role", "a:x.yml")}
    assert share_announcer(alone) == alone
    assert share_announcer({**alone, "p": ("run", "p"), "b": (*announcer, "--role", "b:y.yml")}) == {
        "p": ("run", "p"),
        "(foreign participants)": (*announcer, "--skip-bad", "--role", "a:x.yml", "--role", "b:y.yml"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x.json: no valid JSON"),
        ('{"components": {"A": 3}}', "x.json: components.A: must be a text"),
        ('{"msgflo": {"handlers": {".py": ""}}}', "x.json: msgflo.handlers..py: must be a command"),
        ('{"components": {"A": "run \'x"}}', "x.json: components.A: quotes don't match"),
        ('{"components": 3}', "x.json: components: must be an object"),
        ('{"variables": {"RUN": "it\'s"}, "components": {"a": "#RUN x"}}', "x.json: variables.RUN: quotes don't match"),
        ('{"variables": {"ROLE": "it\'s"}}', "x.json: variables.ROLE: quotes don't match"),
        ('{"variables": {"RUN": " "}, "components": {"a": "#RUN"}}', "x.json: components.a: must be a command"),
    ],
)
def test_a_wrong_library_is_refused_with_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_library(text, "x.json")


def test_programs_of_msgflo_that_are_not_installed_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert resolve(("msgflo-python", "a.py", "a"))[1:] == ("-P", "-m", "gateway", "participant", "run", "a.py", "a")
    assert resolve(("node", "a.js")) == ("node", "a.js")


def test_only_and_ignore_choose_what_is_started() -> None:
    roles = {"a": ("x",), "b": ("y",), "c": ("z",)}
    assert list(only_and_ignore(roles, frozenset(), frozenset("b"))) == ["a", "c"]
    assert list(only_and_ignore(roles, frozenset("ab"), frozenset("b"))) == ["a"]


LAMP = """
component: house/Lamp
label: A lamp
inports:
  on: {queue: "lamps/#ROLE/#ROLE-on", type: boolean, description: true switches it on}
outports: {}
maker: nobody
"""


def test_a_foreign_participant_is_announced_with_its_role_in_every_queue() -> None:
    payload = json.loads(parse_foreign(LAMP, "lamp.yml", "hall").announcement())["payload"]
    assert payload == {
        "component": "house/Lamp",
        "label": "A lamp",
        "maker": "nobody",
        "id": "hall",
        "role": "hall",
        "inports": [
            {
                "queue": "lamps/hall/hall-on",
                "type": "boolean",
                "description": "true switches it on",
                "id": "on",
            }
        ],
        "outports": [],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "lamp.yml: no valid YAML: line 1, column 5"),
        ("- a", "lamp.yml: must be a map"),
        ("label: x", "lamp.yml: component: must name the kind"),
        ("component: A\ninports: {on: {type: bang}}", r"lamp.yml: inports.on.queue: must name the topic"),
        ("component: A\ninports: [{queue: a}]", r"lamp.yml: inports\[0\]: must have an id"),
        ("component: A\ninports: 3", "lamp.yml: inports: must be a map"),
    ],
)
def test_a_wrong_foreign_participant_is_refused_with_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_foreign(text, "lamp.yml", "hall")


def test_without_a_role_the_file_must_name_one() -> None:
    assert parse_foreign("component: A\nrole: r\nid: i", "a.yml").id == "i"
    with pytest.raises(ConfigError, match="role: must be given"):
        parse_foreign("component: A", "a.yml")


def test_yaml_is_read_as_javascript_reads_it_and_dates_stay_text() -> None:
    text = "on: off\nn: [1e3, 1.5, 7, yes, true, ~]\nday: 2020-01-01"
    assert load_yaml(text, "x") == {"on": "off", "n": [1000.0, 1.5, 7, "yes", True, None], "day": "2020-01-01"}


def test_a_key_given_twice_is_an_error_with_its_place() -> None:
    with pytest.raises(ConfigError, match="x: no valid YAML: line 2, column 1: the key a twice"):
        load_yaml("a: 1\na: 2", "x")


LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("component: X\nextra: &a [*a]", r"lamp.yml: no valid YAML: line 2, column 12: the alias a is inside itself"),
        ("component: X\ninports: &a {in: *a}", r"line 2, column 18: the alias a is inside itself"),
        ("component: X\na0: &a0 [x]\n" + LAUGHS, r"line \d+, column \d+: with its aliases it is longer than 4194304"),
        ("component: X\nextra: [*b]", r"line 2, column 9: found undefined alias 'b'"),
        ("component: X\nextra: " + "[" * 5000 + "]" * 5000, r"lamp.yml: no valid YAML: it is nested too deeply"),
        ("component: X\nextra: " + "9" * 5000, r"line 2, column 8: a number of 5000 characters"),
        ("component: X\nextra: 0x" + "9" * 5000, r"line 2, column 8: a number of 5002 characters"),
        ("component: X\nid: [a]", r"lamp.yml: id: must be a text"),
    ],
)
def test_yaml_that_would_grow_or_go_round_without_end_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_foreign(text, "lamp.yml", "hall")
    assert "\n" not in str(raised.value)


def test_an_alias_may_be_used_as_often_as_it_is_useful() -> None:
    text = "port: &p {queue: q}\nboth: [*p, *p]\nmore: {<<: *p, type: any}"
    port = {"queue": "q"}
    assert load_yaml(text, "x") == {"port": port, "both": [port, port], "more": {"queue": "q", "type": "any"}}
