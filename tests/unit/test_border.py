"""Participants of one side as they look on the other."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.schema import DeliverySection
from gateway.coordinator.core.delivery_contracts import EdgeSettings
from gateway.coordinator.core.import_export import ImportExport
from gateway.coordinator.core.registry import Registry
from gateway.model.address import amqp_exchange, amqp_queue, intake_queue, mqtt, serial
from gateway.model.binding import Binding, BindingKind
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef


def participant(role: str, transport: str, number: int = 1) -> Participant:
    ports = (PortDef("fan", Direction.IN, queue=f"{role}/fan"), PortDef("temp", Direction.OUT, queue=f"{role}/temp"))
    return Participant(f"{role}-{number}", role, "Some", transport, ports[:1], ports[1:])


def border(*export: str, prefix: str = "", imports: tuple[str, ...] = ()) -> ImportExport:
    return ImportExport("shop", EdgeSettings(DeliverySection()), export, prefix, imports)


def registry(*participants: Participant) -> Registry:
    known = Registry(600.0)
    for one in participants:
        known.heard(one, 0.0)
    return known


def ends(bindings: list[Binding]) -> set[tuple[object, object]]:
    return {(binding.source, binding.tgt) for binding in bindings}


def test_nothing_crosses_unless_it_is_asked_for() -> None:
    boards = [participant("attic", "serial")]
    assert border().exported(boards, registry(participant("a", "mqtt"), participant("b", "amqp"))) == ()
    assert list(border().bindings(boards, registry(participant("b", "amqp")))) == []


def test_an_exported_board_looks_like_a_worker_of_msgflo() -> None:
    (twin,) = border("attic", prefix="shop-").exported([participant("attic", "serial")], registry())
    assert (twin.id, twin.role, twin.transport) == ("shop-attic-1", "shop-attic", "amqp")
    assert [port.queue for port in (*twin.inports, *twin.outports)] == ["shop-attic.FAN", "shop-attic.TEMP"]


def test_its_messages_go_to_its_exchange_and_come_from_its_queue() -> None:
    made = list(border("attic").bindings([participant("attic", "serial")], registry()))
    assert ends(made) == {
        (serial("attic-1", "temp"), amqp_exchange("attic.TEMP")),
        (amqp_queue("attic.FAN"), serial("attic-1", "fan")),
    }


def test_globs_choose_mqtt_participants_too() -> None:
    known = registry(participant("sensors/a", "mqtt"), participant("lamps/b", "mqtt"))
    assert [twin.role for twin in border("sensors/*").exported([], known)] == ["sensors/a"]


def test_boards_of_one_role_share_its_queue_as_workers_do() -> None:
    boards = [participant("lamp", "serial", 1), participant("lamp", "serial", 2)]
    (shared,) = [b for b in border("lamp").bindings(boards, registry()) if b.source == amqp_queue("lamp.FAN")]
    assert shared.kind is BindingKind.ROUNDROBIN
    assert shared.targets == (serial("lamp-1", "fan"), serial("lamp-2", "fan"))


def test_an_imported_worker_gets_topics_by_a_queue_of_the_gateways_own() -> None:
    worker = participant("cloud", "amqp")
    made = list(border(imports=("cloud",)).bindings([], registry(worker)))
    assert ends(made) == {
        (amqp_queue("gateway.shop.cloud.temp->mqtt:cloud/temp"), mqtt("cloud/temp")),
        (mqtt("cloud/fan"), amqp_queue("cloud/fan")),
    }
    (twin,) = border(imports=("cloud",)).imported(registry(worker))
    assert [port.queue for port in twin.outports] == ["cloud/temp"]


def test_a_queue_whose_name_amqp_could_not_carry_ends_with_a_digest() -> None:
    short = intake_queue("shop", "a.out->b.in")
    assert short == amqp_queue("gateway.shop.a.out->b.in")
    long = [intake_queue("shop", f"{'ä' * 200}.out->b.{port}").name for port in ("one", "two")]
    assert [len(name.encode()) <= 255 for name in long] == [True, True]
    assert len(set(long)) == 2
    assert all(name.startswith("gateway.shop.ä") for name in long)


def test_our_own_announcements_are_known_when_they_come_round() -> None:
    boards = [participant("attic", "serial")]
    known = registry(participant("meter", "mqtt"), participant("cloud", "amqp"))
    at = border("meter", imports=("cloud",))
    assert at.is_echo(replace(boards[0], transport="mqtt"), boards, known)
    assert at.is_echo(replace(participant("meter", "mqtt"), transport="amqp"), boards, known)
    assert at.is_echo(replace(participant("cloud", "amqp"), transport="mqtt"), boards, known)
    assert not at.is_echo(participant("meter", "mqtt"), boards, known)
    assert not at.is_echo(participant("cloud", "amqp"), boards, known)
