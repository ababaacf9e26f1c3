"""Ports of the loopback interface: a free one for the embedded broker, and which program has one that is taken."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from pathlib import Path

from gateway.mqtt.core.settings import PORT

SERVER_PORTS = (15_000, 32_000)

TCP_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def is_free(port: int) -> bool:
    """Whether we could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port() -> int:
    """MQTT's own port if it is free, else another one.

    Below the range the kernel takes the ports of outgoing connections from: it is kept for years, and our own attempts to
    reach the broker while it is away must not be given it.
    """
    port = PORT
    while not is_free(port):
        port = random.randrange(*SERVER_PORTS)
    return port


def program_on(port: int) -> str:
    """``mosquitto (process 812)``; empty if it can't be seen (other users' processes show theirs to root only)."""
    inodes = _listening(port)
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = os.readlink(entry)
            if target.startswith("socket:[") and target[8:-1] in inodes:
                process = entry.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""


def _listening(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes
