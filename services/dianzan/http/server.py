"""Serves an application by HTTP until SIGTERM: one set of options for every service, and an end that refuses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import uvicorn

from dianzan.http.asgi import App
from dianzan.http.connection import Connection
from dianzan.http.connections import ServerState
from dianzan.process import background, machine

SWEEP_EVERY_S: Final = 1.0
LAST_ARRIVAL_S_MAX: Final = 1.0  # for the request on a connection that came at the end


def serve(
    app: App,
    *,
    host: str,
    port: int,
    protocol: type[Connection] = Connection,
    keep_alive_s: int = 5,
    graceful_s: int,
    drain_s: float = 0,
    trusted_proxies: str = "127.0.0.1",
    at_end: Callable[[Any], None] = lambda _state: None,
) -> None:
    """Serve until SIGTERM or SIGINT; return when what was accepted is answered.

    After SIGTERM the process is not ready for `drain_s` more, but answers; each answer ends its connection. Then
    `at_end` is called with the lifespan's state, nothing more is accepted, and what is open is waited for `graceful_s`.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=trusted_proxies,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=graceful_s,
        backlog=4_096,  # clients that all come again after a restart
    )
    with suppress(KeyboardInterrupt):
        Server(config, drain_s=drain_s, at_end=at_end).run()


class Server(uvicorn.Server):
    """uvicorn's server with a look at all connections each second, and with a drain before its end."""

    def __init__(self, config: uvicorn.Config, *, drain_s: float, at_end: Callable[[Any], None]) -> None:
        super().__init__(config)
        self.server_state: ServerState = ServerState(config.timeout_keep_alive)
        self._drain_s, self._at_end = drain_s, at_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, with as many connections as the limit of open files has room for."""
        self.server_state.connections_max = machine.raise_open_files() + machine.OPEN_FILES_KEPT_FREE // 2
        await super().startup(sockets)
        self._sweeping = background.spawn("connections", self._sweep())

    async def main_loop(self) -> None:
        """Serve until asked to end, then drain: a proxy learns of it from readiness and from closed connections."""
        await super().main_loop()
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + (0 if background.died else self._drain_s)
        self.lifespan.state["draining"] = True
        self.server_state.drain()
        while loop.time() < ends_s and signal.SIGINT not in self._captured_signals:
            await self.on_tick(0)  # renews the date that answers carry
            await asyncio.sleep(0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has come so far, then as uvicorn does."""
        self._at_end(self.lifespan.state)
        self.server_state.lingering = self._drain_s > 0
        self.server_state.arrival_s_max = LAST_ARRIVAL_S_MAX
        await self._stop_listening()
        await super().shutdown(sockets)
        await background.stop(self._sweeping)

    async def _stop_listening(self) -> None:
        """Close the listening sockets and take over what waits in them, which the kernel would reset otherwise."""
        waiting = [socket.socket(fileno=os.dup(s.fileno())) for server in self.servers for s in server.sockets or ()]
        for server in self.servers:
            server.close()
        for listening in waiting:
            with listening, suppress(BlockingIOError):
                listening.setblocking(False)
                for _ in range(self.config.backlog):
                    accepted, _address = listening.accept()
                    accepted.setblocking(False)
                    await asyncio.get_running_loop().connect_accepted_socket(self._connection, accepted)

    def _connection(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self.server_state.sweep(loop.time())
