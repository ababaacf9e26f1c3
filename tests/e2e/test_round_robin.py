"""A round robin from the cloud to two boards of one role, drawn piece by piece on the running gateway."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from examples.private_rabbitmq import PrivateRabbitMQ
from tests.support.clients import AmqpParticipant, MqttParticipant
from tests.support.gateway import Gateway, SimulatedBoard, gateway_with, pair_thermometer, until
from tests.support.mosquitto import Mosquitto
from tests.support.rabbitmq import takers

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
discover = "on"
"""


def fan_runs(board: SimulatedBoard) -> bool:
    return bool(board.ask("get 7")["value"] == 1)


def label(gateway: Gateway, name: str, count: str) -> int:
    return sum(int(edge[count]) for edge in gateway.status()["edges"] if edge["label"] == name)


def test_each_message_goes_to_one_board_and_what_none_can_take_to_the_dead_letters(
    mosquitto: Mosquitto, rabbitmq_node: PrivateRabbitMQ, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    cloud = AmqpParticipant(rabbitmq_node.url, f"{name}cloud", outports=("order",))
    grave = MqttParticipant(mosquitto.url, f"{name}grave", inports=("in",))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    boards = [SimulatedBoard(folder) for folder in folders]
    config = CONFIG.format(name=name, mqtt=mosquitto.url, amqp=rabbitmq_node.url)
    try:
        with gateway_with(tmp_path / "gateway", config) as gateway:
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            for board in boards:
                pair_thermometer(gateway, board, "lamp")
            until(
                "all were heard", lambda: all(one in gateway.good("participants") for one in (cloud.role, grave.role))
            )
            draw = partial(gateway.good, "graph", "connect")
            draw(f"{cloud.role}.order", "share.in", "--component", "share=msgflo/RoundRobin")
            draw("share.out", "lamp.fan")
            edge = f"{cloud.role}.order->share.in"
            until("the edge has its queue", lambda: bool(takers(rabbitmq_node, f"{cloud.role}.ORDER")))

            cloud.send("order", b"true", f"{name}1")
            until("one fan runs", lambda: [fan_runs(board) for board in boards].count(True) == 1)
            cloud.send("order", b"true", f"{name}2")
            until("both run", lambda: all(fan_runs(board) for board in boards))
            until("both are confirmed", lambda: label(gateway, edge, "delivered") == 2)

            cloud.send("order", b'"sideways"', f"{name}3")
            until("it is dead", lambda: label(gateway, edge, "dead") == 1)
            until("it rests in the spool", lambda: gateway.good("spool", "list", "--dead").count(f"{name}3") == 1)
            draw("share.deadletter", f"{grave.role}.in")
            cloud.send("order", b'"upside down"', f"{name}4")
            until("it is in its grave", lambda: grave.on("in") == [b'"upside down"'])
            gateway.good("graph", "disconnect", "share.deadletter", f"{grave.role}.in")
            cloud.send("order", b'"inside out"', f"{name}5")
            until("it rests in the spool", lambda: f"{name}5" in gateway.good("spool", "list", "--dead"))
            assert grave.on("in") == [b'"upside down"']
    finally:
        for board in boards:
            board.process.stop()
        cloud.close()
        grave.close()
