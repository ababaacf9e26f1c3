"""Sends what it gets."""

from __future__ import annotations

from gateway.participant import Message, Participant

PORT = {"type": "any"}


class Repeat(Participant):
    """One inport, one outport."""

    def __init__(self, role: str) -> None:
        definition = {
            "component": "core/Repeat",
            "label": "Sends what it gets",
            "icon": "repeat",
            "inports": [{"id": "in", **PORT}],
            "outports": [{"id": "out", **PORT}],
        }
        super().__init__(definition, role)

    def process(self, inport: str, msg: Message) -> None:
        """Send it on."""
        self.send("out", msg.data)
        self.ack(msg)
