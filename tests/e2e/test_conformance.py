"""The public conformance suite of the FBP runtime protocol, and fbp-spec, as published, against the installed gateway.

The nodes of its graphs are processes of our own participant library.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.gateway import Gateway, clean_environment, gateway_with
from tests.support.mosquitto import Mosquitto

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "interop" / "conformance"
STEP_S = 60
"""What one step may take: two Python processes start within it, on a machine that does other things too."""

SUITE_S = 600.0

CONFIG = f'[coordinator]\ncomponent_dir = "{HERE / "components"}"\nlibrary = "{HERE / "library.json"}"\n'


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder with the suite's packages. Fails with the line that installs Node where it is missing."""
    done = subprocess.run(
        [str(ROOT / "tools" / "npm_install.sh"), str(HERE)], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return ROOT / done.stdout.strip().splitlines()[-1]


def url_of(gateway: Gateway) -> str:
    """Where its FBP runtime is."""
    line = gateway.daemon.wait_line("gateway ready")
    return next(part for part in line.split(", ") if part.startswith("ws://"))


def passes(suite: Path, directory: Path, broker: str) -> None:
    """Run the suite against a gateway that is up: what the suite allows for a start is short on a busy machine."""
    (directory / "node_modules").symlink_to(suite / "node_modules")
    with gateway_with(directory / "gateway", CONFIG) as gateway:
        gateway.start("--broker", broker)
        settings = {"name": "gateway", "command": None, "host": "127.0.0.1", "port": urlsplit(url_of(gateway)).port}
        (directory / "fbp-config.json").write_text(json.dumps(settings | {"collection": "core", "version": "0.7"}))
        done = subprocess.run(
            [str(suite / "node_modules" / ".bin" / "fbp-test"), "--timeout", str(STEP_S * 1000)],
            cwd=directory,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=SUITE_S,
            check=False,
        )
        log = "\n".join(gateway.daemon.lines)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert "22 passing" in done.stdout


def test_the_conformance_suite_passes_on_mqtt(suite: Path, tmp_path: Path, mosquitto: Mosquitto) -> None:
    passes(suite, tmp_path, mosquitto.url)


def test_the_conformance_suite_passes_on_amqp(suite: Path, tmp_path: Path, rabbitmq: str) -> None:
    passes(suite, tmp_path, rabbitmq)


def specs_pass(suite: Path, directory: Path, broker: str) -> None:
    """fbp-spec, given the address only, makes graphs of the listed component and of a fixture, and tests them."""
    with gateway_with(directory, CONFIG) as gateway:
        gateway.start("--broker", broker)
        for name, cases in (("chain.yaml", 1), ("repeat.yaml", 2)):  # ports are known once a component has run
            command = [str(suite / "node_modules" / ".bin" / "fbp-spec"), "--command-timeout", str(STEP_S)]
            done = subprocess.run(
                [*command, "--address", url_of(gateway), str(HERE / name)],
                capture_output=True,
                text=True,
                timeout=SUITE_S,
                check=False,
            )
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n" + "\n".join(gateway.daemon.lines)
            assert done.stdout.count("\N{CHECK MARK}") == cases


def test_fbp_spec_tests_participants_on_mqtt(suite: Path, tmp_path: Path, mosquitto: Mosquitto) -> None:
    specs_pass(suite, tmp_path, mosquitto.url)


def test_fbp_spec_tests_participants_on_amqp(suite: Path, tmp_path: Path, rabbitmq: str) -> None:
    specs_pass(suite, tmp_path, rabbitmq)
