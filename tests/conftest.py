"""What every test may ask for: real servers by fixture, private, on loopback, ended again."""

from __future__ import annotations

import hypothesis
import pytest

pytest_plugins = ["tests.support.mosquitto", "tests.support.rabbitmq"]

# How long an example takes, or is drawn, says how busy this machine is, and nothing of us. The same examples in every run:
# a failure is then of the change at hand. New ones are looked for with `pytest --hypothesis-profile explore`.
UNTIMED = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], database=None)
hypothesis.settings.register_profile("same", UNTIMED, derandomize=True)
hypothesis.settings.register_profile("explore", UNTIMED, print_blob=True)
hypothesis.settings.load_profile("same")

SLOW_S = 7200
"""A test marked slow may take so long; every other hangs when it takes longer than the timeout in pyproject.toml."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests their time."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
