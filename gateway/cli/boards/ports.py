"""``gateway ports``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, print_table

if TYPE_CHECKING:
    from gateway.serial_link.ports.core.identity import PortFacts
    from gateway.serial_link.records.devices_json import BoardRecord


@click.command("ports")
@json_option
@placed
def command(here: CommandContext, as_json: bool) -> None:
    """List every serial port: what is known of it, who holds it, and whether you may open it. Opens none.

    Ports that no list of the system has (ptys, the network) are shown where a paired board is on them.
    """
    from gateway.serial_link.ports.hotplug import Ports
    from gateway.serial_link.records.devices_json import DevicesFile

    present = list(Ports().present())
    records = DevicesFile(here.places.registry).load()
    found = [entry(port, present, records) for port in present]
    named = {port["board_id"] for port in found}
    elsewhere = [one.known for one in records if one.id not in named and is_elsewhere(one.path)]
    found += [entry(port, [port], records) for port in elsewhere]
    if as_json:
        print_json("ports", found)
        return
    if not found:
        click.echo("no serial ports are here: is the board plugged in, with a cable that carries data?")
        return
    rows = [
        [
            port["port"],
            port["board"] or "unpaired",
            port["holder"] or "nobody",
            "yes" if port["may_open"] else "no",
            port["what"] or "-",
            port["serial_number"] or "-",
            port["place"] or "-",
        ]
        for port in found
    ]
    print_table(["PORT", "BOARD", "HELD BY", "MAY OPEN", "WHAT", "SERIAL NUMBER", "PLACE"], rows)
    forbidden = next((port for port in found if not port["may_open"]), None)
    if forbidden is not None:
        click.echo(f"{forbidden['port']}: {forbidden['remedy']}")


def is_elsewhere(path: str) -> bool:
    """Whether a paired board's port is one that no list of the system has: in the network, or a pty that is there."""
    return "://" in path or os.path.realpath(path).startswith("/dev/pts/")


def entry(port: PortFacts, present: list[PortFacts], records: tuple[BoardRecord, ...]) -> dict[str, Any]:
    """One port, as ``--json`` prints it."""
    from gateway.serial_link.ports.core.identity import identify, recognise
    from gateway.serial_link.ports.tty import holder, permission_text

    owner = next(
        (record for record in records if recognise(record.identity, record.known, present) == port),
        None,
    )
    identity = identify(port, present)
    may_open = "://" in port.path or os.access(port.path, os.R_OK | os.W_OK)
    return {
        "port": port.path,
        "board": owner.role if owner else "",
        "board_id": owner.id if owner else "",
        "holder": holder(port.path),
        "may_open": may_open,
        "remedy": "" if may_open else permission_text(port.path),
        "what": " ".join(part for part in (port.maker, port.product) if part),
        "vendor_id": f"{port.usb_vid:04x}" if port.usb_vid else "",
        "product_id": f"{port.usb_pid:04x}" if port.usb_vid else "",
        "serial_number": port.usb_serial,
        "by_id": port.by_id,
        "place": port.by_path,
        "identity": f"{identity.kind} {identity.value}" if identity else "",
    }
