"""A connection on which every byte is the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def statuses(self) -> list[str]:
        return [result["status"] for result in json.loads(self.body)["results"]]


class Wire:
    """One connection; what is sent and read is bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Send pieces one after another, each by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, *, body: bool = True) -> Answer:
        """The next answer."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            length = int(headers.get("content-length", 0)) if body else 0
            return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(length))

    async def ended(self) -> bool:
        """Whether the server closes the connection, with nothing more to read."""
        async with asyncio.timeout(10):
            return await self.reader.read() == b""

    async def until_closed(self) -> None:
        """Read to the end of the connection, whatever comes and however it ends."""
        with suppress(ConnectionResetError):
            await self.reader.read()


@asynccontextmanager
async def wired(port: int) -> AsyncIterator[Wire]:
    """A connection to a loopback port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
