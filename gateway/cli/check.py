"""``gateway check``."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json
from gateway.config.schema import Config

if TYPE_CHECKING:
    from gateway.model.graph import Graph
    from gateway.serial_link.records.devices_json import BoardRecord

NAMED = 4
"""Edges and ports that are named of those that would be left out."""


@click.command("check")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """Check configuration, graph and registry; print what was resolved, secrets masked. Opens nothing.

    Exit code 78 and one line with the place when something is wrong.
    """
    from gateway.config.load import shown

    config = here.config()
    opened, notes = what_would_be_opened(here, config)
    resolved = shown(config)
    if as_json:
        print_json(
            "check",
            {"config": resolved, "config_file": str(here.places.config), "opens": opened, "notes": notes},
        )
        return
    exists = "" if here.places.config.exists() else " (not there: defaults)"
    click.echo(f"# {here.places.config}{exists}")
    for section, keys in resolved.items():
        click.echo(f"[{section}]")
        for key, value in keys.items():
            if not isinstance(value, dict):
                click.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}")
        for name, table in keys.items():
            if isinstance(table, dict):
                _print_tables(section, name, table)
    click.echo("")
    for line in opened:
        click.echo(f"would open: {line}")
    for line in notes:
        click.echo(f"note: {line}")


def _print_tables(section: str, name: str, table: dict[str, Any]) -> None:
    for key, settings in table.items():
        click.echo(f'[{section}.{name}."{key}"]')
        for field, value in settings.items():
            if value is not None:
                click.echo(f"{field} = {json.dumps(value, ensure_ascii=False)}")


def what_would_be_opened(here: CommandContext, config: Config) -> tuple[list[str], list[str]]:
    """Everything that ``run`` would open, checked as far as that goes without opening it; and what looks like a slip."""
    from gateway.config.load import masked_url
    from gateway.daemon.component_store import read_library
    from gateway.daemon.declared_participants import read_imports
    from gateway.daemon.fbp_runtimes import read_access, start_graph
    from gateway.daemon.state_dir import secret
    from gateway.serial_link.records.devices_json import DevicesFile
    from gateway.web.core.origins import parse_listen

    secret(config.mqtt.password, config.mqtt.password_file, "mqtt.password_file")
    secret(config.amqp.password, config.amqp.password_file, "amqp.password_file")
    urls = config.amqp.url if isinstance(config.amqp.url, list | tuple) else [config.amqp.url]
    opened = [f"mqtt {masked_url(config.mqtt.url)}"]
    opened += [f"amqp {masked_url(url)}" for url in urls if url]
    graph_file = Path(config.coordinator.graph) if config.coordinator.graph else here.places.graph
    graph = start_graph(graph_file, needed=bool(config.coordinator.graph))
    notes = _check_contracts(graph, config)
    if config.coordinator.graph or graph_file.exists():
        opened.append(f"graph {graph_file}: {len(graph.nodes)} nodes, {len(graph.edges)} edges")
    library = read_library(config.coordinator.library, Path(config.coordinator.component_dir))
    if library.components:
        opened.append(f"components {', '.join(library.components)}")
    read_imports(config.amqp.import_)
    access = read_access(config.http.secret_file)
    if config.http.listen:
        opened.append(f"http {parse_listen(config.http.listen, has_secret=access.has_secrets)}")
    boards = DevicesFile(here.places.registry).load()
    opened += [f"board {record.id}: role {record.role} on {record.path}" for record in boards]
    notes += _left_out(here, config, graph, boards)
    opened.append(f"spool {here.places.spool}")
    opened.append(f"control socket {here.places.socket}")
    return opened, notes


def _check_contracts(graph: Graph, config: Config) -> list[str]:
    """What an edge asks for can be kept, as far as that is known before its ends are. Names of edges there are none of."""
    from gateway.coordinator.core.delivery_contracts import EdgeSettings, contract_of, edges_without_graph
    from gateway.errors import ConfigError, GraphError
    from gateway.model.address import amqp_queue

    settings = EdgeSettings(config.delivery)
    try:
        for edge in graph.edges:  # an AMQP source may do what every other may, and more: the others are known later
            contract_of(edge, settings, amqp_queue("any"))
    except GraphError as exc:
        raise ConfigError(exc.place, "", exc.problem) from exc
    return [
        f'the graph has no edge {edge}, which [delivery.edge."{edge}"] is about'
        for edge in edges_without_graph(config.delivery, graph)
    ]


def _left_out(here: CommandContext, config: Config, graph: Graph, records: Iterable[BoardRecord]) -> list[str]:
    """What ``run`` would refuse to carry, as far as the ends are known now: from boards, and from who was seen before."""
    from gateway.coordinator.core.delivery_contracts import EdgeSettings
    from gateway.coordinator.core.import_export import ImportExport
    from gateway.coordinator.core.planner import Planner
    from gateway.coordinator.core.registry import Registry
    from gateway.coordinator.participants_file import load_participants
    from gateway.daemon.declared_participants import read_imports
    from gateway.errors import GatewayError
    from gateway.serial_link.paired.paired_board import wire_of
    from gateway.serial_link.records.board_dir import BoardFiles

    notes, boards = [], []
    for record in records:
        try:
            profile = BoardFiles(here.places.state).profile(record)
            boards.append(profile.participant(record.id, record.role, wire_of(record)))
        except GatewayError as exc:
            notes.append(f"board {record.id} can't be used: {exc}")
    registry = Registry(config.coordinator.heartbeat_expiry_s)
    registry.remember(load_participants(here.places.state / "participants.json"), time.monotonic())
    instance, cloud = config.gateway.instance or socket.gethostname(), config.amqp
    settings = EdgeSettings(config.delivery)
    border = ImportExport(instance, settings, cloud.export, cloud.export_prefix, read_imports(cloud.import_).globs)
    refused = Planner(instance, settings, border).plan(graph, registry, boards).refused
    if refused:
        more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        why = next(iter(refused.values())).problem
        notes.append(f"run would leave out {', '.join(list(refused)[:NAMED])}{more}: {why}")
    return notes
