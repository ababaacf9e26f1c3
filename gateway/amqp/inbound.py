"""What a session takes from: a consumer for each source, what has arrived and nobody has seen, and what is settled."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from gateway.amqp.client import Client
from gateway.amqp.codec.properties import decode_message
from gateway.amqp.connection import ChannelRefused
from gateway.amqp.consumer import Consumer
from gateway.amqp.core.settings import AmqpSettings
from gateway.amqp.core.stream_offsets import StreamOffset, StreamOffsets
from gateway.amqp.core.unsettled import Content
from gateway.amqp.declarer import Declarer
from gateway.model.address import Address, AddressKind, amqp_queue
from gateway.model.message import Delivery, Outcome

log = logging.getLogger(__name__)

SERIAL_SHIFT = 40
"""A delivery's tag here is the consumer's serial number, and the channel's own tag in the lowest 40 bit."""

NO_STREAM = 406
"""PRECONDITION_FAILED: a queue of another kind knows no ``x-stream-offset``."""

SHARERS = 16
"""Sources that get the whole prefetch each; more of them share what so many would have. A message that is under way takes
2 KiB and its body, and after an outage all queues are full."""

LEAST_CREDIT = 16

CHANNEL_TAG = (1 << SERIAL_SHIFT) - 1


def credit_of(prefetch: int, sources: int) -> int:
    """Deliveries of each of so many sources that may be unsettled at a time."""
    return min(prefetch, max(LEAST_CREDIT, SHARERS * prefetch // max(1, sources)))


class AmqpInbound:
    """The taking half of one session. ``lost`` is called when a source has to be taken from again: now, or (False) later."""

    def __init__(
        self,
        client: Client,
        settings: AmqpSettings,
        epoch: int,
        ids: Iterator[str],
        lost: Callable[[bool], None],
        places: StreamOffsets,
        declarer: Declarer,
    ) -> None:
        self._client = client
        self._places = places
        self._declarer = declarer
        self._settings = settings
        self._epoch = epoch
        self._lost = lost
        self._new_id = ids.__next__
        self._loop = asyncio.get_running_loop()
        self._serials = count(1)
        self._wanted: dict[Address, int] = {}
        self._share = settings.prefetch
        self._by_source: dict[Address, Consumer] = {}
        self._by_serial: dict[int, Consumer] = {}
        self._unflushed: set[Consumer] = set()
        self._not_taken: dict[Address, str] = {}
        self.inbox: deque[Delivery] = deque()
        self.news = asyncio.Event()

    @property
    def missing(self) -> list[Address]:
        """Sources that are wanted, and not taken from at the moment."""
        return [source for source in self._wanted if source not in self._by_source]

    @property
    def not_taken(self) -> Mapping[Address, str]:
        """Why not."""
        return self._not_taken

    def unsettled(self, queue: str) -> int:
        """Deliveries of a queue whose outcome the broker has not been told; of a stream one more while it is wanted, whether
        or not it can be taken from at the moment: nobody can tell whether more will come.
        """
        count = sum(consumer.unsettled for consumer in self._by_serial.values() if consumer.queue == queue)
        return count + int(amqp_queue(queue) in self._wanted and self._declarer.may_be_stream(queue))

    def share_among(self, sources: int) -> None:
        """So many sources are wanted, or will be: what each may have unsettled from now on."""
        self._share = credit_of(self._settings.prefetch, sources)

    # -- sources -----------------------------------------------------------------------------------------------------

    async def subscribe(self, source: Address, credit: int) -> None:
        """Take from a queue, or from an exchange by a queue that lasts as long as the session."""
        if source not in self._wanted:
            self._wanted[source] = min(credit, self._share)
            await self.take(source)

    async def unsubscribe(self, source: Address, *, alive: bool) -> None:
        """Take no more; what nobody has seen yet goes back to the queue at once."""
        self._wanted.pop(source, None)
        self._not_taken.pop(source, None)
        consumer = self._by_source.pop(source, None)
        if consumer is None or not alive:
            return
        await consumer.leave()
        unseen = [delivery for delivery in self.inbox if delivery.source == source]
        self.inbox = deque(delivery for delivery in self.inbox if delivery.source != source)
        for delivery in unseen:
            self.settle(delivery, Outcome.RELEASED)
        self._flush_soon(consumer)

    async def take(self, source: Address) -> None:
        """Begin, or begin again, unless it is unwanted or taken from."""
        if source not in self._wanted or source in self._by_source:
            return
        try:
            queue = await self._queue_of(source)
            may_be_stream = source.kind is AddressKind.QUEUE and self._declarer.may_be_stream(queue)
            if not (may_be_stream and await self._take_stream(source)):
                consumer = self._by_source[source] = self.consumer(source, queue, self._arrived)
                await consumer.take(self._wanted[source])
        except (ChannelRefused, ValueError) as exc:
            self._forget(source)
            reason = exc.text if isinstance(exc, ChannelRefused) else str(exc)
            if self._not_taken.get(source) != reason:
                log.warning("amqp: can't take from %s: %s; trying again", source, reason)
            self._not_taken[source] = reason
            self._lost(False)
        else:
            if self._not_taken.pop(source, None) is not None:
                log.info("amqp: taking from %s", source)

    async def _take_stream(self, source: Address) -> bool:
        """Take from a stream, where it was left. False: it is none, but a queue of another kind."""
        place = self._places.of(source.name)
        consumer = self._by_source[source] = self.consumer(source, source.name, self._arrived, place)
        try:
            await consumer.take(self._wanted[source])
        except ChannelRefused as refused:
            self._forget(source)
            if place.next is None:
                self._places.untaken(source.name)
            if refused.code != NO_STREAM or "x-stream-offset" not in refused.text:
                raise
            self._declarer.is_plain(source.name)
            return False
        return True

    async def _queue_of(self, source: Address) -> str:
        if source.kind is AddressKind.QUEUE:
            return source.name
        queue = f"gateway.{self._settings.instance}.tap.{secrets.token_hex(6)}"
        await self._client.declare_passing_queue(queue)
        try:
            await self._client.bind(queue, source.name)
        except ChannelRefused:
            await self._client.delete_queue(queue)  # each try makes one, and what nobody ever took from stays
            raise
        return queue

    def consumer(
        self,
        source: Address,
        queue: str,
        arrived: Callable[[Consumer, Content], None],
        place: StreamOffset | None = None,
    ) -> Consumer:
        """A consumer that has not begun."""
        serial = next(self._serials)
        consumer = Consumer(self._client.wire, serial, source, queue, arrived, self._ended, place)
        self._by_serial[serial] = consumer
        return consumer

    async def dismiss(self, consumer: Consumer) -> None:
        """A consumer that is no source's is not needed any more."""
        await consumer.leave()
        self._flush_soon(consumer)

    def _forget(self, source: Address) -> None:
        consumer = self._by_source.pop(source, None)
        if consumer is not None:
            self._by_serial.pop(consumer.serial, None)

    # -- deliveries --------------------------------------------------------------------------------------------------

    def _arrived(self, consumer: Consumer, content: Content) -> None:
        offset = consumer.offset(content.tag)
        new_id = (
            self._new_id if offset is None else lambda: self._places.message_id(consumer.queue, offset)
        )  # the same when it comes again
        message = decode_message(content.header, content.body, new_id)
        tag = consumer.serial << SERIAL_SHIFT | content.tag
        delivery = Delivery(message, consumer.source, self._epoch, tag, content.redelivered)
        if self._by_source.get(consumer.source) is not consumer:
            consumer.settle(content.tag, Outcome.RELEASED)  # it was under way when the subscription ended
            self._flush_soon(consumer)
            return
        self.inbox.append(delivery)
        self.news.set()

    def _ended(self, consumer: Consumer, reason: str) -> None:
        """The broker ended a consumer by itself: what it has not settled comes again."""
        if self._by_source.get(consumer.source) is consumer:
            self._forget(consumer.source)
            self.inbox = deque(delivery for delivery in self.inbox if delivery.source != consumer.source)
            log.warning("amqp: %s: %s; trying again", consumer.source, reason)
            self._not_taken[consumer.source] = reason
            self._lost(True)

    def seen(self) -> Sequence[Delivery]:
        """All that has arrived; whoever asks has seen it."""
        inbox, self.inbox = self.inbox, deque()
        return tuple(inbox)

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Acknowledge, or give back. Of one turn of the loop, all goes out together."""
        consumer = self._by_serial.get(delivery.tag >> SERIAL_SHIFT)
        if delivery.epoch == self._epoch and consumer is not None:
            consumer.settle(delivery.tag & CHANNEL_TAG, outcome)
            self._flush_soon(consumer)

    def refuse(self, delivery: Delivery) -> None:
        """To the dead letters of its queue. Then as ``settle``."""
        consumer = self._by_serial.get(delivery.tag >> SERIAL_SHIFT)
        if delivery.epoch == self._epoch and consumer is not None:
            consumer.refuse(delivery.tag & CHANNEL_TAG)
            self._flush_soon(consumer)

    def _flush_soon(self, consumer: Consumer) -> None:
        if not self._unflushed:
            self._loop.call_soon(self.flush)
        self._unflushed.add(consumer)

    def flush(self) -> None:
        """What is settled goes out now."""
        for consumer in self._unflushed:
            consumer.flush()
            if not consumer.open:
                self._by_serial.pop(consumer.serial, None)
        self._unflushed.clear()
