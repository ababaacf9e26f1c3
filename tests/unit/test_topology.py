"""What edges need on an AMQP broker, as MsgFlo has it."""

from __future__ import annotations

from gateway.amqp.core.topology import (
    Bind,
    BindExchange,
    DropExchange,
    DropQueue,
    EnsureDeadLetters,
    EnsureExchange,
    EnsureQueue,
    RequireExchange,
    RequireQueue,
    Unbind,
    export_steps,
    intake_arguments,
    steps_for,
    undo_steps,
)
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt, serial
from gateway.model.binding import Binding, BindingKind, Contract

OUT = amqp_exchange("cloud.OUT")
IN = amqp_queue("worker.IN")
INTAKE = amqp_queue("gateway.here.cloud.out->attic.fan")


def edge(src: Address, tgt: Address | None, **more: object) -> Binding:
    return Binding("edge", src, tgt, **more)  # type: ignore[arg-type]


def test_an_edge_out_of_amqp_has_a_queue_of_its_own_bound_to_the_outports_exchange() -> None:
    binding = edge(OUT, serial("attic", "fan"), intake=INTAKE)
    assert steps_for(binding, ()) == (
        EnsureQueue(INTAKE.name),
        RequireExchange("cloud.OUT"),
        Bind(INTAKE.name, "cloud.OUT"),
    )
    assert undo_steps(binding) == (Unbind(INTAKE.name, "cloud.OUT"), DropQueue(INTAKE.name))


def test_an_edge_whose_target_was_never_seen_takes_all_the_same() -> None:
    assert steps_for(edge(OUT, None, intake=INTAKE), ())[0] == EnsureQueue(INTAKE.name)


def test_an_edge_within_amqp_is_one_binding_and_nothing_of_a_participant_is_made() -> None:
    binding = edge(OUT, IN)
    assert steps_for(binding, ()) == (
        RequireQueue("worker.IN"),
        RequireExchange("cloud.OUT"),
        Bind("worker.IN", "cloud.OUT"),
        EnsureDeadLetters("worker.IN"),
    )
    assert undo_steps(binding) == (Unbind("worker.IN", "cloud.OUT"),)


def test_round_robin_within_amqp_has_the_direct_exchange_of_msgflo_between() -> None:
    binding = edge(OUT, IN, kind=BindingKind.ROUNDROBIN)
    assert steps_for(binding, ())[2:5] == (
        EnsureExchange("out-cloud.OUT", "direct"),
        BindExchange("out-cloud.OUT", "cloud.OUT"),
        Bind("worker.IN", "out-cloud.OUT"),
    )
    assert undo_steps(binding) == (Unbind("worker.IN", "out-cloud.OUT"), DropExchange("out-cloud.OUT"))


def test_an_edge_into_amqp_needs_only_a_place_for_dead_letters() -> None:
    binding = edge(mqtt("attic/temp"), IN)
    assert steps_for(binding, ()) == (EnsureDeadLetters("worker.IN"),)
    assert EnsureDeadLetters("worker.IN").name == "dead-worker.IN"
    assert undo_steps(binding) == ()


def test_dead_letters_that_the_graph_sends_elsewhere_get_no_queue_of_ours() -> None:
    named = Contract(deadletter=amqp_queue("errors.IN"))
    assert steps_for(edge(mqtt("attic/temp"), IN, contract=named), ()) == ()
    assert steps_for(edge(OUT, IN, contract=named), ())[-3:] == (
        EnsureExchange("dead-worker.IN"),
        RequireQueue("errors.IN"),
        Bind("errors.IN", "dead-worker.IN"),
    )


def test_an_edge_elsewhere_needs_nothing_here() -> None:
    assert steps_for(edge(mqtt("a"), serial("attic", "fan")), ()) == ()
    assert undo_steps(edge(mqtt("a"), serial("attic", "fan"))) == ()


def test_an_exported_board_looks_like_a_msgflo_participant() -> None:
    assert export_steps(["attic.FAN"], ["attic.TEMP"]) == (
        EnsureExchange("attic.TEMP"),
        EnsureQueue("attic.FAN", (("x-dead-letter-exchange", "dead-attic.FAN"),)),
        EnsureExchange("attic.FAN"),
        Bind("attic.FAN", "attic.FAN"),
        EnsureDeadLetters("attic.FAN"),
    )


def test_a_quorum_queue_never_drops_what_was_redelivered_often() -> None:
    assert intake_arguments("classic", "4.1.0") == ()
    assert intake_arguments("quorum", "3.10.8") == (("x-queue-type", "quorum"),)
    assert intake_arguments("quorum", "4.1.0") == (("x-queue-type", "quorum"), ("x-delivery-limit", -1))
    assert intake_arguments("quorum", "") == (("x-queue-type", "quorum"),)
