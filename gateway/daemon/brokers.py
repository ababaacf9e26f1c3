"""The brokers that the configuration names: the connection to each, made again when it ends, and the one of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import msgspec

from gateway.config.load import is_local, masked_url, with_password
from gateway.config.places import Places
from gateway.config.schema import Config
from gateway.daemon.amqp_discovery import AmqpDiscovery
from gateway.daemon.mqtt_announcer import MqttAnnouncer
from gateway.daemon.state_dir import client_id, secret
from gateway.errors import TransportDown
from gateway.mqtt.core.settings import MqttSettings
from gateway.mqtt.transport import MqttConnector
from gateway.mqtt.transport import settings_of as mqtt_settings
from gateway.routing.pump import Pump
from gateway.supervise import LONGEST_LOCAL_DELAY_S, Backoff, ConnectionReport, keep_connected
from gateway.transport import Connector, Session

log = logging.getLogger(__name__)


class Brokers:
    """``mqtt_url`` is known after ``prepare``. ``reports`` are the connections as ``gateway status`` shows them."""

    def __init__(self, config: Config, places: Places, instance: str) -> None:
        self._config = config
        self._places = places
        self._instance = instance
        self._mqtt_version: Literal["auto", "3.1.1"] = "auto"
        self._mqtt_session: Session | None = None
        self.mqtt_url = config.mqtt.url
        self.mqtt_forgets = False
        """Whether our own broker forgets what is not acknowledged in time: then nothing can be held there."""
        self.reports: dict[str, ConnectionReport] = {}

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Have our own broker run, if that is the one."""
        if not self.mqtt_url.startswith("embedded:"):
            return
        from gateway.mqtt.embedded import embedded_broker

        broker = await stack.enter_async_context(embedded_broker(self._places.state))
        self.mqtt_url = broker.url
        self.mqtt_forgets, self._mqtt_version = broker.forgets_unsettled, broker.version

    @property
    def url_of_participants(self) -> str:
        """The broker that participants started here are told: MQTT, unless only AMQP was named."""
        cloud, local = self._config.amqp, self._config.mqtt
        if cloud.url and local.url.startswith("embedded:"):
            return with_password(_first(cloud.url), secret(cloud.password, cloud.password_file, "amqp.password_file"))
        return with_password(self.mqtt_url, secret(local.password, local.password_file, "mqtt.password_file"))

    @property
    def shown(self) -> list[str]:
        """The addresses, for people."""
        parts = [f"mqtt {masked_url(self.mqtt_url)}"]
        if self._config.amqp.url:
            parts.append(f"amqp {masked_url(_first(self._config.amqp.url))}")
        return parts

    def start(
        self,
        group: asyncio.TaskGroup,
        announcer: MqttAnnouncer,
        pump: Pump,
        cloud: AmqpDiscovery,
        keeps_session: Callable[[], bool],
    ) -> list[asyncio.Task[None]]:
        """One task for each broker. ``keeps_session``: whether the MQTT broker shall keep our session when we leave now."""
        local = MqttConnector(self._mqtt_settings(announcer), keeps_session)

        async def serve(session: Session) -> None:
            self._mqtt_session = session
            try:
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(pump.serve(session, "mqtt"), name="mqtt:pump")
                    inner.create_task(announcer.serve(session), name="mqtt:announce")
            finally:
                self._mqtt_session = None

        tasks = [group.create_task(self._keep(local, serve, self.mqtt_url), name="link:mqtt")]
        section = self._config.amqp
        if section.url:
            # Only here: 5 MiB and a tenth of the start, which a gateway without an AMQP side does without.
            from gateway.amqp.transport import AmqpConnector, settings_of

            password = secret(section.password, section.password_file, "amqp.password_file")
            streams = self._places.state / "streams.json"
            far = AmqpConnector(settings_of(section, instance=self._instance, password=password, streams_file=streams))
            tasks.append(group.create_task(self._keep(far, cloud.serve, _first(section.url)), name="link:amqp"))
        return tasks

    def _mqtt_settings(self, announcer: MqttAnnouncer) -> MqttSettings:
        section = self._config.mqtt
        if self._mqtt_version != "auto":
            section = msgspec.structs.replace(section, version=self._mqtt_version)
        return mqtt_settings(
            section,
            self.mqtt_url,
            instance=self._instance,
            client_id=section.client_id or client_id(self._instance, self._places.state),
            password=secret(section.password, section.password_file, "mqtt.password_file"),
            will=announcer.will,
        )

    async def _keep(self, connector: Connector, serve: Callable[[Any], Any], url: str) -> None:
        report = self.reports.setdefault(connector.name, ConnectionReport(connector.name))
        backoff = Backoff(LONGEST_LOCAL_DELAY_S) if is_local(url) else Backoff()
        await keep_connected(connector, serve, backoff, report)

    async def say_goodbye(self, announcer: MqttAnnouncer, within_s: float) -> None:
        """Tell on MQTT that we go, if the broker is there."""
        session = self._mqtt_session
        if session is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await announcer.say_goodbye(session)
        except (TimeoutError, TransportDown):
            log.debug("gateway: the broker did not take the good-bye")


def _first(url: str | tuple[str, ...]) -> str:
    return url if isinstance(url, str) else url[0]
