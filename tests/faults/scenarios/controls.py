"""Controls: the system with one step taken out. Each must make the checker report what that step is for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from dianzan.local.folder import redis_url
from dianzan.store import keys
from dianzan.store.nodes import open_client
from tests.faults.journal import Heard
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import Process, World, single_world
from tests.faults.worlds_replicated import careless_pair_world, pair_of, pair_world

LIKES = 30


async def restarted(processes: list[Process], *, module: str | None = None, **settings: str) -> None:
    """Start services again, as a control or with other settings."""
    for process in processes:
        process.kill()
        process.start(module=f"tests.faults.controls.{module}" if module else None, **settings)
    for process in processes:
        await process.answers("/readyz")


@asynccontextmanager
async def workers_stopped(world: World) -> AsyncIterator[None]:
    """Nothing is flushed for the length of the block: what the store loses is lost."""
    for worker in world.workers:
        worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in world.workers:
            worker.signal(signal.SIGCONT)


@asynccontextmanager
async def controls_world(folder: Path) -> AsyncIterator[World]:
    """A world of the controls' own, since they leave likes lost and counts that differ."""
    async with single_world(folder) as world:
        yield world


@asynccontextmanager
async def keyless_world(folder: Path) -> AsyncIterator[World]:
    """A ledger without its unique key, and workers that know of none."""
    async with single_world(folder) as world:
        connection = await asyncpg.connect(world.addresses.database_url, ssl=False)
        await connection.execute("ALTER TABLE likes DROP CONSTRAINT like_counts_once")
        await connection.close()
        await restarted(world.workers, module="no_unique_key")
        yield world


@scenario("control: everysec, and the tail is lost", world=controls_world, must_fail=("lost",), full=3)
async def everysec(run: Run) -> None:
    world = run.world
    [valkey] = world.store_servers
    await restarted(world.apis, DIANZAN_ALLOW_WEAK_STORE="true")
    client = open_client(redis_url(valkey.folder))
    await client.config_set("appendfsync", "everysec")
    await client.aclose()
    async with workers_stopped(world):
        [aof] = sorted((valkey.folder / "appendonlydir").glob("*.incr.aof"))[-1:]
        synced = aof.stat().st_size
        await run.load.until_liked(LIKES)  # 0.1 s: what a power cut may find unsynced
        await asyncio.to_thread(valkey.kill)
        os.truncate(aof, synced)
        await asyncio.to_thread(valkey.start)
    await restarted(world.apis)
    run.healed()


@scenario("control: no WAIT, and the replica's link is cut", world=careless_pair_world, must_fail=("lost",), full=3)
async def no_wait(run: Run) -> None:
    pair = pair_of(run.world)
    async with workers_stopped(pair):
        pair.replica_link.set(Mode.refuse)
        await run.load.until_liked(LIKES)
        await asyncio.to_thread(pair.primary.kill)
        await pair.promote()
        await asyncio.to_thread(pair.replica.start)
        await pair.whole()
    run.healed()


@scenario("control: repeats are answered without a touch", world=pair_world, must_fail=("lost",), full=3)
async def no_touch(run: Run) -> None:
    pair = pair_of(run.world)
    await restarted(pair.apis, module="no_touch")
    await run.load.until_liked(LIKES)
    async with run.load.quiet(), workers_stopped(pair):
        assert (await run.load.like(1, b"warm", "c01")).heard is Heard.ok
        pair.replica_link.set(Mode.stall)
        first = await run.load.like(0, b"repeats", "c01")
        again = await run.load.like(1, b"repeats", "c01")
        assert (first.heard, again.heard) == (Heard.unknown, Heard.ok)
        await asyncio.to_thread(pair.primary.kill)
        pair.replica_link.set(Mode.refuse)
        await pair.promote()
        await asyncio.to_thread(pair.replica.start)
        await pair.whole()
    await restarted(pair.apis)
    run.healed()


@scenario(
    "control: the client goes on by itself after a time-out",
    world=controls_world,
    must_fail=("lost",),
    full=3,
    likes_per_window=1,
    shards=1,
)
async def keeps_connection(run: Run) -> None:
    world, proxy = run.world, run.world.proxies["api0-store"]
    async with run.load.quiet():
        await restarted(world.apis, module="keeps_connection")
        assert (await run.load.like(0, b"over her quota", "c01")).results["c01"][0] == "counted"
        proxy.delay_s = 0.4  # longer than this client waits
        assert (await run.load.like(0, b"first like", "c01")).heard is Heard.unknown
        proxy.delay_s = 0.0
        theirs = await run.load.like(0, b"over her quota", "c02")
        assert theirs.results["c02"][0] == "counted", "the answer to the like before"
        await restarted(world.apis)
    run.healed()


@scenario("control: removed from the stream before COMMIT", world=controls_world, must_fail=("lost",), full=3)
async def removes_first(run: Run) -> None:
    for worker in run.world.workers:
        worker.kill()
        worker.start(module="tests.faults.controls.removes_first", DIANZAN_FAULTS="flush.before_commit:kill@3")
    for worker in run.world.workers:
        assert await worker.ended() == -signal.SIGKILL
    await restarted(run.world.workers)
    run.healed()


@scenario("control: a ledger without its unique key", world=keyless_world, must_fail=("double",), full=3)
async def no_unique_key(run: Run) -> None:
    for worker in run.world.workers:
        worker.kill()
        worker.start(module="tests.faults.controls.no_unique_key", DIANZAN_FAULTS="flush.after_commit:kill@2")
    for worker in run.world.workers:
        assert await worker.ended() == -signal.SIGKILL
    await restarted(run.world.workers, module="no_unique_key")
    run.healed()


@scenario("control: marks expire inside the window", world=controls_world, must_fail=("double",), full=3)
async def marks_expire(run: Run) -> None:
    [valkey] = run.world.store_servers
    async with run.load.quiet():
        client = open_client(redis_url(valkey.folder))
        await _expire_marks(client, run.campaign)
        await client.aclose()
    run.load.voter_count = 40
    run.healed()


async def _expire_marks(client: Redis, campaign: str) -> None:
    found = [key async for key in client.scan_iter(match=f"\\{{{campaign}:*", count=1_000)]
    for key in found:
        if keys.parse(key.decode()) == "marks":
            await client.pexpire(key, 1)
