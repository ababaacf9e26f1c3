"""A board in somebody else's graph: exported, wired on the broker by another coordinator, and back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import aio_pika

from tests.support.clients import AmqpParticipant
from tests.support.gateway import WAIT_S, SimulatedBoard, gateway_with, pair_thermometer, simulated_board, until
from tests.support.mosquitto import Mosquitto

CONFIG = """\
[gateway]
instance = "{name}"
[mqtt]
url = "{mqtt}"
[amqp]
url = "{amqp}"
discover = "off"
export = ["attic"]
export_prefix = "{name}-"
[http]
listen = ""
[coordinator]
discovery_period_s = 2
"""


async def wire(url: str, role: str, worker: AmqpParticipant) -> list[bytes]:
    """Do what another coordinator does: hear who is there, and bind exchanges to queues. Returns what it heard."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        discovered = await channel.declare_queue("fbp", durable=True)
        heard: list[bytes] = []
        async with asyncio.timeout(WAIT_S), discovered.iterator() as messages:
            async for message in messages:
                await message.ack()
                heard.append(message.body)
                if f'"{role}"'.encode() in message.body:
                    break
        readings = await channel.get_queue(f"{worker.role}.READING")
        await readings.bind(await channel.get_exchange(f"{role}.TEMP"))
        fan = await channel.get_queue(f"{role}.FAN")
        await fan.bind(await channel.get_exchange(f"{worker.role}.ADVICE"))
        return heard


def test_another_coordinator_wires_an_exported_board_like_any_worker(
    mosquitto: Mosquitto, rabbitmq: str, unique: str, tmp_path: Path
) -> None:
    name = unique.rstrip(".")
    config = CONFIG.format(mqtt=mosquitto.url, amqp=rabbitmq, name=name)
    worker = AmqpParticipant(rabbitmq, f"{name}-worker", inports=("reading",), outports=("advice",))
    try:
        with simulated_board(tmp_path) as board, gateway_with(tmp_path / "gateway", config) as gateway:
            pair_thermometer(gateway, board)
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
            heard = asyncio.run(wire(rabbitmq, f"{name}-attic", worker))
            assert b'"component":"thermometer"' in heard[-1]
            until("readings are at the worker", lambda: len(worker.on("reading")) >= 2)
            worker.send("advice", b"true", f"{name}-1")
            until("the fan runs", partial(fan_runs, board))
    finally:
        worker.close()


def test_two_gateways_give_the_same_role_to_one_cloud_under_a_prefix_each(
    mosquitto: Mosquitto, mosquitto_own: Mosquitto, rabbitmq: str, unique: str, tmp_path: Path
) -> None:
    north, south = f"{unique.rstrip('.')}north", f"{unique.rstrip('.')}south"
    with ExitStack() as stack:
        worker = AmqpParticipant(rabbitmq, f"{north}-both", inports=("reading",), outports=("advice",))
        stack.callback(worker.close)
        boards = {}
        for name, broker in ((north, mosquitto), (south, mosquitto_own)):
            directory = tmp_path / name
            directory.mkdir()
            boards[name] = stack.enter_context(simulated_board(directory))
            config = CONFIG.format(mqtt=broker.url, amqp=rabbitmq, name=name)
            gateway = stack.enter_context(gateway_with(directory / "gateway", config))
            pair_thermometer(gateway, boards[name])
            gateway.start()
            gateway.wait_up("mqtt", "amqp")
        for name in (north, south):
            asyncio.run(wire(rabbitmq, f"{name}-attic", worker))
        until("readings of both are at the worker", lambda: len(sources(worker)) == 2)
        worker.send("advice", b"true", f"{north}-1")
        for name in (north, south):
            until(f"the fan of {name} runs", partial(fan_runs, boards[name]))


def sources(worker: AmqpParticipant) -> set[str]:
    """The boards that readings came from: an id ends with the boot and the number of the message."""
    return {message_id.rsplit("-", 2)[0] for message_id, _ in worker.on("reading")}


def fan_runs(board: SimulatedBoard) -> bool:
    """Whether pin 7 is on."""
    return bool(board.ask("get 7")["value"] == 1)
