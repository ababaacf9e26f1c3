"""A board is known by what its port tells, never by the name the kernel happens to give it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from gateway.serial_link.ports.core.identity import Identity, PortFacts, device_id, identify, recognise
from gateway.serial_link.ports.hotplug import port_facts

UNO = PortFacts(
    path="/dev/ttyACM0",
    usb_vid=0x2341,
    usb_pid=0x0043,
    usb_serial="85735313932351F0E1A1",
    by_id="usb-Arduino_Uno_85735313932351F0E1A1-if00",
    by_path="platform-usb-0:1.2:1.0",
)
NAMELESS = PortFacts(path="/dev/ttyUSB0", usb_vid=0x1A86, usb_pid=0x7523, by_path="platform-usb-0:1.3:1.0-port0")


def moved(port: PortFacts, path: str, **changes: str) -> PortFacts:
    fields = {name: getattr(port, name) for name in PortFacts.__struct_fields__}
    return PortFacts(**{**fields, "path": path, **changes})


@pytest.mark.parametrize(
    ("port", "identity"),
    [
        (moved(UNO, "/dev/ttyACM0", board_id="00ff"), Identity("board", "00ff")),
        (UNO, Identity("usb", "2341:0043:85735313932351F0E1A1")),
        (moved(UNO, "/dev/ttyACM0", usb_serial=""), Identity("by-id", UNO.by_id)),
        (NAMELESS, Identity("by-path", NAMELESS.by_path)),
        (PortFacts(path="/tmp/ttyDEMO", is_pty=True), Identity("path", "/tmp/ttyDEMO")),
        (PortFacts(path="tcp://shed:2000"), Identity("path", "tcp://shed:2000")),
        (PortFacts(path="/dev/mega"), Identity("path", "/dev/mega")),
        (PortFacts(path="/dev/ttyUSB0"), None),
    ],
)
def test_identity_is_the_best_fact_there_is(port: PortFacts, identity: Identity | None) -> None:
    assert identify(port, [port]) == identity


def test_a_serial_number_that_two_ports_have_is_no_identity() -> None:
    twin = moved(UNO, "/dev/ttyACM1", by_path="platform-usb-0:1.4:1.0", by_id="")
    assert identify(UNO, [UNO, twin]) == Identity("by-id", UNO.by_id)
    assert identify(twin, [UNO, twin]) == Identity("by-path", twin.by_path)


def test_a_board_under_another_name_is_recognised() -> None:
    identity = identify(UNO)
    assert identity
    back = moved(UNO, "/dev/ttyACM7", by_path="platform-usb-0:1.1:1.0")
    assert recognise(identity, UNO, [NAMELESS, back]) == back


def test_another_board_under_the_same_name_is_not_mistaken_for_it() -> None:
    identity = identify(UNO)
    assert identity
    other = moved(UNO, UNO.path, usb_serial="another", by_id="another")
    assert recognise(identity, UNO, [other]) is None
    place = identify(NAMELESS)
    assert place
    assert recognise(place, NAMELESS, [moved(UNO, NAMELESS.path, by_path=NAMELESS.by_path)]) is None


def test_clones_with_one_serial_number_are_told_apart_by_their_place() -> None:
    identity = identify(UNO)
    assert identity
    here = moved(UNO, "/dev/ttyACM3")
    there = moved(UNO, "/dev/ttyACM0", by_path="platform-usb-0:1.4:1.0")
    assert recognise(identity, UNO, [there, here]) == here
    elsewhere = moved(UNO, "/dev/ttyACM3", by_path="platform-usb-0:1.9:1.0")
    assert recognise(identity, UNO, [there, elsewhere]) is None


def test_ids_are_short_stable_and_fit_for_files_and_topics() -> None:
    identities = [
        Identity("usb", "2341:0043:85735313932351F0E1A1"),
        Identity("by-path", "platform-usb-0:1.3:1.0-port0"),
        Identity("path", "/home/me/ttyDEMO"),
        Identity("path", "/home/you/ttyDEMO"),
        Identity("path", "tcp://shed:2000"),
        Identity("board", "é/"),
    ]
    ids = [device_id(identity) for identity in identities]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", board_id) for board_id in ids)
    assert ids == [device_id(identity) for identity in identities]
    assert ids[2].startswith("ttydemo-")


def test_facts_come_from_the_kernel_and_from_the_names_udev_gives() -> None:
    info = SimpleNamespace(
        device="/dev/ttyACM0",
        serial_number="A1",
        vid=0x2341,
        pid=0x43,
        product="Uno",
        manufacturer="Arduino",
        location="1-1.2:1.0",
    )
    with_udev = port_facts(info, {"/dev/ttyACM0": "usb-A1"}, {"/dev/ttyACM0": "pci-0-usb-1.2"})
    assert (with_udev.usb_key, with_udev.by_id, with_udev.by_path) == ("2341:0043:A1", "usb-A1", "pci-0-usb-1.2")
    assert port_facts(info, {}, {}).by_path == "usb-1-1.2:1.0"


def test_a_port_of_the_machine_itself_is_known_by_its_place() -> None:
    info = SimpleNamespace(
        device="/dev/ttyAMA0",
        serial_number=None,
        vid=None,
        pid=None,
        product=None,
        manufacturer=None,
        location=None,
        device_path="/sys/devices/platform/soc/3f201000.serial",
    )
    assert identify(port_facts(info, {}, {})) == Identity("by-path", "platform/soc/3f201000.serial")
