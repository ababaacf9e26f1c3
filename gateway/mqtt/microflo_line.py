"""A board that speaks the MicroFlo protocol over MQTT instead of a serial line: ``mqtt+microflo://HOST/ROLE/microflo/``.

Raw command bytes at QoS 0, from us on ``ROLE/microflo/receive``, from the board on ``ROLE/microflo/send`` (reference:
microflo-protocol, section 12.1). There is no presence: the link's own pings tell whether the board is there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from gateway.config.schema import MqttSection, Secret
from gateway.errors import ConfigError, ConnectFailed, TransportDown
from gateway.mqtt.client import FAILED_FROM, Handlers, MqttConnection
from gateway.mqtt.connect import connect_problem, tls_context
from gateway.mqtt.core.packets import PUBLISH, IncomingPublish, encode_length
from gateway.mqtt.core.settings import settings_of

SCHEMES = {"mqtt+microflo": "mqtt", "mqtts+microflo": "mqtts"}
VERSION = "3.1.1"
"""Every broker takes it, and nothing here needs more."""


class MqttLine:
    """A line to a board, as the serial side has it."""

    resets = False
    has_speed = False

    def __init__(self, to_board: str, from_board: str) -> None:
        self._from_board = from_board.encode()
        topic = to_board.encode()
        self._head = len(topic).to_bytes(2, "big") + topic
        self._connection: MqttConnection | None = None
        self._on_bytes: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[str], None] | None = None
        self._lost = ""
        self.handlers = Handlers(self._published, lambda mid, code: None, self._gone, lambda: None)

    def begin(self, connection: MqttConnection) -> None:
        """The broker has accepted us."""
        self._connection = connection

    def listen(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """Hand over what arrives; tell once when the line is lost."""
        self._on_bytes, self._on_lost = on_bytes, on_lost
        if self._lost:
            asyncio.get_running_loop().call_soon(on_lost, self._lost)

    def write(self, data: bytes) -> None:
        """One message. What is written while the broker is away is lost, as on any line."""
        if self._connection is not None:
            self._connection.write(bytes((PUBLISH,)) + encode_length(len(self._head) + len(data)) + self._head + data)

    def set_baud(self, baud: int) -> None:
        """There is no speed."""

    async def reset(self) -> None:
        """There is no line to pull."""

    def close(self) -> None:
        """Leave the broker. Doing it twice is harmless."""
        self._on_lost = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave()

    def _published(self, incoming: IncomingPublish) -> None:
        if incoming.topic == self._from_board and not incoming.retain and self._on_bytes is not None:
            self._on_bytes(incoming.payload)

    def _gone(self, down: TransportDown) -> None:
        self._connection = None
        self._lost = f"the MQTT broker: {down.reason}"
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self._lost)


async def open_line(url: str) -> MqttLine:
    """Connect to the broker and listen for the board. ``ConnectFailed``; ``ConfigError`` for an address that is none."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    prefix = path.rstrip("/")
    if scheme not in SCHEMES or not place or not prefix:
        raise ConfigError(url, "", "a board on MQTT is written mqtt+microflo://HOST[:PORT]/ROLE/microflo/")
    settings = settings_of(
        MqttSection(),
        f"{SCHEMES[scheme]}://{place}",
        instance="",
        client_id=f"gateway-line-{secrets.token_hex(6)}",
        password=Secret(""),
    )
    line = MqttLine(f"{prefix}/receive", f"{prefix}/send")
    connection = MqttConnection(settings, VERSION, settings.client_id, line.handlers)
    name = f"port {url}"
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection, settings.host, settings.port, ssl=tls_context(settings))
            await connection.begin(clean=True, will=None)
            code = await connection.subscribe(f"{prefix}/send", 0, 0)
        if code >= FAILED_FROM:
            raise ConnectFailed(name, f"{settings.place} refuses the subscription to {prefix}/send")
    except TimeoutError:
        connection.close(politely=False)
        raise ConnectFailed(name, f"no answer from {settings.place} in {settings.connect_timeout_s:g} s") from None
    except OSError as exc:
        connection.close(politely=False)
        raise ConnectFailed(name, connect_problem(settings, exc)) from exc
    except BaseException:
        connection.close(politely=False)
        raise
    line.begin(connection)
    return line


MQTT_LINES = dict.fromkeys(SCHEMES, open_line)
"""By scheme, for whoever opens ports."""
