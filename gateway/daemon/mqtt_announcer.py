"""What the gateway says of itself and its boards on MQTT: discovery messages, and retained states.

Discovery goes out now, whenever the boards change, and every ``period / 2.2`` with a little jitter (reference: msgflo,
section 2). States are retained and valid only while the gateway's own state is ``online``; the last will says ``offline``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import DeliveryDeferred, DeliveryError
from gateway.files import write_file_safely
from gateway.model.address import mqtt
from gateway.model.discovery import DISCOVERY_QUEUE, render_discovery
from gateway.model.message import Message
from gateway.model.participant import BoardState, Participant
from gateway.transport import Session

PERIODS = 2.2
JITTER = 0.1
JSON = "application/json"
DEAD_KEPT = 256
SHOWN_BYTES = 4096

log = logging.getLogger(__name__)


class _File(msgspec.Struct):
    version: int
    topics: list[str]


class RetainedTopics:
    """What a broker was given to keep, remembered in a file: what nobody wants any more is taken back, after a restart too.

    A board may be unpaired while the gateway is stopped or the broker is away, or the gateway get another name; what was
    retained then would say for ever that the board runs. A damaged file knows of nothing: only tidiness depends on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()  # a thread goes on where the task that waited for it was cancelled
        self.known: frozenset[str] = frozenset()
        try:
            self.known = frozenset(msgspec.json.decode(path.read_bytes(), type=_File).topics)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as exc:  # no JSON, no such document, or no UTF-8
            log.warning("%s: can't be read, and is made anew: %s", path, exc)

    def remember(self, topics: frozenset[str]) -> None:
        """These, and no others, are with the broker now. Writes only what changed."""
        with self._writing:
            if topics == self.known:
                return
            self.known = topics
            try:
                write_file_safely(self._path, msgspec.json.encode(_File(1, sorted(topics))))
            except OSError as exc:
                log.warning("%s: can't be written: %s", self._path, exc.strerror or exc)


class MqttAnnouncer:
    """Speaks for one gateway. ``states`` is asked once a round, ``announced`` by what it gave; ``change`` is called when
    either changed. ``retained`` knows what the broker was given to keep; ``ports_retain`` is told what others give it.
    """

    def __init__(
        self,
        instance: str,
        version: str,
        since: float,
        period_s: float,
        announced: Callable[[Sequence[Mapping[str, Any]]], Sequence[Participant]],
        states: Callable[[], Sequence[dict[str, Any]]],
        retained: RetainedTopics,
    ) -> None:
        self._instance = instance
        self._version = version
        self._since = since
        self._period_s = period_s
        self._present = announced
        self._states = states
        self._retained = retained
        self._of_ports: frozenset[str] | None = None
        self._given: set[str] = set()
        self._changed = asyncio.Event()
        self._published: dict[str, bytes] = {}
        self._announced: dict[str, bytes] = {}
        self._dead: deque[bytes] = deque(maxlen=DEAD_KEPT)

    def change(self) -> None:
        """Boards or their states changed: say so now."""
        self._changed.set()

    def ports_retain(self, topics: frozenset[str]) -> None:
        """On these topics, and no others, boards' messages are retained from now on, or shall stay so though their board can't
        be used at the moment. Before the first call nobody knows: then nothing is taken back.
        """
        if topics != self._of_ports:
            self._of_ports = topics
            self._given |= topics
            self._changed.set()

    def dead(self, edge: str, reason: str, message_id: str, body: bytes) -> None:
        """A message came to rest in the spool: tell on the dead topic. Only the newest are told of; the spool has all."""
        text = body[:SHOWN_BYTES].decode("utf-8", "replace")
        self._dead.append(msgspec.json.encode({"edge": edge, "reason": reason, "id": message_id, "body": text}))
        self._changed.set()

    def state_topic(self) -> str:
        """Where the gateway's own state is retained."""
        return f"gateway/{self._instance}/state"

    def own_state(self, state: str, session: int) -> bytes:
        """The gateway's state; ``session`` numbers the connection, so that a late will can be told from a birth."""
        return msgspec.json.encode(
            {"state": state, "since": round(self._since, 3), "session": session, "version": self._version}
        )

    def will(self, session: int) -> tuple[str, bytes]:
        """Topic and payload of the last will of this connection."""
        return self.state_topic(), self.own_state("offline", session)

    async def serve(self, session: Session) -> None:
        """One connection: everything anew, then what changes, then again and again. Until cancelled or disconnected."""
        self._published.clear()
        self._announced.clear()
        while True:
            self._changed.clear()
            await self._speak(session)
            wait_s = self._period_s / PERIODS * random.uniform(1 - JITTER, 1)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                self._announced.clear()

    async def _speak(self, session: Session) -> None:
        own = {self.state_topic(): self.own_state("online", session.epoch)}
        await self._retain(session, own)
        states = self._states()
        for board in self._present(states):
            body = render_discovery(board)
            if self._announced.get(board.id) != body:
                await self._publish(session, DISCOVERY_QUEUE, body)
                self._announced[board.id] = body
        while self._dead:
            await self._publish(session, f"gateway/{self._instance}/dead", self._dead.popleft())
        wanted = own | self._wanted(states)
        known = self._retained.known | wanted.keys() | self._given
        await asyncio.to_thread(self._retained.remember, known)  # before the broker has them
        left = await self._take_back(session, known - wanted.keys())
        await asyncio.to_thread(self._retained.remember, frozenset(wanted.keys() | left))
        await self._retain(session, wanted)

    async def _take_back(self, session: Session, topics: frozenset[str]) -> frozenset[str]:
        """A board that was unpaired leaves nothing behind. What has to stay: the ports' topics, and what was not taken."""
        left: set[str] = set()
        for topic in sorted(topics):
            if self._of_ports is None or topic in self._of_ports:
                left.add(topic)
                continue
            self._published.pop(topic, None)
            if not await self._publish(session, topic, b"", retain=True):
                left.add(topic)
            elif topic not in self._of_ports:  # it may have come back while we waited
                self._given.discard(topic)
        return frozenset(left | self._given)

    async def _retain(self, session: Session, wanted: Mapping[str, bytes]) -> None:
        """Have the broker keep these; what it did not take now is said again with the next round."""
        for topic, body in wanted.items():
            if self._published.get(topic) != body and await self._publish(session, topic, body, retain=True):
                self._published[topic] = body

    def _wanted(self, states: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Topic -> retained payload of every board."""
        wanted: dict[str, bytes] = {}
        for entry in states:
            base = f"gateway/{self._instance}/device/{entry['id']}"
            fields = {key: entry[key] for key in ("state", "reason", "since")}
            online = entry["state"] == BoardState.RUNNING
            wanted[f"{base}/state"] = msgspec.json.encode(fields)
            wanted[f"{base}/availability"] = b"online" if online else b"offline"
        return wanted

    async def _publish(self, session: Session, topic: str, body: bytes, *, retain: bool = False) -> bool:
        """False if it is worth another try."""
        message = Message(uuid.uuid4().hex, body, content_type=JSON, origin=self._instance, retain=retain)
        try:
            await session.publish(mqtt(topic), message)
        except DeliveryError as exc:
            return not isinstance(exc, DeliveryDeferred)
        return True

    async def say_goodbye(self, session: Session) -> None:
        """Before an orderly end: everybody is offline, and nobody knows how the boards are."""
        unknown = {"state": "unknown", "reason": "the gateway was stopped", "since": round(time.time(), 3)}
        for topic in tuple(self._published):  # it may change while we wait
            if topic.endswith("/availability"):
                await self._publish(session, topic, b"offline", retain=True)
            elif topic != self.state_topic():
                await self._publish(session, topic, msgspec.json.encode(unknown), retain=True)
        await self._publish(session, self.state_topic(), self.own_state("offline", session.epoch), retain=True)
