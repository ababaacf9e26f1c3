"""The coordinator's graph on disk: written aside, synced, renamed, in the form that the file has."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import GraphError
from gateway.fbp.text.formats import form_of, render_graph
from gateway.files import read_text, write_file_safely
from gateway.model.graph import Graph

NEW_FILE_MODE = 0o644


class GraphFile:
    """One graph file. A ``.fbp`` file stays one; the comments at its top stay too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._form = form_of(str(path))

    async def save(self, graph: Graph) -> None:
        """Replace the file. ``GraphError`` if its form can't hold the graph, or the disk can't take it."""
        text = render_graph(graph, self._form, str(self.path))
        await asyncio.to_thread(self._write, text)

    def _write(self, text: str) -> None:
        try:
            if self._form == "fbp":
                text = "".join(self._top_comments()) + text
            write_file_safely(self.path, text.encode("utf-8"), keep_previous=".1", mode=self._mode())
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise GraphError(str(self.path), f"can't be saved: {reason}; nothing was changed") from exc

    def _mode(self) -> int:
        try:
            return stat.S_IMODE(self.path.stat().st_mode)
        except FileNotFoundError:
            return NEW_FILE_MODE

    def _top_comments(self) -> Iterator[str]:
        """The lines before the first that means something; annotations are part of the graph."""
        try:
            lines = read_text(self.path).splitlines(keepends=True)
        except OSError:
            return
        for line in lines:
            if not line.startswith("#") or line.lstrip("# ").startswith("@"):
                return
            yield line
