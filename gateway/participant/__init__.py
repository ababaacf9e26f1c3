"""Taking part in a graph from Python: an asyncio interface and the familiar blocking class.

See docs/participants.md.
"""

from __future__ import annotations

from gateway.participant.blocking import BlockingMessage as Message
from gateway.participant.blocking import BlockingParticipant as Participant
from gateway.participant.blocking import Engine
from gateway.participant.client import AsyncParticipant, Incoming
from gateway.participant.run import main, open_participant, run

__all__ = [
    "AsyncParticipant",
    "Engine",
    "Incoming",
    "Message",
    "Participant",
    "main",
    "open_participant",
    "run",
]
