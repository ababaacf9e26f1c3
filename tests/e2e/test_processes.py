"""Participants that the gateway starts: which of them, how they are, and who hears when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.gateway import WAIT_S, Gateway, gateway_with, until
from tests.support.mosquitto import Mosquitto

CONFIG = """\
[mqtt]
url = "{url}"
[coordinator]
graph = "{directory}/graph.fbp"
component_dir = "{directory}/components"
"""

REPEAT = """\
import gateway.participant as msgflo


class Repeat(msgflo.Participant):
    def __init__(self, role):
        ports = [{"id": "in", "type": "any"}], [{"id": "out", "type": "any"}]
        super().__init__({"component": "Repeat", "inports": ports[0], "outports": ports[1]}, role)

    def process(self, inport, msg):
        self.send("out", msg.data)
        self.ack(msg)
"""

SPEC = """\
topic: Repeat
timeout: 60000
fixture:
  type: fbp
  data: |
    INPORT=it.IN:IN
    OUTPORT=it.OUT:OUT
    it(Repeat)
cases:
- name: a number
  assertion: comes out as it went in
  inputs: {in: 5}
  expect: {out: {equals: 5}}
"""


def processes(gateway: Gateway) -> dict[str, dict[str, Any]]:
    return {one["role"]: one for one in gateway.status()["processes"]}


async def hear_of_death(gateway: Gateway, role: str) -> Any:
    """What an editor is told when the process of a role is killed."""
    url = gateway.status()["http"]["url"]
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=("noflo",)) as socket:
        request = {"protocol": "network", "command": "getstatus", "payload": {"graph": "default/main"}}
        await socket.send_json(request)
        await socket.receive_json(timeout=WAIT_S)
        os.kill(processes(gateway)[role]["pid"], signal.SIGKILL)
        while (message := await socket.receive_json(timeout=WAIT_S))["command"] != "processerror":
            pass
        return message["payload"]


def test_processes_are_chosen_shown_watched_and_tested(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "Repeat.py").write_text(REPEAT)
    (tmp_path / "graph.fbp").write_text("a(Repeat) OUT -> IN b(Repeat), c(Repeat)\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    config = CONFIG.format(url=mosquitto.url, directory=tmp_path)
    with gateway_with(tmp_path / "gateway", config) as gateway:
        gateway.start("--ignore", "b,d")
        until("a and c run", lambda: [one["state"] for one in processes(gateway).values()] == ["running", "running"])
        until("a and c were heard", lambda: gateway.good("participants").count("alive") == 2)
        assert list(processes(gateway)) == ["a", "c"]
        payload = asyncio.run(hear_of_death(gateway, "c"))
        assert (payload["id"], payload["error"]) == ("c", "ended by SIGKILL")
        until("it was started again", lambda: processes(gateway)["c"]["starts"] == 2)
        shown = gateway.good("status")
        assert "PROCESS  STATE" in shown
        assert gateway.status()["http"]["url"] in shown
        assert "1 passed" in gateway.good("test", str(tmp_path / "spec.yaml"), "--command-timeout", "60")
