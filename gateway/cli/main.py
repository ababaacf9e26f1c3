"""The ``gateway`` command: global options, and the commands, each imported only when it is used."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from gateway import __version__
from gateway.errors import EXIT_FAILED, GatewayError

EXIT_INTERRUPTED = 130
TRACEBACK = "GATEWAY_TRACEBACK"

COMMANDS = {
    "run": "Run the gateway in the foreground.",
    "pair": "Shake hands with a board, upload its graph, remember it.",
    "unpair": "Forget a paired board.",
    "rename": "Give a paired board another role.",
    "set": "Change settings of a paired board.",
    "devices": "List the paired boards and how they are.",
    "ports": "List every serial port, what is on it, and who holds it.",
    "upload": "Give a paired board another graph.",
    "simulate": "Run a simulated board on a pty.",
    "monitor": "Show what passes on a board's line, in words.",
    "io": "Set simulated pins of a board.",
    "send": "Send a value to a port, and wait until it is confirmed.",
    "watch": "Print messages as they pass.",
    "status": "Show what the running gateway is doing.",
    "participants": "List who takes part, and who was refused.",
    "participant": "Run participants written in Python.",
    "msgflo": "MsgFlo's command line tools.",
    "test": "Run data-driven tests of components and boards.",
    "bindings": "List the edges as they are carried, with their counters.",
    "ledger": "The books of every edge since the gateway started.",
    "check": "Check configuration and graph; open nothing.",
    "spool": "Look at the messages that wait on disk.",
    "graph": "Check, show and convert graphs.",
    "firmware": "Build our own firmware, and look at what a board runs.",
    "flash": "Write firmware into a board.",
}
"""Name and short help; the help page needs no import of the commands behind it."""

MODULES = {
    **{
        name: f"boards.{name}"
        for name in (
            [
                "pair",
                "unpair",
                "rename",
                "set",
                "devices",
                "ports",
                "upload",
                "simulate",
                "monitor",
                "io",
                "firmware",
                "flash",
            ]
        )
    },
    "test": "graphs.run_specs",
    "graph": "graphs.group",
    "msgflo": "msgflo.group",
}
"""Name -> the module below ``gateway.cli`` that has the command, where it is not of that name."""


class LazyGroup(click.Group):
    """A group whose commands live in modules below ``gateway.cli`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"gateway.cli.{MODULES.get(cmd_name, cmd_name)}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands on the help page."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn what the gateway can explain into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except GatewayError as exc:
            click.echo(f"gateway: {exc}", err=True)
            ctx.exit(exc.exit_code)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()  # the reader went away (as `gateway watch | head`): nothing to say, nobody to say it to
            ctx.exit(0)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as exc:
            if ctx.invoked_subcommand == "run" or os.environ.get(TRACEBACK):
                raise
            if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
                click.echo("gateway: there is no space left where the output goes", err=True)
                ctx.exit(EXIT_FAILED)
            click.echo(
                f"gateway: a bug: {type(exc).__name__}: {exc}. Is the running gateway of another version? Then start it"
                f" again; else please report this, with what it prints under {TRACEBACK}=1",
                err=True,
            )
            ctx.exit(EXIT_FAILED)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
@click.option("--config", metavar="FILE", default="", help="Configuration file.")
@click.option("--state-dir", metavar="DIR", default="", help="State directory.")
@click.pass_context
def main(ctx: click.Context, config: str, state_dir: str) -> None:
    """Puts microcontrollers into cloud graphs: MicroFlo boards as participants on MQTT and AMQP."""
    ctx.obj = {"config": config, "state_dir": state_dir}
