"""One RabbitMQ for both sides: its MQTT plugin (3.1.1, no message ids, dots made slashes) instead of Mosquitto."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from gateway.model.address import mqtt
from gateway.model.message import Message, Outcome
from gateway.mqtt.transport import MqttConnector, MqttSettings
from tests.support.clients import AmqpParticipant, discovery
from tests.support.gateway import Gateway, SimulatedBoard, gateway_with, pair_thermometer, simulated_board, until
from tests.support.peer import MqttPeer
from tests.support.rabbitmq import BothSides
from tests.support.taker import taking
from tests.support.traffic import send_until_there

CONFIG = """\
[gateway]
instance = "shop.example.org"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
[http]
listen = ""
[coordinator]
graph = "{graph}"
discovery_period_s = 4
"""

GRAPH = """\
attic(thermometer) TEMP -> READING cloud(Elsewhere) FAN -> FAN attic
meter(Elsewhere) VALUE -> ARCHIVE cloud
cloud ORDER -> ORDER meter
"""

VALUES, ORDERS = "meter/value.raw", "meter/order.now"


def test_a_board_a_device_and_a_worker_meet_on_rabbitmq_alone_through_a_kill(
    rabbitmq_with_mqtt: BothSides, tmp_path: Path
) -> None:
    graph = tmp_path / "graph.fbp"
    graph.write_text(GRAPH)
    config = CONFIG.format(mqtt=rabbitmq_with_mqtt.mqtt_url, amqp=rabbitmq_with_mqtt.amqp_url, graph=graph)
    inports, outports = ("reading", "archive"), ("fan", "order")
    cloud = AmqpParticipant(rabbitmq_with_mqtt.amqp_url, "cloud", inports=inports, outports=outports)
    try:
        with (
            simulated_board(tmp_path) as board,
            gateway_with(tmp_path / "gateway", config) as gateway,
            MqttPeer(rabbitmq_with_mqtt.mqtt_url) as meter,
        ):
            meter.listen(ORDERS)
            pair_thermometer(gateway, board)
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            until("all edges are wired", partial(wired, gateway, meter, 4))
            until("a reading is at the queue", lambda: bool(cloud.on("reading")))
            until("values come through", partial(value_comes_through, meter, cloud))
            send_until_there(cloud, "order", b"probe", "probe", lambda: bool(meter.heard.now(without_dots(ORDERS))))
            for number in range(200):
                meter.send(VALUES, str(number).encode())
                cloud.send("order", str(number).encode(), f"order-{number}")
                if number == 100:
                    os.kill(gateway.daemon.pid, signal.SIGKILL)
                    gateway.close()
                    gateway.start()
            cloud.send("fan", b"true", "fan-on")
            wanted = {str(number).encode() for number in range(200)}
            until("every value is at the queue", lambda: wanted <= {body for _, body in cloud.on("archive")})
            until("every order is at the topic", lambda: wanted <= set(meter.heard.now(without_dots(ORDERS))))
            until("the fan runs", partial(fan_runs, board))
    finally:
        cloud.close()


def wired(gateway: Gateway, meter: MqttPeer, edges: int) -> bool:
    """Whether so many edges of the graph have both their ends; announces the meter again until then."""
    meter.send("fbp", discovery("meter", {"order": ORDERS}, {"value": VALUES}))
    status = gateway.status()
    return not status["waiting"] and sum("->" in edge["label"] and edge["up"] for edge in status["edges"]) >= edges


def value_comes_through(meter: MqttPeer, cloud: AmqpParticipant) -> bool:
    """Send one, and see whether one is there."""
    meter.send(VALUES, b"probe")
    return bool(cloud.on("archive"))


def without_dots(topic: str) -> str:
    """As the plugin gives it out."""
    return topic.replace(".", "/")


def fan_runs(board: SimulatedBoard) -> bool:
    """Whether pin 7 is on."""
    return bool(board.ask("get 7")["value"] == 1)


async def test_what_the_plugin_kept_for_us_is_told_from_what_is_new(rabbitmq_with_mqtt: BothSides, unique: str) -> None:
    parts = urlsplit(rabbitmq_with_mqtt.mqtt_url)
    assert parts.hostname
    assert parts.port
    name = unique.rstrip(".")
    settings = MqttSettings(
        parts.hostname, parts.port, client_id=f"{name}.own", instance=name, version="3.1.1", connect_timeout_s=60.0
    )
    source, kept = mqtt(f"{name}/a"), [b"%d" % number for number in range(100)]
    connector = MqttConnector(settings)
    async with connector.connect() as session:
        await session.subscribe(source, 10)
    async with MqttConnector(replace(settings, client_id=f"{name}.other")).connect() as other:
        for body in kept:
            await other.publish(source, Message(body.decode(), body))
        async with connector.connect() as session, taking(session) as taker:
            await session.subscribe(source, 10)
            settled = 0
            while not (taker.got and not taker.got[-1].redelivered):
                await other.publish(source, Message("new", b"new"))
                await taker.until(settled + 1)
                for delivery in taker.got[settled:]:
                    session.settle_soon(delivery, Outcome.ACCEPTED)
                settled = len(taker.got)
        assert [one.message.body for one in taker.got if one.redelivered][: len(kept)] == kept
