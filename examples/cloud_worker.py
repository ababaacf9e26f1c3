"""A worker in the cloud: takes temperatures from an AMQP queue and says when the fan should run.

    python -m examples.cloud_worker --url amqp://guest:guest@localhost/ --count-file readings

It is an ordinary MsgFlo participant that knows nothing of boards or of the gateway: role ``cloud``, component
``FanAdvice``, an inport ``reading`` and an outport ``fan``. Like every participant it declares its own queue and
exchange, tells of itself on the queue ``fbp``, and leaves it to a coordinator to connect its ports.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

ROLE = "cloud"
INPORT_QUEUE = "cloud.READING"
OUTPORT_EXCHANGE = "cloud.FAN"

FAN_ON_C = 22.3
FAN_OFF_C = 21.9

FIRST_ANNOUNCEMENT_S = 5.0
ANNOUNCEMENT_S = 60 / 2.2  # what other MsgFlo participants do: a little more often than twice a minute
RETRY_S = 1.0


@dataclass
class FanAdvice:
    """The component: on above one temperature, off below another, and silent while nothing changes."""

    running: bool | None = None

    def reading(self, celsius: float) -> bool | None:
        """What to tell the fan now, or None when it knows already. The first reading always gives an answer."""
        wanted = self.running
        if celsius >= FAN_ON_C:
            wanted = True
        elif celsius <= FAN_OFF_C or wanted is None:
            wanted = False
        changed = wanted != self.running
        self.running = wanted
        return wanted if changed else None


def announcement() -> bytes:
    """The discovery message of this participant."""
    payload = {
        "id": f"{ROLE}-fanadvice",
        "role": ROLE,
        "component": "FanAdvice",
        "label": "Says when the fan should run",
        "icon": "cloud",
        "inports": [{"id": "reading", "type": "number", "queue": INPORT_QUEUE}],
        "outports": [{"id": "fan", "type": "boolean", "queue": OUTPORT_EXCHANGE}],
    }
    return json.dumps({"protocol": "discovery", "command": "participant", "payload": payload}).encode()


class Worker:
    """One participant, connected as long as there is a broker."""

    def __init__(self, url: str, counts: TextIO) -> None:
        self._url = url
        self._counts = counts
        self._advice = FanAdvice()

    async def run(self) -> None:
        """Work until cancelled; connect again whenever the broker went away."""
        while True:
            try:
                await self._work()
            except (TimeoutError, aio_pika.exceptions.AMQPError, OSError) as exc:
                print(f"no broker ({type(exc).__name__}), trying again", flush=True)
            await asyncio.sleep(RETRY_S)

    async def _work(self) -> None:
        self._advice = FanAdvice()  # an answer may have been lost with the connection: the next reading gives one
        connection = await aio_pika.connect(self._url, timeout=10)
        async with connection, connection.channel() as channel:
            await channel.set_qos(prefetch_count=32)
            await self._declare(channel)
            queue = await channel.get_queue(INPORT_QUEUE)
            fan = await channel.get_exchange(OUTPORT_EXCHANGE)
            print(f"worker ready, readings from {INPORT_QUEUE}", flush=True)
            announcing = asyncio.create_task(self._announce(channel), name="announce")
            try:
                async with queue.iterator() as messages:
                    async for message in messages:
                        await self._take(message, fan)
            finally:
                announcing.cancel()
                with suppress(asyncio.CancelledError, aio_pika.exceptions.AMQPError, OSError):
                    await announcing

    async def _declare(self, channel: AbstractChannel) -> None:
        """What MsgFlo's own libraries declare for an inport and an outport, with the same arguments."""
        await channel.declare_exchange(OUTPORT_EXCHANGE, "fanout", durable=True)
        arguments = {"x-dead-letter-exchange": f"dead-{INPORT_QUEUE}"}
        queue = await channel.declare_queue(INPORT_QUEUE, durable=True, arguments=dict(arguments))
        inport = await channel.declare_exchange(INPORT_QUEUE, "fanout", durable=True)
        await queue.bind(inport)
        await channel.declare_queue("fbp", durable=True)

    async def _announce(self, channel: AbstractChannel) -> None:
        period = FIRST_ANNOUNCEMENT_S
        while True:
            await channel.default_exchange.publish(aio_pika.Message(announcement()), routing_key="fbp")
            await asyncio.sleep(period * random.uniform(0.9, 1.0))
            period = min(period * 1.5, ANNOUNCEMENT_S)

    async def _take(self, message: AbstractIncomingMessage, fan: AbstractExchange) -> None:
        """One reading: note it, answer, and only then say that it was taken."""
        try:
            value = json.loads(message.body)
            celsius = float(value)
        except (ValueError, TypeError):
            print(f"no temperature: {message.body[:40]!r}", flush=True)
            await message.reject(requeue=False)
            return
        self._counts.write(f"{message.message_id or '-'} {value}\n")
        self._counts.flush()
        advice = self._advice.reading(celsius)
        if advice is None:
            print(f"{celsius:.2f} °C", flush=True)
        else:
            print(f"{celsius:.2f} °C: fan {'on' if advice else 'off'}", flush=True)
            answer = aio_pika.Message(json.dumps(advice).encode(), content_type="application/json", delivery_mode=2)
            await fan.publish(answer, routing_key="")
        await message.ack()


async def work(url: str, count_file: Path) -> None:
    """Run the worker until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    with count_file.open("a", encoding="utf-8") as counts:
        running = asyncio.create_task(Worker(url, counts).run(), name="worker")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        with suppress(asyncio.CancelledError):
            await running


def main() -> None:
    """``python -m examples.cloud_worker``."""
    parser = argparse.ArgumentParser(description="A MsgFlo participant on AMQP that says when a fan should run.")
    parser.add_argument("--url", required=True, help="the broker: amqp://user:password@host:port/vhost")
    parser.add_argument("--count-file", type=Path, default=Path("readings"), help="where every reading is noted")
    options = parser.parse_args()
    # The client library tells of every lost connection at length; one line of ours says it.
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    asyncio.run(work(options.url, options.count_file))


if __name__ == "__main__":
    main()
