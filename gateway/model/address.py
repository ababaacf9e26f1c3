"""Where messages come from and go to."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache

import msgspec

MAX_AMQP_NAME_BYTES = 255
"""Names of queues and exchanges are sent behind a length of one byte (AMQP 0-9-1, section 4.2.5.3)."""

DIGEST_CHARACTERS = 16


class AddressKind(StrEnum):
    """What an address names. Only AMQP knows exchanges beside queues."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


class Address(msgspec.Struct, frozen=True, cache_hash=True):
    """A port's queue on a transport.

    ``transport`` is ``mqtt``, ``amqp``, ``serial`` or ``memory``; ``name`` an MQTT topic, an AMQP queue or
    exchange, or for a board ``ID.PORT``. Prints as ``mqtt:attic/temp``, ``amqp:readings``,
    ``amqp:readings (exchange)``.
    """

    transport: str
    name: str
    kind: AddressKind = AddressKind.QUEUE

    @property
    def target(self) -> str:
        """What is up or down as a whole: a broker (``mqtt``, ``amqp``), or one board (``serial:ID``)."""
        if self.transport == "serial":
            return _board_of(self.name)
        return self.transport

    def __str__(self) -> str:
        suffix = " (exchange)" if self.kind is AddressKind.EXCHANGE else ""
        return f"{self.transport}:{self.name}{suffix}"


@lru_cache(4096)
def _board_of(name: str) -> str:
    return f"serial:{name.rpartition('.')[0]}"


def mqtt(topic: str) -> Address:
    """The MQTT topic ``topic``."""
    return Address("mqtt", topic)


def amqp_queue(name: str) -> Address:
    """The AMQP queue ``name``; published to through the default exchange."""
    return Address("amqp", name)


def intake_queue(instance: str, binding_id: str) -> Address:
    """The gateway's own AMQP queue for a binding; the end of a name that AMQP could not carry is a digest of all of it."""
    name = f"gateway.{instance}.{binding_id}"
    encoded = name.encode()
    if len(encoded) > MAX_AMQP_NAME_BYTES:
        digest = hashlib.sha256(encoded).hexdigest()[:DIGEST_CHARACTERS]
        room = MAX_AMQP_NAME_BYTES - len(digest) - 1
        name = f"{encoded[:room].decode(errors='ignore')}~{digest}"
    return amqp_queue(name)


def amqp_exchange(name: str) -> Address:
    """The AMQP exchange ``name``."""
    return Address("amqp", name, AddressKind.EXCHANGE)


def serial(device_id: str, port: str) -> Address:
    """The port ``port`` of the board ``device_id``."""
    return Address("serial", f"{device_id}.{port}")
