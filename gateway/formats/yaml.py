"""YAML as the JavaScript tools of the FBP world read it: ``on``, ``off``, ``yes`` and ``no`` are texts, ``1e3`` a number.

(PyYAML follows YAML 1.1, where a port called ``on`` would be the boolean true.) Dates stay text, since what is read here
travels as JSON; a key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from gateway.errors import ConfigError

LARGEST = 1 << 20
"""Characters of a file; more is taken for another sort of file."""

LARGEST_WRITTEN_OUT = 4 * LARGEST
"""Characters and values of a document whose aliases are written out: a few lines of nested ones could be gigabytes."""

LONGEST_NUMBER = 400
"""Characters of a whole number; Python itself refuses some thousand, and JSON readers far fewer."""

_INTEGER = "tag:yaml.org,2002:int"


class _Unfit(yaml.MarkedYAMLError):
    """What is YAML, but not for us."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(None, None, problem, mark)


class _Loader(yaml.SafeLoader):
    """The safe loader with other implicit types, and bounds on what aliases may do."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; an alias must not be inside itself, nor make the document endless."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not isinstance(event, yaml.AliasEvent):
            self._sizes[node] = 1 + sum(self._size(one) for one in _inside(node))
        elif node not in self._sizes:
            raise _Unfit(f"the alias {event.anchor} is inside itself", event.start_mark)
        if self._sizes[node] > LARGEST_WRITTEN_OUT:
            raise _Unfit(f"with its aliases it is longer than {LARGEST_WRITTEN_OUT} characters", event.start_mark)
        return node

    def _size(self, part: yaml.Node | str) -> int:
        return len(part) if isinstance(part, str) else self._sizes[part]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        if node.tag == _INTEGER and isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_NUMBER:
            raise _Unfit(f"a number of {len(node.value)} characters", node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _Unfit(f"the key {key.value} twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _inside(node: yaml.Node) -> Iterator[yaml.Node | str]:
    """What a node consists of: other nodes, or its text."""
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    else:
        yield from (node.value,) if isinstance(node, yaml.ScalarNode) else node.value


_BOOLEAN = "tag:yaml.org,2002:bool"
_FLOAT = "tag:yaml.org,2002:float"
_OTHERS = {_BOOLEAN, "tag:yaml.org,2002:timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def load_yaml(text: str, place: str) -> Any:
    """The one document of a text; ``ConfigError`` with line and column."""
    documents = list(load_all_yaml(text, place))
    if len(documents) > 1:
        raise ConfigError(place, "", f"has {len(documents)} documents; one is wanted")
    return documents[0] if documents else None


def load_all_yaml(text: str, place: str) -> Iterator[Any]:
    """The documents of a text, in order; ``ConfigError`` with line and column."""
    if len(text) > LARGEST:
        raise ConfigError(place, "", f"longer than {LARGEST} characters")
    try:
        yield from yaml.load_all(text, _Loader)  # derived from the safe loader
    except yaml.YAMLError as exc:
        raise ConfigError(place, "", _problem(exc)) from None
    except RecursionError:
        raise ConfigError(place, "", "no valid YAML: it is nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(place, "", f"no valid YAML: {exc}") from None


def _problem(exc: yaml.YAMLError) -> str:
    mark = getattr(exc, "problem_mark", None)
    what = getattr(exc, "problem", None) or str(exc).splitlines()[0]
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"no valid YAML: {where}{what}"
