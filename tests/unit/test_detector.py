"""Finding out what a board speaks: every generation, closed or still open at any phase, at either speed."""

from __future__ import annotations

import random

import pytest

from gateway.serial_link.protocol.codec import W8_04, W8_06, W10, WIRES, Wire, opening
from gateway.serial_link.protocol.wire_detector import (
    DetectedWire,
    DetectorEvent,
    NothingFound,
    SwitchBaud,
    WireDetector,
)
from gateway.simulator.core.board import Board
from tests.support.vectors import library

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


def detect(board: Board | None, baud: int, detector: WireDetector, noise: int = 0) -> tuple[DetectorEvent, float]:
    """Run to the verdict. At another speed than the board's, both sides hear noise."""
    detector.start(0.0)
    return carry_on(board, baud, detector, 0.0, noise)


def carry_on(
    board: Board | None, baud: int, detector: WireDetector, now: float, noise: int = 0
) -> tuple[DetectorEvent, float]:
    """The same from the middle."""
    chance = random.Random(noise)
    speed = baud if now else 0
    while True:
        for event in detector.events():
            if not isinstance(event, SwitchBaud):
                return event, now
            speed = event.baud
        data = detector.data_to_send()
        if board is not None and data:
            board.receive(data if speed == baud else chance.randbytes(len(data) // 2), now)
            reply = board.data_to_send()
            now += 0.03
            if reply:
                detector.receive(reply if speed == baud else chance.randbytes(len(reply) // 2), now)
                continue
        assert detector.deadline is not None
        now = max(now, detector.deadline)
        detector.tick(now)


def board_of(wire: Wire, phase: int | None) -> Board:
    """Closed as after a reset, or open with so many bytes of a command half read."""
    board = Board(library(wire), wire=wire)
    if phase is not None:
        board.receive(opening(wire, 1) + b"\0" * phase, 0.0)
        board.data_to_send()
    return board


@EVERY_WIRE
@pytest.mark.parametrize("phase", [None, *range(10)])
@pytest.mark.parametrize("baud", [115200, 9600])
def test_every_generation_is_found_closed_or_open_at_any_phase(wire: Wire, phase: int | None, baud: int) -> None:
    verdict, took = detect(board_of(wire, phase), baud, WireDetector())
    assert verdict == DetectedWire(wire, baud)
    assert took < 15


@EVERY_WIRE
@pytest.mark.parametrize("seed", range(8))
def test_noise_of_a_wrong_speed_before_does_not_hide_a_board(wire: Wire, seed: int) -> None:
    board = board_of(wire, None)
    verdict, took = detect(board, 9600, WireDetector(), seed)
    if board.crashed:
        pytest.skip("the noise happened to spell a command that crashes stock firmware")
    assert verdict == DetectedWire(wire, 9600)
    assert took < 15


@EVERY_WIRE
def test_a_board_that_stood_still_at_first_is_found_and_a_silent_one_is_soon_given_up(wire: Wire) -> None:
    board, detector, now = board_of(wire, None), WireDetector((115200,), silent_s=4.0), 0.0
    detector.start(now)
    while now < 3.9:
        assert [event for event in detector.events() if not isinstance(event, SwitchBaud)] == []
        board.receive(detector.data_to_send(), now)
        assert detector.deadline is not None
        now = max(now, detector.deadline)
        detector.tick(now)
    detector.receive(board.data_to_send(), now)
    verdict, _ = carry_on(board, 115200, detector, now)
    assert verdict == DetectedWire(wire, 115200)
    verdict, took = detect(None, 0, WireDetector(silent_s=4.0))
    assert isinstance(verdict, NothingFound)
    assert 4.0 <= took < 5.0


@EVERY_WIRE
def test_a_board_is_found_also_if_we_ourselves_stood_still(wire: Wire) -> None:
    detector = WireDetector((115200,), silent_s=4.0)
    detector.start(0.0)
    assert detector.data_to_send()  # which nobody hears
    detector.tick(5.0)
    verdict, _ = carry_on(board_of(wire, None), 115200, detector, 5.0)
    assert verdict == DetectedWire(wire, 115200)


def test_boot_output_of_an_embedded_graph_is_no_answer() -> None:
    board = board_of(W8_06, None)
    detector = WireDetector()
    detector.start(0.0)
    detector.receive(bytes.fromhex("01130000000000000000026400000000000000001300000000000000"), 0.0)
    assert [event for event in detector.events() if not isinstance(event, SwitchBaud)] == []
    verdict, _ = detect(board, 115200, WireDetector())
    assert verdict == DetectedWire(W8_06, 115200)


def test_a_silent_port_is_given_up_within_15_s_and_what_was_heard_is_told() -> None:
    verdict, took = detect(None, 0, WireDetector())
    assert verdict == NothingFound(0, {})
    assert took < 15
    detector = WireDetector()
    detector.start(0.0)
    detector.receive(b"Booting Linux...", 0.1)
    while detector.deadline is not None:
        detector.tick(detector.deadline)
    (verdict,) = [event for event in detector.events() if not isinstance(event, SwitchBaud)]
    assert verdict == NothingFound(16, {115200: b"Booting Linux..."})


def test_thorough_tries_every_speed_it_is_given() -> None:
    detector = WireDetector((115200, 9600, 57600), most_s=30)
    verdict, _ = detect(board_of(W10, 3), 57600, detector)
    assert verdict == DetectedWire(W10, 57600)


def test_a_configured_generation_is_not_guessed() -> None:
    verdict, took = detect(board_of(W8_04, None), 9600, WireDetector((9600,), (W8_04,)))
    assert verdict == DetectedWire(W8_04, 9600)
    assert took < 1
