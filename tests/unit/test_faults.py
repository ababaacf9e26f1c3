"""Faults of a line: the same seed gives the same ones, and each does what its name says."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError, ValueUnfit
from gateway.simulator.core.faults import Action, FaultSpec, FaultyLine, Reset, Unplug, parse_faults, parse_script

TEXT = bytes(range(256)) * 8


def through(spec: FaultSpec, seed: int = 1) -> bytes:
    line = FaultyLine(spec, seed)
    line.to_host(TEXT, 0.0)
    return line.for_host(10.0)


def run(line: FaultyLine, until: float) -> list[tuple[float, Action]]:
    found, now = [], 0.0
    while (due := line.deadline) is not None and due <= until:
        now = max(now, due)
        found += [(round(now, 3), action) for action in line.tick(now)]
    return found


def test_a_line_without_faults_changes_nothing() -> None:
    assert through(FaultSpec()) == TEXT


@pytest.mark.parametrize("text", ["drop=0.01", "flip=0.01", "duplicate=0.01", "drop=0.01,flip=0.02"])
def test_a_seed_repeats_itself_and_another_differs(text: str) -> None:
    assert through(parse_faults(text)) == through(parse_faults(text)) != TEXT
    assert through(parse_faults(text)) != through(parse_faults(text), seed=2)


def test_each_rate_does_what_its_name_says() -> None:
    assert len(through(parse_faults("drop=0.05"))) < len(TEXT)
    assert len(through(parse_faults("duplicate=0.05"))) > len(TEXT)
    flipped = through(parse_faults("flip=0.05"))
    assert len(flipped) == len(TEXT)
    assert {(a ^ b).bit_count() for a, b in zip(flipped, TEXT, strict=True)} == {0, 1}


def test_delayed_bytes_come_later_and_never_overtake_each_other() -> None:
    line = FaultyLine(parse_faults("delay=0.1,jitter=0.5"), 3)
    for byte in TEXT:
        line.to_board(bytes((byte,)), byte / 10000)
    assert line.for_board(0.05) == b""
    assert line.for_board(2.0) == TEXT


def test_a_script_does_its_steps_at_their_times() -> None:
    script = "# second action\n1 unplug 2\n3.5 rename 1\n\n5 reset\n"
    line = FaultyLine(FaultSpec(script=parse_script(script, "s")))
    assert run(line, 10) == [(1.0, Unplug(2.0)), (3.5, Unplug(1.0, rename=True)), (6.0, Reset())]


def test_a_reset_cuts_what_the_board_was_saying() -> None:
    line = FaultyLine(FaultSpec(script=parse_script("1 reset", "s")), seed=4)
    assert line.tick(1.0) == []
    line.to_host(b"0123456789", 1.2)
    assert line.tick(1.2) == [Reset()]
    assert 0 < len(line.for_host(1.2)) < 10


def test_a_stalled_line_gives_nothing_and_then_everything() -> None:
    line = FaultyLine(FaultSpec(script=parse_script("1 stall 2", "s")))
    line.tick(1.0)
    line.to_host(b"abc", 1.5)
    assert line.for_host(2.9) == b""
    assert line.for_host(3.0) == b"abc"


def test_noise_is_bytes_that_nobody_sent() -> None:
    line = FaultyLine(FaultSpec(script=parse_script("0 noise 20", "s")))
    line.tick(0.0)
    assert len(line.for_host(0.0)) == 20
    assert line.harmed == 20


def test_what_happens_now_and_then_happens_so_often_on_average() -> None:
    found = run(FaultyLine(parse_faults("unplug=10:2"), 5), 1000)
    assert 70 < len(found) < 130
    assert {action for _, action in found} == {Unplug(2.0)}


@pytest.mark.parametrize("text", ["drop", "drop=2", "flop=0.1", "delay=-1", "reset=0", "reset=x", "unplug=1:x"])
def test_a_wrong_specification_names_its_part_and_what_there_is(text: str) -> None:
    with pytest.raises(ValueUnfit, match=r"no fault: .*known: rates"):
        parse_faults(f"jitter=0.1,{text}")


@pytest.mark.parametrize("row", ["x reset", "1", "1 jump", "1 set flop=1", "1 stall x", "1 reset 2 3"])
def test_a_wrong_script_names_its_line(row: str) -> None:
    with pytest.raises(ConfigError, match="s: line 2: no step"):
        parse_script(f"1 reset\n{row}\n", "s")
