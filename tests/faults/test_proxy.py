"""The proxies break links as they say, or a scenario would show nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.faults.proxy import Mode, Proxy
from tests.support.wait import until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SILENCE_S = 0.15


@dataclass
class Link:
    """A server that answers every line with itself, behind a proxy; `heard` is what has reached it."""

    proxy: Proxy
    heard: list[bytes] = field(default_factory=list)
    open: int = 0
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        self.clients.append(writer)
        return reader, writer

    async def reached(self, line: bytes) -> None:
        async def seen() -> bool:
            return line in self.heard

        await until(seen, within_s=5, what=f"{line!r} reaches the server")


@asynccontextmanager
async def echoing() -> AsyncIterator[Link]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.open += 1
        with suppress(OSError):
            while line := await reader.readline():
                link.heard.append(line)
                writer.write(line)
        link.open -= 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = Link(Proxy("127.0.0.1", server.sockets[0].getsockname()[1]))
    await link.proxy.start()
    try:
        yield link
    finally:
        for client in link.clients:
            client.transport.abort()
        await link.proxy.aclose()
        server.close()
        await asyncio.sleep(0)  # the loop closes what was aborted


async def said(streams: Streams, line: bytes = b"a\n") -> bytes:
    """The answer to one line; b"" where the connection has ended."""
    streams[1].write(line)
    async with asyncio.timeout(5):
        return await streams[0].readline()


async def is_silent(streams: Streams, line: bytes = b"a\n") -> bool:
    """Whether a line has no answer for a while."""
    streams[1].write(line)
    try:
        async with asyncio.timeout(SILENCE_S):
            await streams[0].readline()
    except TimeoutError:
        return True
    return False


async def test_it_carries_both_ways() -> None:
    async with echoing() as link:
        assert await said(await link.connect()) == b"a\n"


async def test_a_cut_resets_what_is_open_and_nothing_else() -> None:
    async with echoing() as link:
        streams = await link.connect()
        await said(streams)
        link.proxy.cut()
        with pytest.raises(ConnectionResetError):
            await said(streams)
        assert await said(await link.connect()) == b"a\n"


async def test_refused_connections_end_at_once_until_it_is_healed() -> None:
    async with echoing() as link:
        link.proxy.set(Mode.refuse)
        with suppress(ConnectionResetError):
            assert await said(await link.connect()) == b""
        link.proxy.heal()
        assert await said(await link.connect()) == b"a\n"


async def test_a_stall_holds_everything_back_and_can_carry_on() -> None:
    async with echoing() as link:
        streams = await link.connect()
        link.proxy.set(Mode.stall)
        assert await is_silent(streams)
        assert (link.heard, link.proxy.held) == ([], 1)
        link.proxy.set(Mode.carry)
        assert await streams[0].readline() == b"a\n"


async def test_a_healed_stall_has_new_connections_only() -> None:
    async with echoing() as link:
        streams = await link.connect()
        await said(streams)
        link.proxy.set(Mode.stall)
        assert await is_silent(streams)
        link.proxy.heal()
        with pytest.raises(ConnectionResetError):
            await said(streams)
        assert await said(await link.connect()) == b"a\n"


async def test_a_stall_at_a_request_stops_that_request_and_no_earlier_one() -> None:
    async with echoing() as link:
        streams = await link.connect()
        stalled = link.proxy.set_at(b"this", Mode.stall)
        assert await said(streams, b"that\n") == b"that\n"
        assert await is_silent(streams, b"this\n")
        assert stalled.met.is_set()
        assert link.heard == [b"that\n"]


async def test_the_reply_to_one_request_can_be_lost() -> None:
    async with echoing() as link:
        streams = await link.connect()
        lost = link.proxy.set_at(b"this", Mode.deaf)
        assert await said(streams, b"that\n") == b"that\n"
        assert await is_silent(streams, b"this\n")
        assert lost.met.is_set()
        async with asyncio.timeout(5):
            await lost.executed.wait()
        assert link.heard == [b"that\n", b"this\n"]


async def test_a_deaf_link_has_requests_executed_and_answers_nothing() -> None:
    async with echoing() as link:
        streams = await link.connect()
        link.proxy.set(Mode.deaf)
        assert await is_silent(streams)
        await link.reached(b"a\n")


async def test_a_forsaken_connection_is_open_here_and_gone_there() -> None:
    async with echoing() as link:
        streams = await link.connect()
        await said(streams)
        link.proxy.forsake()
        assert await is_silent(streams, b"b\n")

        async def gone() -> bool:
            return link.open == 0

        await until(gone, within_s=5)
        assert b"b\n" not in link.heard
        assert await said(await link.connect()) == b"a\n"
        link.proxy.heal()
        with pytest.raises(ConnectionResetError):
            await said(streams)


async def test_a_half_closed_connection_ends_after_what_was_on_its_way() -> None:
    async with echoing() as link:
        streams = await link.connect()
        await said(streams)
        link.proxy.half_close()
        async with asyncio.timeout(5):
            assert await streams[0].read() == b""


async def test_a_slow_link_is_slow_both_ways_and_healed_fast() -> None:
    async with echoing() as link:
        streams = await link.connect()
        link.proxy.delay_s = 0.1
        began_s = time.monotonic()
        assert await said(streams) == b"a\n"
        assert time.monotonic() - began_s >= 0.2
        link.proxy.heal()
        began_s = time.monotonic()
        assert await said(streams) == b"a\n"
        assert time.monotonic() - began_s < 0.2


async def test_a_server_that_is_away_ends_the_connection() -> None:
    proxy = Proxy("127.0.0.1", 1)
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await proxy.aclose()
