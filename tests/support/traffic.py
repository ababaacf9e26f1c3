"""Numbered messages in both directions, and the count of what became of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import until

AGAIN_S = 1.0


class Sender:
    """Sends numbered messages, one after the other, each confirmed by its broker, until stopped or ``most`` are sent."""

    def __init__(
        self,
        participant: MqttParticipant | AmqpParticipant,
        outport: str,
        *,
        every_s: float = 0.01,
        most: int = 0,
    ) -> None:
        self._participant = participant
        self._outport = outport
        self._every_s = every_s
        self._most = most
        self._stop = threading.Event()
        self.ids: set[str] = set()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set() and not (self._most and number >= self._most):
            number += 1
            message_id = f"{self._participant.role}-{self._outport}-{number:06}"
            self._participant.send(self._outport, str(number).encode(), message_id)
            self.ids.add(message_id)
            self._stop.wait(self._every_s)

    @property
    def count(self) -> int:
        """Messages that the broker has confirmed."""
        return len(self.ids)

    @property
    def done(self) -> bool:
        """Whether all that were wanted are sent."""
        return not self._thread.is_alive()

    def stop_when_done(self) -> set[str]:
        """When ``most`` are sent: the ids of all."""
        self._thread.join()
        return self.ids

    def stop(self) -> set[str]:
        """No more; the ids of all that were accepted."""
        self._stop.set()
        self._thread.join()
        return self.ids


def send_until_there(
    participant: MqttParticipant | AmqpParticipant,
    outport: str,
    body: bytes,
    message_id: str,
    is_there: Callable[[], bool],
) -> None:
    """One message, sent again until it has come through: from then on the gateway takes all that comes from this outport.

    Its connection is up a moment before it has subscribed, and an edge is in the graph a moment before it has its queue.
    """
    sent_at = -AGAIN_S

    def sent_and_there() -> bool:
        nonlocal sent_at
        if not is_there() and time.monotonic() - sent_at >= AGAIN_S:
            participant.send(outport, body, message_id)
            sent_at = time.monotonic()
        return is_there()

    until(f"{message_id} came through", sent_and_there)


def more_than(sender: Sender, count: int) -> bool:
    """Whether more than so many were confirmed."""
    return sender.count > count


def repeated(ids: Iterable[str]) -> int:
    """How many arrivals were of a message that had arrived before."""
    return sum(count - 1 for count in Counter(ids).values())
