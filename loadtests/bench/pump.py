"""Pipelines to the store, so many in flight on each of some connections that the client is never what is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import hiredis
import uvloop

from dianzan.local.folder import HOST
from loadtests.bench.errors import BenchError

CONNECTIONS = 4
IN_FLIGHT = 4  # pipelines of a connection: the next is there when the store has answered one
PUMP_S_MAX = 600.0

Pipeline = tuple[Callable[[], bytes], int]  # what makes its bytes at the moment they are sent, and its replies


def pump(work: Mapping[str, Sequence[Pipeline]], on_reply: Callable[[Any], None]) -> float:
    """Send each store (by its URL) its pipelines, hand every reply on, and return the seconds until the last came.

    Raises BenchError on an error reply.
    """
    return uvloop.run(_pump(work, on_reply))


async def _pump(work: Mapping[str, Sequence[Pipeline]], on_reply: Callable[[Any], None]) -> float:
    pipes = [
        await _connected(url, waiting, on_reply)
        for url, waiting in ((url, iter(pipelines)) for url, pipelines in work.items())
        for _ in range(CONNECTIONS)
    ]
    started = time.perf_counter()
    for pipe in pipes:
        pipe.start()
    async with asyncio.timeout(PUMP_S_MAX):
        await asyncio.gather(*(pipe.done for pipe in pipes))
    took = time.perf_counter() - started
    for pipe in pipes:
        pipe.close()
    return took


async def _connected(url: str, waiting: Iterator[Pipeline], on_reply: Callable[[Any], None]) -> _Pipe:
    loop, store = asyncio.get_running_loop(), urlsplit(url)
    _transport, pipe = await loop.create_connection(
        lambda: _Pipe(waiting, on_reply, loop.create_future()), HOST, store.port or 0
    )
    await pipe.authenticate(str(store.password))
    return pipe


class _Pipe(asyncio.Protocol):
    """One connection; takes its next pipeline from those that wait for all."""

    def __init__(
        self, waiting: Iterator[Pipeline], on_reply: Callable[[Any], None], done: asyncio.Future[None]
    ) -> None:
        self._waiting, self._on_reply, self.done = waiting, on_reply, done
        self._reader = hiredis.Reader()
        self._expected: list[int] = []  # replies still to come of each pipeline in flight
        self._transport: Any = None
        self._known: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(BenchError(f"The store closed a connection: {exc}."))

    async def authenticate(self, password: str) -> None:
        """Send the password and wait for its answer."""
        self._known = asyncio.get_running_loop().create_future()
        self._transport.write(hiredis.pack_command(("AUTH", password)))  # type: ignore[arg-type]
        await self._known
        self._known = None

    def start(self) -> None:
        """Send the first pipelines."""
        for _ in range(IN_FLIGHT):
            self._send()
        self._end_if_idle()

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                return self._fail(reply)
            if self._known is not None:
                self._known.set_result(None)
                continue
            self._on_reply(reply)
            self._expected[0] -= 1
            if not self._expected[0]:
                del self._expected[0]
                self._send()
                self._end_if_idle()
        return None

    def _send(self) -> None:
        pipeline = next(self._waiting, None)
        if pipeline is not None:
            make, replies = pipeline
            self._expected.append(replies)
            self._transport.write(make())

    def _end_if_idle(self) -> None:
        if not self._expected and not self.done.done():
            self.done.set_result(None)

    def _fail(self, reply: Exception) -> None:
        error = BenchError(f"The store refused: {reply}")
        waiting = self._known or self.done
        if not waiting.done():
            waiting.set_exception(error)
