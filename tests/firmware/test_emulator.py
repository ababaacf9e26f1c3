"""The emulated Uno's line: a byte takes what the chip's registers say, and none is with the host before it is whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.firmware.build import require_tools
from gateway.firmware.core.targets import TARGETS
from gateway.serial_link.protocol.codec import command
from gateway.serial_link.protocol.commandformat import CommandKind
from tests.support.firmware import FirmwareBoard, emulator, firmware_board, host_end, missing_tools_fail
from tests.support.gateway import until

PROGRAM = """\
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
int main(void) {
    UBRR0 = DIVISOR;
    UCSR0A = SPEED;
    UCSR0C = FORMAT;
    UCSR0B = 1 << RXEN0 | 1 << TXEN0;
    sei();
    for (;;) sleep_mode();
}
"""
EIGHT_BITS = "1 << UCSZ01 | 1 << UCSZ00"


@pytest.mark.parametrize(
    ("divisor", "speed", "line_format", "microseconds"),
    [
        (16, "1 << U2X0", EIGHT_BITS, 85),  # our firmware's 115200 baud: 2.1 % fast, as on a real Uno
        (103, "0", EIGHT_BITS, 1040),  # 9600 baud
        (103, "0", f"{EIGHT_BITS} | 1 << UPM01", 1144),  # even parity
        (103, "0", f"{EIGHT_BITS} | 1 << UPM01 | 1 << UPM00 | 1 << USBS0", 1248),  # odd, and two stop bits
        (103, "0", "1 << UCSZ01", 936),  # seven bits
    ],
)
def test_a_byte_takes_what_the_registers_say(
    divisor: int, speed: str, line_format: str, microseconds: int, tmp_path: Path
) -> None:
    image = compiled(tmp_path, f"-DDIVISOR={divisor}", f"-DSPEED={speed}", f"-DFORMAT={line_format}")
    link = tmp_path / "tty"
    board = FirmwareBoard([emulator(), image, "-l", link], link)
    try:
        until("the program has set its line", lambda: board.ask("stats")["byte_microseconds"] == microseconds)
    finally:
        assert board.close() == 0


def compiled(directory: Path, *definitions: str) -> Path:
    """The program for an Uno with these settings."""
    with missing_tools_fail():
        require_tools(TARGETS["uno"].needs, "a program for the emulated Uno")
    source, image = directory / "program.c", directory / "program.elf"
    source.write_text(PROGRAM)
    subprocess.run(["avr-gcc", "-mmcu=atmega328p", "-Os", *definitions, "-o", image, source], check=True)
    return image


def test_no_answer_comes_before_a_real_line_could_bring_it(tmp_path: Path) -> None:
    requests = 100
    ping = command(CommandKind.PING, 0, bytes(range(8)))
    in_us, out_us = 10 * 86.8, 10 * 85
    with firmware_board("uno", tmp_path) as board, host_end(board.link) as host:
        host.open()
        before = board.ask("stats")["milliseconds"]  # by the chip's clock, which no load of the machine can hurry
        for _ in range(requests):
            host.good(ping)
        after = board.ask("stats")["milliseconds"]
    assert after - before >= int(requests * (in_us + out_us) / 1000) - 1
