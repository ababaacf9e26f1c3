"""What is kept of paired boards in ``boards/ID`` -> what each of them is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gateway.errors import ConfigError, RemoteProtocolError
from gateway.serial_link.description.self_description import Description, decode_description
from gateway.serial_link.records.devices_json import COMPONENTS, DESCRIPTION, BoardDirectory, BoardRecord
from gateway.serial_link.records.profile import (
    BoardProfile,
    exported_only,
    parse_board_graph,
    parse_library,
    said_later,
    told_meanings,
)


@dataclass(frozen=True, slots=True)
class BoardFiles:
    """The directories of all boards of a state directory."""

    state_dir: Path

    def of(self, board_id: str) -> BoardDirectory:
        """The directory of a board; it may not be there yet."""
        return BoardDirectory(self.state_dir / "boards" / board_id)

    def profile(self, record: BoardRecord) -> BoardProfile:
        """A board's graph and firmware. ``ConfigError`` names a damaged file."""
        directory = self.of(record.id)
        document = directory.data(DESCRIPTION) if directory.has(DESCRIPTION) else b""
        return replace(_profile(directory, record), document=document)


def _profile(directory: BoardDirectory, record: BoardRecord) -> BoardProfile:
    if not record.graph:
        return BoardProfile.empty()
    if record.graph == DESCRIPTION:
        description = _description(directory)
        return BoardProfile.own(description, exported_only(description.graph, record.ports))
    graph = parse_board_graph(directory.text(record.graph), str(directory.path / record.graph))
    if directory.has(COMPONENTS):
        library = parse_library(directory.text(COMPONENTS), str(directory.path / COMPONENTS))
    else:
        library = _description(directory).library
    told = told_meanings(_description(directory)) if directory.has(DESCRIPTION) else {}
    return BoardProfile.of(graph, library, exported_only(graph, said_later(told, record.ports)))


def _description(directory: BoardDirectory) -> Description:
    try:
        return decode_description(directory.data(DESCRIPTION))
    except RemoteProtocolError as exc:
        raise ConfigError(str(directory.path / DESCRIPTION), "", f"{exc}; pair the board again") from exc
