"""``gateway firmware`` and ``gateway flash``: builds, what is in them, and how they reach a board."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.firmware.build import memory_use
from gateway.firmware.core.ihex import read_ihex
from gateway.firmware.core.targets import TARGETS
from tests.support.firmware import EXAMPLES, build, firmware_board
from tests.support.gateway import COMMAND, clean_environment

GRAPH = EXAMPLES / "thermometer.fbp"
PORT = "temp:type=number,scale=0.01,unit=°C"


def gateway(*arguments: str | Path, state: Path, path: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"GATEWAY_STATE_DIR": str(state)} | ({"PATH": path} if path else {})
    done = subprocess.run(
        [str(COMMAND), *map(str, arguments)], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Uno's image with the example's graph, built by the command."""
    directory = tmp_path_factory.mktemp("image")
    done = gateway(
        "firmware", "build", "uno", "--graph", GRAPH, "--port", PORT, "-o", directory / "a.hex", state=directory
    )
    assert "bytes of flash" in done.stdout
    return directory / "a.hex"


def test_the_uno_has_room_to_spare() -> None:
    used = memory_use(TARGETS["uno"], build("uno", GRAPH))
    assert used is not None
    print(f"Uno with the thermometer: {used.flash} bytes of flash, {used.ram} bytes of RAM")
    assert used.flash < 24 * 1024
    assert used.ram < 1.5 * 1024


def test_an_image_says_what_is_in_it(image: Path, tmp_path: Path) -> None:
    shown = json.loads(gateway("firmware", "info", image, "--json", state=tmp_path).stdout)["firmware"]
    assert shown["graph"] == "thermometer"
    assert {"name": "temp", "direction": "out", "type": "number", "scale": 0.01, "unit": "°C"} in shown["ports"]
    assert "Thermometer" in shown["components"]
    assert "temp (number in °C)" in gateway("firmware", "info", image, state=tmp_path).stdout


def test_a_map_for_other_hosts_lies_beside_the_image(image: Path) -> None:
    assert "Thermometer" in json.loads(image.with_suffix(".component.map.json").read_text())["components"]


def test_a_board_says_what_is_in_it(tmp_path: Path) -> None:
    with firmware_board("host", tmp_path, GRAPH) as board:
        shown = json.loads(gateway("firmware", "info", board.link, "--json", state=tmp_path).stdout)["firmware"]
    assert shown["graph"] == "thermometer"
    assert shown["own_graph"] is True
    assert len(shown["id"]) == 16


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("build", "toaster"), "no firmware target toaster; there are host, uno", 4),
        (("build", "uno", "--graph", "none.fbp"), "none.fbp", 4),
        (("build", "uno", "--graph", GRAPH, "--port", "tmp:scale=0.01"), "exports no such port", 1),
    ],
)
def test_a_build_that_can_not_be_says_why(arguments: tuple[str, ...], words: str, code: int, tmp_path: Path) -> None:
    done = gateway("firmware", *arguments, "-o", tmp_path / "x", state=tmp_path, code=code)
    assert words in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_missing_compiler_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    done = gateway("firmware", "build", "uno", "-o", tmp_path / "x", state=tmp_path, path=str(tmp_path), code=4)
    assert "apt-get install --no-install-recommends make gcc-avr" in done.stderr


# -- Intel HEX ---------------------------------------------------------------------------------------------------------


def test_an_image_is_read_with_its_gaps() -> None:
    assert read_ihex(":0200000001 02FB\n:01000400AA51\n:00000001FF\n".replace(" ", ""), "f") == b"\1\2\xff\xff\xaa"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cut off"),
        (":0100000001FE\n", "cut off"),
        ("hello\n", "f:1: no line of Intel HEX"),
        (":0100000001FF\n:00000001FF\n", "f:1: the checksum is wrong"),
        (":020000040200F8\n:0100000001FE\n:00000001FF\n", "beyond what any board has"),
    ],
)
def test_a_damaged_image_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(GatewayError, match=words):
        read_ihex(text, "f")


# -- flashing: avrdude is another program, and stands here as one that writes down how it was called --------------------


@pytest.fixture
def avrdude(tmp_path: Path) -> Path:
    """A directory for PATH with an avrdude that notes its words, and ends with what ``exit`` says."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "avrdude"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/words\nexit $(cat {tmp_path}/exit)\n')
    program.chmod(0o755)
    (tmp_path / "exit").write_text("0")
    return directory


def test_flashing_calls_avrdude_and_verifies(image: Path, avrdude: Path, tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch()
    done = gateway("flash", port, image, state=tmp_path, path=f"{avrdude}:{os.environ['PATH']}")
    assert "is on the board" in done.stdout
    words = (tmp_path / "words").read_text()
    assert f"-p atmega328p -c arduino -P {port} -b 115200 -D -U flash:w:{image}:i" in words
    assert "-V" not in words.split()


def test_a_failure_of_avrdude_is_told_with_what_to_look_at(image: Path, avrdude: Path, tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch()
    (tmp_path / "exit").write_text("1")
    done = gateway("flash", port, image, state=tmp_path, path=f"{avrdude}:{os.environ['PATH']}", code=1)
    assert "avrdude ended with 1" in done.stderr


def test_nothing_is_touched_for_an_image_that_is_none(avrdude: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.hex"
    wrong.write_text(":0100000001FF\n")
    done = gateway("flash", "/dev/null", wrong, state=tmp_path, path=f"{avrdude}:{os.environ['PATH']}", code=1)
    assert "checksum" in done.stderr
    assert not (tmp_path / "words").exists()


def test_an_unknown_role_or_port_is_said(image: Path, avrdude: Path, tmp_path: Path) -> None:
    path = f"{avrdude}:{os.environ['PATH']}"
    assert "no paired board" in gateway("flash", "attic", image, state=tmp_path, path=path, code=4).stderr
    assert "no such port" in gateway("flash", tmp_path / "ttyX", image, state=tmp_path, path=path, code=4).stderr
