"""``gateway run``."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import CommandContext, placed
from gateway.cli.msgflo.common import names
from gateway.errors import GatewayError

YOUNG_OBJECTS = 5_000
"""New objects between two looks at them; Python's own 700 come together with a hundred messages on their way."""


@click.command("run")
@click.option("--broker", "brokers", metavar="URL", multiple=True, help="mqtt://… or amqp://…; once for each side.")
@click.option("--graph", metavar="FILE", default="", help="The graph, .fbp or .json.")
@click.option("--library", metavar="FILE", default="", help="package.json or msgflo.json: how components are started.")
@click.option("--port", type=int, metavar="N", help="Port of the FBP runtime, health and metrics on 127.0.0.1.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much is logged.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.capture",
    help="Write down what passes on boards' lines.",
)
@click.option("--only", metavar="A,B", default="", help="Start only the participants of these roles.")
@click.option("--ignore", metavar="A,B", default="", help="Don't start those of these roles.")
@placed
def command(
    here: CommandContext,
    brokers: tuple[str, ...],
    graph: str,
    library: str,
    port: int | None,
    log_level: str | None,
    record: Path | None,
    only: str,
    ignore: str,
) -> None:
    """Run the gateway in the foreground. Ctrl-C or SIGTERM ends it in order.

    Prints one line on standard output when it is ready; everything else is logged to standard error.

    What --record wrote is played by: gateway simulate --link NAME --replay FILE.capture
    """
    from gateway.config.load import broker_section

    overrides: dict[tuple[str, str], Any] = {}
    for url in brokers:
        overrides[(broker_section(url, "command line", "--broker"), "url")] = url
    if graph:
        overrides[("coordinator", "graph")] = graph
    if library:
        overrides[("coordinator", "library")] = library
    if port is not None:
        overrides[("http", "listen")] = f"127.0.0.1:{port}"
    if log_level:
        overrides[("gateway", "log_level")] = log_level
    config = here.config(overrides)

    from gateway.logs import set_up_logging

    set_up_logging(config.gateway.log_level, config.gateway.log_format)
    from gateway.daemon.app import App

    app = App(config, here.places, record=record, only=names(only), ignore=names(ignore))
    try:
        with _runner() as runner:
            runner.run(_until_signal(app))
    except BaseExceptionGroup as group:
        raise _reason(group) from group


def _runner() -> asyncio.Runner:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _until_signal(app: Any) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, app.stop)
    await app.run(_ready)


def _ready(line: str) -> None:
    calm_collector()
    click.echo(line)


def calm_collector() -> None:
    """Have the garbage collector look at less, and less often: a message leaves no cycles behind.

    What there is now stays: a full collection would look at it every time, which takes 40 ms on a PC.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a person should read: our own error if there is one, else the whole group."""
    from gateway.supervise import first_leaf

    found = group.subgroup(GatewayError)
    return first_leaf(found) if found is not None else group
