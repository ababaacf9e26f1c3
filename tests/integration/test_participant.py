"""Participants in Python on real brokers: MsgFlo's acceptance, acknowledgements, reconnection, old files unchanged."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from click.testing import CliRunner

from examples.private_rabbitmq import PrivateRabbitMQ
from gateway.cli.main import main
from gateway.participant import Message, Participant, open_participant, run
from gateway.participant.blocking import MOST_UNSENT, Engine
from gateway.participant.core.definition import PortName
from gateway.participant.run import make_broker
from tests.support.gateway import Process, until
from tests.support.mosquitto import Mosquitto
from tests.support.peer import AmqpPeer, peer_on

WAIT_S = 120.0

OLD_FILE = """
    import sys, os
    sys.path.append(os.path.abspath("."))
    import gevent, gevent.event
    import msgflo

    class Repeat(msgflo.Participant):
      def __init__(self, role):
        d = {
          'component': 'PythonRepeat',
          'label': 'Repeat input data without change',
        }
        msgflo.Participant.__init__(self, d, role)

      def process(self, inport, msg):
        assert inport == 'in' and inport['id'] == 'in'
        self.send('out', msg.data)
        self.ack(msg)

    if __name__ == "__main__":
      msgflo.main(Repeat)
"""

SEVEN = {"id", "icon", "role", "component", "label", "inports", "outports"}


@pytest.fixture(params=["amqp", "mqtt"])
def broker(request: pytest.FixtureRequest) -> str:
    """The url of a real broker, one of each kind."""
    if request.param == "amqp":
        return str(request.getfixturevalue("rabbitmq"))
    return str(request.getfixturevalue("mosquitto").url)


@contextmanager
def started(tmp_path: Path, text: str, role: str, broker: str, *options: str) -> Iterator[Process]:
    """``gateway participant run`` on a file of this text, once it says that it is connected."""
    file = tmp_path / "part.py"
    file.write_text(textwrap.dedent(text))
    process = Process("participant", "run", str(file), role, "--broker", broker, *options)
    try:
        process.wait_line(" running on ")
        yield process
    finally:
        process.kill()


def test_a_file_for_the_old_library_passes_msgflos_acceptance(tmp_path: Path, broker: str, unique: str) -> None:
    role = f"{unique}repeat"
    with peer_on(broker) as peer, started(tmp_path, OLD_FILE, role, broker) as process:
        scheme = broker.partition(":")[0]
        assert process.lines == [f"{role}(PythonRepeat) running on {scheme}://127.0.0.1"]
        definition = peer.definition(role)
        assert set(definition) == SEVEN
        assert definition["component"] == "PythonRepeat"
        [inport], [outport] = definition["inports"], definition["outports"]
        assert (inport["id"], outport["id"]) == ("in", "out")
        peer.listen(outport["queue"])
        peer.send(inport["queue"], b'{"bar":"foo"}')
        assert json.loads(peer.wait(outport["queue"], 1)[0]) == {"bar": "foo"}
        assert process.stop() == 0
        assert len(process.lines) == 1, "nothing else was said"


def test_iips_are_processed_at_the_start_and_bytes_that_are_no_json_pass_through(
    tmp_path: Path, broker: str, unique: str
) -> None:
    role = f"{unique}repeat"
    with peer_on(broker) as peer:
        if isinstance(peer, AmqpPeer):
            peer.do(peer.channel.declare_exchange(f"{role}/out", "fanout", durable=True))
        peer.listen(f"{role}/out")
        with started(tmp_path, OLD_FILE, role, broker, "--iips", '{"in": [1, "two"]}'):
            assert json.loads(peer.wait(f"{role}/out", 1)[0]) == [1, "two"]
            peer.send(f"{role}/in", b"\xff\x00 no json")
            assert peer.wait(f"{role}/out", 2)[1] == b"\xff\x00 no json"


async def test_the_asyncio_interface_confirms_what_is_sent(broker: str, unique: str) -> None:
    definition = {"component": "Double", "outports": [{"id": "out", "queue": f"{unique}doubled", "unit": "m"}]}
    with peer_on(broker) as peer:
        async with asyncio.timeout(WAIT_S), open_participant(definition, f"{unique}double", broker) as me:
            await me.connected.wait()
            port = (await asyncio.to_thread(peer.definition, f"{unique}double"))["outports"][0]
            assert port == {"type": "any", "id": "out", "queue": f"{unique}doubled", "unit": "m"}
            await asyncio.to_thread(peer.listen, f"{unique}doubled")
            for number in range(200):
                await asyncio.to_thread(peer.send, f"{unique}double/in", json.dumps(number).encode())
            for _ in range(200):
                message = await anext(aiter(me))
                await me.send("out", message.data * 2)
                message.ack()
        assert [json.loads(body) for body in peer.wait(f"{unique}doubled", 200)] == list(range(0, 400, 2))


async def test_an_error_of_the_block_leaves_it_as_it_is(rabbitmq: str, unique: str) -> None:
    with pytest.raises(KeyError):
        async with open_participant({"component": "A"}, f"{unique}a", rabbitmq):
            raise KeyError("mine")


class Picky(Participant):
    """Refuses what is odd, by nack, or by falling over."""

    def __init__(self, role: str) -> None:
        super().__init__({"component": "Picky"}, role)

    def process(self, inport: PortName, inmsg: Message) -> None:
        """Pass on even numbers."""
        if inmsg.data == "fall":
            raise RuntimeError("fallen over")
        if inmsg.data == "leave":
            sys.exit("enough")
        if inmsg.data % 2:
            self.nack(inmsg)
            return
        self.send("out", inmsg.data)
        self.ack(inmsg)


def test_what_is_nacked_or_fails_is_a_dead_letter_and_the_rest_goes_on(rabbitmq: str, unique: str) -> None:
    role = f"{unique}picky"
    engine = run(Picky(role), rabbitmq)
    with AmqpPeer(rabbitmq) as peer:
        peer.definition(role)
        peer.listen(f"{role}/out")
        for body in (b"1", b"2", b'"fall"', b'"leave"', b"3", b"4"):
            peer.send(f"{role}/in", body)
        assert peer.wait(f"{role}/out", 2) == [b"2", b"4"]
        peer.listen_queue(f"dead-{role}/in")
        assert peer.wait(f"dead-{role}/in", 4) == [b"1", b'"fall"', b'"leave"', b"3"]
        engine.stop()
        assert engine.wait(WAIT_S)


class Forgetful(Participant):
    """Never acknowledges, as some participants on MQTT never did."""

    def __init__(self, role: str) -> None:
        super().__init__({"component": "Forgetful"}, role)

    def process(self, inport: PortName, inmsg: Message) -> None:
        """Pass on."""
        self.send("out", inmsg.data)


def test_a_participant_that_never_acknowledges_goes_on_all_the_same(broker: str, unique: str) -> None:
    role = f"{unique}forgetful"
    engine = run(Forgetful(role), broker)
    with peer_on(broker) as peer:
        peer.definition(role)
        peer.listen(f"{role}/out")
        for number in range(300):
            peer.send(f"{role}/in", str(number).encode())
        assert [int(body) for body in peer.wait(f"{role}/out", 300)] == list(range(300))
        engine.stop()
        assert engine.wait(WAIT_S)


class Slow(Participant):
    """Takes a while, and tells when it began."""

    def __init__(self, role: str) -> None:
        super().__init__({"component": "Slow"}, role)

    def process(self, inport: PortName, inmsg: Message) -> None:
        """Tell, work, tell."""
        import time

        self.send("out", "begun")
        time.sleep(1.0)
        self.send("out", "done")
        self.ack(inmsg)


def test_the_message_at_hand_is_finished_before_the_end(
    broker: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.participant.blocking.STOP_TIMEOUT_S", WAIT_S)
    role = f"{unique}slow"
    engine = run(Slow(role), broker)
    with peer_on(broker) as peer:
        peer.definition(role)
        peer.listen(f"{role}/out")
        peer.send(f"{role}/in", b"1")
        peer.wait(f"{role}/out", 1)
        engine.stop()
        assert engine.wait(WAIT_S)
        assert peer.wait(f"{role}/out", 2) == [b'"begun"', b'"done"']


@pytest.mark.parametrize(
    ("text", "arguments", "code", "words"),
    [
        ("import msgflo", ("part.py", "a", "--broker", "http://x"), 78, "Unsupported scheme: http"),
        ("import msgflo", ("part.py", "a"), 78, "has no class with the methods process and send"),
        ("import msgflo", ("other.py", "a"), 4, "other.py: no such Python file"),
        (OLD_FILE, ("part.py", "a", "--class", "Other"), 4, "no participant class Other (it has: Repeat)"),
        (OLD_FILE, ("part.py", "a", "--iips", "[1]"), 78, "IIPs must be a JSON object"),
        (OLD_FILE.replace("'component'", "'kind'"), ("part.py", "a"), 78, "participant a: component: must name"),
    ],
)
def test_what_can_not_run_says_why_in_one_line(
    tmp_path: Path, text: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "part.py").write_text(textwrap.dedent(text))
    file, *rest = arguments
    done = CliRunner().invoke(main, ["participant", "run", str(tmp_path / file), *rest])
    assert (done.exit_code, len(done.output.splitlines()), words in done.output) == (code, 1, True), done.output


def test_who_waits_to_send_is_let_go_at_the_end() -> None:
    me = Participant({"component": "Talker"}, "talker")
    engine = run(me, "mqtt://127.0.0.1:1")
    sent, ended = 0, threading.Event()

    def talk() -> None:
        nonlocal sent
        while not ended.is_set():
            me.send("out", 1)
            sent += me._engine is not None

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    until("as many wait as may", lambda: sent >= MOST_UNSENT)
    engine.stop()
    assert engine.wait(WAIT_S)
    ended.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_wish_to_end_that_comes_while_it_starts_is_heeded() -> None:
    me = Participant({"component": "Early"}, "early")
    engine = Engine([me], "mqtt://127.0.0.1:1", make_broker)
    engine.stop()  # as a signal does that comes before the loop runs
    engine.start()
    assert engine.wait(WAIT_S)


def test_a_wish_to_end_that_comes_while_it_ends_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of somebody who presses Ctrl-C twice."""
    engine = Engine([Participant({"component": "Late"}, "late")], "mqtt://127.0.0.1:1", make_broker)
    to_its_end, said = asyncio.run, list[str]()

    def run_and_stop(main: Coroutine[Any, Any, None]) -> None:
        to_its_end(main)
        engine.stop()
        said.append("again")

    monkeypatch.setattr("gateway.participant.blocking.asyncio.run", run_and_stop)
    engine.stop()
    engine.start()
    assert engine.wait(WAIT_S)
    assert said == ["again"]


async def test_what_was_sent_while_the_broker_was_away_arrives_when_it_is_back(
    mosquitto_own: Mosquitto, unique: str
) -> None:
    url = mosquitto_own.url
    receiver = {"component": "B", "inports": [{"id": "in", "queue": f"{unique}a/out"}]}
    async with (
        asyncio.timeout(WAIT_S),
        open_participant({"component": "A"}, f"{unique}a", url) as sender,
        open_participant(receiver, f"{unique}b", url) as other,
    ):
        await sender.connected.wait()
        await other.connected.wait()
        await asyncio.to_thread(mosquitto_own.stop)
        posted = [sender.post("out", number) for number in range(20)]
        assert not await sender.flush(0.2)
        await asyncio.to_thread(mosquitto_own.start)
        await asyncio.gather(*posted)
        heard = []
        async for message in other:
            message.ack()
            heard.append(message.data)
            if message.data == 19:
                break
        assert heard == list(range(20))


async def test_what_was_taken_and_not_acknowledged_comes_again_after_the_broker_was_killed(
    restartable_rabbitmq: PrivateRabbitMQ, unique: str
) -> None:
    broker = restartable_rabbitmq
    async with asyncio.timeout(200), open_participant({"component": "A"}, f"{unique}a", broker.url) as me:
        await me.connected.wait()
        await me.send("out", "nobody listens")
        with AmqpPeer(broker.url, takes_discovery=False) as peer:
            channel = peer.channel
            message = aio_pika.Message(b"7", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await asyncio.to_thread(peer.do, channel.default_exchange.publish(message, f"{unique}a/in"))
        first = await anext(aiter(me))
        await asyncio.to_thread(broker.kill)
        first.ack()  # of a connection that is gone: without effect
        await asyncio.to_thread(broker.start)
        again = await anext(aiter(me))
        assert (again.data, again.delivery.redelivered) == (7, True)
        again.ack()
        await me.send("out", "here again")
