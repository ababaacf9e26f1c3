"""Carries out the steps of ``topology`` on a broker, never declaring again what exists."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from gateway.amqp.client import Client
from gateway.amqp.connection import ChannelRefused
from gateway.amqp.core import topology as plan
from gateway.amqp.core.stream_offsets import StreamOffsets
from gateway.model.binding import Binding

log = logging.getLogger(__name__)

PRECONDITION_FAILED = 406


class NotThere(Exception):
    """Somebody else's queue or exchange is missing: the edge waits for it. The text says which."""


class Declarer:
    """One connection's knowledge of what is declared."""

    def __init__(
        self, client: Client, queue_type: str, places: StreamOffsets, save_places: Callable[[], Awaitable[None]]
    ) -> None:
        self._client = client
        self._places, self._save_places = places, save_places
        self._streams_wanted = queue_type == plan.STREAM
        self._existed: set[str] = set()
        self._plain: set[str] = set()
        self._intake = plan.intake_arguments(queue_type, client.broker_version)
        self._done: set[Binding] = set()
        self._waiting: dict[Binding, str] = {}
        self._exchanges: set[str] = set()

    @property
    def waiting(self) -> dict[str, str]:
        """Edges that are not wired yet, and why."""
        return {binding.label or binding.id: reason for binding, reason in self._waiting.items()}

    def may_be_stream(self, queue: str) -> bool:
        """Whether a queue of ours may be one: it was, is made as one, or exists in another way than we wanted."""
        if queue in self._plain or not queue.startswith(plan.OURS):
            return False
        return self._streams_wanted or queue in self._places or queue in self._existed

    def is_plain(self, queue: str) -> None:
        """It turned out to be none."""
        self._plain.add(queue)
        self._places.forget(queue)

    async def declare(self, bindings: Collection[Binding]) -> None:
        """Make what these edges need. What somebody else has to make first is tried again by ``retry``."""
        wanted = set(bindings)
        self._done &= wanted
        self._waiting = {binding: reason for binding, reason in self._waiting.items() if binding in wanted}
        for binding in bindings:
            if binding not in self._done:
                await self._wire_up(binding)

    async def retry(self) -> bool:
        """Try those that wait. True while some do."""
        for binding in tuple(self._waiting):
            await self._wire_up(binding)
        return bool(self._waiting)

    async def again(self, queue: str) -> None:
        """A queue is gone: declare its edges anew."""
        for binding in [done for done in self._done if queue in _queues(done)]:
            self._done.discard(binding)
            await self._wire_up(binding)

    async def retire(self, bindings: Collection[Binding], unsettled: Callable[[str], int]) -> list[str]:
        """Undo edges; returns the queues that have to stay for now because something is in them or takes from them.

        What another edge needs too stays as it is: two may lead into one queue.
        """
        kept = []
        for binding in bindings:
            self._done.discard(binding)
            self._waiting.pop(binding, None)
        needed = {step for other in (*self._done, *self._waiting) for step in plan.steps_for(other, self._intake)}
        for binding in bindings:
            for step in plan.undo_steps(binding):
                if isinstance(step, plan.Unbind) and plan.Bind(step.queue, step.exchange) in needed:
                    continue
                try:
                    if not await self._undo(step, unsettled) and isinstance(step, plan.DropQueue):
                        kept.append(step.name)
                except ChannelRefused as refused:
                    log.warning("amqp: edge %s is not undone: %s", binding.label or binding.id, refused.text)
                    break
        await self._restore_dead_letters(bindings, needed)
        return kept

    async def _restore_dead_letters(self, retired: Collection[Binding], needed: Collection[plan.Step]) -> None:
        """Dead letters that went where an edge said go to a queue of their own again, where another edge has them so."""
        unbound = {
            step.exchange for binding in retired for step in plan.undo_steps(binding) if isinstance(step, plan.Unbind)
        }
        for step in needed:
            if isinstance(step, plan.EnsureDeadLetters) and step.name in unbound:
                with suppress(ChannelRefused):  # somebody made them in another way: used as they are
                    await self._client.declare_queue(step.name, plan.NO_ARGUMENTS)
                    await self._client.bind(step.name, step.name)

    async def _undo(self, step: plan.Undo, unsettled: Callable[[str], int]) -> bool:
        """False if it has to be tried again later."""
        match step:
            case plan.Unbind(queue, exchange):
                await self._client.unbind(queue, exchange)
            case plan.DropExchange(name):
                self.forget(name)
                with suppress(ChannelRefused):  # another edge uses it too
                    await self._client.delete_unused_exchange(name)
            case plan.DropQueue(name):
                return await self.drop(name, unsettled(name))
        return True

    async def drop(self, queue: str, unsettled: int) -> bool:
        """Delete a queue of ours if it is empty and unused. True if there is no more to do.

        The broker's own if-empty looks at what waits, not at what is delivered and open, and quorum queues don't know
        it at all; so it is asked first. Nothing new can come in between: the queue is unbound.
        """
        try:
            state = await self._client.queue_state(queue)
            if state is None:
                return True
            if unsettled or state.messages or state.consumers:
                return False
            if self.may_be_stream(queue) and queue not in self._places:
                return False  # a stream does not tell what is in it: one that was never taken from stays
            await self._client.delete_queue(queue)
            self._places.forget(queue)
        except ChannelRefused as refused:
            log.warning("amqp: queue %s stays: %s", queue, refused.text)
        return True

    async def steps(self, steps: Iterable[plan.Step]) -> None:
        """Carry out steps. ``NotThere`` if something of somebody else's is missing, ``ChannelRefused`` otherwise."""
        for step in steps:
            await self._step(step)

    async def has_exchange(self, name: str) -> bool:
        """Whether an exchange exists; asked once, until ``forget``."""
        if name not in self._exchanges and await self._client.has_exchange(name):
            self._exchanges.add(name)
        return name in self._exchanges

    def knows_exchange(self, name: str) -> bool:
        """Whether it was there when last asked for."""
        return name in self._exchanges

    def forget(self, exchange: str) -> None:
        """It turned out not to exist (any more)."""
        self._exchanges.discard(exchange)

    async def _wire_up(self, binding: Binding) -> None:
        name = binding.label or binding.id
        try:
            await self.steps(plan.steps_for(binding, self._intake))
        except (NotThere, ChannelRefused, ValueError) as exc:
            self._exchanges.clear()  # one of them may be what is missing
            reason = f"the broker refuses: {exc.text}" if isinstance(exc, ChannelRefused) else str(exc)
            if self._waiting.get(binding) != reason:
                log.warning("amqp: edge %s: %s; trying again", name, reason)
            self._waiting[binding] = reason
            return
        if self._waiting.pop(binding, None) is not None:
            log.info("amqp: edge %s: wired", name)
        self._done.add(binding)

    async def _step(self, step: plan.Step) -> None:
        client = self._client
        match step:
            case plan.EnsureQueue(name, arguments):
                await self._ensure_queue(name, arguments)
            case plan.EnsureExchange(name, kind):
                if not await self.has_exchange(name):
                    await client.declare_exchange(name, kind)
            case plan.RequireQueue(name):
                if await client.queue_state(name) is None:
                    raise NotThere(f"queue {name} is not there yet")
            case plan.RequireExchange(name):
                self.forget(name)
                if not await self.has_exchange(name):
                    raise NotThere(f"exchange {name} is not there yet")
            case plan.Bind(queue, exchange):
                await client.bind(queue, exchange)
            case plan.BindExchange(target, source):
                await client.bind_exchange(target, source)
            case plan.EnsureDeadLetters():
                await self._ensure_dead_letters(step.name)

    async def _ensure_queue(self, name: str, arguments: plan.Arguments) -> None:
        if arguments == plan.STREAM_ARGUMENTS and await self._client.queue_state(name) is None:
            arguments = await self._arguments_anew(name)
        try:
            await self._client.declare_queue(name, arguments)
        except ChannelRefused as refused:
            if refused.code != PRECONDITION_FAILED:
                raise
            self._existed.add(name)
            log.warning(
                "amqp: queue %s exists in another way (%s); it is used as it is. To have it made anew, let it run empty"
                " and delete it",
                name,
                refused.text,
            )

    async def _arguments_anew(self, queue: str) -> plan.Arguments:
        """For a stream that is not there. One that was deleted counts from 0 again, so the place in it has to be struck out
        first: after a crash the old place would skip what is in the new one. It has a mark of its own, or a target port would
        take its messages for the old one's. Where the place can't be struck out it becomes a plain queue, which knows by
        itself what was taken: better that than one that holds nothing for us meanwhile.
        """
        self._places.anew(queue, secrets.token_hex(4))
        self._plain.discard(queue)
        await self._save_places()
        if not self._places.is_written(queue):
            return plan.STREAM_ARGUMENTS
        log.warning(
            "amqp: queue %s was deleted, and is made anew as a classic one: how far the stream was taken can't be struck"
            " out. To have a stream again, let it run empty and delete it",
            queue,
        )
        return plan.NO_ARGUMENTS

    async def _ensure_dead_letters(self, name: str) -> None:
        """The queue first: an exchange alone means that somebody else bound his own queue to it."""
        if await self._client.queue_state(name) is None:
            if await self.has_exchange(name):
                return
            await self._client.declare_queue(name, plan.NO_ARGUMENTS)
        if not await self.has_exchange(name):
            await self._client.declare_exchange(name, "fanout")
        await self._client.bind(name, name)


def _queues(binding: Binding) -> tuple[str, ...]:
    ends = (binding.intake, *binding.ends)
    return tuple(end.name for end in ends if end is not None and end.transport == "amqp")
