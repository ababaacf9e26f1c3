"""Pairing: find out what is on a port, and have it run its graph. Nothing is remembered here, so nothing is on failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from gateway.errors import (
    BoardRefused,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    GatewayError,
    GraphError,
    RequestTimeout,
    TransportDown,
)
from gateway.model.component import ComponentLibrary
from gateway.serial_link.connected.link_driver import LinkDriver
from gateway.serial_link.connected.probe import Probe
from gateway.serial_link.connected.setup_steps import Described, describe, is_running, subscribe, upload, wait_for_boot
from gateway.serial_link.ports.schemes import OpenPort
from gateway.serial_link.ports.tty import Port, PortOptions
from gateway.serial_link.protocol.codec import WIRES, Wire
from gateway.serial_link.protocol.link import Link
from gateway.serial_link.protocol.link_events import options_for
from gateway.serial_link.protocol.wire_detector import (
    THOROUGH_BAUDS,
    USUAL_BAUDS,
    DetectedWire,
    NothingFound,
    WireDetector,
)
from gateway.serial_link.records.devices_json import COMPONENTS, DESCRIPTION, BoardDirectory, BoardRecord
from gateway.serial_link.records.profile import (
    BoardProfile,
    PortMeaning,
    exported_only,
    parse_board_graph,
    parse_library,
    said_later,
    told_meanings,
)

DEADLINE_S = 15.0
THOROUGH_DEADLINE_S = 60.0
MARGIN_S = 1.5
"""Of the deadline, for what comes after a board was found."""

QUICK_S = 4.0
SHOWN_BYTES = 16


class Text(msgspec.Struct, frozen=True):
    """A file's text and its name, which says its form and stands in errors."""

    source: str
    text: str


class PairRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``gateway pair`` was asked. ``baud`` 0 and ``wire`` ``auto`` are found out; ``role`` may be left to us. What is None,
    and what is not said of a port, is as it was before, or the usual.
    """

    path: str
    role: str = ""
    graph: Text | None = None
    components: Text | None = None
    upload: bool = True
    baud: int = 0
    wire: str = "auto"
    thorough: bool = False
    boot_wait_s: float | None = None
    dtr: bool | None = None
    ports: Mapping[str, PortMeaning] = msgspec.field(default_factory=dict)

    @property
    def managed(self) -> bool:
        """Whether the board gets its graph from us."""
        return self.graph is not None and self.upload


@dataclass(frozen=True, slots=True)
class Paired:
    """What answered on the port, and what it is. ``running`` before we came; None where the board can't tell."""

    baud: int
    wire: str
    profile: BoardProfile
    described: Described | None
    running: bool | None
    components: Text | None = None
    """The component map by which it was taken for what it is."""


def check_request(request: PairRequest) -> None:
    """Everything that can be judged before anything is opened."""
    if request.graph is None and request.ports and request.components is not None:
        name = next(iter(request.ports))
        raise GraphError(f"port {name}", "name the board's graph too (--graph), or nobody knows this port")
    if request.graph is not None:
        parse_board_graph(request.graph.text, request.graph.source)
    if request.components is not None:
        _profile(request, parse_library(request.components.text, request.components.source), None)


def profile_of(request: PairRequest, described: Described | None) -> BoardProfile:
    """The graph and firmware that the request names, or that the board tells of where the request doesn't."""
    if request.components is not None:
        return _profile(request, parse_library(request.components.text, request.components.source), described)
    if described is not None:
        return _profile(request, described.told.description.library, described)
    if request.graph is not None:
        raise ConfigError(
            request.graph.source, "", "name the component map of the board's firmware too (--components MAP)"
        )
    if request.ports:
        name = next(iter(request.ports))
        remedy = f"name the board's graph too (--graph); of a paired board: gateway set ROLE {name}.KEY=VALUE"
        raise GraphError(f"port {name}", remedy)
    return BoardProfile.empty()


def _profile(request: PairRequest, library: ComponentLibrary, described: Described | None) -> BoardProfile:
    if request.graph is not None:
        try:
            graph = parse_board_graph(request.graph.text, request.graph.source)
            told = told_meanings(described.told.description) if described is not None else {}
            return BoardProfile.of(graph, library, said_later(exported_only(graph, told), request.ports))
        except GraphError as exc:
            raise GraphError(request.graph.source, str(exc)) from exc
    if described is not None and described.told.own_graph:
        return BoardProfile.own(described.told.description, request.ports)
    return BoardProfile.empty()


async def shake_hands(
    request: PairRequest,
    open_port: OpenPort,
    *,
    boot_wait_s: float,
    request_timeout_s: float,
    kept: Text | None = None,
) -> Paired:
    """Open, find baud and wire generation, ask what it is, upload or subscribe; the port is closed again.

    ``kept`` is the component map of the board before, for a graph that comes without one: firmware that tells of itself
    needs none, and may be another than the one before.

    Raises what tells the ways of failing apart: port missing, busy, forbidden, not a port, silent, or something else on it.
    """
    check_request(request)
    port = await open_port(request.path, PortOptions(request.baud or USUAL_BAUDS[0], request.dtr is not False))
    try:
        wait_s = 0.0
        if port.resets:
            wait_s = boot_wait_s if request.boot_wait_s is None else request.boot_wait_s
            await wait_for_boot(port, wait_s)
        found = await _found(request, port, wait_s)
        options = options_for(found.wire, found.baud, request_timeout_s=request_timeout_s)
        conversation = LinkDriver(port, Link(found.wire, options), f"port {request.path}")
        try:
            return await _prepare(request, conversation, found, kept)
        finally:
            conversation.close()
    finally:
        port.close()


async def _found(request: PairRequest, port: Port, waited_s: float) -> DetectedWire:
    """Every speed in every generation, until something answers. Where there is no speed, one is enough."""
    bauds = (request.baud,) if request.baud else THOROUGH_BAUDS if request.thorough else USUAL_BAUDS
    if not port.has_speed:
        bauds = bauds[:1]
    wires = tuple(WIRES.values()) if request.wire == "auto" else (_wire(request.wire),)
    limit_s = THOROUGH_DEADLINE_S if request.thorough else DEADLINE_S
    most_s = max(QUICK_S, limit_s - waited_s - MARGIN_S)
    silent_s = most_s if port.resets else QUICK_S  # nothing was reset, so nothing is still in its boot loader
    detector = WireDetector(bauds, wires, most_s=most_s, silent_s=silent_s)
    verdict = await Probe(port, detector, f"port {request.path}").run()
    if isinstance(verdict, NothingFound):
        raise ConnectFailed(f"port {request.path}", _what_is_there(verdict, bauds, wires, port))
    return verdict


def as_before(
    request: PairRequest, paired: Paired, record: BoardRecord, files: BoardDirectory
) -> tuple[PairRequest, Paired]:
    """A board with a graph of ours that is paired again without one keeps it: it can't tell of that itself. Our firmware can of
    a graph that is built in, which is what it runs after a reset.
    """
    described = paired.described
    has_map = files.has(COMPONENTS) and described is None
    if (
        request.graph is not None
        or paired.profile.graph is not None
        or record.graph in ("", DESCRIPTION)
        or not (has_map or described)
    ):
        return request, paired
    request = msgspec.structs.replace(
        request,
        graph=Text(record.graph, files.text(record.graph)),
        components=request.components or (Text(COMPONENTS, files.text(COMPONENTS)) if has_map else None),
        upload=request.upload and record.managed,
    )
    profile = profile_of(request, described).with_document(paired.profile.document)
    return request, replace(paired, profile=profile, components=request.components)


def opened_as_before(request: PairRequest, record: BoardRecord) -> PairRequest:
    """A port is opened as was said of its board, unless the pairing itself says otherwise."""
    return msgspec.structs.replace(
        request,
        boot_wait_s=record.boot_wait_s if request.boot_wait_s is None else request.boot_wait_s,
        dtr=record.dtr if request.dtr is None else request.dtr,
    )


def settings_kept(request: PairRequest, paired: Paired, record: BoardRecord) -> tuple[PairRequest, Paired]:
    """What was said of a board before holds for the ports that it still exports, unless the pairing itself says otherwise."""
    request = msgspec.structs.replace(
        opened_as_before(request, record),
        components=paired.components,
        ports=said_later(exported_only(paired.profile.graph, record.ports), request.ports),
    )
    profile = profile_of(request, paired.described).with_document(paired.profile.document)
    return request, replace(paired, profile=profile)


def _wire(name: str) -> Wire:
    try:
        return WIRES[name]
    except KeyError:
        raise GatewayError(f"wire {name}: there is no such generation (there are: auto, {', '.join(WIRES)})") from None


def _what_is_there(verdict: NothingFound, bauds: Sequence[int], wires: Sequence[Wire], port: Port) -> str:
    speeds = f"{' and '.join(str(baud) for baud in bauds)} baud, " if port.has_speed else ""
    tried = f"tried {speeds}{', '.join(wire.name for wire in wires)}"
    if verdict.heard_bytes:
        first = next(data for data in verdict.heard.values() if data)
        return (
            f"something is on it, but it does not speak MicroFlo (it sent {verdict.heard_bytes} bytes, first"
            f" {first[:SHOWN_BYTES]!r}; {tried}): is it the right port, and is the firmware a MicroFlo one?"
            " See: gateway ports"
        )
    return (
        f"nothing answers ({tried}): is the board powered, is the MicroFlo firmware on it, and its speed another"
        " (--baud, --thorough)? A board that boots slowly needs --boot-wait SECONDS; an AVR whose graph is too large"
        " for its memory is silent too"
    )


async def _prepare(request: PairRequest, conversation: LinkDriver, found: DetectedWire, kept: Text | None) -> Paired:
    """Ask the board what it is, and have it run what it should."""
    name = f"board on {request.path}"
    try:
        await conversation.open()
        described = await describe(conversation)
        if described is None and kept is not None:
            request = msgspec.structs.replace(request, components=kept)
        profile = profile_of(request, described)
        if described is not None:
            profile = replace(profile, document=described.document)
        running = await is_running(conversation)
        if request.managed:
            await upload(conversation, profile)
        else:
            await subscribe(conversation, profile)
    except BoardRefused as exc:
        hint = (
            "does the component map belong to this firmware, and has the board room?"
            if request.managed
            else "is this the graph that runs on it?"
        )
        raise GatewayError(f"{name}: {exc.command}: {exc.problem}; {hint}") from exc
    except RequestTimeout as exc:
        raise ConnectFailed(name, f"{exc.command}: {exc.problem}") from exc
    except ConnectionLost as exc:
        raise TransportDown(name, f"was lost while pairing: {exc.reason}") from exc
    return Paired(found.baud, found.wire.name, profile, described, running, request.components)
