"""What a process costs: CPU over all its threads, memory; and how runs are put together."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.run import calm_collector

_BYTECODE = tempfile.TemporaryDirectory(prefix="gateway-bench-bytecode-")


def as_installed() -> dict[str, str]:
    """The environment of a gateway that is compiled, as pip leaves it. The first one that starts does it, and takes longer."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": _BYTECODE.name}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all threads, by the scheduler's own count (nanoseconds, so short runs can be told apart)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def peak_rss_mib(pid: int) -> float:
    """The most memory a process has had resident, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def rss_mib(pid: int) -> float:
    """The memory a process has resident now, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: messages a second, CPU microseconds a message, peak memory in MiB."""

    rate: float
    cpu_us: float
    rss_mib: float


def median(runs: Sequence[Figures]) -> Figures:
    """The median of each figure by itself."""
    return Figures(
        statistics.median(run.rate for run in runs),
        statistics.median(run.cpu_us for run in runs),
        statistics.median(run.rss_mib for run in runs),
    )


def row(name: str, ours: Figures, peer: Figures) -> str:
    """One line of a table: ours, the peer's, and the ratios."""
    return (
        f"| {name} | {ours.rate:,.0f} | {peer.rate:,.0f} | {ours.rate / peer.rate:.2f} "
        f"| {ours.cpu_us:.0f} | {peer.cpu_us:.0f} | {ours.cpu_us / peer.cpu_us:.2f} "
        f"| {ours.rss_mib:.0f} | {peer.rss_mib:.0f} |"
    )


HEAD = """\
| path | messages/s | peer | ratio | CPU us/message | peer | ratio | peak RSS MiB | peer |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


class Table:
    """A Markdown table of single figures, printed as it grows."""

    def __init__(self, title: str, note: str) -> None:
        self.lines = [f"| {title} | figure | {note} |", "| --- | ---: | --- |"]
        print("\n".join(self.lines), flush=True)

    def row(self, name: str, figure: str, note: str) -> None:
        """One more figure, with what is wanted of it or what explains it."""
        self.lines.append(f"| {name} | {figure} | {note} |")
        print(self.lines[-1], flush=True)


def runner() -> asyncio.Runner:
    """A loop like the daemon's: uvloop where it is installed, and a collector that is as calm."""
    calm_collector()
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
