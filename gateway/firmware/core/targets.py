"""The boards our firmware is built for, and how much each has room for. This table is the only place for the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Target:
    """One build of the firmware.

    ``nodes``, ``messages`` and ``outports`` are counts, ``state_words`` four bytes each (all nodes together),
    ``receive_bytes`` is what a host may send before it waits for an answer. ``needs`` are the commands of the build
    with the Debian packages they come in; ``image`` is what the build makes. ``flash_limit`` and ``ram_limit`` are in
    bytes; of the RAM the stack needs what is left.
    """

    name: str
    board: str
    nodes: int
    messages: int
    outports: int
    state_words: int
    receive_bytes: int
    image: str
    needs: tuple[tuple[str, str], ...]
    size_tool: str | None = None
    flash_limit: int | None = None
    ram_limit: int | None = None


MAKE = ("make", "make")

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target(
                name="host",
                board="a Linux process on a pty",
                nodes=49,
                messages=48,
                outports=160,
                state_words=250,
                receive_bytes=4095,
                image="microflo-host",
                needs=(MAKE, ("g++", "g++")),
            ),
            Target(
                name="uno",
                board="Arduino Uno (ATmega328P)",
                nodes=49,
                messages=48,
                outports=96,
                state_words=64,
                receive_bytes=120,
                image="microflo-uno.hex",
                needs=(MAKE, ("avr-g++", "gcc-avr"), ("/usr/lib/avr/include/avr/io.h", "avr-libc")),
                size_tool="avr-size",
                flash_limit=32 * 1024 - 512,
                ram_limit=1536,
            ),
            Target(
                name="lm3s",
                board="TI LM3S6965 (Cortex-M3)",
                nodes=49,
                messages=48,
                outports=160,
                state_words=250,
                receive_bytes=1000,
                image="microflo-lm3s.elf",
                needs=(
                    MAKE,
                    ("arm-none-eabi-g++", "gcc-arm-none-eabi"),
                    ("/usr/lib/arm-none-eabi/newlib", "libnewlib-arm-none-eabi"),
                ),
                size_tool="arm-none-eabi-size",
                flash_limit=256 * 1024,
                ram_limit=60 * 1024,
            ),
        )
    }
)
