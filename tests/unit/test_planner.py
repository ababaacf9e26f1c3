"""From graph and participants to bindings."""

from __future__ import annotations

import pytest

from gateway.config.schema import DeliverySection, DeliverySettings
from gateway.coordinator.core.delivery_contracts import EdgeSettings
from gateway.coordinator.core.planner import Plan, Planner, check_graph, implied_edges
from gateway.coordinator.core.registry import Registry
from gateway.errors import GraphError, PortUnknown
from gateway.model.address import amqp_exchange, amqp_queue, mqtt, serial
from gateway.model.binding import BindingKind, DeliveryMode, OverflowPolicy
from gateway.model.graph import Edge, Graph, Iip, Node
from gateway.model.participant import Participant
from gateway.model.port import Direction, PortDef, PortRef


def participant(role: str, transport: str, number: int = 1, ins: str = "in", outs: str = "out") -> Participant:
    def port(name: str, direction: Direction) -> PortDef:
        separator = "." if transport == "amqp" else "/"
        suffix = "" if number == 1 else str(number)
        return PortDef(name, direction, queue=f"{role}{suffix}{separator}{name}")

    return Participant(
        f"{role}-{number}",
        role,
        "Some",
        transport,
        tuple(port(name, Direction.IN) for name in ins.split()),
        tuple(port(name, Direction.OUT) for name in outs.split()),
    )


def graph(*edges: str, iips: tuple[Iip, ...] = (), metadata: dict[str, object] | None = None) -> Graph:
    entries: list[Edge | Iip] = []
    names: dict[str, None] = {}
    for text in edges:
        src, _, tgt = text.partition("->")
        ends = [PortRef(node, port) for node, _, port in (end.rpartition(".") for end in (src, tgt))]
        names.update({end.node: None for end in ends})
        entries.append(Edge(ends[0], ends[1], metadata or {}))
    return Graph("test", tuple(Node(name, "Some") for name in names), (*entries, *iips))


def plan(
    wanted: Graph,
    *others: Participant,
    boards: tuple[Participant, ...] = (),
    delivery: DeliverySection | None = None,
) -> Plan:
    registry = Registry(600.0)
    for other in others:
        registry.heard(other, 0.0)
    return Planner("shop", EdgeSettings(delivery or DeliverySection())).plan(wanted, registry, boards)


def test_mqtt_to_mqtt_is_one_binding_between_the_announced_queues() -> None:
    (binding,) = plan(graph("a.out->b.in"), participant("a", "mqtt"), participant("b", "mqtt")).bindings
    assert (binding.id, binding.src, binding.tgt) == ("a.out->b.in", mqtt("a/out"), mqtt("b/in"))


def test_equal_queues_need_no_forwarding() -> None:
    shared = PortDef("in", Direction.IN, queue="a/out")
    other = Participant("b-1", "b", "Some", "mqtt", (shared,), ())
    assert plan(graph("a.out->b.in"), participant("a", "mqtt"), other).bindings == ()


def test_an_amqp_source_gets_a_queue_of_the_edge_bound_to_its_exchange() -> None:
    (binding,) = plan(graph("a.out->b.in"), participant("a", "amqp"), participant("b", "mqtt")).bindings
    assert binding.src == amqp_exchange("a.out")
    assert binding.source == amqp_queue("gateway.shop.a.out->b.in")
    assert binding.contract.overflow is OverflowPolicy.BLOCK


def test_amqp_to_amqp_is_the_brokers_own() -> None:
    (binding,) = plan(graph("a.out->b.in"), participant("a", "amqp"), participant("b", "amqp")).bindings
    assert binding.by_broker
    assert binding.intake is None


def test_a_board_is_bound_directly_and_its_topics_are_served_too() -> None:
    board = participant("attic", "serial", ins="fan", outs="temp")
    made = plan(graph("attic.temp->cloud.in"), participant("cloud", "amqp"), boards=(board,)).bindings
    ends = {(binding.source, binding.tgt) for binding in made}
    assert ends == {
        (serial("attic-1", "temp"), amqp_queue("cloud.in")),
        (serial("attic-1", "temp"), mqtt("attic/temp")),
        (mqtt("attic/fan"), serial("attic-1", "fan")),
    }


def test_our_own_announcement_heard_on_mqtt_does_not_wire_the_board_twice() -> None:
    board = participant("attic", "serial", outs="temp")
    echo = Participant(board.id, "attic", "Some", "mqtt", board.inports, board.outports)
    made = plan(graph("attic.temp->b.in"), echo, participant("b", "mqtt"), boards=(board,)).bindings
    assert [binding.id for binding in made if binding.label == "attic.temp->b.in"] == ["attic.temp->b.in"]


def test_a_target_never_seen_is_a_binding_that_waits_and_keeps_its_id_when_the_target_comes() -> None:
    first = plan(graph("a.out->b.in"), participant("a", "mqtt"))
    (binding,) = first.bindings
    assert (binding.tgt, binding.waits_for) == (None, "b")
    assert first.waiting == {"a.out->b.in": "waits for role b"}
    (later,) = plan(graph("a.out->b.in"), participant("a", "mqtt"), participant("b", "amqp")).bindings
    assert later.id == binding.id


def test_a_source_never_seen_gives_no_binding_but_is_said() -> None:
    waiting = plan(graph("a.out->b.in"), participant("b", "mqtt"))
    assert waiting.bindings == ()
    assert waiting.waiting == {"a.out->b.in": "waits for role a"}


def test_boards_sharing_a_role_each_get_a_copy_and_the_first_keeps_the_plain_id() -> None:
    boards = (participant("lamp", "serial", 1), participant("lamp", "serial", 2))
    made = plan(graph("a.out->lamp.in"), participant("a", "mqtt"), boards=boards).bindings
    assert [binding.id for binding in made][:2] == ["a.out->lamp.in", "a.out->lamp.in@lamp-2"]


def test_participants_sharing_a_role_and_a_queue_are_one_target() -> None:
    twin = Participant("b-9", "b", "Some", "amqp", participant("b", "amqp").inports, ())
    made = plan(graph("a.out->b.in"), participant("a", "mqtt"), participant("b", "amqp"), twin).bindings
    assert len(made) == 1


def test_the_same_edge_twice_is_one_binding() -> None:
    made = plan(graph("a.out->b.in", "a.out->b.in"), participant("a", "mqtt"), participant("b", "mqtt")).bindings
    assert len(made) == 1


def test_a_port_known_not_to_exist_is_refused_with_those_that_do_and_holds_up_no_other_edge() -> None:
    made = plan(graph("a.out->b.inn", "a.out->b.in"), participant("a", "mqtt"), participant("b", "mqtt"))
    assert [binding.label for binding in made.bindings] == ["a.out->b.in"]
    (problem,) = made.refused.values()
    assert isinstance(problem, PortUnknown)
    assert str(problem) == "b.inn: role b has no inport inn (it has: in)"


@pytest.mark.parametrize("queue", ["b/#", "b/+/in", "$SYS/broker"])
def test_an_edge_to_a_topic_that_nothing_can_be_published_on_is_refused_unless_there_is_another(queue: str) -> None:
    odd = Participant("b-9", "b", "Some", "mqtt", (PortDef("in", Direction.IN, queue=queue),))
    made = plan(graph("a.out->b.in", iips=(Iip(PortRef("b", "in"), 1),)), participant("a", "mqtt"), odd)
    assert (made.bindings, made.iips) == ((), ())
    assert made.refused.keys() == {"a.out->b.in", "data -> b.in"}
    assert f"its topic {queue} is none to publish on" in str(made.refused["a.out->b.in"])
    made = plan(graph("a.out->b.in"), participant("a", "mqtt"), odd, participant("b", "mqtt"))
    assert [str(binding.tgt) for binding in made.bindings] == ["mqtt:b/in"]


def test_data_for_a_port_known_not_to_exist_is_refused() -> None:
    wanted = graph("a.out->b.in", iips=(Iip(PortRef("b", "inn"), 5), Iip(PortRef("b", "in"), 6)))
    made = plan(wanted, participant("b", "mqtt"))
    assert [planned.iip.data for planned in made.iips] == [6]
    assert list(made.refused) == ["data -> b.inn"]


def test_the_contract_comes_from_metadata_then_config_edge_then_defaults() -> None:
    section = DeliverySection(ttl_s=9, edge={"a.out->b.in": DeliverySettings(mode=DeliveryMode.STORED, max_attempts=2)})
    wanted = graph("a.out->b.in", metadata={"max_attempts": 3, "route": 1})
    (binding,) = plan(wanted, participant("a", "mqtt"), participant("b", "mqtt"), delivery=section).bindings
    contract = binding.contract
    assert (contract.mode, contract.max_attempts, contract.ttl_s) == (DeliveryMode.STORED, 3, 9)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"overflow": "block"}, "needs an AMQP source"),
        ({"mode": "hold"}, "hold"),
        ({"dead_letter": "somewhere"}, "amqp-exchange:NAME"),
    ],
)
def test_a_contract_that_cant_be_kept_is_refused_with_the_edge(metadata: dict[str, object], words: str) -> None:
    made = plan(graph("a.out->b.in", metadata=metadata), participant("a", "mqtt"), participant("b", "mqtt"))
    assert made.bindings == ()
    assert words in str(made.refused["a.out->b.in"])


def test_a_contract_that_nobody_can_keep_is_refused_before_its_source_is_seen() -> None:
    made = plan(graph("a.out->b.in", metadata={"mode": "hold"}))
    assert "hold" in str(made.refused["a.out->b.in"])


def test_an_iip_goes_to_every_participant_of_the_role() -> None:
    wanted = graph("a.out->b.in", iips=(Iip(PortRef("b", "in"), 5),))
    made = plan(wanted, participant("b", "mqtt"), participant("b", "amqp", 2))
    assert [planned.address for planned in made.iips] == [mqtt("b/in"), amqp_queue("b2.in")]


# -- round robin and other wiring --------------------------------------------------------------------------------------


def wired(*edges: str, component: str = "msgflo/RoundRobin", metadata: dict[str, object] | None = None) -> Graph:
    """A graph whose node ``share`` is wiring."""
    made = graph(*edges, metadata=metadata)
    nodes = tuple(Node(node.id, component if node.id == "share" else node.component) for node in made.nodes)
    return Graph(made.name, nodes, made.order)


def test_round_robin_on_the_amqp_side_is_the_brokers_own() -> None:
    wanted = wired("a.out->share.in", "share.out->w.in", "share.deadletter->dead.in")
    (binding,) = plan(wanted, *(participant(role, "amqp") for role in ("a", "w", "dead"))).bindings
    assert (binding.kind, binding.by_broker) == (BindingKind.ROUNDROBIN, True)
    assert (binding.src, binding.tgt) == (amqp_exchange("a.out"), amqp_queue("w.in"))
    assert binding.contract.deadletter == amqp_queue("dead.in")


def test_round_robin_across_the_border_is_one_binding_with_all_targets() -> None:
    boards = (participant("lamp", "serial", 1), participant("lamp", "serial", 2))
    wanted = wired("a.out->share.in", "share.out->lamp.in")
    made = plan(wanted, participant("a", "amqp"), boards=boards).bindings
    binding = next(one for one in made if one.kind is BindingKind.ROUNDROBIN)
    assert binding.targets == (serial("lamp-1", "in"), serial("lamp-2", "in"))
    assert (binding.id, binding.tgt) == ("a.out->share.in", None)
    assert binding.source == amqp_queue("gateway.shop.a.out->share.in")


def test_round_robin_with_one_member_is_an_edge_to_it_that_keeps_its_id_when_others_come() -> None:
    wanted = wired("a.out->share.in", "share.out->w.in")
    (first,) = plan(wanted, participant("a", "mqtt"), participant("w", "mqtt")).bindings
    (second,) = plan(wanted, participant("a", "mqtt"), participant("w", "mqtt"), participant("w", "mqtt", 2)).bindings
    assert (first.id, first.tgt) == (second.id, mqtt("w/in"))
    assert second.targets == (mqtt("w/in"), mqtt("w2/in"))


def test_round_robin_passes_over_who_has_been_silent_for_too_long() -> None:
    registry = Registry(600.0)
    for number, heard in ((1, 0.0), (2, 500.0), (3, 900.0)):
        registry.heard(participant("w", "mqtt", number), heard)
    registry.heard(participant("a", "mqtt"), 900.0)
    registry.expire(1000.0)
    planner = Planner("shop", EdgeSettings(DeliverySection()))
    (binding,) = planner.plan(wired("a.out->share.in", "share.out->w.in"), registry, ()).bindings
    assert binding.targets == (mqtt("w2/in"), mqtt("w3/in"))


def test_workers_that_share_a_topic_cant_share_the_work_and_that_is_said() -> None:
    twin = Participant("w-9", "w", "Some", "mqtt", participant("w", "mqtt").inports, ())
    made = plan(wired("a.out->share.in", "share.out->w.in"), participant("a", "mqtt"), participant("w", "mqtt"), twin)
    assert "share the topic w/in" in made.waiting["a.out->share.in"]


def test_round_robin_waits_for_its_roles_and_says_so() -> None:
    made = plan(wired("a.out->share.in", "share.out->w.in"), participant("a", "mqtt"))
    (binding,) = made.bindings
    assert (binding.tgt, binding.targets, binding.waits_for) == (None, (), "w")
    assert made.waiting == {"a.out->share.in": "waits for role w"}


def test_pubsub_wiring_is_an_edge_from_each_source_to_each_target() -> None:
    wanted = wired("a.out->share.in", "share.one->b.in", "share.two->c.in", component="msgflo/PubSub")
    made = plan(wanted, *(participant(role, "mqtt") for role in "abc")).bindings
    assert [binding.id for binding in made] == ["a.out->b.in", "a.out->c.in"]


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        (("a.out->share.in", "share.deadletter->b.in", "share.DEADLETTER->c.in"), "has a dead letter target already"),
        (("a.out->share.in", "share.out->share.in"), "joins two wiring nodes"),
    ],
)
def test_wiring_that_means_nothing_is_refused_with_the_place(edges: tuple[str, ...], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        check_graph(wired(*edges), "g.fbp")


def test_what_the_broker_cant_keep_of_a_contract_is_refused() -> None:
    wanted = graph("a.out->b.in", metadata={"latest": True, "ttl_s": 5, "dead_letter": "amqp:x"})
    made = plan(wanted, participant("a", "amqp"), participant("b", "amqp"))
    assert "can't keep latest, ttl_s" in str(made.refused["a.out->b.in"])


def test_a_circle_of_pure_forwarding_loses_its_last_edge_and_feedback_through_a_participant_is_none() -> None:
    both = participant("a", "mqtt"), participant("b", "mqtt")
    assert plan(graph("a.out->b.in", "b.out->a.in"), *both).refused == {}
    swapped = Participant(
        "b-1",
        "b",
        "Some",
        "mqtt",
        (PortDef("in", Direction.IN, queue="b/in"),),
        (PortDef("out", Direction.OUT, queue="b/in"),),
    )
    back = Participant("c-1", "c", "Some", "mqtt", (PortDef("in", Direction.IN, queue="a/out"),), ())
    wanted = graph("a.out->b.in", "b.out->c.in", "a.out->d.in")
    made = plan(wanted, participant("a", "mqtt"), participant("d", "mqtt"), swapped, back)
    assert [binding.label for binding in made.bindings] == ["a.out->b.in", "a.out->d.in"]
    assert "circle" in str(made.refused["b.out->c.in"])
    assert "a.out->b.in" in str(made.refused["b.out->c.in"])


def test_a_long_chain_of_forwarding_is_no_circle() -> None:
    count = 3000
    chain = [
        Participant(
            f"p{number}",
            f"p{number}",
            "Some",
            "mqtt",
            (PortDef("in", Direction.IN, queue=f"t/{number}"),),
            (PortDef("out", Direction.OUT, queue=f"t/{number}"),),
        )
        for number in range(count)
    ]
    made = plan(graph(*(f"p{number}.out->p{number + 1}.in" for number in range(count - 1))), *chain)
    assert (len(made.bindings), made.refused) == (count - 1, {})


def test_an_amqp_inport_and_an_exchange_of_its_name_are_one_place() -> None:
    shared = Participant("b-1", "b", "Some", "amqp", (PortDef("in", Direction.IN, queue="a.out"),), ())
    made = plan(graph("a.out->b.in"), participant("a", "amqp"), shared)
    assert (made.bindings, made.refused) == ((), {})


def test_edges_that_one_queue_name_makes_are_implied_where_nobody_drew_them() -> None:
    shared = Participant("b-1", "b", "Some", "mqtt", (PortDef("in", Direction.IN, queue="a/out"),), ())
    elsewhere = Participant("c-1", "c", "Some", "amqp", (PortDef("in", Direction.IN, queue="a/out"),), ())
    everyone = [participant("a", "mqtt"), shared, elsewhere]
    assert [str(edge) for edge in implied_edges(graph(), everyone)] == ["a.out->b.in"]
    assert list(implied_edges(graph("a.out->b.in"), everyone)) == []


def test_one_bad_target_of_a_round_robin_is_left_out_of_the_sharing() -> None:
    wanted = wired("a.out->share.in", "share.one->w.in", "share.two->x.inn", "share.deadletter->x.innn")
    made = plan(wanted, *(participant(role, "mqtt") for role in "awx"))
    (binding,) = made.bindings
    assert (binding.tgt, binding.contract.deadletter) == (mqtt("w/in"), None)
    assert list(made.refused) == ["share.deadletter->x.innn", "share.two->x.inn"]


def test_a_contract_of_a_port_that_is_none_is_refused_and_leaves_the_other_ports_be() -> None:
    ports = tuple(
        PortDef(name, Direction.OUT, queue=f"attic/{name}", delivery=delivery)
        for name, delivery in (("temp", (("mode", "often"),)), ("light", ()))
    )
    board = Participant("b1", "attic", "Some", "serial", (), ports)
    made = plan(graph(), boards=(board,))
    assert [str(binding.tgt) for binding in made.bindings] == ["mqtt:attic/light"]
    assert "often" in made.refused["attic.temp"].problem
