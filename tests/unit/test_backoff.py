"""How long to wait before the next attempt."""

from __future__ import annotations

from gateway.supervise import Backoff


def test_the_wait_doubles_up_to_the_longest() -> None:
    backoff = Backoff(longest_s=60.0, draw=lambda: 1.0)
    assert [backoff.failed(float(n)) for n in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_connection_that_soon_drops_does_not_reset_it_and_a_stable_minute_does() -> None:
    backoff = Backoff(longest_s=60.0, draw=lambda: 1.0)
    backoff.failed(0.0)
    backoff.succeeded(10.0)
    assert backoff.failed(11.0) == 2.0
    backoff.succeeded(20.0)
    assert backoff.failed(80.0) == 1.0


def test_refused_credentials_wait_the_longest_at_once() -> None:
    assert Backoff(longest_s=60.0, draw=lambda: 0.0).failed(0.0, at_slowest=True) == 60.0


def test_jitter_never_means_no_wait() -> None:
    assert Backoff(draw=lambda: 0.0).failed(0.0) > 0.0
