"""What becomes of connections that stay: they give way to new ones, end in time, and none is dropped at the end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import uvicorn

from dianzan.http import server
from dianzan.http.asgi import Receive, Scope, Send
from dianzan.http.connection import Connection
from dianzan.process import background
from tests.support.system import free_port
from tests.support.wait import until
from tests.support.wire import Wire, wired

CONNECTIONS_MAX = 40
HELLO = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"
SLOW = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"


class Hello:
    """Answers at once, or at `/slow` when it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["path"] == "/slow":
            await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(app: Hello, *, drain_s: float = 0) -> AsyncIterator[tuple[server.Server, int]]:
    port = free_port()
    config = uvicorn.Config(
        app, port=port, http=Connection, ws="none", log_config=None, access_log=False, timeout_keep_alive=1
    )
    running = server.Server(config, drain_s=drain_s, at_end=lambda _state: None)
    serving = asyncio.create_task(running._serve())

    async def started() -> bool:
        return running.started

    await until(started, what="the server has started")
    try:
        yield running, port
    finally:
        app.let_go.set()
        running.should_exit = True
        await serving


@pytest.fixture
async def hello() -> Hello:
    return Hello()


async def _asked(wire: Wire) -> int:
    await wire.send(HELLO)
    return (await wire.answer()).status


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"],
    ids=["silent", "head", "body"],
)
async def test_more_connections_than_files_leave_room_for_new_ones(hello: Hello, sent: bytes) -> None:
    async with serving(hello) as (running, port), AsyncExitStack() as opened:
        running.server_state.connections_max = CONNECTIONS_MAX
        answered = await opened.enter_async_context(wired(port))
        await answered.send(SLOW)  # it waits for us, and stays
        for _ in range(3 * CONNECTIONS_MAX):
            wire = await opened.enter_async_context(wired(port))
            await wire.send(sent)
        honest = await opened.enter_async_context(wired(port))

        assert await _asked(honest) == 200
        assert len(running.server_state.connections) <= CONNECTIONS_MAX + 1
        hello.let_go.set()
        assert (await answered.answer()).status == 200


async def test_one_that_does_not_read_its_answers_gives_way_too(hello: Hello) -> None:
    async with serving(hello) as (running, port), AsyncExitStack() as opened:
        running.server_state.connections_max = CONNECTIONS_MAX
        unread = await opened.enter_async_context(wired(port))
        unread.writer.transport.pause_reading()  # type: ignore[attr-defined]
        unread.writer.write(HELLO * 200_000)

        async def stuck() -> bool:
            return any(each.flow.write_paused for each in running.server_state.connections)  # type: ignore[union-attr]

        await until(stuck, what="nothing more fits the socket")
        for _ in range(2 * CONNECTIONS_MAX):
            await opened.enter_async_context(wired(port))

        assert not await stuck()


async def test_one_that_asks_on_and_reads_no_answer_is_closed_after_its_time(hello: Hello) -> None:
    async with serving(hello) as (running, port), wired(port) as unread:
        running.server_state.arrival_s_max = 1
        unread.writer.transport.pause_reading()  # type: ignore[attr-defined]
        unread.writer.write(HELLO * 200_000)

        async def stuck() -> bool:
            return any(each.flow.write_paused for each in running.server_state.connections)  # type: ignore[union-attr]

        async def gone() -> bool:
            return not running.server_state.connections

        await until(stuck, what="nothing more fits the socket")
        await until(gone, within_s=5, what="it is closed")


async def test_an_idle_connection_is_closed_after_its_time_and_not_before(hello: Hello) -> None:
    async with serving(hello) as (_running, port), wired(port) as wire:
        assert await _asked(wire) == 200
        began = asyncio.get_running_loop().time()
        assert await wire.ended()

        assert 1 <= asyncio.get_running_loop().time() - began < 4


async def test_what_waits_to_be_accepted_at_the_end_is_answered(hello: Hello, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(hello, drain_s=0.2) as (running, port), AsyncExitStack() as opened:
        stop_listening = running._stop_listening
        late: list[asyncio.Future[bytes]] = []

        async def after_more_have_come() -> None:
            for _ in range(5):  # without a turn of the loop, which would accept them
                client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                client.sendall(HELLO)
                late.append(asyncio.get_running_loop().run_in_executor(None, client.recv, 1_000))
            await stop_listening()

        monkeypatch.setattr(running, "_stop_listening", after_more_have_come)
        running.should_exit = True

        async def asked() -> bool:
            return len(late) == 5

        await until(asked, what="the server has come to its end")
        answers = await asyncio.gather(*late)

    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 5
    assert all(b"connection: close" in answer for answer in answers)


@pytest.mark.parametrize("why", ["Ctrl-C", "a task has died"])
async def test_a_process_that_nobody_relies_on_or_that_is_broken_does_not_drain(
    hello: Hello, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async with asyncio.timeout(10), serving(hello, drain_s=60) as (running, _port):
        if why == "Ctrl-C":
            running.handle_exit(signal.SIGINT, None)
        else:
            monkeypatch.setattr(background, "died", {"store-watch"})
