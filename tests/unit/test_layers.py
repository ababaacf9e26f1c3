"""The layers of docs/architecture.md, read from the imports of every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "gateway"

BASE = {
    "spool.core.store",
    "spool.core.record",
    "errors",
    "transport",
    "formats.yaml",
    "formats.cbor",
    "config.schema",
    "serial_link.protocol.commandformat",
    "serial_link.protocol.codec",
    "serial_link.protocol.extensions",
}
CORES = {
    "serial_link.protocol.framer",
    "serial_link.protocol.link",
    "serial_link.protocol.link_events",
    "serial_link.graph.upload",
    "serial_link.livegraph",
    "serial_link.description.cpp_metadata",
    "serial_link.protocol.dissector",
    "serial_link.protocol.capture_format",
    "serial_link.protocol.wire_detector",
    "serial_link.graph.live_diff",
    "serial_link.protocol.request_queue",
    "serial_link.protocol.opening",
    "serial_link.protocol.replies",
    "serial_link.graph.node_ids",
    "serial_link.protocol.board_model",
    "serial_link.protocol.json_values",
    "serial_link.protocol.iip_values",
    "serial_link.description.component_map",
    "serial_link.ports.core.identity",
    "serial_link.connected.core.recovery",
    "serial_link.description.self_description",
    "serial_link.protocol.sequence_gaps",
    "serial_link.protocol.checksum_framer",
    "serial_link.protocol.credit",
    "serial_link.protocol.exchange",
    "firmware.core.header",
    "firmware.core.ihex",
    "firmware.core.targets",
    "mqtt.core.topics",
    "mqtt.core.packets",
    "mqtt.core.inbound",
    "mqtt.core.outbound",
    "mqtt.core.settings",
    "mqtt.core.properties",
    "amqp.core.topology",
    "amqp.codec.properties",
    "amqp.codec.frames",
    "amqp.codec.methods",
    "amqp.codec.tables",
    "amqp.core.confirms",
    "amqp.core.unsettled",
    "amqp.core.settings",
    "amqp.core.stream_offsets",
    "routing.core.outcomes",
    "routing.core.table",
    "routing.core.router",
    "routing.core.dedupe",
    "routing.core.binding_queue",
    "routing.core.pending_writes",
    "routing.core.overflow",
    "routing.core.events",
    "routing.core.state",
    "routing.core.outgoing",
    "routing.core.spooling",
    "routing.core.unbound_records",
    "routing.core.deadletter",
    "routing.core.payload",
    "routing.core.ledger",
    "spool.core.listing",
    "coordinator.core.registry",
    "coordinator.core.planner",
    "coordinator.core.graphs",
    "coordinator.core.delivery_contracts",
    "coordinator.core.import_export",
    "coordinator.core.wiring_nodes",
    "fbp.text.language",
    "fbp.text.graph_json",
    "fbp.text.json_depth",
    "fbp.text.language_builder",
    "fbp.text.language_writer",
    "fbp.text.formats",
    "fbp.drawing.boxes",
    "fbp.drawing.long_edges",
    "fbp.drawing.placement",
    "fbp.drawing.layers",
    "fbp.drawing.layout",
    "fbp.drawing.text_metrics",
    "fbp.drawing.svg",
    "fbp.drawing.dot_mermaid",
    "fbp.runtime.backend",
    "fbp.runtime.protocol_messages",
    "fbp.runtime.payloads",
    "fbp.runtime.commands",
    "fbp.runtime.client_session",
    "fbp.runtime.intents",
    "fbp.runtime.access",
    "fbp.runtime.trace",
    "fbp.runtime.sampling",
    "fbp.runtime.subscribers",
    "web.core.metrics",
    "web.core.origins",
    "library.core.components",
    "library.core.foreign",
    "participant.core.definition",
    "participant.core.msgflo_setup",
    "fbpspec.core.suite",
    "fbpspec.core.matchers",
    "fbpspec.core.jsonpath",
    "fbpspec.core.report",
    "simulator.core.board",
    "simulator.core.components",
    "simulator.core.parser",
    "simulator.core.replay",
    "simulator.core.strictness",
    "simulator.core.our_firmware",
    "simulator.core.network",
    "simulator.core.faults",
    "model.discovery",
    "config.load",
    "config.mistakes",
    "config.places",
    "daemon.core.status_document",
}
TOP = {
    "daemon.app",
    "daemon.binding_store",
    "daemon.board_runtimes",
    "daemon.brokers",
    "daemon.amqp_discovery",
    "daemon.control_socket",
    "daemon.control_handlers",
    "daemon.fbp_runtimes",
    "daemon.component_store",
    "participant",  # the public interface: what its modules make
    "participant.run",  # an URL -> the connector of either broker
    "participant.msgflo_shim",
}

NOT_IN_CORES = {"asyncio", "socket", "threading", "time", "select", "subprocess"}
ONE_HOME = {
    "paho": {"mqtt.client", "mqtt.paho_socket"},
    "aio_pika": {"amqp.client"},
    "aiormq": {"amqp.client"},
    "pamqp": {"amqp.client"},
    "serial": {"serial_link.ports.tty", "serial_link.ports.hotplug"},
    "asyncinotify": {"serial_link.ports.hotplug"},
    "sqlite3": {"spool.database"},
    "lark": {"fbp.text.language"},
    "aiohttp": {"web.server", "fbpspec.client"},
    "amqtt": {"mqtt.embedded"},
    "yaml": {"formats.yaml"},
    "cbor2": {"formats.cbor"},
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path
    return found


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own(names: set[str]) -> set[str]:
    """The gateway's own modules among imported names."""
    known = modules()
    return {name.removeprefix("gateway.") for name in names if name.removeprefix("gateway.") in known} - {"gateway"}


def layer(name: str) -> int:
    package = name.partition(".")[0]
    if package in {"cli", "__main__"}:
        return 5
    if name in TOP:
        return 4
    if name in CORES:
        return 2
    if package == "model" or name in BASE or ((ROOT / name.replace(".", "/")).is_dir()):
        return 1
    return 3


def package(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_imports_go_down_or_stay_in_the_package(name: str) -> None:
    for other in own(imports(modules()[name])):
        if layer(other) == layer(name) and layer(name) not in (1, 4, 5):
            helper = other in {"supervise", "files", "tls"}
            assert package(other) == package(name) or helper, f"{name} imports {other} of its own layer"
        assert layer(other) <= layer(name), f"{name} (layer {layer(name)}) imports {other} (layer {layer(other)})"


@pytest.mark.parametrize("name", [name for name in modules() if layer(name) <= 2])
def test_cores_know_no_loop_no_clock_no_client(name: str) -> None:
    roots = {imported.partition(".")[0] for imported in imports(modules()[name])}
    homes = {library for library, home in ONE_HOME.items() if name not in home}
    assert not roots & (NOT_IN_CORES | homes | {"click"})


@pytest.mark.parametrize("library", sorted(ONE_HOME))
def test_a_client_library_has_one_home(library: str) -> None:
    users = {
        name
        for name, path in modules().items()
        if any(imported.partition(".")[0] == library for imported in imports(path))
    }
    assert users <= ONE_HOME[library]


def test_click_stays_in_the_command_line() -> None:
    users = {name for name, path in modules().items() if "click" in {i.partition(".")[0] for i in imports(path)}}
    assert users
    assert all(package(name) == "cli" for name in users)


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    too_long = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: lines for name, lines in too_long.items() if lines > 400}
