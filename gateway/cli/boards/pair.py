"""``gateway pair``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json
from gateway.cli.daemon import ask_one, find_daemon
from gateway.errors import GatewayError, NotFound

if TYPE_CHECKING:
    from gateway.serial_link.paired.pairing import PairRequest, Text
    from gateway.serial_link.records.profile import PortMeaning

TIMEOUT_S = 90.0


@click.command("pair")
@click.argument("port", required=False)
@click.option("--from", "list_file", type=click.Path(path_type=Path), help="Pair every board of a list (TOML).")
@click.option("--role", default="", help="Its role in the graph; default: as before, or the graph's name.")
@click.option("--graph", type=click.Path(path_type=Path), help="Device graph; uploaded now and after every reopening.")
@click.option("--components", type=click.Path(path_type=Path), help="Component map of the board's firmware.")
@click.option("--no-upload", is_flag=True, help="The graph runs there already: leave the board alone, only listen.")
@click.option("--baud", type=click.IntRange(300, 4_000_000), default=None, help="Speed; default: found out.")
@click.option("--wire", default="auto", show_default=True, help="Wire generation; auto: found out.")
@click.option("--thorough", is_flag=True, help="Try the less usual speeds too; takes up to a minute.")
@click.option("--boot-wait", type=click.FloatRange(0, 60), default=None, help="Seconds until the board has booted.")
@click.option(
    "--port", "meanings", multiple=True, metavar="NAME:K=V,…", help="type=, scale=, unit=, topic=, retained= of a port."
)
@click.option("--topic", "topics", multiple=True, metavar="PORT=TOPIC", help="MQTT topic of a port.")
@json_option
@placed
def command(
    here: CommandContext,
    port: str | None,
    list_file: Path | None,
    role: str,
    graph: Path | None,
    components: Path | None,
    no_upload: bool,
    baud: int | None,
    wire: str,
    thorough: bool,
    boot_wait: float | None,
    meanings: tuple[str, ...],
    topics: tuple[str, ...],
    as_json: bool,
) -> None:
    """Shake hands with the board on PORT, upload its graph, remember it.

    For example: gateway pair /dev/ttyACM0 --role attic --graph thermometer.fbp --components firmware.json
    --port temp:type=number,scale=0.01,unit=°C

    PORT may also be tcp://HOST:PORT, or mqtt+microflo://HOST/ROLE/microflo/ for firmware that speaks over MQTT.

    A list for --from has a table [[board]] for each: port, role, graph, components, upload, baud, wire, boot_wait_s, dtr,
    and [board.ports.NAME] with type, scale, unit, topic, retained. Its paths are relative to it.
    """
    from gateway.serial_link.paired.pairing import PairRequest

    if (port is None) == (list_file is None):
        raise click.UsageError("name the PORT of one board, or a list with --from FILE")
    if list_file is not None:
        from gateway.cli.boards.pair_list import pair_all

        pair_all(here, list_file, as_json=as_json)
        return
    assert port is not None
    request = PairRequest(
        path=absolute(port),
        role=role,
        graph=read(graph, "graph"),
        components=read(components, "component map"),
        upload=not no_upload,
        baud=baud or 0,
        wire=wire,
        thorough=thorough,
        boot_wait_s=boot_wait,
        ports=port_meanings(meanings, topics),
    )
    paired = pair(here, request)
    if as_json:
        print_json("device", paired)
        return
    click.echo(summary(paired))


def reset_warning(port: str, boot_wait: float | None, *, by_us: bool) -> str:
    """What will happen to a board when its port is opened; empty where nothing does, and where we may not open it."""
    if "://" in port or not os.path.exists(port) or not os.path.realpath(port).startswith("/dev/tty"):
        return ""
    if by_us and not os.access(port, os.R_OK | os.W_OK):
        return ""
    wait = "for its boot" if boot_wait is None else f"{boot_wait:g} s for its boot"
    return f"opening {port}: this resets most boards (Linux raises DTR, whatever we ask for); waiting {wait}"


def pair(here: CommandContext, request: PairRequest) -> dict[str, Any]:
    """Through the daemon when one runs, else by ourselves. Says first what that does to the board."""
    daemon = find_daemon(here)
    warning = reset_warning(request.path, request.boot_wait_s, by_us=daemon is None)
    if warning:
        click.echo(warning, err=True)
    if daemon is not None:
        import msgspec

        answer: dict[str, Any] = ask_one(here, "pair", timeout_s=TIMEOUT_S, request=msgspec.to_builtins(request))
        return answer
    from gateway.serial_link.paired.board_handlers import unknown_state

    with own_boards(here) as boards:
        paired: dict[str, Any] = asyncio.run(boards.pair(request))
    return paired | unknown_state()


def own_boards(here: CommandContext) -> Any:
    """The registry in our own hands, under the state directory's lock."""
    from contextlib import contextmanager

    from gateway.daemon.state_dir import locked
    from gateway.mqtt.microflo_line import MQTT_LINES
    from gateway.serial_link.paired.boards import Boards
    from gateway.serial_link.ports.schemes import NETWORKS, opener

    @contextmanager
    def held() -> Any:
        with locked(here.places.state, here.places.lock):
            boards = Boards(
                here.places.state,
                here.config().serial,
                on_change=lambda: None,
                on_running=lambda board_id: None,
                open_port=opener({**NETWORKS, **MQTT_LINES}),
            )
            boards.load()
            yield boards

    return held()


def absolute(port: str) -> str:
    """The daemon may run in another directory. A link stays a link: its name is what lasts."""
    return port if "://" in port else str(Path(port).absolute())


def read(path: Path | None, what: str) -> Text | None:
    """The text of a file that was named."""
    from gateway.files import read_text
    from gateway.serial_link.paired.pairing import Text

    if path is None:
        return None
    try:
        return Text(str(path), read_text(path))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such {what}") from None
    except OSError as exc:
        raise GatewayError(f"{path}: the {what} can't be read: {exc.strerror}") from exc


def port_meanings(meanings: tuple[str, ...], topics: tuple[str, ...]) -> dict[str, PortMeaning]:
    """``NAME:type=…,scale=…`` and ``NAME=TOPIC`` as what the registry keeps."""
    from gateway.serial_link.records.profile import PortMeaning

    fields: dict[str, dict[str, Any]] = {}
    for text in meanings:
        name, colon, rest = text.partition(":")
        if not colon or not name:
            raise click.UsageError(f"--port {text}: write NAME:type=…,scale=…,unit=…,topic=…,retained=…")
        fields.setdefault(name, {}).update(_pairs(text, rest))
    for text in topics:
        name, equals, topic = text.partition("=")
        if not equals or not name or not topic:
            raise click.UsageError(f"--topic {text}: write PORT=TOPIC")
        fields.setdefault(name, {})["topic"] = topic
    found = {}
    for name, table in fields.items():
        try:
            found[name] = PortMeaning(**table)
        except ValueError as exc:
            raise click.UsageError(f"--port {name}: {exc}") from exc
    return found


def _pairs(text: str, rest: str) -> dict[str, Any]:
    from gateway.serial_link.records.board_settings import PORT_KEYS, check_port_type, switch

    pairs: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise click.UsageError(f"--port {text}: {part!r} should be KEY=VALUE")
        if key not in PORT_KEYS:
            raise click.UsageError(f"--port {text}: {key}: there is no such key (there are: {', '.join(PORT_KEYS)})")
        if key == "type":
            try:
                check_port_type(value)
            except ValueError as exc:
                raise click.UsageError(f"--port {text}: type {value} {exc}") from None
        if key == "scale":
            try:
                pairs[key] = float(value)
            except ValueError:
                raise click.UsageError(f"--port {text}: scale must be a number") from None
        elif key == "retained":
            try:
                pairs[key] = switch(value)
            except ValueError as exc:
                raise click.UsageError(f"--port {text}: retained {exc}") from None
        else:
            pairs[key] = value
    return pairs


def summary(paired: dict[str, Any]) -> str:
    """One line: who it is, and what it does now; and one more where settings are gone."""
    known = "paired again" if paired["again"] else "paired"
    how = "runs its graph" if paired["managed"] else "watched, its graph is left alone"
    ports = ", ".join(f"{port['name']} ({_kind(port)})" for port in paired["ports"])
    line = f"{paired['role']}: {known} as {paired['id']} on {paired['port']} ({paired['baud']} baud, {paired['wire']})"
    if not ports:
        line = f"{line}; without ports: name the graph that runs on it with --graph FILE --no-upload --components MAP"
    else:
        line = f"{line}; {how}; ports: {ports}"
    if paired["forgotten"]:
        gone = ", ".join(paired["forgotten"])
        line = f"{line}\n{paired['role']}: the settings of ports that it has no more are gone: {gone}"
    return line


def _kind(port: dict[str, Any]) -> str:
    """Its direction; and its type where that is less than what was asked for."""
    return f"{port['direction']}, int16" if port["type"] == "int16" else str(port["direction"])
