"""Component metadata in C++ sources -> ``ComponentLibrary`` (reference: microflo-protocol, section 13.1).

A comment that starts at the beginning of a line with ``/* microflo_component yaml`` and ends with a line that starts with
``microflo_component */`` holds YAML. Ids that it leaves out are given as the generator of the firmware gives them: in the
order of the files, one above the highest so far. So they change when a file is added: a library belongs to one build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.errors import ConfigError
from gateway.model.component import Component, ComponentLibrary
from gateway.model.port import Direction, PortDef
from gateway.serial_link.description.component_map import LARGEST_ID, LARGEST_PORT

SUBGRAPH = 100
"""An id that the firmware keeps for subgraphs; the generator's numbering does not know that."""

_COMMENT = re.compile(r"^/\* microflo_component (\w+)\s*?\n(.*?)^microflo_component \*/", re.MULTILINE | re.DOTALL)


def parse_component_sources(sources: Iterable[tuple[str, str]]) -> ComponentLibrary:
    """The components of sources, each a file's name and text, in the order in which the generator reads them.

    ``ConfigError`` names the file, the component and what is wrong.
    """
    components: dict[str, Component] = {}
    highest = 0
    owners: dict[int, str] = {}
    for source, text in sources:
        for entry in _entries(source, text):
            name = str(entry["name"])
            number = _number(entry.get("id", highest + 1), LARGEST_ID, source, f"{name}.id")
            if name in components:
                raise ConfigError(source, name, "there is a component of this name already")
            if number == SUBGRAPH or owners.setdefault(number, name) != name:
                owner = "subgraphs" if number == SUBGRAPH else owners[number]
                raise ConfigError(source, f"{name}.id", f"{number} is that of {owner}; give the component another id")
            highest = max(highest, number)
            components[name] = Component(
                name,
                number,
                tuple(_ports(entry, "inports", "in", Direction.IN, source, name)),
                tuple(_ports(entry, "outports", "out", Direction.OUT, source, name)),
                str(entry.get("description") or ""),
            )
    return ComponentLibrary.of(components.values())


def _entries(source: str, text: str) -> Iterator[dict[str, Any]]:
    """What the comments say, without what is no part of a firmware."""
    from gateway.formats.yaml import load_yaml  # most runs read no YAML, and need not keep its library

    for form, body in _COMMENT.findall(text.replace("\r\n", "\n")):
        if form != "yaml":
            continue
        entry = load_yaml(body, f"{source}: microflo_component")
        if not isinstance(entry, dict) or not entry.get("name"):
            raise ConfigError(source, "microflo_component", "a component needs a name")
        if not (entry.get(".skip") or entry.get("graph") or entry.get("graphFile")):
            yield entry


def _ports(
    entry: dict[str, Any], key: str, default: str, direction: Direction, source: str, name: str
) -> Iterator[PortDef]:
    ports = entry.get(key)
    if ports is None:
        ports = {default: {}}
    if not isinstance(ports, dict):
        raise ConfigError(source, f"{name}.{key}", "must be a map of ports")
    fields = {str(port): said if isinstance(said, dict) else {} for port, said in ports.items()}
    counted = bool(fields) and next(iter(fields.values())).get("id") is None
    for index, (port, said) in enumerate(fields.items()):
        yield PortDef(
            id=port,
            direction=direction,
            number=_number(index if counted else said.get("id"), LARGEST_PORT, source, f"{name}.{key}.{port}.id"),
            type=str(said.get("type") or "any"),
            description=str(said.get("description") or ""),
        )


def _number(value: Any, largest: int, source: str, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ConfigError(source, place, f"must be a number from 0 to {largest}, is {value!r}")
    return value
