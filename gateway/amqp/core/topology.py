"""What edges need on the broker, as MsgFlo has it: an outport is a fanout exchange, an inport a queue.

A core: bindings in, steps out. Nothing that exists is ever declared again with arguments of ours, because a difference
would close the channel (406 PRECONDITION_FAILED); the shell asks first, or tries on a channel that may die.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.model.address import Address, AddressKind
from gateway.model.binding import Binding, BindingKind

Arguments: TypeAlias = "tuple[tuple[str, str | int], ...]"
NO_ARGUMENTS: Arguments = ()

OURS = "gateway."
"""How the names of our own queues begin."""

DISCOVERY_QUEUE = "fbp"
"""Durable, without arguments: every participant asserts it so."""

FIRST_WITH_DELIVERY_LIMIT = 4
"""From RabbitMQ 4 on a quorum queue drops a message after 20 redeliveries, unless it is told not to."""


STREAM = "stream"
STREAM_ARGUMENTS: Arguments = (
    ("x-queue-type", STREAM),
    ("x-max-length-bytes", 1 << 31),
    ("x-stream-max-segment-size-bytes", 1 << 26),
)
"""What was taken stays in a stream until newer messages push it out: by whole segments, and only with a limit."""


@dataclass(frozen=True, slots=True)
class EnsureQueue:
    """A durable queue that is made if it isn't there."""

    name: str
    arguments: Arguments = NO_ARGUMENTS


@dataclass(frozen=True, slots=True)
class EnsureExchange:
    """A durable exchange that is made if it isn't there."""

    name: str
    kind: str = "fanout"


@dataclass(frozen=True, slots=True)
class RequireExchange:
    """Somebody else's exchange: it has to be there, and is not ours to make (its flags are its owner's business)."""

    name: str


@dataclass(frozen=True, slots=True)
class RequireQueue:
    """Somebody else's queue: the same."""

    name: str


@dataclass(frozen=True, slots=True)
class Bind:
    """The exchange's messages go to the queue, with the empty routing key."""

    queue: str
    exchange: str


@dataclass(frozen=True, slots=True)
class BindExchange:
    """The source's messages go on to another exchange, with the empty routing key."""

    target: str
    source: str


@dataclass(frozen=True, slots=True)
class EnsureDeadLetters:
    """Exchange and queue ``dead-QUEUE``, joined, unless somebody made that exchange and gave it another queue."""

    queue: str

    @property
    def name(self) -> str:
        """The name of both."""
        return dead_letters(self.queue)


@dataclass(frozen=True, slots=True)
class Unbind:
    """The opposite of ``Bind``. Not bound is as good."""

    queue: str
    exchange: str


@dataclass(frozen=True, slots=True)
class DropQueue:
    """Delete a queue of ours, once nothing is in it and nobody takes from it."""

    name: str


@dataclass(frozen=True, slots=True)
class DropExchange:
    """Delete an exchange of ours, once nothing is bound to it."""

    name: str


Step: TypeAlias = (
    "EnsureQueue | EnsureExchange | RequireExchange | RequireQueue | Bind | BindExchange | EnsureDeadLetters"
)
Undo: TypeAlias = "Unbind | DropQueue | DropExchange"


def dead_letters(queue: str) -> str:
    """MsgFlo's name for where the dead letters of a queue go."""
    return f"dead-{queue}"


def intake_arguments(queue_type: str, broker_version: str) -> Arguments:
    """The arguments of an edge's own queue. ``queue_type`` is ``classic``, ``quorum`` or ``stream``."""
    if queue_type == STREAM:
        return STREAM_ARGUMENTS
    if queue_type != "quorum":
        return NO_ARGUMENTS
    major = broker_version.partition(".")[0]
    if major.isdigit() and int(major) >= FIRST_WITH_DELIVERY_LIMIT:
        return (("x-queue-type", "quorum"), ("x-delivery-limit", -1))
    return (("x-queue-type", "quorum"),)


def round_robin(exchange: str) -> str:
    """MsgFlo's name for the direct exchange between an outport and the queue that its workers share."""
    return f"out-{exchange}"


def steps_for(binding: Binding, intake: Arguments) -> tuple[Step, ...]:
    """What one edge needs, in order. ``intake`` are the arguments of an edge's own queue."""
    steps: list[Step] = []
    if binding.intake is not None and binding.intake.transport == "amqp":
        steps.append(EnsureQueue(binding.intake.name, intake))
        if _is_exchange(binding.src):
            steps += [RequireExchange(binding.src.name), Bind(binding.intake.name, binding.src.name)]
    for target in binding.ends:
        if target.transport == "amqp" and target.kind is AddressKind.QUEUE:
            if binding.by_broker:
                steps += _by_broker(binding, target.name)
            steps += _dead_letters(binding, target.name)
    return tuple(steps)


def _by_broker(binding: Binding, queue: str) -> list[Step]:
    """The broker itself carries it. Round robin needs no more than a queue that several take from, but MsgFlo puts an
    exchange between, and its tools look for that."""
    source = binding.src
    steps: list[Step] = [RequireQueue(queue)]
    if not _is_exchange(source):
        return steps
    steps.append(RequireExchange(source.name))
    if binding.kind is BindingKind.ROUNDROBIN:
        between = round_robin(source.name)
        return [*steps, EnsureExchange(between, "direct"), BindExchange(between, source.name), Bind(queue, between)]
    return [*steps, Bind(queue, source.name)]


def _dead_letters(binding: Binding, queue: str) -> list[Step]:
    """Always declared with the queue: otherwise the broker drops what a worker refuses.

    Where the graph names another place, what the router buries goes there without anything declared; what a worker
    refuses on an edge of the broker's own goes there by a binding.
    """
    if binding.contract.deadletter is None:
        return [EnsureDeadLetters(queue)]
    dead = dead_letters(queue)
    steps: list[Step] = []
    for named in _named_queue(binding):
        steps += [EnsureExchange(dead), RequireQueue(named.name), Bind(named.name, dead)]
    return steps


def _named_queue(binding: Binding) -> list[Address]:
    """The queue that the graph names for the dead letters of an edge of the broker's own, if it names one."""
    named = binding.contract.deadletter
    is_queue = named is not None and named.transport == "amqp" and named.kind is AddressKind.QUEUE
    return [named] if named is not None and is_queue and binding.by_broker else []


def undo_steps(binding: Binding) -> tuple[Undo, ...]:
    """What has to go when the edge goes. The dead letters' own queue stays: somebody may still want to read them."""
    source = binding.src
    if not _is_exchange(source):
        return ()
    if binding.intake is not None and binding.intake.transport == "amqp":
        return (Unbind(binding.intake.name, source.name), DropQueue(binding.intake.name))
    if not binding.by_broker:
        return ()
    queues = [target.name for target in binding.ends if target.kind is AddressKind.QUEUE]
    letters = tuple(Unbind(named.name, dead_letters(queue)) for queue in queues for named in _named_queue(binding))
    if binding.kind is BindingKind.ROUNDROBIN:
        between = round_robin(source.name)
        return (*(Unbind(queue, between) for queue in queues), DropExchange(between), *letters)
    return (*(Unbind(queue, source.name) for queue in queues), *letters)


def _is_exchange(address: Address) -> bool:
    return address.transport == "amqp" and address.kind is AddressKind.EXCHANGE


def export_steps(inports: Iterable[str], outports: Iterable[str]) -> tuple[Step, ...]:
    """What a board needs to be a participant on the AMQP side, by the queue names of its ports.

    As MsgFlo's own libraries do it: outports first, and an inport's queue has an exchange of the same name, so that it
    can be published to like an outport.
    """
    steps: list[Step] = [EnsureExchange(name) for name in outports]
    for name in inports:
        arguments = (("x-dead-letter-exchange", dead_letters(name)),)
        steps += [EnsureQueue(name, arguments), EnsureExchange(name), Bind(name, name), EnsureDeadLetters(name)]
    return tuple(steps)
