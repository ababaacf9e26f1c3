"""One client's conversation in the FBP runtime protocol: lists of messages compared with lists of messages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, GraphError
from gateway.fbp.runtime.access import ALL, READ_ONLY, Access, parse_secrets
from gateway.fbp.runtime.backend import (
    Asked,
    Cleared,
    Data,
    Edited,
    ImpliedEdge,
    NetworkStatus,
    NetworkStopped,
    PacketOut,
    Source,
)
from gateway.fbp.runtime.client_session import FbpSession, Out
from gateway.fbp.runtime.intents import EditGraph, GetSource, SendPacket, StartNetwork, WatchEdges
from gateway.fbp.runtime.protocol_messages import Reply, render
from gateway.fbp.runtime.sampling import Sampler
from gateway.model.edits import AddEdge, AddNode, ChangeNode, Edit, RemoveNode, RenameExport, apply_edits
from gateway.model.graph import Edge, Export, Graph, Iip, Node
from gateway.model.port import Direction, PortRef
from tests.support.fbp_runtime import Held, SmallRuntime

MAIN = "default/main"
A_OUT, B_IN = PortRef("a", "out"), PortRef("b", "in")
WIRED = Graph(
    nodes=(Node("a", "core/Repeat"), Node("b", "core/Drop")),
    order=(Edge(A_OUT, B_IN), Iip(PortRef("b", "in"), 0)),
    inports=(Export("feed", PortRef("a", "in")),),
    outports=(Export("tail", A_OUT),),
)


class Client:
    """A client of a small runtime: says a message, gets what the session wants and answers."""

    def __init__(self, access: Access | None = None, graph: Graph = WIRED) -> None:
        self.runtime = SmallRuntime()
        self.runtime.held[MAIN].graph = graph
        self.session = FbpSession("me", self.runtime, access or Access())

    def say(self, protocol: str, command: str, payload: Any = None, **outside: Any) -> Out:
        message = {"protocol": protocol, "command": command, "payload": payload, **outside}
        return self.session.receive(json.dumps(message))

    def one(self, protocol: str, command: str, payload: Any = None, **outside: Any) -> Any:
        (item,) = self.say(protocol, command, payload, **outside)
        return item

    def error(self, protocol: str, command: str, payload: Any = None, **outside: Any) -> str:
        reply = self.one(protocol, command, payload, **outside)
        assert (reply.protocol, reply.command) == (protocol, "error")
        return str(reply.payload["message"])


def in_graph(**fields: Any) -> dict[str, Any]:
    return {"graph": MAIN, **fields}


# -- form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", '{"protocol": 1, "command": "x"}', '{"protocol":"runtime"}']
)
def test_what_is_no_message_is_answered_and_forgiven(text: str) -> None:
    (reply,) = Client().session.receive(text)
    assert isinstance(reply, Reply)
    assert (reply.protocol, reply.command) == ("runtime", "error")


@pytest.mark.parametrize("depth", [129, 400, 900, 5000])
def test_a_message_nested_too_deep_for_what_comes_after_is_refused(depth: int) -> None:
    data = "[" * depth + "]" * depth
    (reply,) = Client().session.receive(
        '{"protocol": "graph", "command": "addinitial", "payload": {"graph": "default/main",'
        f' "src": {{"data": {data}}}, "tgt": {{"node": "a", "port": "in"}}}}}}'
    )
    assert isinstance(reply, Reply)
    assert reply.command == "error"


def test_an_unknown_command_is_an_error_of_its_protocol_with_the_requests_id() -> None:
    reply = Client().one("graph", "explode", {}, requestId="7")
    assert (reply.protocol, reply.command, reply.response_to) == ("graph", "error", "7")
    assert Client().one("weather", "get").protocol == "runtime"


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["graph", "default/main"])
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    [
                        "protocol",
                        "command",
                        "payload",
                        "graph",
                        "src",
                        "tgt",
                        "node",
                        "port",
                        "id",
                        "index",
                        "metadata",
                        "data",
                        "secret",
                        "requestId",
                        "edges",
                        "name",
                        "nodes",
                        "from",
                        "to",
                    ]
                ),
                inner,
                max_size=6,
            ),
        ),
        max_leaves=12,
    ),
    st.sampled_from(["runtime", "graph", "network", "component", "trace"]),
    st.sampled_from(
        [
            "addnode",
            "addedge",
            "changeedge",
            "addinitial",
            "addgroup",
            "clear",
            "packet",
            "edges",
            "start",
            "getsource",
            "source",
            "dump",
            "debug",
            "list",
            "removeinitial",
            "renamenode",
            "addinport",
        ]
    ),
)
@settings(max_examples=400)
def test_no_payload_is_too_strange_to_be_answered(payload: Any, protocol: str, command: str) -> None:
    client = Client()
    for item in client.say(protocol, command, payload):
        if isinstance(item, Reply):
            json.loads(render(item))


# -- runtime and access ------------------------------------------------------------------------------------------


def test_a_runtime_tells_what_it_is_and_which_ports_its_graph_has() -> None:
    runtime, ports = Client().say("runtime", "getruntime", {"secret": None}, requestId="1")
    assert isinstance(runtime, Reply)
    assert isinstance(ports, Reply)
    assert runtime.response_to == "1"
    assert runtime.payload["type"] == "msgflo"
    assert runtime.payload["graph"] == MAIN
    assert {"protocol:graph", "protocol:network", "protocol:runtime"} <= set(runtime.payload["capabilities"])
    assert ports.payload == {
        "graph": MAIN,
        "inPorts": [{"id": "feed", "type": "any"}],
        "outPorts": [{"id": "tail", "type": "string", "description": "what came in"}],
    }


SECRETS = Access(READ_ONLY, {"key": ALL})


def test_without_the_secret_a_client_may_look_and_not_touch() -> None:
    client = Client(SECRETS)
    assert "capability protocol:graph" in client.error("graph", "addnode", in_graph(id="c", component="core/Drop"))
    assert "capability network:control" in client.error("network", "start", in_graph(), secret="wrong")
    assert client.one("network", "getstatus", in_graph()).command == "status"
    assert client.one("component", "getsource", {"name": MAIN}).command == "source"


@pytest.mark.parametrize("place", ["payload", "message"])
def test_the_secret_counts_in_either_of_its_places(place: str) -> None:
    payload = in_graph(id="c", component="core/Drop")
    if place == "payload":
        item = Client(SECRETS).one("graph", "addnode", payload | {"secret": "key"})
    else:
        item = Client(SECRETS).one("graph", "addnode", payload, secret="key")
    assert isinstance(item, EditGraph)


def test_no_answer_ever_holds_the_secret() -> None:
    client = Client(SECRETS)
    for item in client.say("runtime", "getruntime", {"secret": "key"}, secret="key"):
        assert isinstance(item, Reply)
        assert "key" not in render(item)


def test_a_stranger_gets_nothing_before_the_secret_is_shown() -> None:
    client = Client(SECRETS.for_strangers())
    assert client.one("runtime", "getruntime").payload["capabilities"] == []
    assert "getsource" in client.error("component", "getsource", {"name": MAIN})
    change = Edited(MAIN, AddNode(Node("c", "core/Drop")), WIRED, WIRED)
    assert client.session.notify(change, 0.0) == []
    client.say("runtime", "getruntime", secret="key")
    assert client.session.notify(change, 0.0) != []


def test_a_secret_file_grants_by_line() -> None:
    access = parse_secrets("# keys\nroot # all\nlooker read\nbot network:control network:status\n", "secrets")
    assert access.granted("root") == ALL
    assert access.granted("looker") == READ_ONLY
    assert access.granted("bot") == {"network:control", "network:status"}
    assert access.granted("other") == access.granted(None) == READ_ONLY
    with pytest.raises(ConfigError, match=r"secrets: line 1: unknown capability 'everything'"):
        parse_secrets("root everything\n", "secrets")
    with pytest.raises(ConfigError, match="no secret"):
        parse_secrets("\n", "secrets")


# -- graph -------------------------------------------------------------------------------------------------------


def test_the_two_errors_that_clients_compare_literally() -> None:
    assert Client().error("graph", "addnode", {"id": "c", "component": "X"}) == "No graph specified"
    assert (
        Client().error("graph", "addnode", {"id": "c", "component": "X", "graph": "no"}) == "Requested graph not found"
    )


def test_a_payload_that_does_not_fit_is_named_by_its_field() -> None:
    assert "component" in Client().error("graph", "addnode", in_graph(id="c"))
    message = Client().error(
        "graph", "addedge", in_graph(src={"node": "a", "port": 5}, tgt={"node": "b", "port": "in"})
    )
    assert "src.port" in message


def test_an_index_may_be_a_number_or_its_digits() -> None:
    item = Client().one(
        "graph", "addedge", in_graph(src={"node": "a", "port": "out", "index": "2"}, tgt={"node": "b", "port": "in"})
    )
    assert isinstance(item, EditGraph)
    assert item.edit == AddEdge(Edge(PortRef("a", "out", 2), B_IN))


@pytest.mark.parametrize("index", ["-1", "x", "9" * 5000])
def test_an_index_that_is_no_small_number_is_named(index: str) -> None:
    ends = {"src": {"node": "a", "port": "out", "index": index}, "tgt": {"node": "b", "port": "in"}}
    assert "is no whole number from 0" in Client().error("graph", "addedge", in_graph(**ends))


def told(edit: Edit, before: Graph = WIRED, asked: Asked | None = None) -> list[tuple[str, Any]]:
    change = Edited(MAIN, edit, before, apply_edits(before, [edit]), asked)
    return [(reply.command, reply.payload) for reply in Client().session.notify(change, 0.0)]


def test_a_node_that_goes_takes_its_edges_along_and_they_are_told_first() -> None:
    end_a, end_b = {"node": "a", "port": "out"}, {"node": "b", "port": "in"}
    assert told(RemoveNode("b")) == [
        ("removeedge", {"src": end_a, "tgt": end_b, "graph": MAIN}),
        ("removeinitial", {"src": {"data": 0}, "tgt": end_b, "graph": MAIN}),
        ("removenode", {"id": "b", "graph": MAIN}),
    ]


def test_changed_metadata_is_told_whole() -> None:
    before = apply_edits(WIRED, [ChangeNode("a", {"x": 1, "label": "A"})])
    assert told(ChangeNode("a", {"x": None, "y": 2}), before) == [
        ("changenode", {"id": "a", "metadata": {"label": "A", "y": 2}, "graph": MAIN})
    ]


def test_metadata_is_told_where_there_is_some_or_where_the_request_had_it() -> None:
    node = AddNode(Node("c", "core/Drop"))
    assert told(node) == [("addnode", {"id": "c", "component": "core/Drop", "graph": MAIN})]
    assert told(node, asked=Asked("me", None, True))[0][1]["metadata"] == {}


def test_changed_exports_are_told_as_ports_too() -> None:
    commands = [command for command, _ in told(RenameExport(Direction.IN, "feed", "food"))]
    assert commands == ["renameinport", "ports"]


def test_the_asker_finds_its_request_id_and_the_others_do_not() -> None:
    client = Client()
    intent = client.one("graph", "addnode", in_graph(id="c", component="core/Drop"), requestId="r1")
    assert client.session.resolve(intent, None) == []
    change = Edited(MAIN, intent.edit, WIRED, WIRED, intent.asked)
    (mine,) = client.session.notify(change, 0.0)
    (theirs,) = FbpSession("other", client.runtime, Access()).notify(change, 0.0)
    assert (mine.response_to, theirs.response_to) == ("r1", None)
    (refused,) = client.session.resolve(intent, GraphError("c", "no"))
    assert (refused.protocol, refused.command, refused.response_to) == ("graph", "error", "r1")


# -- network -----------------------------------------------------------------------------------------------------


def test_status_holds_what_strict_clients_take_and_no_more() -> None:
    assert Client().one("network", "getstatus", in_graph()).payload == {
        "graph": MAIN,
        "running": False,
        "started": True,
    }
    assert Client().one("network", "debug", in_graph(enable=True)).payload["debug"] is True


def test_whoever_starts_a_network_without_a_choice_is_shown_all_of_it() -> None:
    client = Client()
    watch, start = client.say("network", "start", in_graph())
    assert watch == WatchEdges(MAIN, None)
    assert isinstance(start, StartNetwork)
    (reply,) = client.session.notify(Data(MAIN, None, PortRef("a", "in"), "Hi", 0.0), 0.0)
    assert reply.payload["id"] == "DATA -> IN a()"
    assert "src" not in reply.payload
    (reply,) = client.session.notify(Data(MAIN, A_OUT, B_IN, "Hi", 0.0), 0.0)
    assert reply.payload["id"] == "a() OUT -> IN b()"


def test_whoever_chose_edges_is_shown_these_only() -> None:
    client = Client()
    assert client.session.notify(Data(MAIN, A_OUT, B_IN, 1, 0.0), 0.0) == []
    edge = {"src": {"node": "a", "port": "out"}, "tgt": {"node": "b", "port": "in"}}
    watch, reply = client.say("network", "edges", in_graph(edges=[edge]))
    assert watch == WatchEdges(MAIN, frozenset({(A_OUT, B_IN)}))
    assert isinstance(reply, Reply)
    assert reply.payload == {"graph": MAIN, "edges": [edge]}
    assert client.session.notify(Data(MAIN, A_OUT, B_IN, 1, 0.0), 0.0) != []
    assert client.session.notify(Data(MAIN, A_OUT, PortRef("c", "in"), 1, 0.0), 0.0) == []
    assert client.session.notify(Data(MAIN, None, B_IN, 1, 0.0), 0.0) == []
    assert client.session.notify(Data("other", A_OUT, B_IN, 1, 0.0), 0.0) == []


def test_a_busy_edge_is_sampled_and_does_not_hide_a_quiet_one() -> None:
    rate = Sampler(per_edge=10, per_client=100)
    shown = sum(rate.passes("busy", now / 1000) for now in range(2000))
    assert 10 <= shown <= 31
    assert rate.passes("quiet", 2.0)
    assert rate.left_out == 2000 - shown


def test_stopped_tells_how_long_it_ran() -> None:
    (reply,) = Client().session.notify(
        NetworkStopped(MAIN, NetworkStatus(False, False, 2.5, "2026-11-24T12:00:00Z")), 0.0
    )
    assert reply.payload == {
        "graph": MAIN,
        "started": False,
        "running": False,
        "time": "2026-11-24T12:00:00Z",
        "uptime": 2.5,
    }


# -- packets, components, trace ----------------------------------------------------------------------------------


def test_a_packet_for_an_exported_inport_is_sent_and_acknowledged() -> None:
    client = Client()
    intent = client.one("runtime", "packet", in_graph(port="feed", event="data", payload=None, secret="x"))
    assert isinstance(intent, SendPacket)
    assert (intent.port, intent.payload) == ("feed", None)
    (reply,) = client.session.resolve(intent, None)
    assert (reply.command, reply.payload) == (
        "packetsent",
        {"port": "feed", "event": "data", "graph": MAIN, "payload": None},
    )
    assert client.one("runtime", "packet", in_graph(port="feed", event="connect")).command == "packetsent"
    assert client.error("runtime", "packet", in_graph(port="no", event="data", payload=1)).startswith(
        "Cannot find exported port no"
    )


def test_a_packet_from_an_exported_outport_carries_its_graph() -> None:
    (reply,) = Client().session.notify(PacketOut(MAIN, "tail", {"a": 1}), 0.0)
    assert reply.payload == {"port": "tail", "event": "data", "graph": MAIN, "payload": {"a": 1}}


def test_components_are_listed_and_counted() -> None:
    *listed, ready = Client().say("component", "list")
    assert [reply.payload["name"] for reply in listed if isinstance(reply, Reply)] == ["core/Repeat", "core/Drop"]
    assert isinstance(ready, Reply)
    assert (ready.command, ready.payload) == ("componentsready", 2)


def test_the_source_of_a_graph_is_the_graph_that_runs() -> None:
    payload = Client().one("component", "getsource", {"name": MAIN}).payload
    assert (payload["name"], payload["library"], payload["language"]) == ("main", "default", "json")
    assert list(json.loads(payload["code"])["processes"]) == ["a", "b"]


def test_the_source_of_a_component_is_fetched() -> None:
    client = Client()
    intent = client.one("component", "getsource", {"name": "core/Repeat"}, requestId="s")
    assert isinstance(intent, GetSource)
    (reply,) = client.session.resolve(intent, Source("Repeat", "python", "code"))
    assert (reply.payload, reply.response_to) == ({"name": "Repeat", "language": "python", "code": "code"}, "s")


def test_a_trace_records_every_edge_and_keeps_the_newest() -> None:
    client = Client()
    assert "no trace" in client.error("trace", "dump", in_graph(type="flowtrace.json"))
    watch, started = client.say("trace", "start", in_graph(buffersize=400))
    assert watch == WatchEdges(MAIN, None)
    assert isinstance(started, Reply)
    assert started.payload == {"graph": MAIN, "buffersize": 400}
    for number in range(10):
        assert client.session.notify(Data(MAIN, A_OUT, B_IN, number, 0.0), 0.0) == []
    dump = client.one("trace", "dump", in_graph(type="flowtrace.json")).payload
    trace = json.loads(dump["flowtrace"])
    assert [event["payload"]["data"] for event in trace["events"]][-1] == 9
    assert 0 < len(trace["events"]) < 10
    assert list(trace["header"]["graphs"]) == [MAIN]
    watch, _ = client.say("trace", "stop", in_graph())
    assert watch == WatchEdges(MAIN, frozenset())


def test_with_a_graph_that_is_emptied_go_its_exported_ports() -> None:
    session = Client().session
    asked = Asked("me", "7")
    cleared, ports = session.notify(Cleared(MAIN, {"name": "new"}, asked, WIRED), 0.0)
    assert (cleared.command, cleared.payload, cleared.response_to) == ("clear", {"id": MAIN, "name": "new"}, "7")
    assert (ports.command, ports.payload) == ("ports", {"graph": MAIN, "inPorts": [], "outPorts": []})
    for before in (None, Graph(nodes=WIRED.nodes)):
        assert [one.command for one in session.notify(Cleared(MAIN, {}, asked, before), 0.0)] == ["clear"]


def test_all_traces_of_a_client_share_the_room_of_one() -> None:
    client = Client()
    for name in ("b", "c"):
        client.runtime.held[name] = Held(WIRED)
    for payload in ({"graph": "b", "buffersize": 4 << 20}, {"graph": "b", "buffersize": 1 << 30}):
        _, started = client.say("trace", "start", payload)
        assert isinstance(started, Reply)
        assert started.payload == {"graph": "b", "buffersize": 4 << 20}
    assert "stop one" in client.error("trace", "start", in_graph())
    client.say("trace", "start", {"graph": "b", "buffersize": 4 << 19})
    _, started = client.say("trace", "start", in_graph())
    assert isinstance(started, Reply)
    assert started.command == "start"
    assert "only 1835008: stop one" in client.error("trace", "start", {"graph": "c", "buffersize": 4 << 19})
    assert "a number of bytes" in client.error("trace", "start", in_graph(buffersize=-1))


@pytest.mark.parametrize(
    ("protocol", "command", "payload"),
    [
        ("network", "edges", {"edges": []}),
        ("network", "start", {}),
        ("network", "debug", {"enable": True}),
        ("trace", "start", {}),
        ("trace", "start", {"buffersize": 1 << 20}),
    ],
)
def test_nothing_is_kept_of_graphs_that_are_no_more(protocol: str, command: str, payload: dict[str, Any]) -> None:
    client = Client()
    client.runtime.held["full"] = Held(WIRED)
    client.say("trace", "start", {"graph": "full", "buffersize": 15 << 18})
    ends = {"src": {"node": "a", "port": "out"}, "tgt": {"node": "b", "port": "in"}}
    for name in ("watched", "traced"):
        client.runtime.held[name] = Held(WIRED)
    wishes = [*client.say("network", "edges", {"graph": "watched", "edges": [ends]})]
    wishes += client.say("trace", "start", {"graph": "traced"})
    for name in ("watched", "traced"):
        del client.runtime.held[name]
    wishes += client.say(protocol, command, in_graph(**payload))
    for wish in wishes:
        if isinstance(wish, WatchEdges):
            client.runtime.watch("me", wish.graph_id, wish.edges)
    assert not client.runtime.watches.wants("watched", (A_OUT, B_IN))
    assert not client.runtime.watches.wants("traced", (A_OUT, B_IN))


def test_what_a_runtime_does_not_offer_is_not_to_be_had_by_a_secret() -> None:
    client = Client(Access(READ_ONLY, {"key": ALL}))
    client.runtime.info = replace(client.runtime.info, offers=ALL - {"component:setsource"})
    fields = {"name": "x", "language": "python", "code": ""}
    assert "this runtime does not offer it" in client.error("component", "source", fields, secret="key")
    assert "give a secret that has it" in client.error("network", "stop", in_graph())


def test_an_implied_edge_is_told_as_an_edge_that_says_so() -> None:
    edge = Edge(PortRef("a", "out"), PortRef("b", "in"), {"implied": True})
    ends = {"src": {"node": "a", "port": "out"}, "tgt": {"node": "b", "port": "in"}, "graph": MAIN}
    session = Client().session
    (come,) = session.notify(ImpliedEdge(MAIN, edge, there=True), 0.0)
    (gone,) = session.notify(ImpliedEdge(MAIN, edge, there=False), 0.0)
    assert (come.command, come.payload) == ("addedge", {**ends, "metadata": {"implied": True}})
    assert (gone.command, gone.payload) == ("removeedge", ends)
