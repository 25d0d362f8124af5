"""A small HTTP/1.1 client for the voters of a run: one connection a voter, 0.1 ms a request."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any


class Connection:
    """One keep-alive connection to one server; any error closes it, and the next request opens another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.headers: dict[str, str] = {}  # of the last answer

    async def ask(self, method: str, path: str, *, token: str = "", body: object = None) -> tuple[int, Any]:
        """The status and the decoded JSON of the answer. Raises OSError or EOFError where there is none."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(content)}\r\n" + (f"authorization: Bearer {token}\r\n" if token else "")
        try:
            reader, writer = await self._open()
            writer.write(head.encode() + b"\r\n" + content)
            status, self.headers, found = await _answer(reader)
            return status, found
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams


async def get(port: int, path: str) -> tuple[int, Any]:
    """One request on a connection of its own: status and decoded JSON. Raises OSError or EOFError if not answered."""
    connection = Connection(port)
    try:
        return await connection.ask("GET", path)
    finally:
        connection.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, json.loads(content) if content else None
