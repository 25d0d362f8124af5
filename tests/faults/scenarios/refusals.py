"""The store takes no likes: its functions are gone or too old, or its memory is full. Voters are told; none is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dianzan.store import library
from tests.faults.registry import scenario
from tests.faults.run import Run
from vote_api.store.health import DURABILITY_EVERY_S
from vote_api.store.watch import REFRESH_EVERY_S

TOLD = 20  # refusals by each API process, so that more than one batch of each has met the fault
OLDER = library.source().replace(f"LIBRARY_VERSION = {library.VERSION}", f"LIBRARY_VERSION = {library.VERSION - 1}")


async def _told(run: Run, code: str, *, within_s: float = 10.0) -> None:
    await run.load.until_told(code, times=TOLD, within_s=within_s)


@asynccontextmanager
async def _older_library(run: Run) -> AsyncIterator[None]:
    async with run.world.client() as client:
        await client.function_load(OLDER, replace=True)
    try:
        yield
    finally:
        await run.world.stores.store.load_library()


@scenario("the store's function library is deleted, and loaded again", full=10)
async def library_gone(run: Run) -> None:
    async with run.world.client() as client:
        await client.function_delete(library.NAME)
    try:
        with run.nothing_durable():
            await _told(run, "store_unsafe")
    finally:
        await run.world.stores.store.load_library()
    run.healed()


@scenario("the store's function library is of an older version, as new connections see at once", full=10)
async def library_older(run: Run) -> None:
    async with _older_library(run):
        for number in range(len(run.world.apis)):
            run.world.proxies[f"api{number}-store"].cut()
        await _told(run, "store_unsafe")
        with run.nothing_durable():
            await _told(run, "store_unsafe")
    run.healed()


@scenario("the store's function library is of an older version, as the next look sees", smoke=0, full=3)
async def library_older_seen(run: Run) -> None:
    async with _older_library(run):
        await _told(run, "store_unsafe", within_s=DURABILITY_EVERY_S + 2 * REFRESH_EVERY_S)
    run.healed()


@scenario("the store's memory is full (maxmemory)", full=10)
async def memory_full(run: Run) -> None:
    async with run.world.client() as client:
        used = int((await client.info("memory"))["used_memory"])
        await client.config_set("maxmemory", used // 2)
        try:
            with run.nothing_durable():
                await _told(run, "store_full")
        finally:
            await client.config_set("maxmemory", 0)
    run.healed()
