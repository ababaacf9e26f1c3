"""The component library as the coordinator's runtime uses it: what can be started, and the sources of its files."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import ConfigError, GatewayError, NotFound
from gateway.fbp.runtime.backend import ComponentInfo, Source
from gateway.files import read_text, write_file_safely
from gateway.library.core.components import (
    FOREIGN,
    LANGUAGES,
    WIRING,
    Library,
    LibraryComponent,
    add_directory,
    command_words,
    parse_library,
    share_announcer,
)
from gateway.library.core.foreign import parse_foreign
from gateway.library.processes import Processes, only_and_ignore
from gateway.model.discovery import parse_discovery
from gateway.model.graph import Node

log = logging.getLogger(__name__)

LONGEST_SOURCE = 1 << 20
"""Characters of a source."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def read_library(file: str, directory: Path) -> Library:
    """The library file, if one is named, and the files of the component directory, if it is there.

    ``ConfigError`` names what is wrong with the file.
    """
    library = Library()
    if file:
        try:
            library = parse_library(read_text(Path(file)), file)
        except OSError as exc:
            raise ConfigError(file, "coordinator.library", f"can't be read: {exc.strerror}") from exc
    if not directory.is_dir():
        return library
    try:
        return add_directory(library, str(directory), [entry.name for entry in directory.iterdir() if entry.is_file()])
    except OSError as exc:
        raise ConfigError(str(directory), "coordinator.component_dir", f"can't be read: {exc.strerror}") from exc


class LibraryStore:
    """Implements ``coordinator.surroundings.ComponentStore`` over a library, its directory and child processes."""

    def __init__(
        self,
        file: str,
        directory: Path,
        processes: Processes,
        *,
        only: frozenset[str] = frozenset(),
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        """``only`` and ``ignore`` are roles: with ``only`` no others are started, and never one that is ignored."""
        self._only, self._ignore = only, ignore
        self._file = file
        self._directory = directory
        self._processes = processes
        self._nodes: tuple[Node, ...] = ()
        self._writing = asyncio.Lock()
        self._files: dict[str, str] = {}
        self.commands: dict[str, tuple[str, ...]] = {}
        self._read()

    def _read(self) -> None:
        self.library = read_library(self._file, self._directory)
        self._infos = tuple(self._info(component) for component in self.library.components.values())

    def _info(self, component: LibraryComponent) -> ComponentInfo:
        """What is known before the first instance runs: the ports, if the component is a foreign participant's file."""
        if component.language != "yaml":
            return ComponentInfo(component.name)
        try:
            foreign = parse_foreign(read_text(Path(component.filename)), component.filename, "role")
            participant = parse_discovery(foreign.announcement(), "mqtt", 0.0)
        except (OSError, GatewayError) as exc:
            log.warning("component %s: %s", component.name, exc)
            return ComponentInfo(component.name)
        return ComponentInfo(
            component.name, participant.inports, participant.outports, participant.label, participant.icon
        )

    def components(self) -> Sequence[ComponentInfo]:
        """All that can be started."""
        return self._infos

    def starts(self, component: str, role: str = "") -> bool:
        """Whether a node of this component (in this role) is a process of ours."""
        if role and not only_and_ignore({role: ()}, self._only, self._ignore):
            return False
        return component not in WIRING and self.library.find(component) is not None

    def wanted(self, nodes: Sequence[Node]) -> None:
        """Start what the library knows; the others announce themselves."""
        self._nodes = tuple(nodes)
        commands = {}
        self._files = {}
        for node in nodes:
            component = self.library.find(node.component)
            if component is not None and node.component not in WIRING:
                commands[node.id] = command_words(self.library, component, node.id, {})
                self._files[node.id] = component.filename
        self.commands = only_and_ignore(commands, self._only, self._ignore)
        self._processes.want(share_announcer(self.commands))

    async def source(self, name: str) -> Source:
        """The text of the component's file. ``NotFound`` for one that is only a command."""
        component = self.library.find(name)
        if component is None or not component.filename:
            raise NotFound(f"Component not found for {name}")
        try:
            code = await asyncio.to_thread(read_text, Path(component.filename))
        except OSError as exc:
            raise GatewayError(f"{component.filename}: can't be read: {exc.strerror}") from exc
        library, _, short = component.name.rpartition("/")
        return Source(short, component.language or Path(component.filename).suffix.removeprefix("."), code, library)

    async def set_source(self, source: Source) -> None:
        """Write the component's file into the directory, and start its processes anew."""
        path = self._directory / f"{_file_name(source.name)}{self._extension(source.language)}"
        if len(source.code) > LONGEST_SOURCE:
            raise GatewayError(f"{source.name}: a source of more than {LONGEST_SOURCE} characters")
        try:
            async with self._writing:  # what is written aside has one name
                await asyncio.to_thread(write_file_safely, path, source.code.encode(), mode=0o644)
        except (OSError, UnicodeEncodeError) as exc:
            raise GatewayError(f"{path}: can't be written: {exc}") from exc
        self._read()
        self.wanted(self._nodes)
        roles = {role for role, file in self._files.items() if file and Path(file) == path}
        self._processes.restart(roles | {FOREIGN} if roles else ())

    def _extension(self, language: str) -> str:
        """The extension of a language that the library can start; anything else could name a file anywhere."""
        for extension, name in LANGUAGES.items():
            if language in (name, extension.removeprefix(".")) and extension in self.library.handlers:
                return extension
        known = ", ".join(sorted({name for ext, name in LANGUAGES.items() if ext in self.library.handlers}))
        raise GatewayError(f"no language {language[:40]!r} (there are: {known})")


def _file_name(name: str) -> str:
    last = name.rpartition("/")[2]
    if not _FILE_NAME.fullmatch(last):
        raise GatewayError(f"{name[:40]!r} is no name for a component: letters, digits, _ and -")
    return last
