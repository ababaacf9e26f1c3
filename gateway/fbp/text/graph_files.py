"""Reading graph files."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import GraphError, NotFound
from gateway.fbp.text.formats import parse_graph
from gateway.files import read_text
from gateway.model.graph import Graph

__all__ = ["load_graph", "parse_graph", "read_graph_text"]


def read_graph_text(path: Path) -> str:
    """The text of a graph file. ``NotFound`` or ``GraphError`` that names it."""
    try:
        return read_text(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such graph file") from None
    except OSError as exc:
        raise GraphError(str(path), f"can't be read: {exc.strerror}") from exc


def load_graph(path: Path) -> Graph:
    """The graph of a file: ``.fbp`` is the language, everything else JSON."""
    return parse_graph(read_graph_text(path), str(path))
