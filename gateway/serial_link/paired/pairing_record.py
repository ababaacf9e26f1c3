"""A board that was just paired -> what is remembered of it, and what is said of that."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gateway.config.schema import SerialSection
from gateway.errors import GatewayError
from gateway.model.participant import Participant
from gateway.serial_link.paired.pairing import Paired, PairRequest, Text, as_before, settings_kept
from gateway.serial_link.ports.core.identity import (
    NOWHERE,
    Identity,
    PortFacts,
    device_id,
    identify,
    is_another,
    is_network,
)
from gateway.serial_link.ports.hotplug import Ports
from gateway.serial_link.records.board_dir import BoardFiles
from gateway.serial_link.records.board_settings import check_role, is_role
from gateway.serial_link.records.devices_json import (
    COMPONENTS,
    DESCRIPTION,
    GRAPH_FBP,
    GRAPH_JSON,
    BoardDirectory,
    BoardRecord,
)
from gateway.serial_link.records.profile import BoardProfile

log = logging.getLogger(__name__)


def completed(request: PairRequest, settings: SerialSection) -> PairRequest:
    """What was not said is as configured. ``BadValue`` for a role that no board may have."""
    if request.role:
        check_role(request.role)
    path = request.path if is_network(request.path) else os.path.abspath(request.path)
    baud = request.baud or (0 if settings.baud == "auto" else settings.baud)
    return msgspec.structs.replace(request, path=path, baud=baud)


def kept_components(request: PairRequest, directory: BoardDirectory | None) -> Text | None:
    """The component map that a board was paired with before, for firmware that can't tell of itself."""
    if directory is None or request.graph is None or request.components is not None or not directory.has(COMPONENTS):
        return None
    return Text(str(directory.path / COMPONENTS), directory.text(COMPONENTS))


def _identity_on(facts: PortFacts, ports: Ports) -> Identity:
    """By what the board on a port is recognised. ``GatewayError`` if nothing lasting is known."""
    identity = identify(facts, ports.present())
    if identity is None:
        raise GatewayError(
            f"port {facts.path}: nothing stable is known of it, only a name that the kernel gives to whoever comes"
            " first; name the board by a link of your own (a udev rule), or use a port with a by-path name"
        )
    return identity


@dataclass(frozen=True, slots=True)
class PairingRecord:
    """What is to be remembered when something answered on a port. ``displaced`` is the record of the board that was there
    before, ``forgotten`` are the ports that had settings and are gone.
    """

    record: BoardRecord
    profile: BoardProfile
    files: Mapping[str, bytes | None]
    again: bool
    displaced: BoardRecord | None = None
    forgotten: tuple[str, ...] = ()


def new_board(
    request: PairRequest,
    paired: Paired,
    facts: PortFacts,
    there: BoardRecord | None,
    records: Mapping[str, BoardRecord],
    ports: Ports,
    files: BoardFiles,
) -> PairingRecord:
    """Who answered: a board of ours, which keeps what was said of it, or one that is new. ``there`` is the board that was on
    this port. ``GatewayError`` where it could not be recognised again.
    """
    if paired.described is not None:
        facts = msgspec.structs.replace(facts, board_id=paired.described.told.id)
    identity = _identity_on(facts, ports)
    displaced = there if there is not None and is_another(there.identity, identity) else None
    before = records.get(device_id(identity)) or (there if displaced is None else None)
    board_id = before.id if before is not None else device_id(identity)
    forgotten: tuple[str, ...] = ()
    if before is not None:
        request, paired = as_before(request, paired, before, files.of(board_id))
        request, paired = settings_kept(request, paired, before)
        forgotten = tuple(sorted(before.ports.keys() - request.ports.keys()))
    record = _record(board_id, identity, facts, request, paired, before)
    return PairingRecord(
        record,
        paired.profile,
        _files_of(record, request, paired),
        before is not None,
        msgspec.structs.replace(displaced, known=NOWHERE) if displaced is not None else None,
        forgotten,
    )


def _record(
    board_id: str,
    identity: Identity,
    facts: PortFacts,
    request: PairRequest,
    paired: Paired,
    before: BoardRecord | None,
) -> BoardRecord:
    """What the registry keeps. ``before`` is what it had of the same board."""
    return BoardRecord(
        id=board_id,
        role=request.role or (before.role if before else "") or _default_role(paired.profile, board_id),
        identity=identity,
        known=facts,
        path=facts.path,
        baud=paired.baud,
        wire=paired.wire,
        graph=_graph_file(request, paired),
        managed=request.managed,
        keep_running=before.keep_running if before else False,
        usb_reauthorise=before.usb_reauthorise if before else None,
        boot_wait_s=request.boot_wait_s,
        dtr=request.dtr is not False,
        ports=dict(request.ports),
    )


def _files_of(record: BoardRecord, request: PairRequest, paired: Paired) -> dict[str, bytes | None]:
    """What the board's directory keeps; None: what it must keep no longer, of another firmware that was on it before."""
    document = paired.described.document if paired.described is not None else None
    files: dict[str, bytes | None] = {DESCRIPTION: document}
    if request.graph is not None:
        files[record.graph] = request.graph.text.encode()
    if paired.components is not None:
        files[COMPONENTS] = paired.components.text.encode()
    elif document is not None:
        files[COMPONENTS] = None
    return files


def _default_role(profile: BoardProfile, board_id: str) -> str:
    name = profile.graph.name if profile.graph is not None else ""
    return name if is_role(name) else board_id


def _graph_file(request: PairRequest, paired: Paired) -> str:
    """Where the graph of a board is kept."""
    if request.graph is None:
        return DESCRIPTION if paired.profile.graph is not None else ""
    return GRAPH_FBP if request.graph.source.endswith(".fbp") else GRAPH_JSON


def tell_paired(new: PairingRecord, participant: Participant) -> None:
    """In the log, with what this board can't do."""
    record, displaced = new.record, new.displaced
    if displaced is not None:
        log.warning("device %s: another board is in its place on %s now", displaced.role, record.path)
    log.info("device %s: paired as %s on %s", record.role, record.id, record.path)
    cut = [port.id for port in participant.outports if port.type == "int16"]
    if cut:
        log.warning(
            "device %s: its firmware (%s) reports only 16 bits of an integer: %s are int16, and wrap around",
            *(record.role, record.wire, ", ".join(cut)),
        )
