"""Numbers of a board's packets: what is missing is counted, once."""

from __future__ import annotations

import pytest

from gateway.serial_link.protocol.sequence_gaps import SequenceGaps


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([5, 6, 7], [0, 0, 0]),
        ([126, 127, 1, 2], [0, 0, 0, 0]),
        ([5, 8], [0, 2]),
        ([127, 2], [0, 1]),
        ([5, 4], [0, 125]),
        ([5, 0, 7], [0, 0, 0]),  # numbers were off for one
        ([0, 0, 9, 10], [0, 0, 0, 0]),
    ],
)
def test_a_gap_is_what_is_missing_between_two_numbers(numbers: list[int], lost: list[int]) -> None:
    gaps = SequenceGaps()
    assert [gaps.feed(number) for number in numbers] == lost


def test_after_a_reset_any_number_is_right() -> None:
    gaps = SequenceGaps()
    gaps.feed(5)
    gaps.reset()
    assert gaps.feed(100) == 0
    assert gaps.feed(102) == 1
