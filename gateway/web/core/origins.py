"""Who may talk to the server at all: addresses, hosts and browser origins.

A page of any web site can open a WebSocket to this machine, and a name of somebody else's can be made to point at it.
So without a secret only names of this machine itself are accepted, both as origin and as host.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the server listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str, *, has_secret: bool) -> Listen:
    """``HOST:PORT`` as of ``http.listen``. ``ConfigError`` for no address, or an open one without a secret."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            "configuration", "http.listen", f"{text!r} is no address; write HOST:PORT, such as 127.0.0.1:3569"
        )
    listen = Listen(host, int(port))
    if not listen.is_loopback and not has_secret:
        raise ConfigError(
            "configuration",
            "http.listen",
            f"{text} can be reached from other machines: set http.secret_file, or listen on 127.0.0.1",
        )
    return listen


def is_loopback(host: str) -> bool:
    """Whether a host, by name or number, is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address.is_loopback or (mapped is not None and mapped.is_loopback))


def host_of(authority: str) -> str:
    """The host of ``HOST[:PORT]``; empty if there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_local(remote: str | None, host: str) -> bool:
    """Whether a request comes from this machine and names it so: a name of somebody else's may point at it."""
    return is_loopback(remote or "") and is_loopback(host_of(host))


def is_own_origin(origin: str) -> bool:
    """Whether a browser's page comes from this machine."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")
    except ValueError:
        return False


def refusal(origin: str | None, host: str, *, has_secret: bool) -> str:
    """Why a request is refused; empty if it is not. With a secret, the secret decides."""
    if has_secret:
        return ""
    if not is_loopback(host_of(host)):
        return f"the host {host[:80]!r} is not this machine: set http.secret_file to serve others"
    if origin is not None and not is_own_origin(origin):
        return f"pages of {origin[:80]!r} may not connect: set http.secret_file, and give the page the secret"
    return ""
