"""The consuming half of a session: one channel for each source, so that one source's trouble stays its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from gateway.amqp.codec import frames
from gateway.amqp.codec.tables import encode_table
from gateway.amqp.connection import AmqpConnection, Channel, ChannelRefused
from gateway.amqp.core.stream_offsets import StreamOffset, stream_offset
from gateway.amqp.core.unsettled import Content, Unsettled
from gateway.model.address import Address
from gateway.model.message import Outcome

OnContent = Callable[["Consumer", Content], None]
OnEnd = Callable[["Consumer", str], None]


class Consumer(Channel):
    """Takes from one queue, with a credit of its own. ``place`` is where in it, if it is a stream."""

    def __init__(
        self,
        wire: AmqpConnection,
        serial: int,
        source: Address,
        queue: str,
        on_content: OnContent,
        on_end: OnEnd,
        place: StreamOffset | None = None,
    ) -> None:
        super().__init__(wire)
        self.serial = serial
        self.source = source
        self.queue = queue
        self.taking = False
        self._left = False
        self._on_content = on_content
        self._on_end = on_end
        self._unsettled = Unsettled(self.number)
        self._place = place
        self._offsets: dict[int, int] = {}
        self._consumer_tag = f"gateway-{serial}"

    @property
    def unsettled(self) -> int:
        """Deliveries whose outcome the broker has not been told."""
        return len(self._unsettled)

    def offset(self, tag: int) -> int | None:
        """Where in its stream a delivery that is not settled stands; None where it is from no stream."""
        return self._offsets.get(tag)

    async def take(self, credit: int) -> None:
        """Start, with at most ``credit`` deliveries unsettled. ``ChannelRefused`` if there is no such queue (or stream)."""
        await self.start()
        self.taking = True  # the first delivery may come with the answer
        await self.call(frames.BASIC_QOS, frames.qos_arguments(credit), frames.BASIC_QOS_OK)
        arguments = frames.consume_arguments(self.queue, self._consumer_tag)
        if self._place is not None:
            table = encode_table({"x-stream-offset": self._place.begin()})
            arguments = frames.consume_arguments(self.queue, self._consumer_tag, table)
        await self.call(frames.BASIC_CONSUME, arguments, frames.BASIC_CONSUME_OK)

    async def leave(self) -> None:
        """Take no more. What was delivered may still be settled."""
        if self.open and self.taking:
            self.taking = False
            with suppress(ChannelRefused):  # the broker has ended it, all the more
                await self.call(
                    frames.BASIC_CANCEL, frames.cancel_arguments(self._consumer_tag), frames.BASIC_CANCEL_OK
                )
        self._left = True

    def settle(self, tag: int, outcome: Outcome) -> None:
        """Tell the broker; goes out at the end of this turn of the loop. A tag that is not open is ignored."""
        offset = self._offsets.pop(tag, None)
        if self._place is not None and offset is not None:
            if outcome is not Outcome.RELEASED:  # a stream takes nothing back: it comes when it is taken from again
                self._place.accept(offset)
            self._unsettled.accept(tag)
        elif outcome is Outcome.RELEASED:
            self._unsettled.release(tag)
        else:
            self._unsettled.accept(tag)

    def refuse(self, tag: int) -> None:
        """To the broker's dead letters of this queue; otherwise as ``settle``."""
        if tag in self._offsets:  # a stream has no dead letters
            self.settle(tag, Outcome.ACCEPTED)
        else:
            self._unsettled.release(tag, requeue=False)

    def flush(self) -> None:
        """Send the acknowledgements that have come together; close the channel when that was the last of it."""
        if not self.open:
            return
        self.wire.write(self._unsettled.data_to_send())
        if self._left and not self._unsettled:
            self.close()

    def event(self, name: frames.Method, payload: bytes) -> None:
        """A delivery begins, or the broker ends the consumer (its queue was deleted, or moves)."""
        if name == frames.BASIC_DELIVER:
            self._unsettled.deliver(payload)
        elif name == frames.BASIC_CANCEL:
            self._end(f"queue {self.queue} was deleted, or its broker is gone")
            self.close()

    def content(self, kind: int, payload: bytes) -> None:
        """The rest of a delivery."""
        content = self._unsettled.header(payload) if kind == frames.HEADER else self._unsettled.body(payload)
        if content is not None and (self._place is None or self._is_new(content, self._place)):
            self._on_content(self, content)

    def _is_new(self, content: Content, place: StreamOffset) -> bool:
        """Whether a delivery of a stream was not settled before. One without an offset is from a queue of another kind, where
        a broker does not mind being asked for a place in it.
        """
        offset = stream_offset(content.header)
        if offset is None:
            return True
        if not place.delivered(offset):
            self._unsettled.accept(content.tag)
            self.flush()
            return False
        self._offsets[content.tag] = offset
        return True

    def refused(self, problem: ChannelRefused, *, told: bool) -> None:
        """The broker closed the channel. One that could not begin has not ended: its caller tries again, in his own time."""
        if told:
            self.taking = False
        else:
            self._end(problem.text)

    def _end(self, reason: str) -> None:
        if self.taking:
            self.taking = False
            self._on_end(self, reason)
