"""paho without its socket: what it sends goes to the loop's transport, what it should read is put there packet by packet.

So nothing blocks, there is no thread, and paho keeps no window and no queue of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class PahoSocket:
    """What paho takes for its socket."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.inbox = bytearray()
        self._write = write

    def recv(self, size: int) -> bytes:
        if not self.inbox:
            raise BlockingIOError
        piece = bytes(self.inbox[:size])
        del self.inbox[:size]
        return piece

    def send(self, data: bytes | bytearray) -> int:
        self._write(bytes(data))
        return len(data)

    def close(self) -> None:
        self.inbox.clear()

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        pass


class PahoClient(paho.Client):
    """paho on a stand-in. ``_create_socket`` is the one private name we rely on; a test looks whether it is there."""

    def __init__(self, wire: PahoSocket, client_id: str, version: MQTTProtocolVersion, clean: bool) -> None:
        self._stand_in = wire
        older = version is MQTTProtocolVersion.MQTTv311
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean if older else None,
            protocol=version,
            manual_ack=True,
            reconnect_on_failure=False,
        )

    def _create_socket(self) -> Any:
        return self._stand_in
