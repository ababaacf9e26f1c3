"""Simulated boards on ptys and what a test pairs with them, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.schema import SerialSection
from gateway.firmware.sources import component_map
from gateway.model.component import ComponentLibrary
from gateway.model.port import PortDef
from gateway.serial_link.description.component_map import parse_component_map
from gateway.serial_link.description.self_description import Description, FirmwareLimits, encode_description
from gateway.serial_link.graph.upload import compile_stream
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.pairing import PairRequest, Text
from gateway.serial_link.protocol.codec import W10, Wire
from gateway.serial_link.protocol.link_events import LinkOptions, options_for
from gateway.serial_link.records.profile import PortMeaning, parse_board_graph
from gateway.simulator.core.board import Board
from gateway.simulator.core.components import Pins
from gateway.simulator.core.network import Network
from gateway.simulator.core.our_firmware import Told
from gateway.simulator.pty import SimulatedBoard

EXAMPLES = Path(__file__).parents[2] / "examples"
GRAPH = (EXAMPLES / "thermometer.fbp").read_text()
FAST_GRAPH = GRAPH.replace("'1000'", "'20'")
COMPONENTS = component_map().read_text()

OPENING_S = 60.0

LOOP_GRAPH = """\
INPORT=echo.IN:in
OUTPORT=echo.OUT:out
echo(Forward)
"""
"""Whatever is sent to ``in`` comes back on ``out``."""


def library() -> ComponentLibrary:
    """The components of the example firmware."""
    return parse_component_map(COMPONENTS, "components.json")


def board_maker(graph: str = "", wire: Wire = W10, pins: Pins | None = None) -> Callable[[float], Board]:
    """Boards as they are after reset, with a graph in their firmware if one is given."""
    embedded = b""
    if graph:
        embedded = compile_stream(parse_board_graph(graph, "graph.fbp"), library(), wire, embedded=True)

    def make(now: float) -> Board:
        return Board(library(), pins, wire=wire, embedded=embedded, now=now)

    return make


@asynccontextmanager
async def simulated(link: Path, graph: str = "", wire: Wire = W10) -> AsyncIterator[SimulatedBoard]:
    """A board on a pty while the block runs."""
    async with SimulatedBoard(board_maker(graph, wire), link) as board:
        yield board


def described(graph: str, ports: Mapping[str, PortDef], version: str = "1") -> bytes:
    """What a board with our own firmware tells of itself: these are the values of its exported ports."""
    limits = FirmwareLimits(nodes=49, messages=48, outports=255, receive_bytes=4095)
    built_in = parse_board_graph(graph, "graph.fbp")
    return encode_description(Description("test", version, "a simulated board", library(), limits, built_in, ports))


@asynccontextmanager
async def simulated_ours(
    link: Path, document: bytes, graph: str = GRAPH, board_id: bytes = b"attic..1"
) -> AsyncIterator[SimulatedBoard]:
    """A board with our own firmware, while the block runs; ``graph`` is built in."""
    embedded = compile_stream(parse_board_graph(graph, "graph.fbp"), library(), W10, embedded=True)

    def make(now: float) -> Board:
        return Board(library(), embedded=embedded, now=now, strict=True, told=Told(document, board_id))

    async with SimulatedBoard(make, link) as board:
        yield board


def network_of(board: SimulatedBoard) -> Network:
    """The graph that runs on a simulated board."""
    assert isinstance(board.board, Board)
    return board.board.network


def request(
    link: Path | str, graph: str = FAST_GRAPH, *, role: str = "attic", upload: bool = True, scale: float | None = 0.01
) -> PairRequest:
    """What ``gateway pair`` asks for the thermometer, or for another graph."""
    ports = {"temp": PortMeaning(type="number", scale=scale, unit="°C")} if "OUT:temp" in graph else {}
    return PairRequest(
        path=str(link),
        role=role,
        graph=Text("thermometer.fbp", graph) if graph else None,
        components=Text("components.json", COMPONENTS) if graph else None,
        upload=upload,
        ports=ports,
    )


def patient_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links go on trying to open: there is a process at their other end or in between, which may stand still for a while."""

    def patient(wire: Wire, baud: int, *, request_timeout_s: float = OPENING_S) -> LinkOptions:
        options = options_for(wire, baud, request_timeout_s=request_timeout_s)
        return replace(options, open_tries=int(OPENING_S / options.open_step_s))

    for module in ("paired.pairing", "connected.board_session"):
        monkeypatch.setattr(f"gateway.serial_link.{module}.options_for", patient)


class Registry:
    """The boards of one state directory, with what they told.

    ``request_timeout_s`` is long: a board here, or the kernel's pty before it, may get no time for a while.
    """

    def __init__(self, state: Path, request_timeout_s: float = 5.0) -> None:
        self.changes = 0
        self.on_change: Callable[[], None] = lambda: None
        self.restarted: list[str] = []
        self.boards = Boards(
            state,
            SerialSection(boot_wait_s=0.0, request_timeout_s=request_timeout_s),
            on_change=self._changed,
            on_running=self.restarted.append,
        )
        self.boards.load()

    def _changed(self) -> None:
        self.changes += 1
        self.on_change()
