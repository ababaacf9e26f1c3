"""The delivery contract of an edge, from metadata, configuration and defaults."""

from __future__ import annotations

import pytest

from gateway.config.schema import DeliverySection, DeliverySettings
from gateway.coordinator.core.delivery_contracts import EdgeSettings, contract_of, edges_without_graph
from gateway.errors import GraphError
from gateway.model.address import Address, amqp_exchange, amqp_queue, mqtt, serial
from gateway.model.binding import Contract, DeliveryMode, OverflowPolicy
from gateway.model.graph import Edge, Graph
from gateway.model.port import PortRef

EDGE = "a.out->b.in"
MQTT_SOURCE = mqtt("a/out")


def contract(
    metadata: dict[str, object] | None = None,
    section: DeliverySection | None = None,
    source: Address = MQTT_SOURCE,
    by_broker: bool = False,
) -> Contract:
    edge = Edge(PortRef("a", "out"), PortRef("b", "in"), metadata or {})
    return contract_of(edge, EdgeSettings(section or DeliverySection()), source, by_broker=by_broker)


@pytest.mark.parametrize(
    ("source", "policy"),
    [
        (mqtt("a/out"), OverflowPolicy.DROP_OLDEST),
        (serial("attic", "out"), OverflowPolicy.DROP_OLDEST),
        (amqp_exchange("a.out"), OverflowPolicy.BLOCK),
    ],
)
def test_overflow_auto_blocks_only_who_keeps_its_messages(source: Address, policy: OverflowPolicy) -> None:
    assert contract(source=source).overflow is policy


def test_every_key_can_be_set_for_one_edge() -> None:
    metadata = {
        "mode": "stored",
        "latest": True,
        "ttl_s": 1.5,
        "max_pending": 7,
        "max_pending_bytes": 8,
        "max_message_bytes": 9,
        "overflow": "drop_newest",
        "max_attempts": 2,
        "content_type": "application/cbor",
        "dead_letter": "mqtt:grave",
    }
    assert contract(dict(metadata)) == Contract(
        DeliveryMode.STORED, True, 1.5, 7, 8, OverflowPolicy.DROP_NEWEST, 9, 2, "application/cbor", mqtt("grave")
    )


def test_the_configuration_speaks_for_edges_whose_file_has_no_metadata() -> None:
    section = DeliverySection(ttl_s=9, edge={EDGE: DeliverySettings(max_attempts=2)})
    assert (contract(section=section).max_attempts, contract(section=section).ttl_s) == (2, 9)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt:a/b", mqtt("a/b")),
        ("amqp:q", amqp_queue("q")),
        ("amqp-exchange:x", amqp_exchange("x")),
    ],
)
def test_a_dead_letter_names_a_place(text: str, address: Address) -> None:
    assert contract({"dead_letter": text}).deadletter == address


@pytest.mark.parametrize(
    "metadata",
    [{"content_type": "text/xml"}, {"ttl_s": "soon"}, {"max_pending": 1.5}, {"dead_letter": "mqtt:"}],
)
def test_a_wrong_value_is_refused_with_the_edge(metadata: dict[str, object]) -> None:
    with pytest.raises(GraphError, match=r"a\.out->b\.in"):
        contract(metadata)


def test_what_others_keep_in_metadata_is_left_alone() -> None:
    assert contract({"route": 3, "secure": True}) == contract()


def test_an_edge_of_the_brokers_own_keeps_the_defaults_whatever_the_section_says() -> None:
    section = DeliverySection(mode=DeliveryMode.STORED)
    assert contract(section=section, source=amqp_exchange("a.out"), by_broker=True)
    with pytest.raises(GraphError, match="can't keep mode"):
        contract({"mode": "stored"}, source=amqp_exchange("a.out"), by_broker=True)


def test_a_broker_that_forgets_has_its_messages_stored_not_held() -> None:
    settings = EdgeSettings(DeliverySection(), mqtt_forgets=True)
    edge = Edge(PortRef("a", "out"), PortRef("b", "in"))
    assert contract_of(edge, settings, MQTT_SOURCE).mode is DeliveryMode.STORED
    assert contract_of(edge, settings, serial("attic", "out")).mode is DeliveryMode.HELD
    assert settings.default(MQTT_SOURCE).mode is DeliveryMode.STORED


def test_an_edge_that_only_the_configuration_knows_is_named() -> None:
    section = DeliverySection(edge={EDGE: DeliverySettings(), "a.uot->b.in": DeliverySettings()})
    graph = Graph(order=(Edge(PortRef("a", "out"), PortRef("b", "in")),))
    assert edges_without_graph(section, graph) == ("a.uot->b.in",)
