"""Controls: the system with one step taken out. Each must make the checker report what that step is for."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from redis.asyncio import Redis

from dianzan.store import keys
from tests.faults.journal import Heard
from tests.faults.power import aof_of
from tests.faults.processes import restart, stopped
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, single_world
from tests.faults.worlds_replicated import pair_of, pair_world

LIKES = 30


def controls_world(folder: Path) -> AbstractAsyncContextManager[World]:
    """A world of the controls' own, since they leave likes lost and counts that differ."""
    return single_world(folder)


def keyless_world(folder: Path) -> AbstractAsyncContextManager[World]:
    """A ledger without its unique key, and workers that know of none."""

    async def prepare(world: World) -> None:
        async with world.sql() as connection:
            await connection.execute("ALTER TABLE likes DROP CONSTRAINT like_counts_once")
        for worker in world.workers:
            worker.module = "tests.faults.controls.no_unique_key"

    return single_world(folder, prepare)


@scenario("control: everysec, and the tail is lost", world=controls_world, must_fail=("lost",), full=3)
async def everysec(run: Run) -> None:
    world, valkey = run.world, run.world.valkey
    await restart(*world.apis, DIANZAN_ALLOW_WEAK_STORE="true")
    async with world.client() as client:
        await client.config_set("appendfsync", "everysec")
    with stopped(*world.workers):  # nothing is flushed: what the store loses is lost
        aof = aof_of(valkey)
        synced = aof.stat().st_size
        await run.load.until_liked(LIKES)  # 0.1 s: what a power cut may find unsynced
        await asyncio.to_thread(valkey.kill)
        os.truncate(aof, synced)
        await asyncio.to_thread(valkey.start)
    await restart(*world.apis)
    run.healed()


@scenario("control: no WAIT, and the replica's link is cut", world=pair_world, must_fail=("lost",), full=3)
async def no_wait(run: Run) -> None:
    pair = pair_of(run.world)
    await restart(*pair.apis, DIANZAN_STORE_MODE="one-node")  # nobody waits for the replica
    with stopped(*pair.workers):
        pair.replica_link.set(Mode.refuse)
        await run.load.until_liked(LIKES)
        await pair.fail_over()
    await restart(*pair.apis)
    run.healed()


@scenario("control: repeats are answered without a touch", world=pair_world, must_fail=("lost",), full=3)
async def no_touch(run: Run) -> None:
    pair = pair_of(run.world)
    await restart(*pair.apis, module="no_touch")
    await run.load.until_liked(LIKES)
    async with run.load.quiet():
        with stopped(*pair.workers):
            assert (await run.load.like(1, b"warm", "c01")).heard is Heard.ok
            pair.replica_link.set(Mode.stall)
            first = await run.load.like(0, b"repeats", "c01")
            again = await run.load.like(1, b"repeats", "c01")
            assert (first.heard, again.heard) == (Heard.unknown, Heard.ok)
            await asyncio.to_thread(pair.primary.kill)
            pair.replica_link.set(Mode.refuse)
            await pair.fail_over()
    await restart(*pair.apis)
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
        await restart(*world.apis, module="keeps_connection")
        assert (await run.load.like(0, b"over her quota", "c01")).results["c01"][0] == "counted"
        proxy.delay_s = 0.4  # longer than this client waits
        assert (await run.load.like(0, b"first like", "c01")).heard is Heard.unknown
        proxy.delay_s = 0.0
        theirs = await run.load.like(0, b"over her quota", "c02")
        assert theirs.results["c02"][0] == "counted", "the answer to the like before"
        await restart(*world.apis)
    run.healed()


async def _workers_die(run: Run, at: str, *, module: str) -> None:
    """Both workers, as a control, kill themselves at a fault point."""
    for worker in run.world.workers:
        worker.kill()
        worker.start(module=f"tests.faults.controls.{module}", DIANZAN_FAULTS=at)
    for worker in run.world.workers:
        assert await worker.ended() == -signal.SIGKILL


@scenario("control: removed from the stream before COMMIT", world=controls_world, must_fail=("lost",), full=3)
async def removes_first(run: Run) -> None:
    await _workers_die(run, "flush.before_commit:kill@3", module="removes_first")
    await restart(*run.world.workers)
    run.healed()


@scenario("control: a ledger without its unique key", world=keyless_world, must_fail=("double",), full=3)
async def no_unique_key(run: Run) -> None:
    await _workers_die(run, "flush.after_commit:kill@2", module="no_unique_key")
    await restart(*run.world.workers)
    run.healed()


@scenario("control: marks expire inside the window", world=controls_world, must_fail=("double",), full=3)
async def marks_expire(run: Run) -> None:
    async with run.load.quiet(), run.world.client() as client:
        await _expire_marks(client, run.campaign)
    run.load.voter_count = 40
    run.healed()


async def _expire_marks(client: Redis, campaign: str) -> None:
    found = [key async for key in client.scan_iter(match=f"\\{{{campaign}:*", count=1_000)]
    for key in found:
        if keys.parse(key.decode()) == "marks":
            await client.pexpire(key, 1)
