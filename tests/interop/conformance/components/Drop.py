"""Takes what it gets."""

from __future__ import annotations

from gateway.participant import Message, Participant


class Drop(Participant):
    """One inport."""

    def __init__(self, role: str) -> None:
        definition = {
            "component": "core/Drop",
            "label": "Takes what it gets",
            "icon": "trash",
            "inports": [{"id": "in", "type": "any"}],
            "outports": [],
        }
        super().__init__(definition, role)

    def process(self, inport: str, msg: Message) -> None:
        """That was it."""
        self.ack(msg)
