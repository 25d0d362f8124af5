"""The contract of the other server functions, the promise, and each key the store edge owns, on each kind of store."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dianzan.domain import wire
from dianzan.domain.campaign import Document, State
from dianzan.domain.errors import (
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from dianzan.domain.limits import KEPT_LIFE_S
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.domain.wire import Entry
from dianzan.store import durability, keys, library
from dianzan.store.durability import DURABLE_SETTINGS
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tests.support.casting import (
    call_of,
    cast,
    document,
    today,
    voter,
    waiting,
)
from tests.support.servers import on_every_store
from tests.support.store_state import configured, dump, opened
from tests.support.wait import until

A, B = voter("a"), voter("b")

# ---- open_v1, close_v1, remove_v1 -----------------------------------------------------------------------------------


@on_every_store
async def test_a_gate_is_given_new_rules_only_where_it_is_open(store: Store, link: LikeLink) -> None:
    campaign = await opened(store, likes_per_window=1)
    await cast(link, campaign, (A, [1]))
    later = campaign.model_copy(update={"version": 3})

    await store.gates.open(later, later.rules.every_shard, first=False)

    assert await cast(link, later, (A, [1])) == ["a"]


@on_every_store
async def test_a_shard_that_lost_its_gate_is_not_opened_again(client: Redis, store: Store) -> None:
    campaign = await opened(store, shards=2)
    await client.delete(keys.gate(Shard(campaign.rules.id, 1)))
    before = await dump(client)

    with pytest.raises(StoreError, match="UNGATED"):
        await store.gates.open(campaign, campaign.rules.every_shard, first=False)

    assert await dump(client) == before
    assert await store.gates.missing(campaign.rules.every_shard) == [campaign.rules.every_shard[1]]


@on_every_store
@pytest.mark.parametrize("first", [True, False])
async def test_a_closed_shard_is_never_opened_again(client: Redis, store: Store, first: bool) -> None:
    campaign = await opened(store)
    await store.gates.close(campaign.rules.every_shard)
    await store.gates.close(campaign.rules.every_shard)
    before = await dump(client)

    with pytest.raises(StoreError, match="SHUT"):
        await store.gates.open(campaign, campaign.rules.every_shard, first=first)

    assert await dump(client) == before


@on_every_store
async def test_rules_of_an_older_version_never_replace_later_ones(client: Redis, store: Store) -> None:
    campaign = await opened(store, shards=2)
    older = campaign.model_copy(update={"version": campaign.version - 1})
    await store.documents.publish(campaign)
    before = await dump(client)

    with pytest.raises(StoreError, match="OLDER"):
        await store.gates.open(older, older.rules.every_shard, first=False)
    with pytest.raises(StoreError, match="OLDER"):
        await store.documents.publish(older)

    assert await dump(client) == before
    assert await store.documents.versions() == {campaign.rules.id: campaign.version}


@on_every_store
async def test_only_a_shard_that_takes_no_likes_is_cleared(client: Redis, store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [1]), (B, [2]))
    before = await dump(client)

    with pytest.raises(StoreError, match="GATED"):
        await store.clear(campaign.rules.every_shard[0])
    assert await dump(client) == before
    await store.gates.close(campaign.rules.every_shard)
    await store.clear(campaign.rules.every_shard[0])

    kept = {keys.gate(Shard(campaign.rules.id, 0)), keys.stream(Shard(campaign.rules.id, 0))}
    assert {key.decode() for key in await dump(client)} == kept


@on_every_store
async def test_the_marks_of_many_voters_are_read_at_once(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [3, 1]), (B, [2]))

    found = await store.marks.read(campaign, campaign.rules.every_shard[0], today(campaign), [A, B, voter("nobody")])

    assert found == {A: (3, 1), B: (2,), voter("nobody"): ()}


@on_every_store
async def test_an_entry_is_removed_once_and_only_with_its_own_batch(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [1]))
    await cast(link, campaign, (B, [1]))
    first, second = await waiting(store, campaign)
    remove: Callable[[Sequence[tuple[bytes, bytes]]], Any] = lambda pairs: store.streams.remove(  # noqa: E731
        campaign.rules.every_shard[0], pairs
    )

    assert await remove([(first.entry_id, os.urandom(8))]) == 0
    assert await waiting(store, campaign) == [first, second]
    assert await remove([(first.entry_id, first.batch), (second.entry_id, first.batch)]) == 1
    assert await waiting(store, campaign) == [second]
    assert await remove([(first.entry_id, first.batch)]) == 0
    assert await remove([(second.entry_id, second.batch), (second.entry_id, second.batch)]) == 1
    assert await store.streams.backlog(campaign.rules.every_shard) == [0]


# ---- keep_v1 --------------------------------------------------------------------------------------------------------


async def kept(store: Store, campaign: Document, *, after: bytes | None = None) -> list[Entry]:
    """Every entry kept of shard 0, oldest first."""
    return [
        wire.unpack_entry(*each)
        for each in await store.streams.read_kept(Shard(campaign.rules.id, 0), 100, after=after)
    ]


async def test_an_entry_is_kept_once_and_only_with_its_own_batch(client: Redis, store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [1]))
    await cast(link, campaign, (B, [1]))
    first, second = await waiting(store, campaign)
    name = campaign.rules.id

    assert await store.streams.keep(Shard(name, 0), [(first.entry_id, os.urandom(8)), (b"5-1", first.batch)]) == 0
    assert (await waiting(store, campaign), await kept(store, campaign)) == ([first, second], [])
    assert await store.streams.keep(Shard(name, 0), [(first.entry_id, first.batch)] * 2) == 1
    assert await store.streams.keep(Shard(name, 0), [(second.entry_id, second.batch)]) == 1

    assert await waiting(store, campaign) == []
    found = await kept(store, campaign)
    assert [(e.batch, e.ballots) for e in found] == [(e.batch, e.ballots) for e in (first, second)]
    assert await kept(store, campaign, after=found[0].entry_id) == found[1:]
    assert 0 < await client.ttl(keys.kept(Shard(name, 0))) <= KEPT_LIFE_S


@on_every_store
async def test_what_was_kept_before_an_instant_is_dropped(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    for liker in (A, B):
        await cast(link, campaign, (liker, [1]))
        [entry] = await waiting(store, campaign)
        await store.streams.keep(Shard(campaign.rules.id, 0), [(entry.entry_id, entry.batch)])
        await until(_later_than(store, campaign), what="the store's next millisecond")
    first, second = await kept(store, campaign)

    def ms(entry: Entry) -> int:
        return int(entry.entry_id.partition(b"-")[0])

    assert await store.streams.drop_kept(Shard(campaign.rules.id, 0), ms(first)) == 0
    assert await store.streams.drop_kept(Shard(campaign.rules.id, 0), ms(second)) == 1
    assert await kept(store, campaign) == [second]
    assert (
        await store.streams.drop_kept(Shard(campaign.rules.id, 0), await store.clock_ms(Shard(campaign.rules.id, 0)))
        == 1
    )


def _later_than(store: Store, campaign: Document) -> Callable[[], Awaitable[bool]]:
    async def later() -> bool:
        newest = (await kept(store, campaign))[-1].entry_id
        return await store.clock_ms(Shard(campaign.rules.id, 0)) > int(newest.partition(b"-")[0])

    return later


async def test_no_more_entries_are_kept_than_the_most(client: Redis, store: Store) -> None:
    names, node_entries = (
        [keys.stream(Shard("c", 0)), keys.kept(Shard("c", 0))],
        100,
    )  # a stream is trimmed by whole nodes
    for number in range(3 * node_entries):
        await client.xadd(names[0], {"v": "1", "b": "batch"}, id=f"{number + 1}-0")
        assert await client.fcall("keep_v1", 2, *names, "10", "60", f"{number + 1}-0", "batch") == 1

    assert await client.xlen(names[0]) == 0
    assert 10 <= await client.xlen(names[1]) <= 10 + node_entries


async def test_a_full_store_keeps_nothing_and_removes_nothing(client: Redis, store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [1]))
    [entry] = await waiting(store, campaign)
    async with configured(client, "maxmemory", "1mb"):
        with pytest.raises(StoreFull):
            await store.streams.keep(Shard(campaign.rules.id, 0), [(entry.entry_id, entry.batch)])
    assert (await waiting(store, campaign), await kept(store, campaign)) == ([entry], [])


# ---- the library and the promise ------------------------------------------------------------------------------------


async def test_the_library_is_loaded_upgraded_and_never_taken_back(client: Redis, store: Store) -> None:
    async def serve(version: int) -> None:
        source = library.source().replace(f"LIBRARY_VERSION = {library.VERSION}", f"LIBRARY_VERSION = {version}")
        await client.function_load(source, replace=True)

    await client.function_delete(library.NAME)
    assert await library.version(client) is None
    assert len(await store.load_library()) == 1
    assert await library.version(client) == library.VERSION

    await serve(library.VERSION - 1)
    assert any("library" in why for why in await durability.durability_gaps(client, replicated=False))
    await store.load_library()
    assert await library.version(client) == library.VERSION

    await serve(library.VERSION + 1)
    assert await store.load_library() == []
    assert await library.version(client) == library.VERSION + 1
    assert await durability.durability_gaps(client, replicated=False) == [], "a newer library serves older programs"
    await serve(library.VERSION)


@on_every_store
async def test_the_store_as_it_is_started_here_keeps_the_promise(client: Redis, store: Store) -> None:
    await store.load_library()
    assert await durability.durability_gaps(client, replicated=False) == []


WEAK = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
}


@pytest.mark.parametrize("name", DURABLE_SETTINGS)
async def test_every_weak_setting_breaks_the_promise_and_is_named(client: Redis, store: Store, name: str) -> None:
    async with configured(client, name, WEAK[name]):
        [broken] = await durability.durability_gaps(client, replicated=False)
    assert broken.startswith(name)
    assert WEAK[name] in broken


async def test_a_store_without_the_library_breaks_the_promise(client: Redis, store: Store) -> None:
    await client.function_delete(library.NAME)

    [broken] = await durability.durability_gaps(client, replicated=False)

    assert "library" in broken
    with pytest.raises(ResponseError):
        await client.fcall("version_v1", 0)


# ---- the rest of the edge -------------------------------------------------------------------------------------------


@on_every_store
async def test_a_document_is_read_back_as_it_was_published(store: Store) -> None:
    campaign = document(state=State.published, width=2)

    assert await store.documents.read(campaign.rules.id) is None
    await store.documents.publish(campaign)

    assert await store.documents.read(campaign.rules.id) == campaign
    assert await store.documents.versions() == {campaign.rules.id: campaign.version}


async def test_a_full_store_asks_a_new_voter_to_come_again(client: Redis, store: Store) -> None:
    async with configured(client, "maxmemory", "1"):
        with pytest.raises(StoreUnavailable):
            await store.rates.count_minted("c", -5, 100)


async def test_tokens_minted_are_counted_per_network_and_minute_and_expire(client: Redis, store: Store) -> None:
    assert [await store.rates.count_minted("c", -5, 100) for _ in range(3)] == [1, 2, 3]
    assert await store.rates.count_minted("c", 6, 100) == 1
    assert await store.rates.count_minted("c", -5, 101) == 1
    assert 0 < await client.ttl(keys.tokens_minted("c", -5, 100)) <= 120


async def test_the_estimate_of_people_is_within_three_percent_at_twenty_thousand(store: Store) -> None:
    people = 20_000
    hashes = [voter(n) for n in range(people)]

    for start in range(0, people, 2_000):
        part = hashes[start : start + 2_000]
        found = await store.tallies.people(Shard("c", 0), {0: part, 7: part[:1]})
    again = await store.tallies.people(Shard("c", 0), {0: hashes[:5_000]})

    assert found[0] == pytest.approx(people, rel=0.03)
    assert found[7] == 10
    assert again[0] == found[0]


@on_every_store
async def test_dropping_marks_takes_those_of_one_window_only(client: Redis, store: Store, link: LikeLink) -> None:
    campaign = await opened(store, shards=2, expected_voters=20_000, likes_per_window=1)
    window = campaign.rules.window_at(now_ms())
    later = replace(window, day=window.day + 1)
    calls = [call_of(campaign, [(voter(n), [1])], of) for n in range(50) for of in (window, later)]
    await link.send(calls)
    marks = {wire.shard_of(voter(n), 2) * 1_000 + wire.bucket_of(voter(n), campaign.rules.buckets) for n in range(50)}

    assert await store.marks.drop(campaign.rules, window.day) == len(marks)
    assert await store.marks.drop(campaign.rules, window.day) == 0

    assert [await store.marks.liked(campaign, window.day, voter(n)) for n in range(50)] == [()] * 50
    assert [await store.marks.liked(campaign, later.day, voter(n)) for n in range(50)] == [(1,)] * 50
    assert await store.tallies.total(campaign.rules.every_shard) == {1: 100}
