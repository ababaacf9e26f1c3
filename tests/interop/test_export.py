"""A board in the graph of a real MsgFlo: exported, found and wired by its coordinator, a Node worker between."""

from __future__ import annotations

import textwrap
from functools import partial
from pathlib import Path

from tests.interop.conftest import Msgflo
from tests.support.gateway import SimulatedBoard, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto
from tests.support.peer import AmqpPeer, MqttPeer


def test_the_real_coordinator_wires_an_exported_board_to_a_node_worker_and_back(
    tmp_path: Path, msgflo: Msgflo, mosquitto: Mosquitto, rabbitmq: str, unique: str
) -> None:
    name = unique.replace(".", "_")
    broker = rabbitmq.rstrip("/")
    attic, worker = f"{name}attic", f"{name}worker"
    graph = f"{attic}(thermometer) TEMP -> TEMP {worker}(NodeFan) FAN -> FAN {attic}"
    config = textwrap.dedent(f"""
        [gateway]
        instance = "{name}"
        [mqtt]
        url = "{mosquitto.url}"
        [amqp]
        url = "{broker}"
        export = ["attic"]
        export_prefix = "{name}"
        [http]
        listen = ""
        [coordinator]
        discovery_period_s = 3
    """)
    with (
        simulated_board(tmp_path) as board,
        gateway_with(tmp_path / "gateway", config) as gateway,
        msgflo.program("msgflo-nodejs", "--name", worker, "--broker", broker, "fan.js") as node,
        MqttPeer(mosquitto.url) as peer,
    ):
        node.wait_line("connected to")
        pair_thermometer(gateway, board)
        assert not fan_runs(board)
        (tmp_path / "graph.fbp").write_text(graph)
        (tmp_path / "library.json").write_text("{}")
        options = ("--broker", broker, "--graph", "graph.fbp", "--library", "library.json", "--port", "0")
        with msgflo.program("msgflo", *options, cwd=tmp_path) as coordinator:
            coordinator.wait_line("(NodeFan)")  # it listens by now
            peer.listen("attic/temp")
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            coordinator.wait_line("msgflo started on")
            until("the fan runs", partial(fan_runs, board))
            assert peer.wait("attic/temp", 1), "the board has its topics all the same"
            assert gateway.status()["discovery"]["heard"] == 0, "discovery messages are left to the other coordinator"


def test_a_declared_node_worker_is_on_mqtt_too_while_another_coordinator_takes_the_discovery_messages(
    tmp_path: Path, msgflo: Msgflo, mosquitto: Mosquitto, rabbitmq: str, unique: str
) -> None:
    name = unique.replace(".", "_")
    broker, worker = rabbitmq.rstrip("/"), f"{name}worker"
    (tmp_path / "worker.yaml").write_text(
        "component: NodeRepeat\ninports: {in: {queue: '#ROLE.IN'}}\noutports: {out: {queue: '#ROLE.OUT'}}\n"
    )
    (tmp_path / "graph.fbp").write_text(f"{worker}(NodeRepeat) OUT -> IN {name}lamp(house/Lamp)\n")
    config = textwrap.dedent(f"""
        [gateway]
        instance = "{name}"
        [mqtt]
        url = "{mosquitto.url}"
        [amqp]
        url = "{broker}"
        import = ["{worker}={tmp_path}/worker.yaml"]
        [http]
        listen = ""
        [coordinator]
        graph = "{tmp_path}/graph.fbp"
        discovery_period_s = 3
        heartbeat_expiry_s = 5
    """)
    with (
        AmqpPeer(broker) as coordinator,
        msgflo.participant(worker, broker),
        MqttPeer(mosquitto.url) as peer,
        gateway_with(tmp_path / "gateway", config) as gateway,
    ):
        assert coordinator.definition(worker)["component"] == "NodeRepeat"
        gateway.start()
        gateway.wait_up("mqtt", "amqp")
        definition = peer.definition(worker)
        assert [port["queue"] for port in definition["inports"]] == [f"{worker}/in"]
        assert [port["queue"] for port in definition["outports"]] == [f"{worker}/out"]
        peer.listen(f"{worker}/out")
        peer.send(f"{worker}/in", b'{"n": 5}')
        assert peer.wait(f"{worker}/out", 1) == [b'{"n":5}']
        waits = {f"{worker}.out->{name}lamp.in": f"waits for role {name}lamp"}
        until("a graph may use it as well", lambda: gateway.status()["waiting"] == waits)


def fan_runs(board: SimulatedBoard) -> bool:
    """Whether pin 7 is on."""
    return bool(board.ask("get 7")["value"] == 1)
