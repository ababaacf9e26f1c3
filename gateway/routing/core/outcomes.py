"""What sessions and the store answer, as events for the router."""

from __future__ import annotations

from gateway.errors import DeliveryDeferred, DeliveryError, DeliveryRefused, SpoolError, SpoolFull, TransportDown
from gateway.routing.core import events as ev
from gateway.spool.core.store import Page


def of_publication(ref: int, problem: DeliveryError | TransportDown) -> ev.Deferred | ev.Refused | None:
    """What it means that a publication failed; None where ``TargetDown`` says it."""
    match problem:
        case DeliveryDeferred():
            return ev.Deferred(ref, problem.reason, problem.counts)
        case DeliveryRefused():
            return ev.Refused(ref, problem.reason, problem.permanent)
        case TransportDown():
            return None
    return ev.Deferred(ref, problem.reason, counts=False)


def of_write(token: int, answer: list[int] | SpoolError) -> ev.Stored | ev.StoreRefused:
    """What became of records that were to be committed."""
    match answer:
        case SpoolFull():
            return ev.StoreRefused(token, str(answer), full=True, room=answer.room)
        case SpoolError():
            return ev.StoreRefused(token, str(answer), full=False)
    return ev.Stored(token, answer)


def of_fetch(lane_id: str, upto: int, answer: Page | SpoolError) -> ev.Fetched | ev.FetchFailed:
    """What the disk gave."""
    if isinstance(answer, SpoolError):
        return ev.FetchFailed(lane_id, str(answer))
    return ev.Fetched(lane_id, upto, answer.records, answer.exhausted)
