"""What goes wrong between a board and its host, by a seed: the same seed gives the same faults.

A fault specification is a list as ``drop=1e-3,flip=1e-4,reset=10``; a script is a file of lines ``SECONDS ACTION …``.
Rates are per byte, times in seconds; what happens now and then is given by its mean interval.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gateway.errors import ConfigError, GatewayError, ValueUnfit

RATES = ("drop", "flip", "duplicate")
TIMES = ("delay", "jitter")
NOW_AND_THEN = {"stall": 0.5, "reset": 0.0, "noise": 16.0, "unplug": 2.0, "rename": 2.0}
"""What happens now and then, as ``NAME=INTERVAL[:AMOUNT]``, and the amount where none is said: seconds, bytes of noise."""

PATIENCE_S = 1.0
"""A reset waits so long for a command to cut in the middle."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The board restarts, in the middle of what it was saying."""


@dataclass(frozen=True, slots=True)
class Unplug:
    """The port vanishes for so many seconds, and comes back under another name if ``rename``."""

    seconds: float
    rename: bool = False


Action: TypeAlias = Reset | Unplug


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """How bad a line is. ``often``: mean seconds between events of a kind, and their amount."""

    drop: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    often: dict[str, tuple[float, float]] = field(default_factory=dict)
    script: tuple[tuple[float, str], ...] = ()
    """Times and actions as ``stall 0.5``, ``reset``, ``noise 16``, ``unplug 2``, ``rename 2``, ``set drop=0``."""


def parse_faults(text: str) -> FaultSpec:
    """A specification from the command line. ``ValueUnfit`` names the part that is wrong."""
    spec = FaultSpec()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        interval, _, amount = value.partition(":")
        try:
            if (name in RATES and 0 <= float(value) <= 1) or (name in TIMES and float(value) >= 0):
                spec = replace(spec, **{name: float(value)})  # type: ignore[arg-type]
            elif name in NOW_AND_THEN and float(interval) > 0:
                each = float(amount) if amount else NOW_AND_THEN[name]
                spec = replace(spec, often={**spec.often, name: (float(interval), each)})
            else:
                raise ValueError
        except ValueError:
            known = f"rates 0..1: {', '.join(RATES)}; seconds: {', '.join(TIMES)}; every SECONDS[:AMOUNT]: "
            raise ValueUnfit(f"no fault: {part!r} (known: {known}{', '.join(NOW_AND_THEN)})") from None
    return spec


def parse_script(text: str, source: str) -> tuple[tuple[float, str], ...]:
    """A script's times and actions, in order of time. ``ConfigError`` names the line."""
    found = []
    for number, row in enumerate(text.splitlines(), 1):
        words = row.partition("#")[0].split()
        if not words:
            continue
        try:
            at = float(words[0])
            name, *rest = words[1:]
            if name == "set":
                parse_faults(",".join(rest))
            elif name not in NOW_AND_THEN or len(rest) > 1:
                raise ValueError
            else:
                [float(word) for word in rest]
        except (ValueError, GatewayError):
            problem = f"no step: {row.strip()!r}; a step is SECONDS and one of set, {', '.join(NOW_AND_THEN)}"
            raise ConfigError(source, f"line {number}", problem) from None
        found.append((at, " ".join(words[1:])))
    return tuple(sorted(found, key=lambda step: step[0]))


class FaultyLine:
    """Both directions of a line. Bytes go in with ``to_board`` and ``to_host``, and come out when they are due."""

    def __init__(self, spec: FaultSpec, seed: int = 0, now: float = 0.0) -> None:
        self._spec = spec
        self._random = random.Random(seed)
        self._ways: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())
        self._actions: list[Action] = []
        self._stalled_until = now
        self._reset_by: float | None = None
        self._script = deque(spec.script)
        self._often = {name: now + self._interval(name) for name in spec.often}
        self.harmed = 0
        """Bytes that were lost, changed, repeated or made up."""

    def _interval(self, name: str) -> float:
        return self._random.expovariate(1 / self._spec.often[name][0])

    # -- bytes -------------------------------------------------------------------------------------------------

    def to_board(self, data: bytes, now: float) -> None:
        """Bytes from the host."""
        self._put(0, data, now)

    def to_host(self, data: bytes, now: float) -> None:
        """Bytes from the board. A reset that waits cuts them in the middle."""
        if self._reset_by is not None and len(data) > 1:
            data = data[: self._random.randrange(1, len(data))]
            self._reset_by = None
            self._actions.append(Reset())
        self._put(1, data, now)

    def _put(self, way: int, data: bytes, now: float) -> None:
        kept = bytes(self._harm(data))
        if kept:
            queue = self._ways[way]
            due = max(now, self._stalled_until) + self._spec.delay + self._random.uniform(0, self._spec.jitter)
            queue.append((max(due, queue[-1][0]) if queue else due, kept))  # bytes never overtake each other

    def _harm(self, data: bytes) -> Iterator[int]:
        spec = self._spec
        if not (spec.drop or spec.flip or spec.duplicate):
            yield from data
            return
        for byte in data:
            luck = self._random.random()
            if luck < spec.drop + spec.flip + spec.duplicate:
                self.harmed += 1
            if luck < spec.drop:
                continue
            if luck < spec.drop + spec.flip:
                yield byte ^ 1 << self._random.randrange(8)
                continue
            yield byte
            if luck < spec.drop + spec.flip + spec.duplicate:
                yield byte

    def for_board(self, now: float) -> bytes:
        """What reaches the board now."""
        return self._take(0, now)

    def for_host(self, now: float) -> bytes:
        """What reaches the host now."""
        return self._take(1, now)

    def _take(self, way: int, now: float) -> bytes:
        queue, out = self._ways[way], b""
        while queue and queue[0][0] <= now and now >= self._stalled_until:
            out += queue.popleft()[1]
        return out

    def cut(self) -> None:
        """What was on its way is lost: the port is gone."""
        for queue in self._ways:
            queue.clear()

    # -- events ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """What happens now."""
        while self._script and self._script[0][0] <= now:
            name, *rest = self._script.popleft()[1].split()
            self._do(name, rest, now)
        for name, due in self._often.items():
            if due <= now:
                self._often[name] = now + self._interval(name)
                self._do(name, [str(self._spec.often[name][1])], now)
        if self._reset_by is not None and now >= self._reset_by:
            self._reset_by = None
            self._actions.append(Reset())
        actions, self._actions = self._actions, []
        return actions

    def _do(self, name: str, rest: list[str], now: float) -> None:
        amount = float(rest[0]) if rest and name != "set" else NOW_AND_THEN.get(name, 0.0)
        match name:
            case "set":
                self._spec = replace(parse_faults(",".join(rest)), often=self._spec.often)
            case "stall":
                self._stalled_until = now + amount
            case "noise":
                self.harmed += int(amount)
                self._ways[1].append((now, self._random.randbytes(int(amount))))
            case "reset":
                self._reset_by = now + PATIENCE_S
            case "unplug" | "rename":
                self._actions.append(Unplug(amount, name == "rename"))

    @property
    def deadline(self) -> float | None:
        """When something is due."""
        times = [max(queue[0][0], self._stalled_until) for queue in self._ways if queue]
        times += [self._script[0][0]] if self._script else []
        times += list(self._often.values())
        times += [self._reset_by] if self._reset_by is not None else []
        return min(times, default=None)
