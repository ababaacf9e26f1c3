"""Messages of the FBP runtime protocol: text <-> requests and replies (reference: fbp-runtime-protocol, section 1).

Clients compare what they get with strict schemas: a reply holds known keys only, and leaves out what has no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import GatewayError
from gateway.fbp.text.json_depth import DEEPEST_MESSAGE, is_too_deep

VERSION = "0.8"
"""The version of the protocol that runtimes here speak."""

LONGEST_FRAME = 1 << 20
"""Bytes of one message from a client; a longer one ends the connection."""

PROTOCOLS = frozenset({"runtime", "graph", "network", "component", "trace"})


class BadRequest(GatewayError):
    """A request that can't be answered otherwise. ``protocol`` is the sub-protocol whose ``error`` says so."""

    def __init__(self, protocol: str, problem: str, request_id: str | None = None) -> None:
        self.protocol, self.request_id = protocol, request_id
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Request:
    """A message from a client. ``secret`` from either of its two places."""

    protocol: str
    command: str
    payload: Mapping[str, Any] = field(hash=False)
    secret: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to a client: the answer to its request ``response_to``, or what others should know."""

    protocol: str
    command: str
    payload: Any = field(hash=False)
    response_to: str | None = None


_decoder = msgspec.json.Decoder()


def parse_request(text: str) -> Request:
    """The request in a text frame. ``BadRequest`` for one without form; unknown keys are nobody's business."""
    try:
        document = _decoder.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise BadRequest("runtime", f"this message is no JSON: {exc}") from exc
    if text.count("[") + text.count("{") > DEEPEST_MESSAGE and is_too_deep(document, DEEPEST_MESSAGE):
        raise BadRequest("runtime", f"this message is nested deeper than {DEEPEST_MESSAGE}")
    if not isinstance(document, dict):
        raise BadRequest("runtime", "this message is no object with protocol, command and payload")
    request_id = document.get("requestId")
    request_id = request_id if isinstance(request_id, str) else None
    protocol, command = document.get("protocol"), document.get("command")
    if not isinstance(protocol, str) or not isinstance(command, str):
        raise BadRequest("runtime", "this message lacks protocol or command", request_id)
    if protocol not in PROTOCOLS:
        raise BadRequest("runtime", f"unknown protocol {protocol[:40]!r}", request_id)
    payload = document.get("payload")
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise BadRequest(protocol, f"{protocol}:{command[:40]}: the payload must be an object", request_id)
    secret = document.get("secret")
    if not isinstance(secret, str):
        secret = payload.get("secret")
    return Request(protocol, command, payload, secret if isinstance(secret, str) else None, request_id)


def render(reply: Reply) -> str:
    """The text frame of a reply."""
    document: dict[str, Any] = {"protocol": reply.protocol, "command": reply.command, "payload": reply.payload}
    if reply.response_to is not None:
        document["responseTo"] = reply.response_to
    return msgspec.json.encode(document).decode()


def error(protocol: str, message: str, response_to: str | None = None) -> Reply:
    """An ``error`` of a sub-protocol."""
    return Reply(protocol, "error", {"message": message}, response_to)
