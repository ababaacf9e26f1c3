"""Boards that are not on a port of this machine: behind a TCP connection, and on an MQTT broker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config.schema import SerialSection
from gateway.errors import ConfigError, ConnectFailed, ConnectionLost, EndedOnPurpose
from gateway.model.address import serial
from gateway.model.message import Message
from gateway.mqtt.microflo_line import open_line
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.ports.schemes import NETWORKS, opener
from gateway.simulator.core.board import Board
from tests.support.boards import LOOP_GRAPH, board_maker, patient_links, request, simulated
from tests.support.mosquitto import Mosquitto
from tests.support.relay import Relay
from tests.support.wait import soon

WAIT_S = 120.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_links(monkeypatch)


def boards(state: Path) -> Boards:
    return Boards(
        state,
        SerialSection(boot_wait_s=0.0, request_timeout_s=10.0),  # what is in between may stand still for a while
        on_change=lambda: None,
        on_running=lambda board_id: None,
        open_port=opener({**NETWORKS, "mqtt+microflo": open_line}),
    )


@asynccontextmanager
async def served(tty: Path) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """What ser2net does: one connection at a time to a port. Setting the event cuts it."""
    cut = asyncio.Event()
    clients: set[asyncio.Task[None] | None] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        clients.add(asyncio.current_task())
        port = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        loop.add_reader(port, lambda: writer.write(os.read(port, 4096)))
        cutting = asyncio.ensure_future(cut.wait())
        try:
            while not cut.is_set():
                reading = asyncio.ensure_future(reader.read(4096))
                await asyncio.wait((reading, cutting), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() or not reading.result():
                    reading.cancel()
                    break
                os.write(port, reading.result())
        finally:
            cutting.cancel()
            loop.remove_reader(port)
            os.close(port)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        cut.set()
        server.close()
        await asyncio.wait([task for task in clients if task is not None])


async def echoed(all_boards: Boards, board_id: str, value: object) -> Any:
    """What comes back from a board that runs the loop graph."""
    async with all_boards.connector(board_id).connect() as session:
        await session.subscribe(serial(board_id, "out"), 10)
        await session.publish(serial(board_id, "in"), Message("m1", msgspec.json.encode(value)))
        async with asyncio.timeout(WAIT_S):
            delivery = await anext(session.deliveries())
    return msgspec.json.decode(delivery.message.body)


async def test_a_board_behind_a_tcp_connection_is_a_board(tmp_path: Path) -> None:
    mine = boards(tmp_path / "state")
    async with simulated(tmp_path / "tty"), served(tmp_path / "tty") as (number, _):
        paired = await mine.pair(request(f"tcp://127.0.0.1:{number}", LOOP_GRAPH))
        assert paired["port"] == f"tcp://127.0.0.1:{number}"
        assert await echoed(mine, paired["id"], [1, 2]) == [1, 2]


async def test_a_board_that_boots_lets_go_of_its_port_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.serial_link.connected.connector.LET_GO_S", 10 * WAIT_S)
    mine = boards(tmp_path / "state")
    async with simulated(tmp_path / "tty"), served(tmp_path / "tty") as (number, _):
        paired = await mine.pair(request(f"tcp://127.0.0.1:{number}", LOOP_GRAPH))
        await mine.set(paired["id"], "boot_wait_s", "60")
        connector = mine.connector(paired["id"])

        async def connect() -> None:
            async with connector.connect():
                pass

        connecting = asyncio.ensure_future(connect())
        await soon(lambda: mine.states()[0]["state"] == "opening")
        async with asyncio.timeout(40), connector.let_go():
            with pytest.raises(EndedOnPurpose, match="its port was lent"):
                await connecting


async def test_a_cut_tcp_connection_ends_the_session(tmp_path: Path) -> None:
    mine = boards(tmp_path / "state")
    async with simulated(tmp_path / "tty"), served(tmp_path / "tty") as (number, cut):
        paired = await mine.pair(request(f"tcp://127.0.0.1:{number}", LOOP_GRAPH))
        async with mine.connector(paired["id"]).connect() as session:
            cut.set()
            with pytest.raises(ConnectionLost, match="the other end closed the connection"):
                async with asyncio.timeout(WAIT_S):
                    await anext(session.deliveries())


async def test_what_is_wrong_with_a_network_port_is_told(tmp_path: Path) -> None:
    mine = boards(tmp_path / "state")
    with pytest.raises(ConnectFailed, match=r"can't be reached: .*does ser2net run there"):
        await mine.pair(request("tcp://127.0.0.1:1", LOOP_GRAPH))
    with pytest.raises(ConfigError, match="a network port is written tcp://host:port"):
        await mine.pair(request("tcp://127.0.0.1", LOOP_GRAPH))
    with pytest.raises(ConfigError, match="there is no way to a port at telnet://"):
        await mine.pair(request("telnet://127.0.0.1:23", LOOP_GRAPH))
    with pytest.raises(ConfigError, match=r"written mqtt\+microflo://HOST"):
        await mine.pair(request("mqtt+microflo://127.0.0.1", LOOP_GRAPH))


class MqttBoard:
    """A board whose firmware has MQTT in the place of a serial line; it speaks in paho's own thread."""

    def __init__(self, url: str, role: str) -> None:
        self._board: Board = board_maker()(0.0)
        self._role = role
        host, _, port = url.removeprefix("mqtt://").partition(":")
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{role}/microflo/receive")
        self._client.on_message = self._heard
        listens = threading.Event()
        self._client.on_subscribe = lambda *_: listens.set()
        self._client.connect(host, int(port))
        self._client.loop_start()
        assert listens.wait(WAIT_S)

    def _heard(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._board.receive(bytes(message.payload), 1.0)
        said = self._board.data_to_send()
        for at in range(0, len(said), 10):
            client.publish(f"{self._role}/microflo/send", said[at : at + 10])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def test_a_board_on_mqtt_is_a_board(tmp_path: Path, mosquitto: Mosquitto) -> None:
    mine = boards(tmp_path / "state")
    place = mosquitto.url.removeprefix("mqtt://")
    board = MqttBoard(mosquitto.url, "house/attic")
    try:
        paired = await mine.pair(request(f"mqtt+microflo://{place}/house/attic/microflo/", LOOP_GRAPH))
        assert await echoed(mine, paired["id"], 42) == 42
    finally:
        board.close()


async def test_a_line_on_mqtt_is_left_also_where_the_broker_has_fallen_silent(mosquitto: Mosquitto) -> None:
    async with Relay("127.0.0.1", mosquitto.port) as relay:
        line = await open_line(f"mqtt+microflo://127.0.0.1:{relay.port}/house/attic/microflo/")
        relay.stall()
        open_with_it = len(os.listdir("/proc/self/fd"))
        line.close()
        async with asyncio.timeout(120):
            while len(os.listdir("/proc/self/fd")) == open_with_it:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_board_that_is_not_on_mqtt_is_silent(tmp_path: Path, mosquitto: Mosquitto) -> None:
    place = mosquitto.url.removeprefix("mqtt://")
    with pytest.raises(ConnectFailed, match="nothing answers"):
        await boards(tmp_path / "state").pair(request(f"mqtt+microflo://{place}/nobody/microflo/", LOOP_GRAPH))
