"""Who takes part: participants by id and role, and when they were last heard."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.model.participant import Participant

LATE_PERIODS = 2.5
"""Of its own periods, after which a participant that is silent is late (reference: msgflo, section 2)."""

PERIODS_KEPT = 5
"""Times between announcements that are remembered; the period is their upper median: a burst at the start is none."""

SHORTEST_PERIOD_S = 0.1
"""Announcements that a broker kept for us come all at once: what they have between them is no period."""

FORGET_AFTER_S = 86_400.0
"""So long one is shown as gone whose place another has taken; else each start of a program would be remembered for ever."""

UNCONFIRMED_EXPIRY_S = 150.0
"""For one that was only found in a queue which had filled up: two and a half of the usual periods of 60 s."""

MOST = 10_000
"""Participants that are known at a time, gone ones too; then new ones are refused until others are gone."""

MOST_OF_A_ROLE = 256
"""Of one role: an edge gives so many bindings for each participant at its other end."""

HEAVIEST = 32 << 20
"""Characters of all that is known of them together, about."""

SELF_WEIGHT = 200
"""Of a participant, and of each of its ports, besides its texts."""

CLEARED = 16
"""When there is no room, one in so many makes room at once: to look for one a time would take long in a flood."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an announcement changed. ``appeared`` is true for a participant nobody knew, or that had expired, or that was
    only remembered from an earlier run.
    """

    participant: Participant
    appeared: bool
    ports_changed: bool

    @property
    def matters(self) -> bool:
        """Whether the plan has to be made anew."""
        return self.appeared or self.ports_changed


class Registry:
    """Participants that are alive, and those that were: a gone one keeps its ports, so that its edges stay bound."""

    def __init__(self, expiry_s: float, most: int = MOST, heaviest: int = HEAVIEST) -> None:
        self._expiry_s = expiry_s
        self._most, self._heaviest = most, heaviest
        self._known: dict[str, Participant] = {}
        self._gone: set[str] = set()
        self._late: set[str] = set()
        self._only_remembered: set[str] = set()
        self._only_found: dict[str, None] = {}
        self._times: dict[str, deque[float]] = {}
        self._of_role: Counter[str] = Counter()
        self._weight = 0

    def heard(self, participant: Participant, now: float, *, alive: bool = True) -> Heard:
        """An announcement at ``now`` (monotonic seconds); not ``alive``: one that had lain in a queue, for who knows how
        long. Then it says what the ports are, but not that anybody is there.
        """
        key = self._key(participant)
        before = self._known.get(key)
        if not alive:
            return self._found(key, participant, now)
        appeared = before is None or key in self._gone or key in self._only_remembered
        first_seen = participant.first_seen if before is None else before.first_seen
        times = self._times.setdefault(key, deque(maxlen=PERIODS_KEPT))
        if before is not None and not appeared:
            times.append(now - before.last_seen)
        self._put(key, replace(participant, first_seen=first_seen, last_seen=now))
        self._unmark(key)
        changed = before is not None and _ports(before) != _ports(participant)
        return Heard(self._known[key], appeared, changed)

    def _found(self, key: str, participant: Participant, now: float) -> Heard:
        before = self._known.get(key)
        if before is None:
            self._put(key, replace(participant, first_seen=now, last_seen=now))
            self._only_remembered.add(key)
            self._only_found[key] = None
            return Heard(self._known[key], appeared=True, ports_changed=False)
        if key in self._only_remembered:
            self._only_found.pop(key, None)
            self._only_found[key] = None  # the latest is the last
        self._put(key, replace(participant, first_seen=before.first_seen, last_seen=before.last_seen))
        return Heard(self._known[key], appeared=False, ports_changed=_ports(before) != _ports(participant))

    def doubtful_queues(self) -> tuple[str, ...]:
        """AMQP queues of the first inports of those that were only found in a queue: who takes from one is there."""
        found = (self._known[key] for key in self._only_found)
        return tuple(dict.fromkeys(one.inports[0].queue for one in found if one.transport == "amqp" and one.inports))

    def confirm(self, queue: str, takers: int, now: float) -> tuple[Participant, ...]:
        """So many take from a queue: its participants that were heard, and the latest of those that were only found."""
        sharing = [key for key, one in self._known.items() if one.inports and one.inports[0].queue == queue]
        heard = sum(1 for key in sharing if self.is_here(self._known[key]))
        doubtful = [key for key in self._only_found if key in sharing and key not in self._gone]
        latest = doubtful[max(0, len(doubtful) - max(0, takers - heard)) :]
        return tuple(self.heard(self._known[key], now).participant for key in latest)

    def _put(self, key: str, participant: Participant) -> None:
        """Keep what is known of one now, in the place that it has."""
        before = self._known.get(key)
        if before is not None:
            self._of_role[before.role] -= 1
            self._weight -= _weight(before)
        self._of_role[participant.role] += 1
        self._weight += _weight(participant)
        self._known[key] = participant

    def _drop(self, key: str) -> None:
        """Forget one."""
        before = self._known.pop(key)
        self._weight -= _weight(before)
        self._of_role[before.role] -= 1
        if not self._of_role[before.role]:
            del self._of_role[before.role]
        self._times.pop(key, None)
        self._unmark(key)

    def _unmark(self, key: str) -> None:
        for marked in (self._gone, self._late, self._only_remembered):
            marked.discard(key)
        self._only_found.pop(key, None)

    def make_room(self, participant: Participant, is_wanted: Callable[[Participant], bool]) -> str:
        """Why this one can't be taken in besides all others; empty if it can.

        Of its role one that is the same to the plan gives way to it, and of all those that have been gone for longest and
        that nobody wants.
        """
        key = self._key(participant)
        before = self._known.get(key)
        if (before is None or before.role != participant.role) and self._of_role[participant.role] >= MOST_OF_A_ROLE:
            return self._replace_of_role(key, participant)
        if self._has_room(key, participant):
            return ""
        gone = [one for one in self._gone if one != key and not is_wanted(self._known[one])]
        gone.sort(key=lambda one: self._known[one].last_seen)
        for one in gone[: max(1, len(self._known) // CLEARED)]:
            self._drop(one)
        return "" if self._has_room(key, participant) else f"{len(self._known)} participants are known already"

    def _has_room(self, key: str, participant: Participant) -> bool:
        before = self._known.get(key)
        more = _weight(participant) - (0 if before is None else _weight(before))
        return (before is not None or len(self._known) < self._most) and self._weight + more <= self._heaviest

    def _replace_of_role(self, key: str, participant: Participant) -> str:
        seat = _seat(participant)
        same = [one for one, other in self._known.items() if other.role == participant.role and _seat(other) == seat]
        if not same:
            return f"role {participant.role} has {MOST_OF_A_ROLE} participants already"
        if key in self._known:
            self._drop(key)
        self._put(key, participant)
        self._gone.add(key)  # so that it appears when it is heard
        self._take_places({min(same, key=lambda one: self._known[one].last_seen): key})
        return ""

    def _take_places(self, replaced: Mapping[str, str]) -> None:
        """Forget those for others, which take their very places: the names of bindings depend on the order of the
        participants of a role.
        """
        places = dict.fromkeys(replaced.get(key, key) for key in self._known)
        known = {key: self._known[key] for key in places}
        for key in replaced:
            self._drop(key)
        self._known = known

    def remember(self, participants: Iterable[Participant], now: float) -> None:
        """Participants from an earlier run: they bind at once, and expire like others if they stay silent."""
        for participant in participants:
            key = self._key(participant)
            if key not in self._known:
                self._put(key, replace(participant, first_seen=now, last_seen=now))
                self._only_remembered.add(key)

    def leave(self, role: str) -> None:
        """The participants of this role have ended, as we know without waiting for their silence."""
        self._gone.update(
            key
            for key, participant in self._known.items()
            if participant.role == role and participant.transport != "serial"
        )

    def expire(self, now: float) -> tuple[Participant, ...]:
        """Those that have just been silent for too long. They stay known: a sleeping device finds its edges again."""
        newly = [
            key
            for key, participant in self._known.items()
            if key not in self._gone
            and participant.transport != "serial"
            and now - participant.last_seen > self._expiry_of(key)
        ]
        self._gone.update(newly)
        self._late.difference_update(newly)
        found = tuple(self._known[key] for key in newly)
        self._forget_replaced(now)
        return found

    def _expiry_of(self, key: str) -> float:
        expiry_s = self._known[key].ttl_s or self._expiry_s
        return min(expiry_s, UNCONFIRMED_EXPIRY_S) if key in self._only_found else expiry_s

    def _forget_replaced(self, now: float) -> None:
        """A program that was started anew, as most are under another id, takes the place of the one before for good."""
        old = [key for key in self._gone if now - self._known[key].last_seen > FORGET_AFTER_S]
        if not old:
            return
        living = {_seat(one): key for key, one in self._known.items() if key not in self._gone}
        replaced = {key: living[seat] for key in old if (seat := _seat(self._known[key])) in living}
        if replaced:
            self._take_places(replaced)

    def grow_late(self, now: float) -> tuple[Participant, ...]:
        """Those that have just missed the times at which they usually announce themselves. Nothing follows from it."""
        newly = [
            key
            for key, participant in self._known.items()
            if key not in self._gone
            and key not in self._late
            and (period_s := self._period_s(key))
            and now - participant.last_seen > LATE_PERIODS * period_s
        ]
        self._late.update(newly)
        return tuple(self._known[key] for key in newly)

    def deadline(self) -> float | None:
        """When the next one may be late or gone, if it stays silent."""
        times = [
            one.last_seen + self._expiry_of(key)
            for key, one in self._known.items()
            if key not in self._gone and one.transport != "serial"
        ]
        times += [
            one.last_seen + LATE_PERIODS * period_s
            for key, one in self._known.items()
            if key not in self._gone and key not in self._late and (period_s := self._period_s(key))
        ]
        return min(times, default=None)

    def period_s(self, participant: Participant) -> float:
        """The seconds between its announcements; 0 while too few were heard to tell."""
        return self._period_s(self._key(participant))

    def _period_s(self, key: str) -> float:
        times = sorted(self._times.get(key, ()))
        period_s = times[len(times) // 2] if len(times) > 1 else 0.0
        return period_s if period_s >= SHORTEST_PERIOD_S else 0.0

    def role(self, role: str) -> tuple[Participant, ...]:
        """The participants of a role, in the order in which they were first heard."""
        return tuple(participant for participant in self._known.values() if participant.role == role)

    def known_as(self, participant_id: str, transport: str) -> list[Participant]:
        """The participant of this id on a transport, if it was ever heard."""
        found = self._known.get(f"{transport}/{participant_id}")
        return [] if found is None else [found]

    def everyone(self) -> tuple[Participant, ...]:
        """All participants ever heard."""
        return tuple(self._known.values())

    def is_gone(self, participant: Participant) -> bool:
        """Whether it has been silent for longer than the expiry, or than its own ``ttl``."""
        return self._key(participant) in self._gone

    def is_here(self, participant: Participant) -> bool:
        """Whether it was heard in this run, and has not been silent for too long since."""
        key = self._key(participant)
        return key not in self._gone and key not in self._only_remembered

    def state(self, participant: Participant) -> str:
        """``alive``, ``late``, ``gone``, or ``unconfirmed``: known from before, and not heard in this run yet."""
        key = self._key(participant)
        if key in self._gone:
            return "gone"
        if key in self._only_remembered:
            return "unconfirmed"
        return "late" if key in self._late else "alive"

    @staticmethod
    def _key(participant: Participant) -> str:
        """Ids are unique within a transport only: a board exported to both sides has one id on each."""
        return f"{participant.transport}/{participant.id}"


def _ports(participant: Participant) -> tuple[object, ...]:
    return (participant.role, participant.inports, participant.outports)


def _weight(participant: Participant) -> int:
    """About how many characters are kept for one."""
    texts = (participant.id, participant.role, participant.component, participant.label, participant.icon)
    ports = (*participant.inports, *participant.outports)
    return (
        SELF_WEIGHT
        + sum(map(len, texts))
        + sum(SELF_WEIGHT + len(port.id) + len(port.queue) + len(port.type) + len(port.description) for port in ports)
    )


def _seat(participant: Participant) -> tuple[object, ...]:
    """What the plan knows of a participant: two of the same are the same to it."""
    return (participant.transport, *_ports(participant))
