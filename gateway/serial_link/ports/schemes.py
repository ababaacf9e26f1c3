"""Which way leads to a port: a file of this machine, or a scheme that somebody serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from gateway.errors import ConfigError
from gateway.serial_link.ports.core.identity import is_network
from gateway.serial_link.ports.read_batching import ReadBatching
from gateway.serial_link.ports.tcp import open_tcp
from gateway.serial_link.ports.tty import Port, PortOptions, open_serial

OpenPort: TypeAlias = Callable[[str, PortOptions], Awaitable[Port]]
OpenNetwork: TypeAlias = Callable[[str], Awaitable[Port]]

NETWORKS: Mapping[str, OpenNetwork] = {"tcp": open_tcp}


def opener(networks: Mapping[str, OpenNetwork] = NETWORKS) -> OpenPort:
    """Opens any port: ``SCHEME://…`` by the table, everything else as a serial port of this machine, all at one pace."""
    pace = ReadBatching()

    async def open_port(path: str, options: PortOptions) -> Port:
        if not is_network(path):
            return await open_serial(path, options, pace)
        scheme = path.partition("://")[0]
        if scheme not in networks:
            known = ", ".join(f"{name}://" for name in networks)
            raise ConfigError(path, "", f"there is no way to a port at {scheme}:// (there are: {known})")
        return await networks[scheme](path)

    return open_port
