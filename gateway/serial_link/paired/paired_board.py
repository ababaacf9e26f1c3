"""One paired board of the running gateway: what is remembered of it, where it stands, and how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ConfigError
from gateway.model.participant import Participant
from gateway.model.port import Direction
from gateway.serial_link.connected.connector import BoardConnector
from gateway.serial_link.protocol.codec import WIRES, Wire
from gateway.serial_link.records.board_status import BoardStatus, board_entry
from gateway.serial_link.records.devices_json import BoardRecord
from gateway.serial_link.records.profile import BoardProfile


def wire_of(record: BoardRecord) -> Wire:
    """The wire generation of a paired board."""
    try:
        return WIRES[record.wire]
    except KeyError:
        raise ConfigError("devices.json", f"{record.id}.wire", f"{record.wire} is no wire generation we know") from None


@dataclass(slots=True)
class PairedBoard:
    """``participant`` is the board as the graph sees it. The connector is made when it is first needed."""

    record: BoardRecord
    profile: BoardProfile
    status: BoardStatus
    connector: BoardConnector | None = None
    participant: Participant = field(init=False)

    def __post_init__(self) -> None:
        """``ConfigError`` for a record that can't be used."""
        self.participant = self.profile.participant(self.record.id, self.record.role, wire_of(self.record))

    def change(self, record: BoardRecord, profile: BoardProfile) -> None:
        """This is what is known of it from now on."""
        self.record, self.profile = record, profile
        self.participant = profile.participant(record.id, record.role, wire_of(record))
        if self.connector is not None:
            self.connector.change(record, profile)

    def begin_anew(self) -> None:
        """It was paired again. One that is watched from now on is left alone, whatever we left on it before."""
        self.status.begin_anew()
        if self.connector is not None and not self.record.managed:
            self.connector.leave_alone()

    def entry(self) -> dict[str, Any]:
        """The stable shape of ``gateway devices --json``."""
        ports = {"ports": _port_entries(self.participant), "counters": self.status.counted()}
        return board_entry(self.record, self.status) | ports

    def retained_topics(self) -> set[str]:
        """Where the broker keeps what outports said last, as long as the ports are there. If the board's files are damaged,
        nobody knows which ones are: then all that were said to be.
        """
        if not self.profile.problem:
            return {port.queue for port in self.participant.outports if port.retained}
        meant = [meaning.port(name) for name, meaning in self.record.ports.items()]
        return {port.queue or f"{self.record.role}/{port.id}" for port in meant if port.retained}


def _port_entries(participant: Participant) -> list[Mapping[str, Any]]:
    return [
        {
            "name": port.id,
            "direction": str(port.direction),
            "type": port.type,
            "scale": port.scale,
            "unit": port.unit,
            "topic": port.queue,
            "delivery": dict(port.delivery),
            "retained": port.retained and port.direction is Direction.OUT,
        }
        for port in (*participant.inports, *participant.outports)
    ]
