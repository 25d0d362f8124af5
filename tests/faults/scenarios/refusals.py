"""The store takes no likes: its functions are gone or too old, or its memory is full. Voters are told; none is lost."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from dianzan.local.folder import redis_url
from dianzan.store import library
from dianzan.store.nodes import open_client
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.support.wait import until
from vote_api.store.health import DURABILITY_EVERY_S
from vote_api.store.watch import REFRESH_EVERY_S

TOLD = 20  # refusals by each API process, so that more than one batch of each has met the fault
OLDER = library.source().replace(f"LIBRARY_VERSION = {library.VERSION}", f"LIBRARY_VERSION = {library.VERSION - 1}")


@asynccontextmanager
async def _store(run: Run) -> AsyncIterator[Redis]:
    """An operator's client of the store, past every proxy."""
    client = open_client(redis_url(run.world.store_servers[0].folder))
    try:
        yield client
    finally:
        await client.aclose()


async def _told(run: Run, code: str, *, within_s: float = 10.0) -> float:
    """Wait until voters of each API process were refused with this code; the seconds that took."""
    began_s = time.monotonic()

    async def told() -> bool:
        heard = [a.api for a in run.load.journal.attempts if a.sent_s > began_s and a.code == code]
        return all(heard.count(api) >= TOLD for api in range(len(run.world.apis)))

    await until(told, within_s=within_s, what=f"voters of each API process are told {code}")
    return time.monotonic() - began_s


@scenario("the store's function library is deleted, and loaded again", full=10)
async def library_gone(run: Run) -> None:
    async with _store(run) as client:
        await client.function_delete(library.NAME)
        try:
            with run.nothing_durable():
                await _told(run, "store_unsafe")
        finally:
            await run.world.stores.store.load_library()
    run.healed()


@scenario("the store's function library is of an older version, as new connections see at once", full=10)
async def library_older(run: Run) -> None:
    async with _store(run) as client:
        await client.function_load(OLDER, replace=True)
        try:
            for number in range(len(run.world.apis)):
                run.world.proxies[f"api{number}-store"].cut()
            await _told(run, "store_unsafe")
            with run.nothing_durable():
                await _told(run, "store_unsafe")
        finally:
            await run.world.stores.store.load_library()
    run.healed()


@scenario("the store's function library is of an older version, as the next look sees", smoke=0, full=3)
async def library_older_seen(run: Run) -> None:
    async with _store(run) as client:
        await client.function_load(OLDER, replace=True)
        try:
            await _told(run, "store_unsafe", within_s=DURABILITY_EVERY_S + 2 * REFRESH_EVERY_S)
        finally:
            await run.world.stores.store.load_library()
    run.healed()


@scenario("the store's memory is full (maxmemory)", full=10)
async def memory_full(run: Run) -> None:
    async with _store(run) as client:
        used = int((await client.info("memory"))["used_memory"])
        await client.config_set("maxmemory", used // 2)
        try:
            with run.nothing_durable():
                await _told(run, "overloaded")
        finally:
            await client.config_set("maxmemory", 0)
    run.healed()
