"""Who may do what: capabilities, the messages they cover, and secrets (reference: fbp-runtime-protocol, section 2)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.errors import ConfigError

ALL: frozenset[str] = frozenset(
    {
        "protocol:runtime",
        "protocol:graph",
        "graph:readonly",
        "protocol:component",
        "component:getsource",
        "component:setsource",
        "protocol:network",
        "network:status",
        "network:control",
        "network:data",
        "network:persist",
        "protocol:trace",
    }
)

READ_ONLY: frozenset[str] = frozenset(
    {"graph:readonly", "network:status", "network:data", "protocol:component", "component:getsource"}
)
"""For clients without a secret where there is one. ``getsource`` belongs to it: it is how a client sees the graph."""

_IMPLIES: Mapping[str, frozenset[str]] = {
    "protocol:network": frozenset({"network:status", "network:control", "network:data"}),
    "protocol:graph": frozenset({"graph:readonly"}),
}

_NETWORK: Mapping[str, str] = {
    "start": "network:control",
    "stop": "network:control",
    "debug": "network:control",
    "getstatus": "network:status",
    "edges": "network:data",
    "persist": "network:persist",
}

_COMPONENT: Mapping[str, str] = {
    "list": "protocol:component",
    "getsource": "component:getsource",
    "source": "component:setsource",
}

_RECEIVES: Mapping[str, frozenset[str]] = {
    "runtime": frozenset({"protocol:runtime"}),
    "graph": frozenset({"protocol:graph", "graph:readonly"}),
    "component": frozenset({"protocol:component", "component:getsource", "component:setsource"}),
    "trace": frozenset({"protocol:trace"}),
}

_RECEIVES_NETWORK: Mapping[str, frozenset[str]] = {
    "started": frozenset({"network:status", "network:control"}),
    "stopped": frozenset({"network:status", "network:control"}),
    "status": frozenset({"network:status", "network:control"}),
    "persist": frozenset({"network:persist"}),
}


def needed(protocol: str, command: str) -> str:
    """The capability that a client needs for a command; empty if everybody may."""
    match protocol:
        case "runtime":
            return "" if command == "getruntime" else "protocol:runtime"
        case "network":
            return _NETWORK.get(command, "network:control")
        case "component":
            return _COMPONENT.get(command, "protocol:component")
        case _:
            return f"protocol:{protocol}"


def widened(capabilities: Iterable[str]) -> frozenset[str]:
    """Capabilities with those that they imply. Clients still ask for the old umbrella ``protocol:network``."""
    given = frozenset(capabilities)
    return given.union(*(_IMPLIES.get(capability, frozenset()) for capability in given))


def may_receive(capabilities: frozenset[str], protocol: str, command: str) -> bool:
    """Whether a client with these capabilities may be sent a message. Strict clients refuse what none covers."""
    if command == "error" or (protocol, command) == ("runtime", "runtime"):
        return True
    if protocol == "runtime" and command == "ports":
        return bool(capabilities & {"protocol:runtime", "protocol:graph", "graph:readonly"})
    if protocol == "network":
        return bool(capabilities & _RECEIVES_NETWORK.get(command, frozenset({"network:data"})))
    return bool(capabilities & _RECEIVES.get(protocol, frozenset()))


@dataclass(frozen=True, slots=True)
class Access:
    """What each secret grants, and what is granted without one."""

    anonymous: frozenset[str] = ALL
    by_secret: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def granted(self, secret: str | None) -> frozenset[str]:
        """The capabilities of a client that shows ``secret``. A wrong one grants what none grants."""
        found = self.anonymous
        for known, capabilities in self.by_secret.items():
            if secret is not None and hmac.compare_digest(known.encode(), secret.encode("utf-8", "replace")):
                found = capabilities
        return widened(found)

    @property
    def has_secrets(self) -> bool:
        """Whether a secret is set at all."""
        return bool(self.by_secret)

    def for_strangers(self) -> Access:
        """The same secrets, and nothing without one: for pages of other web sites."""
        return Access(frozenset(), self.by_secret)


def parse_secrets(text: str, file: str) -> Access:
    """The access that a secret file describes: a secret a line, and behind it what it grants.

    ``SECRET`` alone grants everything; ``SECRET read`` reading; ``SECRET network:status protocol:component`` these.
    From a word that begins with ``#`` on it is a comment. ``ConfigError`` for a capability that does not exist.
    """
    by_secret: dict[str, frozenset[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        words = words[:comment]
        if not words:
            continue
        secret, rights = words[0], words[1:]
        unknown = [right for right in rights if right not in ALL and right not in ("read", "all")]
        if unknown:
            raise ConfigError(file, f"line {number}", f"unknown capability {unknown[0]!r}; see docs/fbp.md")
        granted = frozenset(right for right in rights if right in ALL)
        if not rights or "all" in rights:
            granted = ALL
        elif "read" in rights:
            granted |= READ_ONLY
        by_secret[secret] = granted
    if not by_secret:
        raise ConfigError(file, "", "holds no secret; put one on a line of its own")
    return Access(READ_ONLY, by_secret)
