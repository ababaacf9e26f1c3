"""When the queue of an edge that is gone counts as empty: only after it was taken from, and nothing came."""

from __future__ import annotations

from gateway.model.address import amqp_exchange, amqp_queue, mqtt
from gateway.model.binding import Binding, Contract, DeliveryMode, OverflowPolicy
from gateway.model.message import Delivery, Message
from gateway.routing.core import events as ev
from gateway.routing.core.router import Router
from gateway.routing.core.table import RouteTable
from gateway.routing.sessions import QUIET_S, Retirement

EDGE = Binding(
    "e",
    amqp_exchange("cam.OUT"),
    mqtt("lamp/on"),
    Contract(mode=DeliveryMode.STORED, max_pending=2, overflow=OverflowPolicy.BLOCK),
    intake=amqp_queue("gateway.test.cam.out-lamp.on"),
)


def gone() -> Retirement:
    retirement = Retirement()
    retirement.change([EDGE], RouteTable())
    return retirement


def nothing_unsettled(binding_id: str) -> bool:
    return False


def is_empty(retirement: Retirement, now: float, *, unsettled: bool = False) -> bool:
    return retirement.progress([EDGE], [EDGE], lambda binding_id: unsettled, now)


def test_a_queue_is_empty_when_nothing_came_for_a_while() -> None:
    retirement = gone()
    assert not is_empty(retirement, 0.0)
    assert not is_empty(retirement, QUIET_S)
    assert is_empty(retirement, QUIET_S + 1)


def test_quiet_counts_from_when_nothing_was_unsettled_any_more() -> None:
    retirement = gone()
    assert not is_empty(retirement, 0.0)
    assert not is_empty(retirement, 100.0, unsettled=True)
    assert not is_empty(retirement, 101.0), "what waits behind that had no time to come"
    assert is_empty(retirement, 101.0 + QUIET_S)


def test_quiet_while_the_broker_was_away_says_nothing() -> None:
    retirement = gone()
    assert not is_empty(retirement, 0.0)
    retirement.begin("amqp")
    assert not is_empty(retirement, 100.0)
    assert is_empty(retirement, 101.0 + QUIET_S)


def test_a_queue_that_the_broker_does_not_let_us_take_from_is_not_empty_however_quiet_it_is() -> None:
    retirement = gone()
    for now in (0.0, 100.0, 200.0):
        assert not retirement.progress([EDGE], [EDGE], nothing_unsettled, now, {EDGE.source})
    assert not is_empty(retirement, 200.0 + QUIET_S), "it may be taken from since then only"
    assert is_empty(retirement, 201.0 + QUIET_S)


def test_a_queue_that_is_not_there_any_more_is_no_reason_to_wait_for_it() -> None:
    retirement = gone()
    assert not retirement.progress([EDGE], [], nothing_unsettled, 0.0, {EDGE.source})
    assert retirement.progress([EDGE], [], nothing_unsettled, 1.0 + QUIET_S, {EDGE.source})


def test_an_edge_that_is_full_and_blocks_holds_its_source_back_though_all_of_it_is_settled() -> None:
    router = Router()
    router.handle(ev.TableInstalled(RouteTable.of([EDGE])), 0.0)
    effects: list[ev.Effect] = []
    for number in range(3):
        delivery = Delivery(Message(f"m{number}", b"x"), EDGE.source, 1, number, False)
        effects += router.handle(ev.Delivered(delivery), 0.0)
    seq = 0
    while stores := [effect for effect in effects if isinstance(effect, ev.StoreRecords)]:
        effects = [effect for effect in effects if not isinstance(effect, ev.StoreRecords)]
        for store in stores:
            seqs = range(seq + 1, seq + 1 + len(store.records))
            seq = seqs[-1]
            effects += router.handle(ev.Stored(store.token, seqs), 0.0)
    assert sum(isinstance(effect, ev.Settle) for effect in effects) == 3
    assert router.full_sources() == {EDGE.source}
    assert router.holds_unsettled("e")
