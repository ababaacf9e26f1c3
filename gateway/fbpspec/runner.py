"""Runs test suites on a runtime: the fixture's graph is made there, fed and listened to."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ConnectionLost, GatewayError, GraphError, RemoteProtocolError
from gateway.fbp.text import graph_json, language
from gateway.fbpspec.client import RuntimeClient, Said, error_text
from gateway.fbpspec.core.report import Result, SpecVerdict
from gateway.fbpspec.core.suite import Case, Step, Suite, parse_suites
from gateway.model.graph import Edge, Export, Graph, Node
from gateway.model.port import PortRef

NEEDED = ("protocol:graph", "protocol:network", "protocol:runtime")
NETWORK_ERRORS = (("network", "error"), ("network", "processerror"))
TESTEE = "testee"


async def run_suites(client: RuntimeClient, suites: Sequence[Suite]) -> AsyncIterator[Result]:
    """The results, as they come. ``RemoteProtocolError`` if this runtime can't be tested at all."""
    missing = [capability for capability in NEEDED if capability not in client.capabilities]
    if missing:
        raise RemoteProtocolError(f"the runtime does not allow {', '.join(missing)}; is a secret needed?")
    for suite in suites:
        async for result in _run_suite(client, suite):
            yield result


async def _run_suite(client: RuntimeClient, suite: Suite) -> AsyncIterator[Result]:
    if not suite.runs:
        for case in suite.cases:
            yield _not_run(suite, case)
        return
    fixture = f"fixture.{secrets.token_hex(5)}"
    try:
        await _send_graph(client, await _fixture_graph(client, suite), fixture)
        await client.ask("network", "start", {"graph": fixture}, "started")
    except ConnectionLost:
        raise
    except GatewayError as exc:
        for case in suite.cases:
            yield _not_run(suite, case, f"its fixture can't be set up: {exc}")
        return
    for case in suite.cases:
        yield await _run_case(client, suite, case, fixture)
    with suppress(RemoteProtocolError):  # what is left behind is no failure of a test
        await client.ask("network", "stop", {"graph": fixture}, "stopped")
        await client.ask("graph", "clear", {"id": fixture, "name": fixture, "main": False})


def _not_run(suite: Suite, case: Case, why: str = "") -> Result:
    skip = suite.skip or case.skip
    verdict = SpecVerdict.SKIPPED if skip else SpecVerdict.FAILED
    return Result(suite.name, suite.topic, case.name, case.assertion, verdict, skip or case.problem or why)


async def _run_case(client: RuntimeClient, suite: Suite, case: Case, fixture: str) -> Result:
    if case.skip or case.problem:
        return _not_run(suite, case)
    began = time.monotonic()
    problems = []
    for number, step in enumerate(case.steps, 1):
        problem = await _run_step(client, step, fixture, case.timeout_s)
        if problem:
            problems.append(f"step {number} of {len(case.steps)}: {problem}" if len(case.steps) > 1 else problem)
    verdict = SpecVerdict.FAILED if problems else SpecVerdict.PASSED
    seconds = time.monotonic() - began
    return Result(suite.name, suite.topic, case.name, case.assertion, verdict, "; ".join(problems), seconds)


@dataclass(slots=True)
class _Heard:
    """What came back for one step: the last data of each outport."""

    graph: str
    expect: Mapping[str, Any]
    received: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.problem) or all(port in self.received for port in self.expect)

    def take(self, said: Said) -> None:
        payload = said.payload if isinstance(said.payload, dict) else {}
        if said.protocol == "runtime" and said.command == "packet":
            self._packet(payload)
        elif said.protocol == "runtime" and said.command == "error":
            self.problem = f"the runtime refused a packet: {error_text(payload)}"
        elif (said.protocol, said.command) in NETWORK_ERRORS and payload.get("graph") in (None, self.graph):
            self.problem = f"the network reported an error: {error_text(payload)}"

    def _packet(self, payload: Mapping[str, Any]) -> None:
        if payload.get("graph") != self.graph or payload.get("event") != "data":
            return
        port = str(payload.get("port"))
        self.received[port] = payload.get("payload")
        if port == "error" and port not in self.expect:
            self.problem = f"data on outport error: {error_text(payload.get('payload'))}"


async def _run_step(client: RuntimeClient, step: Step, fixture: str, timeout_s: float) -> str:
    """Why it failed; empty if it passed."""
    heard = _Heard(fixture, step.expect)
    with client.listening() as messages:
        for port, data in step.inputs.items():
            packet = {"graph": fixture, "port": port, "event": "data", "payload": data}
            await client.send("runtime", "packet", packet)
        try:
            async with asyncio.timeout(timeout_s):
                while not heard.complete:
                    heard.take(await anext(messages))
        except TimeoutError:
            missing = ", ".join(port for port in step.expect if port not in heard.received)
            return f"no data on outport {missing} within {timeout_s:g} s"
    return heard.problem or step.check(heard.received)


# -- fixtures ------------------------------------------------------------------------------------------------------


async def _fixture_graph(client: RuntimeClient, suite: Suite) -> Graph:
    if suite.fixture is not None:
        read = language.parse if suite.fixture.kind == "fbp" else graph_json.loads
        return read(suite.fixture.data, f"{suite.place}: fixture of {suite.name}")
    for component in await list_components(client):
        if component.get("name") == suite.topic:
            return _around(component, suite.topic)
    raise GraphError(suite.topic, "the runtime has no such component")


async def list_components(client: RuntimeClient) -> list[Mapping[str, Any]]:
    """The components of a runtime, as it describes them."""
    said = await client.collect("component", "list", {}, ("componentsready",))
    return [one.payload for one in said if one.command == "component" and isinstance(one.payload, dict)]


def _around(component: Mapping[str, Any], topic: str) -> Graph:
    """A graph of one node with all its ports exported."""
    exports = {}
    for key in ("inPorts", "outPorts"):
        names = [str(port["id"]) for port in component.get(key) or () if isinstance(port, dict) and "id" in port]
        if not names:
            raise GraphError(topic, f"can't be its own fixture: the runtime knows no {key.lower()} of it")
        exports[key] = tuple(Export(name, PortRef(TESTEE, name)) for name in names)
    return Graph(nodes=(Node(TESTEE, topic),), inports=exports["inPorts"], outports=exports["outPorts"])


async def _send_graph(client: RuntimeClient, graph: Graph, name: str) -> None:
    await client.ask("graph", "clear", {"id": name, "name": name, "main": False})
    for node in graph.nodes:
        fields = {"id": node.id, "component": node.component, "metadata": dict(node.metadata), "graph": name}
        await client.ask("graph", "addnode", fields)
    for entry in graph.order:
        fields = {"tgt": _end(entry.tgt), "metadata": dict(entry.metadata), "graph": name}
        if isinstance(entry, Edge):
            await client.ask("graph", "addedge", {"src": _end(entry.src), **fields})
        else:
            await client.ask("graph", "addinitial", {"src": {"data": entry.data}, **fields})
    for command, exports in (("addinport", graph.inports), ("addoutport", graph.outports)):
        for export in exports:
            fields = {"public": export.name, "node": export.ref.node, "port": export.ref.port, "graph": name}
            await client.ask("graph", command, fields)


def _end(ref: PortRef) -> dict[str, Any]:
    end: dict[str, Any] = {"node": ref.node, "port": ref.port}
    if ref.index is not None:
        end["index"] = ref.index
    return end


async def component_suites(client: RuntimeClient) -> list[Suite]:
    """The suites that the components of a runtime bring along; tests in other formats are left alone."""
    if "component:getsource" not in client.capabilities:
        return []
    suites: list[Suite] = []
    for component in await list_components(client):
        with suppress(RemoteProtocolError):
            source = await client.ask("component", "getsource", {"name": component.get("name")}, "source")
            tests = source.get("tests") if isinstance(source, dict) else None
            if isinstance(tests, str) and tests.strip():
                with suppress(GatewayError):
                    suites += parse_suites(tests, f"component {component.get('name')}")
    return suites
