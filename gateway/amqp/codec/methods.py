"""The methods that declare, bind and delete, as arguments in bytes (numbers: the protocol's XML specification).

Ours and not the library's, which refuses names that RabbitMQ takes and MsgFlo allows: anything but some sixty ASCII
characters (a ``>`` is in the names of our own queues), and exchanges of more than 127 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gateway.amqp.codec.frames import Method, read_short_text, short_text
from gateway.amqp.codec.tables import encode_table

EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK = (40, 10), (40, 11)
EXCHANGE_DELETE, EXCHANGE_DELETE_OK = (40, 20), (40, 21)
EXCHANGE_BIND, EXCHANGE_BIND_OK = (40, 30), (40, 31)
QUEUE_DECLARE, QUEUE_DECLARE_OK = (50, 10), (50, 11)
QUEUE_BIND, QUEUE_BIND_OK = (50, 20), (50, 21)
QUEUE_DELETE, QUEUE_DELETE_OK = (50, 40), (50, 41)
QUEUE_UNBIND, QUEUE_UNBIND_OK = (50, 50), (50, 51)

ANSWERS: Mapping[Method, Method] = {
    EXCHANGE_DECLARE: EXCHANGE_DECLARE_OK,
    EXCHANGE_DELETE: EXCHANGE_DELETE_OK,
    EXCHANGE_BIND: EXCHANGE_BIND_OK,
    QUEUE_DECLARE: QUEUE_DECLARE_OK,
    QUEUE_BIND: QUEUE_BIND_OK,
    QUEUE_DELETE: QUEUE_DELETE_OK,
    QUEUE_UNBIND: QUEUE_UNBIND_OK,
}

PASSIVE, DURABLE = 1, 2
EXCLUSIVE, AUTO_DELETE = 4, 8
"""Of a queue."""
IF_UNUSED = 1

_RESERVED = b"\0\0"
_NO_WAIT = b"\0"
_KEY = b"\0"
_NO_TABLE = b"\0\0\0\0"
_COUNTS = struct.Struct(">II")


def queue_declare(name: str, bits: int, arguments: Mapping[str, str | int]) -> bytes:
    """Make or look for a queue."""
    return _RESERVED + short_text(name) + bytes((bits,)) + encode_table(arguments)


def read_queue_declared(payload: bytes) -> tuple[int, int]:
    """How many messages wait in the queue, and how many take from it."""
    _, at = read_short_text(payload, 4)
    messages, consumers = _COUNTS.unpack_from(payload, at)
    return messages, consumers


def queue_bind(queue: str, exchange: str) -> bytes:
    """With the empty routing key, as all bindings here."""
    return _RESERVED + short_text(queue) + short_text(exchange) + _KEY + _NO_WAIT + _NO_TABLE


def queue_unbind(queue: str, exchange: str) -> bytes:
    """The opposite. It has no bit for not waiting."""
    return _RESERVED + short_text(queue) + short_text(exchange) + _KEY + _NO_TABLE


def queue_delete(name: str) -> bytes:
    """With whatever is in it."""
    return _RESERVED + short_text(name) + b"\0"


def exchange_declare(name: str, kind: str, bits: int) -> bytes:
    """Make or look for an exchange."""
    return _RESERVED + short_text(name) + short_text(kind) + bytes((bits,)) + _NO_TABLE


def exchange_bind(target: str, source: str) -> bytes:
    """From exchange to exchange."""
    return _RESERVED + short_text(target) + short_text(source) + _KEY + _NO_WAIT + _NO_TABLE


def exchange_delete_unused(name: str) -> bytes:
    """Only while nothing is bound to it."""
    return _RESERVED + short_text(name) + bytes((IF_UNUSED,))
