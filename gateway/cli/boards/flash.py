"""``gateway flash``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gateway.cli.common import CommandContext, placed
from gateway.errors import GatewayError, NotFound

FLASH_BYTES = {"atmega328p": 32768, "atmega2560": 262144, "atmega32u4": 32768}
"""Of the chips whose size is known here."""


@click.command("flash")
@click.argument("target", metavar="PORT|ROLE")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--chip", default="atmega328p", show_default=True, help="The chip, as avrdude calls it.")
@click.option("--programmer", default="arduino", show_default=True, help="How, as avrdude calls it.")
@click.option("--speed", default=115200, show_default=True, help="Of the boot loader; older Nanos have 57600.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was written.")
@placed
def command(
    here: CommandContext, target: str, file: Path, chip: str, programmer: str, speed: int, no_verify: bool
) -> None:
    """Write firmware into the board on PORT, or the paired board ROLE, with avrdude, and read it back.

    A running gateway lets go of the board meanwhile, and takes it back.
    """
    from gateway.firmware.build import require_tools

    check_image(file, chip)
    require_tools((("avrdude", "avrdude"),), "flashing")
    with borrowed(here, target) as path:
        if not os.path.exists(path):
            raise NotFound(f"port {path}: there is no such port; is the board plugged in? See: gateway ports")
        words = ["avrdude", "-p", chip, "-c", programmer, "-P", path, "-b", str(speed), "-D", "-U", f"flash:w:{file}:i"]
        code = subprocess.run([*words, *(["-V"] if no_verify else [])], check=False).returncode
    if code:
        raise GatewayError(
            f"port {path}: avrdude ended with {code}; is it the right port, chip (--chip) and speed of the boot loader"
            " (--speed)? What it says is above"
        )
    click.echo(f"{file} is on the board on {path}")


def check_image(file: Path, chip: str) -> None:
    """``GatewayError`` for a file that is damaged or too large, before anything is touched."""
    from gateway.files import read_bytes
    from gateway.firmware.core.ihex import read_ihex

    try:
        text = read_bytes(file).decode("ascii")
    except FileNotFoundError as exc:
        raise NotFound(f"{file}: {exc.strerror}") from exc
    except OSError as exc:
        raise GatewayError(f"{file}: can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise GatewayError(f"{file}: no Intel HEX; an Uno's image is made with: gateway firmware build uno") from None
    size = len(read_ihex(text, str(file)))
    room = FLASH_BYTES.get(chip)
    if not size or (room is not None and size > room):
        raise GatewayError(f"{file}: an image of {size} bytes; the chip has room for {room}")


@contextmanager
def borrowed(here: CommandContext, target: str, command_name: str = "gateway flash") -> Iterator[str]:
    """The path of a port that every gateway command leaves alone while the block runs, and a running gateway lets go of.

    ``target`` is a port or a role. ``PortBusy`` while somebody else has borrowed it, or pairs what is on it.
    """
    from gateway.cli.daemon import ask, find_daemon
    from gateway.serial_link.ports.port_locks import PortLocks, borrower

    path = "" if not looks_like_port(target) else os.path.abspath(target)
    us = borrower(command_name)
    if find_daemon(here) is None:
        path = path or paired_path(here, target)
        with PortLocks.of(here.places.state).lend(path, us):
            yield path
        return
    answer = ask(here, "lend", timeout_s=None, name="" if path else target, path=path, borrower=us)
    lent = next(answer)
    if lent is None:
        raise NotFound(f"board {target}: no paired board has this role or id; see: gateway devices")
    try:
        yield path or lent["path"]
    finally:
        answer.close()  # type: ignore[attr-defined]  # hangs up: the gateway takes the board back


def looks_like_port(target: str) -> bool:
    """Whether somebody means a path, not a role."""
    return "/" in target or os.path.exists(target)


def paired_path(here: CommandContext, name: str) -> str:
    """Where a paired board was last, from the registry on disk."""
    from gateway.cli.boards.pair import own_boards

    with own_boards(here) as boards:
        return str(boards.find(name).path)
