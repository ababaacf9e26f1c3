"""The one HTTP server: FBP runtimes over WebSocket, health, metrics. The only home of aiohttp."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.errors import Conflict
from gateway.fbp.runtime.access import Access
from gateway.fbp.runtime.backend import Backend
from gateway.fbp.runtime.protocol_messages import LONGEST_FRAME
from gateway.web.clients import serve_client
from gateway.web.core.metrics import CONTENT_TYPE, not_ready, render_metrics
from gateway.web.core.origins import Listen, is_local, is_own_origin, parse_listen, refusal

log = logging.getLogger(__name__)

SUBPROTOCOL = "noflo"
PING_S = 30.0
MOST_CLIENTS = 64
SHUTDOWN_S = 2.0

Backends = Callable[[str], Backend | None]
"""The runtime of a name: empty for the coordinator, else a board's id or role; None if there is none."""


class WebServer:
    """Serves from ``run`` or within ``listening``. ``listen`` is ``HOST:PORT``; port 0 takes a free one.

    Raises ``ConfigError`` for an address that others can reach when ``access`` has no secret.
    """

    def __init__(
        self, listen: str, access: Access, backends: Backends, status: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._listen = parse_listen(listen, has_secret=access.has_secrets)
        self._access = access
        self._backends = backends
        self._status = status
        self._numbers = itertools.count(1)
        self._clients: dict[str, web.WebSocketResponse] = {}
        self.port = self._listen.port

    @property
    def url(self) -> str:
        """Where FBP clients connect to."""
        return f"ws://{Listen(self._listen.host, self.port)}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[WebServer]:
        """Listen while the block runs. ``Conflict`` if the address is taken."""
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        site = web.TCPSite(runner, self._listen.host, self._listen.port)
        try:
            try:
                await site.start()
            except OSError as exc:
                reason = exc.strerror or str(exc)
                raise Conflict(
                    f"http {self._listen}: {reason}; another address: http.listen in the configuration"
                ) from exc
            self.port = runner.addresses[0][1]
            log.info("http: listening on %s", Listen(self._listen.host, self.port))
            yield self
        finally:
            await runner.cleanup()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.listening():
            await asyncio.Event().wait()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/", self._coordinator)
        application.router.add_get("/devices/{name:.+}", self._board)
        application.router.add_get("/health", self._health)
        application.router.add_get("/ready", self._ready)
        application.router.add_get("/metrics", self._metrics)
        application.on_shutdown.append(self._say_goodbye)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Nobody's web page, and no other machine, without a secret."""
        why = refusal(request.headers.get("Origin"), request.host, has_secret=self._access.has_secrets)
        if why:
            log.warning("http: refused %s from %s: %s", request.path, request.remote, why)
            return web.Response(status=403, text=f"{why}\n")
        response: web.StreamResponse = await handler(request)
        return response

    async def _say_goodbye(self, application: web.Application) -> None:
        for client in list(self._clients.values()):
            await client.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway ends")

    # -- runtimes --------------------------------------------------------------------------------------------------

    async def _coordinator(self, request: web.Request) -> web.StreamResponse:
        return await self._runtime(request, "")

    async def _board(self, request: web.Request) -> web.StreamResponse:
        return await self._runtime(request, request.match_info["name"])

    async def _runtime(self, request: web.Request, name: str) -> web.StreamResponse:
        backend = self._backends(name)
        if backend is None:
            return web.Response(status=404, text=f"no board {name}; see: gateway devices\n")
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return web.Response(text=_page(backend, _address(request)), content_type="text/html")
        if len(self._clients) >= MOST_CLIENTS:
            return web.Response(status=503, text=f"{MOST_CLIENTS} clients are connected already\n")
        return await self._converse(request, backend, name)

    async def _converse(self, request: web.Request, backend: Backend, name: str) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), heartbeat=PING_S, max_msg_size=LONGEST_FRAME, compress=False
        )
        await socket.prepare(request)
        client = f"{request.remote}/{next(self._numbers)}"
        self._clients[client] = socket
        log.info("fbp client %s: connected to %s", client, name or "the coordinator")
        transport = request.transport

        def drop() -> None:
            if transport is not None:
                transport.abort()

        try:
            access = self._access_of(request)
            await serve_client(client, backend, access, _frames(socket), socket.send_str, drop)
        finally:
            del self._clients[client]
            log.info("fbp client %s: disconnected", client)
        return socket

    def _access_of(self, request: web.Request) -> Access:
        """A page of another web site gets nothing before it shows a secret, not even to read."""
        origin = request.headers.get("Origin")
        if origin is None or is_own_origin(origin):
            return self._access
        return self._access.for_strangers()

    # -- health ----------------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        status = self._status()
        why = not_ready(status)
        links = {link["name"]: str(link["state"]) for link in status.get("links", [])}
        return web.json_response({"ready": not why, "reason": why, "links": links}, status=503 if why else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        """For this machine, or with a secret: ``Authorization: Bearer SECRET``."""
        if self._access.has_secrets and not is_local(request.remote, request.host) and not self._knows_secret(request):
            return web.Response(status=401, text="give a secret: Authorization: Bearer SECRET\n")
        text = render_metrics(self._status(), {"fbp_clients": len(self._clients)})
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _knows_secret(self, request: web.Request) -> bool:
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        shown = text.encode("utf-8", "surrogateescape")
        known = [hmac.compare_digest(secret.encode(), shown) for secret in self._access.by_secret]
        return kind.lower() == "bearer" and any(known)


async def _frames(socket: web.WebSocketResponse) -> AsyncIterator[str]:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            yield message.data
        elif message.type is WSMsgType.BINARY:
            yield ""  # answered as what it is: no JSON


def _address(request: web.Request) -> str:
    """Where this page was asked for, as an FBP client names it. The host is whatever the browser said."""
    scheme = "wss" if request.scheme == "https" else "ws"
    return f"{scheme}://{request.host.encode('ascii', 'replace').decode()}{request.rel_url.raw_path}"


def _page(backend: Backend, address: str) -> str:
    info = backend.info
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(info.label)}</title>"
        f"<h1>{escape(info.label)}</h1><p>An FBP runtime of type {escape(info.type)}."
        f" Connect an FBP editor to <code>{escape(address)}</code>"
        f" (protocol <code>websocket</code>, id <code>{escape(info.id)}</code>).</p>"
        "<p><a href=/health>health</a> <a href=/ready>ready</a> <a href=/metrics>metrics</a></p>\n"
    )
