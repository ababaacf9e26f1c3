"""The whole error taxonomy on one screen.

An error carries its facts as attributes; ``str()`` of it is the whole message for a person: one line
that names the place and the remedy. Exceptions of client libraries are translated in the one module
that imports the library, so that nobody above a shell names a paho, aio-pika or serial exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_CONFLICT = 5
EXIT_CONFIG = 78


class GatewayError(Exception):
    """Anything the gateway can explain to its user. ``exit_code`` is what a command ends with."""

    exit_code = EXIT_FAILED


class ConfigError(GatewayError):
    """The configuration (or another file the user wrote) is wrong at ``key`` of ``file``."""

    exit_code = EXIT_CONFIG

    def __init__(self, file: str, key: str, problem: str) -> None:
        self.file, self.key, self.problem = file, key, problem
        place = f"{file}: {key}" if key else file
        super().__init__(f"{place}: {problem}")


class NotFound(GatewayError):
    """A thing the user named is not there."""

    exit_code = EXIT_NOT_FOUND


class Conflict(GatewayError):
    """Somebody else holds what is needed: a port, a lock, a role."""

    exit_code = EXIT_CONFLICT


class BadValue(GatewayError):
    """What the user wrote can't be: a value, a name, a setting that there is none of."""

    exit_code = EXIT_USAGE


class TransportDown(GatewayError):
    """A transport can't be used at the moment; ``keep_connected`` tries again."""

    exit_code = EXIT_UNREACHABLE

    def __init__(self, transport: str, reason: str) -> None:
        self.transport, self.reason = transport, reason
        super().__init__(f"{transport}: {reason}")


class ConnectFailed(TransportDown):
    """It could not be reached or opened."""


class ConnectionLost(TransportDown):
    """It was up, and is not any more."""


class Unplugged(ConnectionLost):
    """The port itself is gone: whoever connects waits until it is back, so nothing is gained by waiting before."""


class EndedOnPurpose(TransportDown):
    """We ended it ourselves, as for a changed setting: no trouble, and connected again at once."""


class AccessRefused(TransportDown):
    """Credentials or permissions: retried at the slowest pace."""


class PortMissing(ConnectFailed):
    """There is no serial port of this name at the moment."""

    exit_code = EXIT_NOT_FOUND


class PortBusy(ConnectFailed):
    """Another program has the port open."""

    exit_code = EXIT_CONFLICT


class PortForbidden(AccessRefused):
    """We may not open the port."""


class TwinConnected(AccessRefused):
    """Another client has our client id and takes the session over: retried at the slowest pace."""


class ProtocolError(GatewayError):
    """Somebody said something that the protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """We tried to say something illegal: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer did: counted, logged, resynchronised."""


class RequestFailed(GatewayError):
    """A request to a board got no good answer."""

    def __init__(self, device: str, command: str, problem: str) -> None:
        self.device, self.command, self.problem = device, command, problem
        super().__init__(f"{device}: {command}: {problem}")


class RequestTimeout(RequestFailed):
    """No answer within the deadline."""


class BoardRefused(RequestFailed):
    """The board answered with an error code."""

    def __init__(self, device: str, command: str, code: int, text: str) -> None:
        self.code = code
        super().__init__(device, command, f"the board refused with code {code} ({text})")


class DeliveryError(GatewayError):
    """A message was not delivered to ``address``."""

    def __init__(self, address: str, message_id: str, reason: str) -> None:
        self.address, self.message_id, self.reason = address, message_id, reason
        super().__init__(f"{address}: {reason} (message {message_id})")


class DeliveryDeferred(DeliveryError):
    """Try again later. ``counts`` says whether this was an attempt that may be the message's own doing."""

    def __init__(self, address: str, message_id: str, reason: str, *, counts: bool = False) -> None:
        self.counts = counts
        super().__init__(address, message_id, reason)


class DeliveryRefused(DeliveryError):
    """The target refused this message. ``permanent``: no further attempt can succeed."""

    def __init__(self, address: str, message_id: str, reason: str, *, permanent: bool = True) -> None:
        self.permanent = permanent
        super().__init__(address, message_id, reason)


class GraphError(GatewayError):
    """A graph can't be what somebody asks it to be. ``place`` is a file, a line, a node or an edge."""

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"{place}: {problem}" if place else problem)


class GraphSyntaxError(GraphError):
    """The text of a graph does not fit its grammar; ``line`` and ``column`` count from 1."""

    def __init__(self, source: str, line: int, column: int, problem: str) -> None:
        self.line, self.column = line, column
        super().__init__(f"{source}:{line}:{column}", problem)


class BoardFull(GraphError):
    """A stopped board's queue holds all that it can: whatever waits for its start must wait here."""


class NodeUnknown(GraphError):
    """A node is named that the graph does not have."""


class PortUnknown(GraphError):
    """A port is named that its node does not have."""

    exit_code = EXIT_NOT_FOUND


class ComponentUnknown(GraphError):
    """A component is named that the library does not have."""


class EdgeExists(GraphError):
    """The edge is there already."""

    exit_code = EXIT_CONFLICT


class EdgeUnknown(GraphError):
    """An edge is named that the graph does not have."""

    exit_code = EXIT_NOT_FOUND


class ValueUnfit(GatewayError):
    """A value does not fit a port: type, range, or what the board's wire can carry."""


@contextmanager
def found_in(file: object) -> Iterator[None]:
    """What is wrong with the graph of a file is said with the file."""
    try:
        yield
    except GraphError as exc:
        raise GraphError(str(file), str(exc)) from exc


class SpoolError(GatewayError):
    """The spool can't take or give records."""


class SpoolFull(SpoolError):
    """The spool's limit is reached: the binding's overflow policy decides. ``room`` is what is left, in bytes."""

    def __init__(self, text: str, room: int = 0) -> None:
        self.room = max(0, room)
        super().__init__(text)


class SpoolUnavailable(SpoolError):
    """Disk full, read-only or broken: a state that heals."""


class SpoolCorrupt(SpoolError):
    """The spool's file is damaged: it is left where it is."""

    exit_code = EXIT_CONFIG
