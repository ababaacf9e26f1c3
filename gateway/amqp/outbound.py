"""The publishing half of a session: frames of our own in confirm mode, on channels that open again when refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from gateway.amqp.codec import frames
from gateway.amqp.codec.properties import encode_properties, message_id
from gateway.amqp.connection import AmqpConnection, Channel, ChannelRefused
from gateway.amqp.core.confirms import ConfirmResult, Confirms
from gateway.amqp.declarer import Declarer
from gateway.errors import DeliveryDeferred, DeliveryError, DeliveryRefused, TransportDown
from gateway.model.address import Address, AddressKind
from gateway.model.message import Message
from gateway.transport import Done

DEFAULT_EXCHANGE = "amq.default"
FORBIDDEN = 403
FORBIDDEN_S = 30.0
MISSING_S = 0.5
"""How long a refused, and a missing exchange is not asked for again."""


class PendingPublish(msgspec.Struct, eq=False):
    """A publication, and whom to tell what became of it: None once he knows, or doesn't care any more."""

    target: Address
    message: Message
    done: Done | None

    def tell(self, problem: DeliveryError | TransportDown | None) -> None:
        """Once."""
        done, self.done = self.done, None
        if done is not None:
            done(problem)

    def deferred(self, reason: str) -> None:
        """Tell that it was not the message's own doing: it is kept and tried again."""
        self.tell(DeliveryDeferred(str(self.target), self.message.id, reason))

    def refused(self, reason: str) -> None:
        """Tell that no further try can succeed."""
        self.tell(DeliveryRefused(str(self.target), self.message.id, reason))


def waited_for(entry: PendingPublish) -> bool:
    """Whether anybody still wants to know."""
    return entry.done is not None


class PublishChannel(Channel):
    """A channel in confirm mode. ``blame`` hears for which publication the broker closed it."""

    def __init__(self, wire: AmqpConnection, window: int, blame: Callable[[Address, ChannelRefused], None]) -> None:
        super().__init__(wire)
        self._confirms: Confirms[PendingPublish] = Confirms(window, waited_for)
        self._blame = blame
        self._returned: frames.Returned | None = None
        self._methods: dict[Address, bytes] = {}

    async def start(self) -> None:
        """Open the channel and put it into confirm mode."""
        await super().start()
        await self.call(frames.CONFIRM_SELECT, b"\0", frames.CONFIRM_SELECT_OK)

    def offer(self, entry: PendingPublish) -> None:
        """Send as soon as broker, socket and window allow, in the order of the calls."""
        target, message = entry.target, entry.message
        try:
            data = self._method(target) + frames.content(
                self.number, encode_properties(message), message.body, self.wire.frame_max
            )
        except ValueError as exc:
            entry.refused(f"can't be said in AMQP: {exc}")
            return
        self._confirms.offer(entry, data, (target.name, message.id))
        self.flush()

    def _method(self, target: Address) -> bytes:
        data = self._methods.get(target)
        if data is None:
            if target.kind is AddressKind.EXCHANGE:
                data = frames.publish_method(self.number, target.name, "", mandatory=False)
            else:
                data = frames.publish_method(self.number, "", target.name, mandatory=True)
            self._methods[target] = data
        return data

    def flush(self) -> None:
        """Send what may be sent."""
        if self.wire.writable:
            self.wire.write(self._confirms.data_to_send())

    def event(self, name: frames.Method, payload: bytes) -> None:
        """Acks, nacks, and what no queue took."""
        if name in (frames.BASIC_ACK, frames.BASIC_NACK):
            tag, multiple = frames.read_tag(payload)
            for verdict in self._confirms.confirmed(tag, multiple=multiple, taken=name == frames.BASIC_ACK):
                self._tell(verdict)
            self.flush()
        elif name == frames.BASIC_RETURN:
            self._returned = frames.read_return(payload)

    def _tell(self, verdict: ConfirmResult[PendingPublish]) -> None:
        entry = verdict.token
        if verdict.returned:
            entry.deferred(f"there is no queue {entry.target.name} (the broker says {verdict.returned})")
        elif not verdict.taken:
            entry.deferred("the broker did not take it (nack)")
        else:
            entry.tell(None)

    def content(self, kind: int, payload: bytes) -> None:
        """A returned message: its header tells which one it is; its body is known."""
        returned = self._returned
        if kind == frames.HEADER and returned is not None:
            self._returned = None
            self._confirms.returned((returned.key, message_id(payload)), returned.text)

    def refused(self, problem: ChannelRefused, *, told: bool) -> None:
        """The broker closed the channel: nobody knows what became of what is under way."""
        for entry in self._confirms.abandon():
            self._blame(entry.target, problem)
            entry.deferred(f"the broker closed the channel: {problem.text}")

    def gone(self, problem: TransportDown) -> None:
        """The connection is gone."""
        for entry in self._confirms.abandon():
            entry.tell(problem)


@dataclass(slots=True)
class _Line:
    """Publications of one kind: their channel, and those that wait until it is ready for them."""

    channel: PublishChannel | None = None
    waiting: deque[PendingPublish] = field(default_factory=deque)


class Publisher:
    """Publications to queues and to exchanges, each over a channel of its own.

    A queue that is missing sends the message back; an exchange that is missing closes the channel, so it is asked for
    first. Apart from each other, the second never disturbs the first. Whoever owns this calls ``prepare`` after
    ``on_waiting`` was called.
    """

    def __init__(self, wire: AmqpConnection, window: int, max_message_bytes: int, declarer: Declarer) -> None:
        self._wire = wire
        self._window = window
        self._max_message_bytes = max_message_bytes
        self._declarer = declarer
        self._lines = {kind: _Line() for kind in AddressKind}
        self._barred: dict[Address, tuple[float, str]] = {}
        self.on_waiting: Callable[[], None] = lambda: None

    def submit(self, target: Address, message: Message, done: Done) -> PendingPublish:
        """Put a message in line, in the order of the calls; ``done`` is told what became of it."""
        entry = PendingPublish(target, message, done)
        if len(message.body) > self._max_message_bytes:
            entry.refused(f"{len(message.body)} bytes are more than the broker takes ({self._max_message_bytes})")
            return entry
        line = self._lines[target.kind]
        channel = line.channel
        if not line.waiting and channel is not None and channel.open and self._known(target):
            channel.offer(entry)
        else:
            line.waiting.append(entry)  # and all that come later go the same slow way
            self.on_waiting()
        return entry

    async def prepare(self) -> None:
        """Make ready what publications wait for: their exchange known, their channel open."""
        for line in self._lines.values():
            while line.waiting:
                entry = line.waiting[0]
                unfit = ""
                try:
                    reason = await self._hindrance(entry.target)
                    channel = line.channel
                    if channel is None or not channel.open:
                        channel = PublishChannel(self._wire, self._window, self._blame)
                        await channel.start()
                        line.channel = channel
                except ChannelRefused as refused:
                    reason = f"the broker refuses it: {refused.text}"
                except ValueError as exc:
                    unfit = str(exc)
                if not line.waiting or line.waiting[0] is not entry:
                    return  # the session has ended meanwhile
                line.waiting.popleft()
                if unfit:
                    entry.refused(f"can't be said in AMQP: {unfit}")
                elif reason or channel is None:
                    entry.deferred(reason)
                else:
                    channel.offer(entry)

    def _known(self, target: Address) -> bool:
        if self._barred and target in self._barred:
            return False
        return target.kind is AddressKind.QUEUE or self._declarer.knows_exchange(target.name)

    async def _hindrance(self, target: Address) -> str:
        """Why the broker can't take it; empty if it can. Asked again after a while, not for each of a thousand."""
        now = asyncio.get_running_loop().time()
        until, reason = self._barred.get(target, (0.0, ""))
        if now < until:
            return reason
        self._barred.pop(target, None)
        if target.kind is AddressKind.EXCHANGE and not await self._declarer.has_exchange(target.name):
            reason = f"there is no exchange {target.name}"
            self._barred[target] = (now + MISSING_S, reason)
            return reason
        return ""

    def _blame(self, target: Address, refused: ChannelRefused) -> None:
        """The channel is gone for all its publications: find out whose fault it was before the next try."""
        exchange = target.name if target.kind is AddressKind.EXCHANGE else DEFAULT_EXCHANGE
        self._declarer.forget(exchange)
        if refused.code == FORBIDDEN and f"'{exchange}'" in refused.text:
            until = asyncio.get_running_loop().time() + FORBIDDEN_S
            self._barred[target] = (until, f"the broker refuses it: {refused.text}")

    def flush(self) -> None:
        """The broker or the socket takes something again."""
        for line in self._lines.values():
            if line.channel is not None:
                line.channel.flush()

    def end(self, problem: TransportDown) -> None:
        """The session has ended: everybody who waits hears of it."""
        for line in self._lines.values():
            waiting, line.waiting = line.waiting, deque()
            for entry in waiting:
                entry.tell(problem)
            if line.channel is not None:
                line.channel.gone(problem)
