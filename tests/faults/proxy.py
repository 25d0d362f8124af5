"""A TCP proxy on a link of the system, which breaks as told: cut, refuse, delay, stall, half-close, swallow replies."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import StrEnum

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Mode(StrEnum):
    """What happens to the bytes of every connection, old and new."""

    carry = "carry"
    stall = "stall"  # connections open, nothing is carried either way
    deaf = "deaf"  # requests are carried, replies swallowed
    refuse = "refuse"  # connections are closed as soon as they open


class Proxy:
    """Carries one link. `delay_s` is added to every piece in both directions."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay_s = 0.0
        self._mode = Mode.carry
        self._moving = asyncio.Event()
        self._moving.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Close every connection and the listener."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, mode: Mode) -> None:
        """Change what happens from now on; `refuse` also cuts what is open."""
        self._mode = mode
        if mode is Mode.stall:
            self._moving.clear()
        else:
            self._moving.set()
        if mode is Mode.refuse:
            self.cut()

    def heal(self) -> None:
        """Carry everything again, on new connections: what was swallowed cannot come back."""
        broken = self._mode in (Mode.deaf, Mode.stall)
        self.delay_s = 0.0
        self.set(Mode.carry)
        if broken:
            self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def half_close(self) -> None:
        """End the sending side of every connection, and leave the other open."""
        for writer in list(self._writers):
            with suppress(OSError, RuntimeError):
                writer.write_eof()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self._mode is Mode.refuse:
                return
            back, there = await asyncio.open_connection(*self.target)
            self._writers.add(there)
            pumps = [
                asyncio.create_task(self._pump(reader, there, is_reply=False)),
                asyncio.create_task(self._pump(back, writer, is_reply=True)),
            ]
            _done, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pending:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            return  # the server is away: the client sees its connection closed
        finally:
            for each in (writer, there):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        while data := await reader.read(65_536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._moving.wait()
            if is_reply and self._mode is Mode.deaf:
                continue
            writer.write(data)
            await writer.drain()
