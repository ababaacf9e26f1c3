"""Components of a firmware, read from disk: the reference tool's map, or the sources that the firmware was built from."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import ConfigError, NotFound
from gateway.files import read_text
from gateway.model.component import ComponentLibrary
from gateway.serial_link.description.component_map import dump_component_map, parse_component_map
from gateway.serial_link.description.cpp_metadata import parse_component_sources

SOURCES = (".hpp", ".cpp")


def load_components(path: Path) -> ComponentLibrary:
    """The components of a map file, of one C++ source, or of all sources of a directory (not of those below it).

    ``NotFound`` or ``ConfigError``.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SOURCES and file.is_file())
        library = parse_component_sources((str(file), _text(file)) for file in files)
        if not library.by_name:
            raise ConfigError(str(path), "", "none of its .hpp and .cpp files has a microflo_component comment")
        return library
    if path.suffix in SOURCES:
        return parse_component_sources([(str(path), _text(path))])
    return parse_component_map(_text(path), str(path))


def read_component_map(path: Path) -> str:
    """The same as the text of a map file: as it is, or made from the sources."""
    if path.is_dir() or path.suffix in SOURCES:
        return dump_component_map(load_components(path))
    text = _text(path)
    parse_component_map(text, str(path))
    return text


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such component map") from None
    except OSError as exc:
        raise ConfigError(str(path), "", f"can't be read: {exc.strerror}") from exc
