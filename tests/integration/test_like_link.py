"""The connection that carries likes: replies in order, and after any error a new connection and a safe retry."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreUnavailable
from dianzan.store import like_link
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import open_client
from dianzan.store.store import Store
from tests.support.casting import Ballot, answered, call_of, calls_of, cast, document, identities, voter, waiting
from tests.support.servers import on_every_store
from tests.support.wait import until

A = voter("a")


@pytest.fixture
async def campaign(store: Store) -> Document:
    made = document(shards=1)
    await store.gates.open(made, made.rules.every_shard, first=True)
    return made


class DeafProxy:
    """Carries bytes to the store and back; while `deaf` it closes a connection instead of giving back an answer."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._carriers: set[asyncio.Task[None]] = set()
        self.deaf = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address to connect to; every connection must be closed before the block ends."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield urlunsplit(self._url._replace(netloc=f":{self._url.password}@127.0.0.1:{port}"))
        server.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*self._carriers)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carriers.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection(self._url.hostname, self._url.port)
        there = asyncio.create_task(_copy(reader, to_store))
        while (answer := await from_store.read(65_536)) and not self.deaf:
            writer.write(answer)
        writer.close()
        await there


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@on_every_store
async def test_every_reply_belongs_to_the_call_in_its_place(store: Store, link: LikeLink) -> None:
    campaign = document(shards=4, likes_per_window=9)
    await store.gates.open(campaign, campaign.rules.every_shard, first=True)
    ballots: list[Ballot] = [(voter(n), range(1, 2 + n % 9)) for n in range(600)]
    calls = calls_of(campaign, ballots)
    random.Random(5).shuffle(calls)

    replies = await link.send(calls)

    assert len(calls) > 4
    for call, reply in zip(calls, replies, strict=True):
        assert answered(reply) == ["c" * size for size in call.sizes]


async def test_a_connection_that_is_cut_while_a_batch_is_out_leaves_it_unknown_and_asking_again_settles_it(
    client: Redis, store: Store, campaign: Document, link: LikeLink
) -> None:
    await cast(link, campaign, (voter("first"), [1]))
    await client.client_pause(20000, all=False)
    sending = asyncio.create_task(cast(link, campaign, (A, [2])))

    async def out() -> bool:
        return any(found["cmd"] == "fcall" and "b" in found["flags"] for found in await client.client_list())

    await until(out, what="the batch waits in the store")
    await client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        await sending
    await client.client_unpause()

    assert await cast(link, campaign, (A, [2])) in (["c"], ["a"])
    assert await store.tallies.total(campaign.rules.every_shard) == {1: 1, 2: 1}


async def test_a_like_whose_answer_was_lost_is_counted_once_when_asked_again(
    store: Store, store_url: str, campaign: Document
) -> None:
    proxy = DeafProxy(store_url)
    async with proxy.listening() as url:
        through = open_client(url)
        link = LikeLink(through)
        await cast(link, campaign, (voter("first"), [1]))
        proxy.deaf = True

        with pytest.raises(StoreUnavailable):
            await cast(link, campaign, (A, [2]))

        assert await store.tallies.total(campaign.rules.every_shard) == {1: 1, 2: 1}
        proxy.deaf = False
        assert await cast(link, campaign, (A, [2])) == ["a"]
        await link.close()
        await through.aclose()
    assert await store.tallies.total(campaign.rules.every_shard) == {1: 1, 2: 1}
    assert sorted(candidate for _, candidate, _ in identities(await waiting(store, campaign))) == [1, 2]


@pytest.mark.parametrize("connected", [True, False], ids=["mid-way", "while connecting"])
async def test_a_stalled_store_is_answered_as_unknown_within_the_time_out(
    client: Redis, campaign: Document, link: LikeLink, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    if connected:
        await cast(link, campaign, (voter("first"), [1]))
    monkeypatch.setattr(like_link, "STORE_TIMEOUT_S", 0.3)
    await client.client_pause(600)
    started = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await cast(link, campaign, (A, [1]))

    assert time.monotonic() - started < 0.5
    monkeypatch.undo()
    assert await cast(link, campaign, (A, [1])) in (["c"], ["a"])


async def test_a_store_that_is_away_is_answered_as_unknown(unused_tcp_port: int, campaign: Document) -> None:
    away = open_client(f"redis://127.0.0.1:{unused_tcp_port}/0")
    with pytest.raises(StoreUnavailable):
        await cast(LikeLink(away), campaign, (A, [1]))
    await away.aclose()


async def test_a_cancelled_batch_drops_its_connection_so_that_no_reply_shifts(
    client: Redis, campaign: Document, link: LikeLink
) -> None:
    await cast(link, campaign, (voter("first"), [1]))
    await client.client_pause(300, all=False)
    sending = asyncio.create_task(link.send([call_of(campaign, [(A, [1, 2, 3])])]))

    async def out() -> bool:
        return any(found["cmd"] == "fcall" and "b" in found["flags"] for found in await client.client_list())

    await until(out, what="the batch waits in the store")
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert await cast(link, campaign, (voter("b"), [5])) == ["c"]


async def test_a_server_that_answers_another_shape_is_not_believed(
    client: Redis, store: Store, campaign: Document, link: LikeLink
) -> None:
    await client.function_load(
        "#!lua name=dianzan\nredis.register_function('like_v1', function() return 'cc' end)", replace=True
    )

    with pytest.raises(StoreUnavailable):
        await link.send([call_of(campaign, [(voter(n), [1])]) for n in range(3)])

    await store.load_library()
    assert await cast(link, campaign, (A, [1])) == ["c"]


async def test_a_connection_that_was_closed_while_idle_costs_no_like(
    client: Redis, link: LikeLink, campaign: Document
) -> None:
    await cast(link, campaign, (A, [1]))
    connection: Any = link._connection
    await client.client_kill_filter(_type="normal", skipme=True)

    async def noticed() -> bool:
        return bool(connection._reader.at_eof() or connection._reader.exception())

    await until(noticed, what="the end of the connection has arrived")

    assert await cast(link, campaign, (A, [2])) == ["c"]
