"""``gateway msgflo``: what MsgFlo's command line tools did, with the same options."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "setup": ("setup", "Wire up a graph on a broker, once or for ever."),
    "send-message": ("message_commands", "Send one message to a queue."),
    "dump-message": ("message_commands", "Take messages from a queue and print them."),
    "register": ("register", "Announce foreign participants."),
    "register-foreign": ("register", "Announce one foreign participant, once."),
    "procfile": ("setup", "Print a Procfile for the participants of a graph."),
}
"""Name -> the module that has it, and short help."""


class MsgfloGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gateway.cli.msgflo.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands on the help page."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command("msgflo", cls=MsgfloGroup)
def command() -> None:
    """MsgFlo's command line tools, with their options. The broker is MSGFLO_BROKER where --broker is not given."""
