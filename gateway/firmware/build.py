"""Calls the compiler for a build of the firmware."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GatewayError, NotFound
from gateway.firmware.core.targets import Target
from gateway.firmware.sources import SOURCES

EMULATOR_NEEDS = (
    ("make", "make"),
    ("gcc", "gcc"),
    ("/usr/include/simavr/sim_avr.h", "libsimavr-dev"),
)

LAST_LINES = 20
"""Of a failed build, shown to the user."""


def require_tools(needs: tuple[tuple[str, str], ...], what: str) -> None:
    """``NotFound`` with the line that installs what is missing. ``needs`` are commands, or files, with their packages."""
    missing = [package for command, package in needs if not (shutil.which(command) or Path(command).exists())]
    if missing:
        line = f"apt-get install --no-install-recommends {' '.join(dict.fromkeys(missing))}"
        raise NotFound(f"{what} needs a compiler that isn't installed; install it with: {line}")


def build_firmware(target: Target, header: str, directory: Path) -> Path:
    """Build ``target`` with this ``generated.h`` in ``directory``; returns the image.

    ``NotFound`` if a tool is missing, ``GatewayError`` with the compiler's last lines if it refuses.
    """
    require_tools(target.needs, f"firmware for {target.name}")
    directory.mkdir(parents=True, exist_ok=True)
    generated = directory / "generated.h"
    if not generated.exists() or generated.read_text("utf-8") != header:
        generated.write_text(header, "utf-8")
    make(target.name, directory, GENERATED=str(directory.absolute()))
    return directory / target.image


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of flash, and of RAM before the first call; what is left of it is the stack's."""

    flash: int
    ram: int


def memory_use(target: Target, image: Path) -> MemoryUse | None:
    """What a build for a microcontroller takes; None where memory is no matter."""
    if target.size_tool is None:
        return None
    done = subprocess.run(
        [target.size_tool, str(image.with_suffix(".elf"))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GatewayError(f"{target.size_tool} {image}: {done.stderr.strip()}")
    text, data, bss = (int(word) for word in done.stdout.splitlines()[1].split()[:3])
    return MemoryUse(text + data, data + bss)


def check_limits(target: Target, used: MemoryUse | None) -> None:
    """``GatewayError`` for a build that would not work on the chip: its graph is too large."""
    if used is None:
        return
    for what, size, limit in (("flash", used.flash, target.flash_limit), ("RAM", used.ram, target.ram_limit)):
        if limit is not None and size > limit:
            raise GatewayError(f"{target.name}: {size} bytes of {what}, {limit} are there: the graph is too large")


def build_emulator(directory: Path) -> Path:
    """Compile the program that runs an Uno's image behind a pty; errors as ``build_firmware``."""
    require_tools(EMULATOR_NEEDS, "the emulator of the Uno")
    make("avrpty", directory)
    return directory / "avrpty"


def make(goal: str, directory: Path, **variables: str) -> str:
    """One goal of the sources' Makefile; returns what it printed."""
    words = [f"{name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", str(SOURCES), goal, f"OUT={directory.absolute()}", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-LAST_LINES:]
        raise GatewayError("\n".join((f"firmware {goal}: the build failed", *lines)))
    return done.stdout
