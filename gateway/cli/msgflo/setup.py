"""``gateway msgflo setup`` and ``procfile``: a graph on a broker without a coordinator."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from gateway.cli.msgflo.common import broker_option, names, read_library, switch
from gateway.errors import ComponentUnknown, GatewayError
from gateway.fbp.text.graph_files import load_graph
from gateway.library.core.components import Library, command_line, command_words
from gateway.library.processes import Processes, only_and_ignore
from gateway.model.graph import Graph
from gateway.participant.broker import Broker
from gateway.participant.core.msgflo_setup import (
    WIRING,
    Joint,
    QueueBinding,
    iips_by_role,
    joint_lines,
    joints_of,
    static_queues,
    wires_of,
)

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Setup:
    """What one run of ``setup`` does."""

    url: str
    broker: Broker
    wires: tuple[QueueBinding, ...]
    children: Mapping[str, Words]
    forward: frozenset[str]
    discover: bool
    timeout_s: float
    forever: bool


@click.command("setup")
@click.argument("graph", type=click.Path(path_type=Path))
@broker_option
@switch("--participants", "Start the participants too, and end them at the end.")
@click.option("--only", metavar="A,B", default="", help="Of the participants start only these.")
@click.option("--ignore", metavar="A,B", default="", help="Don't start these.")
@click.option("--library", type=click.Path(path_type=Path), help="Default: package.json.")
@click.option("--componentdir", type=click.Path(path_type=Path), help="Default: participants, else components.")
@click.option("--forward", metavar="STREAMS", default="stderr,stdout", show_default=True, help="Of the participants.")
@switch("--discover", "Take the queues from announcements, not from the rule role.PORT.")
@click.option("--timeout", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to wait for them.")
@switch("--forever", "Stay; on MQTT edges last only as long.")
@click.option("--shell", metavar="PROGRAM", default="", help="Start participants with PROGRAM -c COMMAND.")
def setup(
    graph: Path,
    broker: str | None,
    participants: bool,
    only: str,
    ignore: str,
    library: Path | None,
    componentdir: Path | None,
    forward: str,
    discover: bool,
    timeout: float,
    forever: bool,
    shell: str,
) -> None:
    """Wire up GRAPH (.fbp or .json) on a broker, once or for ever, without a coordinator.

    Example: gateway msgflo setup house.fbp --broker amqp://localhost --participants --forever
    """
    from gateway.participant.run import find_broker, make_broker, set_up_logging

    set_up_logging()
    loaded = load_graph(graph)
    children: dict[str, Words] = {}
    if participants:
        commands = _commands(loaded, read_library(library, componentdir), shell, names(only), names(ignore))
        children = only_and_ignore(commands, names(only), names(ignore))
    url = find_broker(broker)
    plan = _Setup(
        url=url,
        broker=make_broker(url, "setup"),
        wires=wires_of(loaded),
        children=children,
        forward=names(forward),
        discover=discover,
        timeout_s=timeout,
        forever=forever or participants,
    )
    asyncio.run(_run(plan))


def _commands(
    graph: Graph, library: Library, shell: str, only: frozenset[str], ignore: frozenset[str]
) -> dict[str, Words]:
    """Role -> command. Unknown components are an error only where they would be started."""
    iips = iips_by_role(graph)
    commands: dict[str, Words] = {}
    for node in graph.nodes:
        if node.component in WIRING or node.id in ignore or (only and node.id not in only):
            continue
        component = library.get(node.component, node.id)
        data = iips.get(node.id, {})
        if shell:
            commands[node.id] = (shell, "-c", command_line(library, component, node.id, data))
        else:
            commands[node.id] = command_words(library, component, node.id, data)
    return commands


async def _run(plan: _Setup) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await _set_up(plan)


async def _set_up(plan: _Setup) -> None:
    if not plan.children:
        await _wire(plan)
        return
    problem: GatewayError | None = None
    async with asyncio.TaskGroup() as group:
        processes = Processes({"MSGFLO_BROKER": plan.url}, lambda *said: _forward(plan.forward, *said))
        processes.want(plan.children)
        task = group.create_task(processes.run(), name="participants")
        try:
            await _wire(plan)
        except GatewayError as exc:
            problem = exc
        finally:
            task.cancel()
    if problem is not None:
        raise problem


async def _wire(plan: _Setup) -> None:
    from gateway.participant.msgflo_tools import discover, keep_wired, wire_up

    click.echo(f"Set up participants {_node_list(plan.children)}")
    queues = (await discover(plan.broker, plan.wires, plan.timeout_s)).queues if plan.discover else static_queues
    joints = joints_of(plan.wires, queues)
    if plan.broker.transport == "amqp":
        await wire_up(plan.broker, joints, plan.timeout_s)
    click.echo("Set up bindings:\n " + "\n".join(joint_lines(joints)))
    _warn(plan, joints)
    if plan.forever:
        click.echo("--forever enabled, keeping alive")
        await keep_wired(plan.broker, joints)


def _warn(plan: _Setup, joints: Sequence[Joint]) -> None:
    if plan.broker.transport == "mqtt" and not plan.forever:
        click.echo("gateway: on MQTT edges last only while this command runs; add --forever", err=True)
    if plan.broker.transport == "mqtt" and any(joint.kind == "deadletter" for joint in joints):
        click.echo("gateway: MQTT has no nack: dead letter queues stay empty", err=True)


def _node_list(roles: Mapping[str, Words]) -> str:
    """As node prints a list."""
    return f"[ {', '.join(repr(role) for role in roles)} ]" if roles else "[]"


def _forward(streams: frozenset[str], role: str, stream: str, line: str) -> None:
    if stream in streams:
        click.echo(f"{role}: {line}", err=stream == "stderr")


@click.command("procfile")
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("--library", type=click.Path(path_type=Path), help="Default: package.json.")
@click.option("--components", type=click.Path(path_type=Path), help="Default: participants, else components.")
@click.option("--ignore", metavar="ROLE", multiple=True, help="Leave it out. Repeatable.")
@click.option("--include", metavar="LINE", multiple=True, help="A line to add. Repeatable.")
def procfile(
    graph: Path, library: Path | None, components: Path | None, ignore: Sequence[str], include: Sequence[str]
) -> None:
    """Print a Procfile: one line `role: command` for each participant of GRAPH."""
    loaded = load_graph(graph)
    found = read_library(library, components)
    iips = iips_by_role(loaded)
    for node in loaded.nodes:
        if node.id in ignore or node.component in WIRING:
            continue
        component = found.find(node.component)
        if component is None:
            raise ComponentUnknown(str(graph), f"No component {node.component} defined for role {node.id}")
        click.echo(f"{node.id}: {command_line(found, component, node.id, iips.get(node.id, {}))}")
    for line in include:
        click.echo(line)
