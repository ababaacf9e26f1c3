"""The two forms of a graph as text: the ``.fbp`` language and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gateway.errors import GraphError
from gateway.fbp.text.graph_json import LARGEST_TEXT, dumps, loads
from gateway.fbp.text.language_builder import LONGEST_TEXT
from gateway.fbp.text.language_writer import write
from gateway.model.graph import Graph

Form = Literal["fbp", "json"]


def form_of(source: str) -> Form:
    """The form that a file name says."""
    return "fbp" if source.endswith(".fbp") else "json"


def parse_graph(text: str, source: str, form: Form | None = None, *, case_sensitive: bool = False) -> Graph:
    """The graph of a text, in the form that is given, or that the name of its source says.

    ``case_sensitive`` keeps the case of ports in the language; a JSON graph keeps it anyway.
    """
    if (form or form_of(source)) == "fbp":
        from gateway.fbp.text.language import parse  # the grammar takes 4 MiB: only where there is such a text

        return parse(text, source, case_sensitive=case_sensitive)
    return loads(text, source)


ROOM = 1 << 16
"""Characters that a file may have beside its graph: comments."""

LONGEST: Mapping[Form, int] = {"fbp": LONGEST_TEXT - ROOM, "json": LARGEST_TEXT - ROOM}


def render_graph(graph: Graph, form: Form, source: str = "graph") -> str:
    """The text of a graph in a form. ``GraphError`` names what ``.fbp`` has no words for, and refuses a text that is so
    long that it could not be read again.
    """
    text = write(graph, source) if form == "fbp" else dumps(graph)
    if len(text) > LONGEST[form] or len(text.encode()) > LONGEST["json"]:
        raise GraphError(source, f"would be longer than {LONGEST[form]} characters, and could not be read again")
    return text
