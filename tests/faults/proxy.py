"""A TCP proxy on a link of the system, which breaks as told.

It cuts (RST), refuses, delays, stalls (at once, or at a request that is waited for), half-closes, leaves connections
half-open, and swallows the replies to requests that are executed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Mode(StrEnum):
    """What happens to the bytes of every connection, old and new."""

    carry = "carry"
    stall = "stall"  # connections open, nothing is carried either way
    deaf = "deaf"  # requests are carried, replies swallowed
    refuse = "refuse"  # connections are closed as soon as they open


@dataclass(eq=False)
class Awaited:
    """A request at which a link changes: `met` once it comes by, `executed` once its reply has been swallowed."""

    request: bytes
    mode: Mode
    met: asyncio.Event = field(default_factory=asyncio.Event)
    executed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class _Connection:
    """One carried connection: the client's side of it and, once it is open, the server's."""

    here: asyncio.StreamWriter
    there: asyncio.StreamWriter | None = None
    forsaken: bool = False  # the server's side is gone, and the client has not been told
    carried: Awaited | None = None  # the request that was waited for and came by here

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        return [self.here, *([self.there] if self.there else [])]


class Proxy:
    """Carries one link. `delay_s` is added to every piece in both directions. `held` counts the pieces that a stall
    holds back now, `opened` the connections that have reached the server so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay_s = 0.0
        self.held = 0
        self.opened = 0
        self._mode = Mode.carry
        self._moving = asyncio.Event()
        self._moving.set()
        self._awaited: Awaited | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1_024)
        self.port = self._server.sockets[0].getsockname()[1]

    @classmethod
    async def before(cls, url: str) -> tuple[Proxy, str]:
        """A proxy before the server of an address, and the address to use instead."""
        parts = urlsplit(url)
        proxy = cls(parts.hostname or "127.0.0.1", parts.port or 0)
        await proxy.start()
        login = parts.netloc.rpartition("@")[0]
        return proxy, urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))

    async def aclose(self) -> None:
        """Close every connection and the listener."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, mode: Mode) -> None:
        """Change what happens from now on. `refuse` cuts what is open, too; `carry` delivers what a stall held back."""
        self._mode = mode
        if mode is Mode.stall:
            self._moving.clear()
        else:
            self._moving.set()
        if mode is Mode.refuse:
            self.cut()

    def set_at(self, request: bytes, mode: Mode) -> Awaited:
        """Change what happens once these bytes come by, for them already: a stall holds them back."""
        self._awaited = Awaited(request, mode)
        return self._awaited

    def heal(self) -> None:
        """Carry everything again, on new connections: what was swallowed cannot come back."""
        broken = self._mode in (Mode.deaf, Mode.stall) or any(each.forsaken for each in self._connections)
        self.delay_s = 0.0
        self._awaited = None
        if broken:
            self.cut()
        self.set(Mode.carry)

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in self._connections:
            for writer in connection.writers:
                _reset(writer)

    def half_close(self) -> None:
        """End the sending side of every connection, and leave the other open."""
        for connection in self._connections:
            for writer in connection.writers:
                with suppress(OSError, RuntimeError):
                    writer.write_eof()

    def forsake(self) -> None:
        """Leave every open connection half-open: the server forgets it, the client is not told."""
        for connection in self._connections:
            if connection.there is not None:
                connection.forsaken = True
                _reset(connection.there)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._mode is Mode.refuse:
                return
            back, connection.there = await asyncio.open_connection(*self.target)
            self.opened += 1
            pumps = [
                asyncio.create_task(self._pump(connection, reader, connection.there, is_reply=False)),
                asyncio.create_task(self._pump(connection, back, writer, is_reply=True)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if connection.forsaken:
                await pumps[0]  # until the client gives up
        except OSError:
            return  # the server is away: the client sees its connection closed
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._connections.discard(connection)
            for each in connection.writers:
                each.close()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        while data := await reader.read(65_536):
            if self._awaited is not None and not is_reply and self._awaited.request in data:
                connection.carried, self._awaited = self._awaited, None
                self.set(connection.carried.mode)
                connection.carried.met.set()
            await self._pause()
            if is_reply and self._mode is Mode.deaf and connection.carried is not None:
                connection.carried.executed.set()
            if (is_reply and self._mode is Mode.deaf) or connection.forsaken:
                continue
            writer.write(data)
            await writer.drain()

    async def _pause(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        self.held += 1
        try:
            await self._moving.wait()
        finally:
            self.held -= 1


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
