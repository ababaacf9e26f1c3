"""The registry on disk: whole at every moment, never silently a new one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.errors import ConfigError, GatewayError
from gateway.serial_link.ports.core.identity import Identity, PortFacts
from gateway.serial_link.records.board_settings import changed
from gateway.serial_link.records.devices_json import BoardDirectory, BoardRecord, DevicesFile
from gateway.serial_link.records.profile import PortMeaning


def record(role: str) -> BoardRecord:
    return BoardRecord(
        id=f"{role}-1",
        role=role,
        identity=Identity("path", f"/dev/{role}"),
        known=PortFacts(path=f"/dev/{role}"),
        path=f"/dev/{role}",
        baud=9600,
        wire="w8-0.4",
        graph="graph.fbp",
        managed=True,
        ports={"temp": PortMeaning("number", 0.01, "°C", "house/temp")},
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = DevicesFile(tmp_path / "devices.json")
    file.save([record("attic"), record("cellar")])
    assert file.load() == (record("attic"), record("cellar"))


def test_no_file_and_no_boards_are_fine(tmp_path: Path) -> None:
    file = DevicesFile(tmp_path / "devices.json")
    assert file.load() == ()
    file.save([])
    assert file.load() == ()


def test_the_generation_before_is_kept(tmp_path: Path) -> None:
    file = DevicesFile(tmp_path / "devices.json")
    file.save([record("attic")])
    file.save([record("cellar")])
    assert DevicesFile(tmp_path / "devices.json.1").load() == (record("attic"),)


def test_every_damage_is_told_with_the_line_that_restores(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    file = DevicesFile(path)
    file.save([record("attic")])
    file.save([record("cellar")])
    good = path.read_bytes()
    damages = [
        b"",
        b"\0" * len(good),
        good.replace(b"cellar", b"attics", 1),
        *(good[:cut] for cut in range(0, len(good) - 2, 7)),
    ]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"restore the one before: cp {path}.1 {path}") as caught:
            file.load()
        assert caught.value.exit_code == 78


def test_two_damaged_generations_are_told_too(tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_bytes(b"")
    (tmp_path / "devices.json.1").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="there is no good one before it"):
        DevicesFile(tmp_path / "devices.json").load()


def test_a_file_formatted_by_hand_is_still_good(tmp_path: Path) -> None:
    file = DevicesFile(tmp_path / "devices.json")
    file.save([record("attic")])
    file.path.write_bytes(msgspec.json.format(file.path.read_bytes(), indent=4))
    assert file.load() == (record("attic"),)


def test_a_registry_of_a_newer_gateway_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_text('{"version": 9, "checksum": "", "devices": []}')
    with pytest.raises(ConfigError, match="newer gateway"):
        DevicesFile(tmp_path / "devices.json").load()


def test_a_directory_of_a_board_that_lost_its_files_says_so(tmp_path: Path) -> None:
    directory = BoardDirectory(tmp_path / "boards" / "x")
    directory.save({"components.json": b"{}", "graph.fbp": b"a(Forward)"})
    assert directory.text("graph.fbp") == "a(Forward)"
    directory.remove()
    assert not (tmp_path / "boards" / "x").exists()
    with pytest.raises(ConfigError, match="pair the board again"):
        directory.text("graph.fbp")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("baud", "fast", "must be a speed"),
        ("baud", "1", "must be a speed"),
        ("boot_wait_s", "100", "0 to 60 seconds"),
        ("dtr", "maybe", "true or false"),
        ("temp.type", "text", "must be one of any, boolean, integer, number, bang"),
        ("temp.scale", "x", "must be a number"),
        ("temp.scale", "0", "a scale of 0 makes no sense"),
        ("temp.topic", "a/+", "can't have the wildcards"),
        ("temp.topic", "gateway/x/state", "not for ports"),
        ("temp.topic", "x" * 65_536, "can't be longer than 65535 bytes"),
        ("temp.scale", "nan", "a scale of nan makes no sense"),
        ("role", "x", "there is no such setting"),
    ],
)
def test_a_setting_that_can_not_be_says_why(key: str, value: str, problem: str) -> None:
    with pytest.raises(GatewayError, match=problem):
        changed(record("attic"), key, value)


def test_the_meaning_of_one_port_is_changed_alone() -> None:
    ports = changed(record("attic"), "temp.unit", "K")["ports"]
    assert ports == {"temp": PortMeaning("number", 0.01, "K", "house/temp")}
    assert changed(record("attic"), "temp.scale", "")["ports"]["temp"].scale is None
