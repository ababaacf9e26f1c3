"""Bodies in the form that a target wants: JSON and CBOR are turned into each other, anything else is left untouched."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from gateway.formats import cbor
from gateway.model.binding import Binding
from gateway.model.message import Message

JSON = "application/json"
CBOR = "application/cbor"


class Unfit(ValueError):
    """A body has no counterpart in the other form; the text says why."""


def wanted_type(binding: Binding) -> str:
    """The content type an edge's target gets; empty: whatever came. A board's port always gets JSON."""
    if binding.contract.content_type:
        return binding.contract.content_type
    return JSON if any(end.transport == "serial" for end in binding.ends) else ""


def converted(message: Message, wanted: str) -> Message:
    """The message with its body as ``wanted``. ``Unfit`` if a value of it has no such form.

    Text or bytes that are no JSON (and not marked as CBOR) pass as they are, under their own content type.
    """
    given = message.content_type.partition(";")[0].strip().lower()
    if given == wanted or {given, wanted} - {"", JSON, CBOR}:
        return message
    if given == CBOR:
        return replace(message, body=_json_of(message.body), content_type=JSON)
    return _cbor_of(message) if wanted == CBOR else message


def _json_of(body: bytes) -> bytes:
    try:
        value = cbor.loads(body)
    except ValueError as exc:
        raise Unfit(f"is marked as CBOR and is none: {exc}") from exc
    try:
        return msgspec.json.encode(_plain(value))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise Unfit(f"this CBOR has no form in JSON: {exc}") from exc


def _plain(value: object) -> object:
    """The value, if JSON has it; NaN and bytes it has not, and msgspec would write them as null and as base64."""
    if isinstance(value, bytes | bytearray):
        raise TypeError("it holds bytes")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise TypeError("it holds a number that is none")
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _cbor_of(message: Message) -> Message:
    try:
        value = msgspec.json.decode(message.body)
    except (ValueError, RecursionError):
        return message
    return replace(message, body=cbor.dumps(value), content_type=CBOR)
