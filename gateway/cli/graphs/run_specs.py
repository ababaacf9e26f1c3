"""``gateway test``."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import click

from gateway.cli.common import CommandContext, json_option, placed, print_json, writing
from gateway.cli.daemon import ask_one, find_daemon
from gateway.errors import EXIT_FAILED, ConfigError, ConnectFailed, NotFound
from gateway.fbpspec.core.report import Result, SpecVerdict, as_json, as_junit, summary, text_lines
from gateway.fbpspec.core.suite import Suite, parse_suites
from gateway.files import LARGEST_SECRETS, read_text

SUITE_FILES = (".yaml", ".yml")


@click.command("test")
@click.argument("specs", metavar="SPEC…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--address", metavar="URL", help="The runtime; default: the gateway of the configuration.")
@click.option("--board", metavar="ROLE", default="", help="Test on this board of the gateway, by role or id.")
@click.option("--secret", metavar="SECRET", default="", help="Default: http.secret_file of the configuration.")
@click.option("--command", "program", metavar="COMMAND", default="", help="Start this runtime for the tests.")
@click.option("--start-timeout", metavar="S", type=click.FloatRange(0), default=10.0, show_default=True)
@click.option("--command-timeout", metavar="S", type=click.FloatRange(0.1), default=3.0, show_default=True)
@click.option("--component-tests", is_flag=True, help="Also the tests that the runtime's components bring along.")
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit XML; - is standard output.")
@json_option
@placed
def command(
    here: CommandContext,
    specs: tuple[Path, ...],
    address: str | None,
    board: str,
    secret: str,
    program: str,
    start_timeout: float,
    command_timeout: float,
    component_tests: bool,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Run data-driven tests (fbp-spec, YAML files or directories of them) on a runtime: this gateway, a board, another.

    Exit code 0: all passed; 1: some failed. Example: gateway test spec/ --junit results.xml
    """
    if not specs and not component_tests:
        raise click.UsageError("name the files with the tests, or --component-tests")
    suites = [suite for path in specs for suite in read_suites(path)]
    url, password = _where(here, address, board, secret)
    quiet = as_json or str(junit) == "-"
    timeouts = (command_timeout, start_timeout if program or address is None else min(start_timeout, 1.0))
    results = asyncio.run(_run(suites, url, password, program, timeouts, component_tests, quiet))
    _report(results, as_json, junit, quiet)
    if any(result.verdict is SpecVerdict.FAILED for result in results):
        raise SystemExit(EXIT_FAILED)


def read_suites(path: Path) -> list[Suite]:
    """The suites of a file, or of all suite files of a directory."""
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.suffix in SUITE_FILES and entry.is_file())
        if not files:
            raise NotFound(f"{path}: no test suites in it ({' or '.join(SUITE_FILES)})")
        return [suite for file in files for suite in read_suites(file)]
    try:
        suites = list(parse_suites(read_text(path), str(path)))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such test suite") from None
    except OSError as exc:
        raise ConfigError(str(path), "", f"can't be read: {exc.strerror}") from None
    if not suites:
        raise ConfigError(str(path), "", "has no test suite in it")
    return suites


def _where(here: CommandContext, address: str | None, board: str, secret: str) -> tuple[str, str]:
    """Address and secret of the runtime."""
    if address is None:
        http = here.config().http
        if not http.listen:
            raise ConfigError("http.listen", "", "is empty: no runtime to test on; name one with --address")
        address = (ask_one(here, "status")["http"]["url"] if find_daemon(here) else "") or f"ws://{http.listen}"
        if not secret and http.secret_file:
            secret = _first_secret(Path(http.secret_file))
    return (f"{address.rstrip('/')}/devices/{board}" if board else address), secret


def _first_secret(file: Path) -> str:
    """The first secret of the gateway's own file that allows what a test needs."""
    from gateway.fbp.runtime.access import parse_secrets
    from gateway.fbpspec.runner import NEEDED

    try:
        access = parse_secrets(read_text(file, LARGEST_SECRETS), str(file))
    except OSError as exc:
        raise ConfigError(str(file), "", f"can't be read: {exc.strerror}; name a secret with --secret") from None
    return next((secret for secret in access.by_secret if access.granted(secret).issuperset(NEEDED)), "")


def _report(results: Sequence[Result], json_wanted: bool, junit: Path | None, quiet: bool) -> None:
    if json_wanted:
        print_json("tests", as_json(results))
    if junit is not None:
        if str(junit) == "-":
            click.echo(as_junit(results))
        else:
            with writing(junit):
                junit.write_text(as_junit(results), "utf-8")
    if not quiet:
        click.echo(summary(results))


async def _run(
    suites: list[Suite],
    address: str,
    secret: str,
    program: str,
    timeouts: tuple[float, float],
    component_tests: bool,
    quiet: bool,
) -> list[Result]:
    from gateway.fbpspec.client import connected
    from gateway.fbpspec.runner import component_suites, run_suites

    results: list[Result] = []
    async with AsyncExitStack() as stack:
        if program:
            await stack.enter_async_context(_started(program))
        client = await stack.enter_async_context(connected(address, secret, *timeouts))
        if component_tests:
            suites = [*suites, *await component_suites(client)]
        shown = 0
        async for result in run_suites(client, suites):
            results.append(result)
            if not quiet:
                lines = list(text_lines(results))
                click.echo("\n".join(lines[shown:]))
                shown = len(lines)
    return results


@asynccontextmanager
async def _started(program: str) -> AsyncIterator[None]:
    """The runtime under test as a child, in a process group of its own that is ended whole."""
    try:
        words = shlex.split(program)
        child = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError, IndexError) as exc:
        raise ConnectFailed("runtime", f"can't start {program}: {exc}") from None
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(5.0):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
