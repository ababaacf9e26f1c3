"""How a connection to an AMQP 0-9-1 broker begins: who is asked what, and what both agree on.

Numbers and order: the protocol's specification, section 2.2.4 and class ``connection``. By user and password only
(``PLAIN``), which is what every broker takes.
"""

from __future__ import annotations

import struct

from gateway import __version__
from gateway.amqp.frames import Method, short_text
from gateway.amqp.tables import Plain, decode_table, encode_table, table_end
from gateway.config.schema import Secret

PROTOCOL = b"AMQP\x00\x00\x09\x01"
"""The first bytes of a client. A broker that speaks another version answers with its own."""

START, START_OK = (10, 10), (10, 11)
TUNE, TUNE_OK = (10, 30), (10, 31)
OPEN, OPEN_OK = (10, 40), (10, 41)

CAPABILITIES = ("authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify")
"""What we understand beyond the specification (https://www.rabbitmq.com/docs/consumer-cancel, "Client Capabilities")."""

_LONG = struct.Struct(">I")
_LIMITS = struct.Struct(">HIH")
_ARGUMENTS_AT = 4


class Greeting:
    """Bytes of one connection's beginning. ``channel_max`` and ``frame_max`` are 0 where the broker sets no limit."""

    def __init__(self, user: str, password: Secret, vhost: str, heartbeat_s: int, name: str) -> None:
        """``name`` is shown in the broker's list of connections."""
        self._user, self._password, self._vhost, self._name = user, password, vhost, name
        self._expected = START
        self._refuses_silently = False
        self.heartbeat_s = heartbeat_s
        self.channel_max = 0
        self.frame_max = 0
        self.broker_version = ""
        self.done = False

    @property
    def refused(self) -> bool:
        """Whether an end of the connection now is the broker's way to say no to user and password."""
        return self._expected == TUNE and self._refuses_silently

    def receive(self, name: Method, payload: bytes) -> tuple[tuple[Method, bytes], ...]:
        """What to answer to a method of the broker: methods and their arguments. ``ValueError`` if it can't come now."""
        if name != self._expected or self.done:
            raise ValueError(f"the broker sent method {name} at the wrong time")
        try:
            return self._answers(name, payload)
        except struct.error as exc:
            raise ValueError(f"the broker's greeting is cut short: {exc}") from exc

    def _answers(self, name: Method, payload: bytes) -> tuple[tuple[Method, bytes], ...]:
        if name == START:
            answer = self._start_ok(payload)
            self._expected = TUNE
            return ((START_OK, answer),)
        if name == TUNE:
            self.channel_max, self.frame_max, _ = _LIMITS.unpack_from(payload, _ARGUMENTS_AT)
            limits = _LIMITS.pack(self.channel_max, self.frame_max, self.heartbeat_s)
            self._expected = OPEN_OK
            return ((TUNE_OK, limits), (OPEN, short_text(self._vhost) + b"\0\0"))
        self.done = True
        return ()

    def _start_ok(self, payload: bytes) -> bytes:
        properties_at = _ARGUMENTS_AT + 2  # behind two bytes of version
        properties = decode_table(payload, properties_at)
        self.broker_version = str(properties.get("version", ""))
        capabilities = properties.get("capabilities")
        self._refuses_silently = not (isinstance(capabilities, dict) and capabilities.get(CAPABILITIES[0]))
        at = table_end(payload, properties_at)
        (size,) = _LONG.unpack_from(payload, at)
        offered = payload[at + _LONG.size : at + _LONG.size + size]
        if b"PLAIN" not in offered.split():
            raise ValueError(f"the broker takes no passwords (PLAIN), only {offered.decode(errors='replace')}")
        ours: dict[str, Plain] = {
            "product": "microflo-gateway",
            "version": __version__,
            "connection_name": self._name,
            "capabilities": dict.fromkeys(CAPABILITIES, True),
        }
        secret = f"\0{self._user}\0{self._password.reveal()}".encode()
        return encode_table(ours) + short_text("PLAIN") + _LONG.pack(len(secret)) + secret + short_text("en_US")
