"""``gateway participant``: participants in Python."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("participant")
def command() -> None:
    """Run participants written in Python."""


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("role")
@click.option("--broker", metavar="URL", help="mqtt:// or amqp://; default: MSGFLO_BROKER, else amqp://localhost.")
@click.option("-i", "--iips", metavar="JSON", default="{}", help='Data for inports at the start: {"port": data}.')
@click.option("--class", "class_name", metavar="NAME", default="", help="Which class of FILE; default: the first.")
def run(file: Path, role: str, broker: str | None, iips: str, class_name: str) -> None:
    """Run the participant class of FILE.py as ROLE, until Ctrl-C or SIGTERM.

    FILE may be written for this gateway (from gateway.participant import Participant) or for MsgFlo's Python library
    (import msgflo), which need not be installed. Example: gateway participant run repeat.py repeater
    """
    from gateway.participant.core.definition import parse_iips
    from gateway.participant.msgflo_shim import authors_code, load_participant, standing_in
    from gateway.participant.run import find_broker, make_broker, run_until_stopped, set_up_logging

    set_up_logging()
    url = find_broker(broker)
    make_broker(url, role)  # a wrong URL is said before anything of the file runs
    data = parse_iips(iips, "--iips")
    with standing_in(file, role, iips):
        with authors_code(file):
            participant = load_participant(file, class_name)(role)
        run_until_stopped(participant, url, data)
