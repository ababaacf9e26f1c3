"""The component library: what to start for a component (reference: msgflo, section 8).

A core: file contents and directory listings come in, components and command lines go out. A command template is split
into words as a shell would split it, and each ``#NAME`` is replaced inside its word, so that blanks and quotes in data
or file names do no harm.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from gateway.errors import ComponentUnknown, ConfigError

DEFAULT_HANDLERS: Mapping[str, str] = MappingProxyType(
    {
        ".yml": "gateway msgflo register --role #ROLE:#FILENAME",
        ".yaml": "gateway msgflo register --role #ROLE:#FILENAME",
        ".js": "msgflo-nodejs --name #ROLE #FILENAME",
        ".coffee": "msgflo-nodejs --name #ROLE #FILENAME",
        ".py": "gateway participant run #FILENAME #ROLE --iips #IIPS",
        ".json": "noflo-runtime-msgflo --name #ROLE --graph #COMPONENT --iips #IIPS",
        ".fbp": "noflo-runtime-msgflo --name #ROLE --graph #COMPONENT --iips #IIPS",
    }
)
"""What starts a file of the component directory, by its extension."""

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        ".yml": "yaml",
        ".yaml": "yaml",
        ".js": "javascript",
        ".coffee": "coffeescript",
        ".py": "python",
        ".cpp": "c++",
        ".rs": "rust",
    }
)

OWN_TOOLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "msgflo-python": ("gateway", "participant", "run"),
        "msgflo-register": ("gateway", "msgflo", "register"),
        "msgflo-register-foreign": ("gateway", "msgflo", "register-foreign"),
        "msgflo-send-message": ("gateway", "msgflo", "send-message"),
        "msgflo-dump-message": ("gateway", "msgflo", "dump-message"),
    }
)
"""Programs of MsgFlo that a library may name, and what does the same where they aren't installed."""

ANNOUNCER = ("gateway", "msgflo", "register", "--role")
FOREIGN = "(foreign participants)"
"""The one process that announces them all: no role of a graph has blanks and parentheses."""

WIRING = ("msgflo/RoundRobin", "msgflo/PubSub")
"""Components that are no participants, only wiring."""


@dataclass(frozen=True, slots=True)
class LibraryComponent:
    """A kind of participant that can be started. ``filename`` is empty where the library gives a command."""

    name: str
    template: str
    filename: str = ""
    language: str = ""

    @property
    def short_name(self) -> str:
        """The name without its namespace."""
        return self.name.partition("/")[2] or self.name


@dataclass(frozen=True, slots=True)
class Library:
    """All components that can be started, by name. ``place`` is the file it came from, for errors."""

    place: str = ""
    namespace: str = ""
    repository: str = ""
    components: Mapping[str, LibraryComponent] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    handlers: Mapping[str, str] = field(default_factory=lambda: DEFAULT_HANDLERS)

    def find(self, name: str) -> LibraryComponent | None:
        """The component of this name: exactly, else without its namespace, else with the library's."""
        last = name.rpartition("/")[2]
        candidates = [name, last, *([f"{self.namespace}/{name}", f"{self.namespace}/{last}"] if self.namespace else [])]
        return next((self.components[one] for one in candidates if one in self.components), None)

    def get(self, name: str, role: str) -> LibraryComponent:
        """The component of this name, or ``ComponentUnknown`` for the role that asks."""
        found = self.find(name)
        if found is None:
            known = ", ".join(self.components) or "none"
            raise ComponentUnknown(role, f"the library has no component {name} (it has: {known})")
        return found


def parse_library(text: str, place: str) -> Library:
    """The library that a ``package.json`` or ``msgflo.json`` describes. ``ConfigError`` names the key."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(place, "", f"no valid JSON: {exc}") from None
    outer = _table(document, place, "")
    inner = _table(outer["msgflo"], place, "msgflo") if "msgflo" in outer else outer
    prefix = "msgflo." if "msgflo" in outer else ""
    variables = _texts(inner, "variables", place, prefix)
    given = _texts(inner, "handlers", place, prefix)
    handlers = {extension if extension.startswith(".") else f".{extension}": line for extension, line in given.items()}
    components = {
        name: LibraryComponent(name, _checked(line, variables, place, f"{prefix}components.{name}", prefix))
        for name, line in _texts(inner, "components", place, prefix).items()
    }
    for extension, line in {**DEFAULT_HANDLERS, **handlers}.items():
        _checked(line, variables, place, f"{prefix}handlers.{extension}", prefix)
    return Library(
        place=place,
        namespace=_first_text(inner.get("namespace"), outer.get("name")),
        repository=_first_text(_url(inner.get("repository")), _url(outer.get("repository"))),
        components=MappingProxyType(components),
        variables=MappingProxyType(variables),
        handlers=MappingProxyType({**DEFAULT_HANDLERS, **handlers}),
    )


def _table(value: Any, place: str, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(place, key, "must be an object")
    return value


def _texts(table: Mapping[str, Any], key: str, place: str, prefix: str) -> dict[str, str]:
    found = _table(table.get(key) or {}, place, prefix + key)
    for name, value in found.items():
        if not isinstance(value, str):
            raise ConfigError(place, f"{prefix}{key}.{name}", "must be a text")
    return found


def _checked(line: str, variables: Mapping[str, str], place: str, key: str, prefix: str) -> str:
    """The line, which can be split into words, as can the variables that stand alone in one."""
    words: list[str] = []
    for word in _words(line, place, key):
        name = word.removeprefix("#") if word.startswith("#") else ""
        words += _words(variables[name], place, f"{prefix}variables.{name}") if name in variables else [word]
    if not words:
        raise ConfigError(place, key, "must be a command")
    return line


def _words(line: str, place: str, key: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as exc:
        raise ConfigError(place, key, f"quotes don't match ({exc}): {line}") from None


def _first_text(*values: Any) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _url(value: Any) -> Any:
    return value.get("url") if isinstance(value, dict) else value


def add_directory(library: Library, directory: str, names: Iterable[str]) -> Library:
    """The library with the files of its component directory; what the library names itself comes first.

    ``names`` are the files at the directory's top level.
    """
    components = dict(library.components)
    for name in sorted(names):
        stem, dot, extension = name.rpartition(".")
        template = library.handlers.get(f".{extension}")
        if not dot or not stem or template is None:
            continue
        full = f"{library.namespace}/{stem}" if library.namespace else stem
        path = f"{directory.rstrip('/')}/{name}" if directory else name
        components.setdefault(full, LibraryComponent(full, template, path, LANGUAGES.get(f".{extension}", "")))
    return replace(library, components=MappingProxyType(components))


def command_words(library: Library, component: LibraryComponent, role: str, iips: Mapping[str, Any]) -> tuple[str, ...]:
    """The command that starts ``component`` as ``role``, as words for ``exec``."""
    values = _values(component, role, iips)
    return tuple(_fill(word, library.variables, values) for word in _split(component.template, library.variables))


def share_announcer(commands: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The commands, with one process for all foreign participants that would get one each (30 MB, measured)."""
    alone = {role: words[len(ANNOUNCER)] for role, words in commands.items() if _announces(words)}
    if len(alone) < 2:
        return dict(commands)
    shared = (*ANNOUNCER[:-1], "--skip-bad", *(word for pair in alone.values() for word in (ANNOUNCER[-1], pair)))
    return {**{role: words for role, words in commands.items() if role not in alone}, FOREIGN: shared}


def _announces(words: tuple[str, ...]) -> bool:
    return words[:-1] == ANNOUNCER


def command_line(library: Library, component: LibraryComponent, role: str, iips: Mapping[str, Any]) -> str:
    """The same command as a line for a shell: what was filled in is quoted where a shell needs it."""
    return shlex.join(command_words(library, component, role, iips))


def _split(template: str, variables: Mapping[str, str]) -> Sequence[str]:
    """Words of a template. A variable that stands alone in a word may bring several words along."""
    words: list[str] = []
    for word in shlex.split(template):
        name = word.removeprefix("#")
        words.extend(shlex.split(variables[name]) if word.startswith("#") and name in variables else [word])
    return words


def _values(component: LibraryComponent, role: str, iips: Mapping[str, Any]) -> dict[str, str]:
    name = component.filename.rpartition("/")[2].rpartition(".")[0] if component.filename else component.name
    return {
        "FILENAME": component.filename,
        "COMPONENTNAME": component.short_name,
        "COMPONENT": name,
        "ROLE": role,
        "IIPS": json.dumps(dict(iips), ensure_ascii=False),
    }


def _fill(word: str, variables: Mapping[str, str], values: Mapping[str, str]) -> str:
    """The library's variables first, since their values may use the standard ones; the longest name wins."""
    return _replace(_replace(word, variables), values)


def _replace(word: str, values: Mapping[str, str]) -> str:
    if not values:
        return word
    names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
    return re.sub(f"#({names})", lambda match: values[match[1]], word)
