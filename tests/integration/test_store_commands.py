"""The commands that production sends reply alike on every store, the simulated one too; so do WAIT and some functions.

What the other functions decide is asserted on all of them where their contract stands; see `on_every_store`.
"""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dianzan.domain import wire
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.store import durability, keys, library
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tests.simulation.library import Library
from tests.simulation.store_data import order_of
from tests.simulation.wall import simulated_server
from tests.support.casting import cast, voter, waiting
from tests.support.servers import on_every_store
from tests.support.store_state import opened

SHARD = Shard("c", 0)
HASH, TEXT, STREAM, PEOPLE = keys.counts(SHARD), keys.gate(SHARD), keys.stream(SHARD), keys.people(SHARD, 0)

Command = tuple[Any, ...]

# Commands one after another, and what the last of them replies as the wire carries it.
TABLE: list[tuple[list[Command], Any]] = [
    ([("GET", TEXT)], None),
    ([("SET", TEXT, "a"), ("GET", TEXT)], b"a"),
    ([("INCR", TEXT)], 1),
    ([("INCRBY", TEXT, 1), ("INCR", TEXT)], 2),
    ([("HSET", HASH, "1", "a", "2", "b")], 2),
    ([("HSET", HASH, "1", "a"), ("HSET", HASH, "1", "b", "2", "c")], 1),
    ([("HGET", HASH, "1")], None),
    ([("HSET", HASH, "1", "a"), ("HGET", HASH, "2")], None),
    ([("HSET", HASH, "1", b"\xff\0"), ("HGET", HASH, "1")], b"\xff\0"),
    ([("HINCRBY", HASH, "1", 3), ("HINCRBY", HASH, "1", 4)], 7),
    ([("HLEN", HASH)], 0),
    ([("HSET", HASH, "1", "a", "2", "b"), ("HLEN", HASH)], 2),
    ([("HGETALL", HASH)], {}),
    ([("HSET", HASH, "1", "a"), ("HINCRBY", HASH, "2", 5), ("HGETALL", HASH)], {b"1": b"a", b"2": b"5"}),
    ([("XLEN", STREAM)], 0),
    ([("XRANGE", STREAM, "-", "+")], []),
    ([("XDEL", STREAM, "5-1")], 0),
    ([("XTRIM", STREAM, "MINID", "5")], 0),
    ([("MEMORY USAGE", STREAM)], None),
    ([("PFADD", PEOPLE, "a", "b")], 1),
    ([("PFADD", PEOPLE, "a", "b"), ("PFADD", PEOPLE, "b", "a")], 0),
    ([("PFADD", PEOPLE, "a", "b"), ("PFADD", PEOPLE, "b", "c"), ("PFCOUNT", PEOPLE)], 3),
    ([("PFCOUNT", PEOPLE)], 0),
    ([("EXPIRE", TEXT, "60")], 0),
    ([("SET", TEXT, "a"), ("EXPIRE", TEXT, "60")], 1),
    ([("SET", TEXT, "a"), ("UNLINK", TEXT, HASH, TEXT)], 1),
    ([("SET", TEXT, "a"), ("UNLINK", TEXT), ("GET", TEXT)], None),
]


@pytest.mark.parametrize(("commands", "expected"), TABLE)
@on_every_store
async def test_a_command_replies(client: Redis, commands: list[Command], expected: Any) -> None:
    *before, last = commands
    for command in before:
        await client.execute_command(*command)  # type: ignore[no-untyped-call]

    assert await client.execute_command(*last) == expected  # type: ignore[no-untyped-call]


async def added(client: Redis, batch: str) -> bytes:
    entry_id = await client.xadd(STREAM, {"v": "1", "b": batch})
    assert isinstance(entry_id, bytes)
    return entry_id


@on_every_store
async def test_a_stream_gives_its_entries_in_order_from_an_id_on_and_forgets_no_last_id(client: Redis) -> None:
    ids = [await added(client, str(number)) for number in range(3)]
    first, second, third = ids
    entries = [(entry_id, {b"v": b"1", b"b": b"%d" % number}) for number, entry_id in enumerate(ids)]

    assert await client.xrange(STREAM) == entries
    assert await client.xrange(STREAM, count=2) == entries[:2]
    assert await client.xrange(STREAM, min=second) == entries[1:]
    assert await client.xrange(STREAM, min=f"({first.decode()}") == entries[1:]
    assert await client.xrange(STREAM, min=second, max=second) == [entries[1]]
    assert await client.xdel(STREAM, first, first) == 1
    assert await client.xlen(STREAM) == 2
    assert await client.xtrim(STREAM, minid=str(now_ms() + 60_000), approximate=False) == 2
    assert await client.xrange(STREAM) == []
    fourth = await added(client, "3")
    assert order_of(first) < order_of(second) < order_of(third) < order_of(fourth)


@on_every_store
async def test_keys_are_found_by_what_they_begin_with(client: Redis) -> None:
    for key in (HASH, keys.counts(Shard("c", 1))):
        await client.hset(key, "1", "1")

    assert [key async for key in client.scan_iter(match=r"\{c:0\}:*", count=1_000)] == [HASH.encode()]


@on_every_store
async def test_a_server_tells_its_clock_its_role_and_its_room(client: Redis) -> None:
    seconds, micros = await client.time()
    replication, memory = await client.info("replication"), await client.info("memory")

    assert abs(seconds * 1000 + micros // 1000 - now_ms()) < 1_000
    assert (replication["role"], replication["connected_slaves"]) == ("master", 0)
    assert int(memory["used_memory"]) < (int(memory["maxmemory"]) or int(memory["total_system_memory"]))


@on_every_store
async def test_without_a_replica_waiting_ends_unconfirmed_after_its_time(client: Redis) -> None:
    waitaof = await durability.has_waitaof(client)
    async with client.pipeline(transaction=False) as pipeline:
        for name, *args in durability.confirmation(keys.touch(TEXT), waitaof=waitaof):
            pipeline.execute_command(name, *args[:-1], *([20] if name != "INCR" else args[-1:]))
        replies = await pipeline.execute()

    assert replies == ([1, 0, [1, 0]] if waitaof else [1, 0])
    assert not durability.confirmed(replies)


@on_every_store
async def test_a_pipeline_gives_each_reply_in_its_place_a_refusal_too(client: Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.fcall_ro("version_v1", 0)
        pipeline.fcall("lacks_v1", 0)
        pipeline.fcall_ro("close_v1", 1, TEXT)
        pipeline.get(TEXT)
        version, lacking, writing, gate = await pipeline.execute(raise_on_error=False)

    assert (version, gate) == (library.VERSION, None)
    assert isinstance(lacking, ResponseError)
    assert "not found" in str(lacking)
    assert isinstance(writing, ResponseError)
    with pytest.raises(ResponseError, match="not found"):
        await client.fcall("lacks_v1", 0)


# What a function returns in Lua; keys[1] is a hash of one field.
RETURNED = [
    "1.9",
    "-1.9",
    "2^40",
    "true",
    "false",
    "nil",
    "'\\255\\0'",
    "{1, 'a', nil, 2}",
    "{1, {2.5, true, false, 'x'}}",
    "redis.status_reply('FINE')",
    "redis.call('SET', keys[2], 5).ok",
    "redis.call('SET', keys[2], 5)",
    "redis.call('GET', keys[2]) == false",
    "redis.call('HGETALL', keys[1])",
    "redis.call('HINCRBY', keys[1], 'a', 2 ^ 31)",
    "#redis.call('TIME')",
    "{struct.unpack('>I4I2BI4I8I8', args[1])}",
    "{struct.unpack('>I2', args[1])}",
    "cjson.decode(args[2]).version",
    "cjson.decode(args[2]).codes[2]",
    "string.format('%.0f', 1772366400123)",
    "'n' .. 2 ^ 31 .. 'm' .. 5 / 2",
    "#args .. #keys",
]


async def test_an_error_that_a_function_returns_is_the_same_in_the_simulation(client: Redis) -> None:
    source = _library("return redis.error_reply('WORD and why')")
    await client.function_load(source)

    with pytest.raises(ResponseError) as real:
        await client.fcall("returns_v1", 0)
    with pytest.raises(ResponseError) as simulated:
        Library(source).call(simulated_server().run, b"returns_v1", [], [], reads_only=False)

    await client.function_delete("returning")
    assert str(simulated.value) == str(real.value) == "WORD and why"


@pytest.mark.parametrize("returned", RETURNED)
async def test_what_a_function_returns_becomes_the_same_reply_in_the_simulation(client: Redis, returned: str) -> None:
    source = _library(f"return {returned}")
    names, args = [HASH, TEXT], [bytes(range(1, 32)), b'{"version": 7, "codes": ["a", "\xc3\xa4"]}']
    await client.hset(HASH, "a", "1")
    await client.function_load(source)

    real = await client.fcall("returns_v1", 2, *names, *args)

    await client.function_delete("returning")
    server = simulated_server()
    server.run([b"HSET", HASH.encode(), b"a", b"1"])
    keys_of_it = [name.encode() for name in names]
    assert Library(source).call(server.run, b"returns_v1", keys_of_it, args, reads_only=False) == real


def _library(body: str) -> str:
    return f"#!lua name=returning\nredis.register_function('returns_v1', function(keys, args) {body} end)"


@on_every_store
async def test_an_entry_is_kept_once_with_all_its_fields(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    for name in ("a", "b"):
        await cast(link, campaign, (voter(name), [1]))
    first, second = await waiting(store, campaign)
    [shard] = campaign.rules.every_shard

    assert await store.streams.keep(shard, [(first.entry_id, second.batch)]) == 0
    assert await store.streams.keep(shard, [(first.entry_id, first.batch)] * 2) == 1

    assert await waiting(store, campaign) == [second]
    [kept] = [wire.unpack_entry(*entry) for entry in await store.streams.read_kept(shard, 10)]
    assert (kept.batch, kept.ballots, kept.time_ms) == (first.batch, first.ballots, first.time_ms)


@on_every_store
async def test_a_view_is_of_one_instant(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (voter("a"), [1, 2]))
    [entry] = await waiting(store, campaign)

    counted, entries = await store.streams.with_counters(campaign.rules.every_shard[0], 10)

    assert counted == {1: 1, 2: 1}
    assert [wire.unpack_entry(*each) for each in entries] == [entry]


@on_every_store
async def test_a_gate_is_taken_once_and_a_closed_one_stays(store: Store) -> None:
    campaign = await opened(store, shards=2)
    first, second = shards = campaign.rules.every_shard

    assert [await store.gates.take(first), await store.gates.take(first)] == [True, False]
    assert await store.gates.behind(shards) == [first]
    await store.gates.close(shards)
    assert await store.gates.take(second) is False
    assert await store.gates.closed(shards) == [first, second]


@on_every_store
async def test_an_agreement_is_of_one_life_of_the_server(client: Redis, store: Store) -> None:
    life = await store.agreements.life(SHARD)
    assert life is not None
    assert not await store.agreements.unbroken(SHARD), "nothing was noted yet"

    await store.agreements.note(SHARD, life)
    assert await store.agreements.unbroken(SHARD)

    await client.set(keys.agreed(SHARD), life.replace(" ", " x"))
    assert not await store.agreements.unbroken(SHARD), "what another history has noted"
    await store.agreements.note(SHARD, life)
    assert await store.agreements.unbroken(SHARD)


async def test_a_simulated_server_lives_another_life_after_a_crash() -> None:
    server = simulated_server()
    before = server._info(b"server")
    server.crash()
    server.restart()

    assert server._info(b"server") != before
