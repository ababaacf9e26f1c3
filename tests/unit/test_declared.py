"""``amqp.import``: globs, and participants that files declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.daemon.declared_participants import read_imports
from gateway.errors import ConfigError
from gateway.model.discovery import parse_discovery


def test_a_declared_participant_is_announced_with_the_queues_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("component: Worker\ninports: {in: {queue: '#ROLE.IN'}}\n")
    imports = read_imports(["sensors/*", f"cloud[1]={file}"])
    (announcement,) = imports.announcements
    worker = parse_discovery(announcement, "amqp", 0.0)
    assert (worker.role, [port.queue for port in worker.inports]) == ("cloud[1]", ["cloud[1].IN"])
    assert imports.globs == ("sensors/*", "cloud[[]1]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "worker.yaml: amqp.import: can't be read: No such file or directory"),
        ("inports: {}\n", "worker.yaml: component: must name the kind of the participant"),
        ("component: Worker\ninports: {in: {}}\n", "worker.yaml: inports.in.queue: must name the topic or queue"),
        ("component: 'W\n", "worker.yaml"),
    ],
)
def test_a_file_that_declares_nothing_is_named_with_its_key(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "worker.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_imports([f"cloud={file}"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_declaration_without_a_role_says_how_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"write ROLE=FILE\.yaml"):
        read_imports(["=worker.yaml"])
