"""Faults of PostgreSQL: killed at any moment, away, locked, out of disk. No like needs it, and none is lost by it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from tests.faults.journal import Heard
from tests.faults.power import small_disk
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, single_world

FILL_BYTES = 1 << 20


async def _restart(run: Run) -> None:
    await asyncio.to_thread(run.world.postgres.kill)
    await asyncio.to_thread(run.world.postgres.start)


def every_like_went_on(run: Run, began_s: float) -> None:
    """Voters did not notice: the vote API does not need PostgreSQL."""
    since = [a for a in run.load.journal.attempts if a.asked_s > began_s and a.heard is not None]
    assert since
    noticed = [a for a in since if a.heard is not Heard.ok]
    assert not noticed, f"{len(noticed)} of {len(since)} voters have noticed, e.g. {noticed[0]}"


@scenario("PostgreSQL killed -9 under load")
async def killed(run: Run) -> None:
    began_s = time.monotonic()
    await _restart(run)
    run.healed()
    every_like_went_on(run, began_s)


def _killed_inside(request: bytes) -> None:
    @scenario(f"PostgreSQL killed -9 inside {request.decode()}")
    async def fault(run: Run) -> None:
        link = run.world.proxies["worker0-postgres"]
        carried = run.rng.random() < 0.5  # it has the request, and its answer is lost; else the request is held
        try:
            met = link.set_at(request, Mode.deaf if carried else Mode.stall)
            await asyncio.wait_for(met.wait(), 15)
            await asyncio.sleep(run.rng.random() * 0.005)
            await _restart(run)
        finally:
            link.heal()
        run.healed()


for _request in (b"COPY", b"COMMIT"):
    _killed_inside(_request)


@scenario("PostgreSQL away for 4 s: likes go on")
async def away(run: Run) -> None:
    began_s = time.monotonic()
    await asyncio.to_thread(run.world.postgres.kill)
    await asyncio.sleep(4)
    every_like_went_on(run, began_s)
    await asyncio.to_thread(run.world.postgres.start)
    run.healed()


@scenario("the ledger's table is locked for 3 s")
async def locked(run: Run) -> None:
    connection = await asyncpg.connect(run.world.addresses.database_url, ssl=False)
    began_s = time.monotonic()
    async with connection.transaction():
        await connection.execute("LOCK TABLE likes IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(3)
    await connection.close()
    run.healed()
    every_like_went_on(run, began_s)


@scenario("the workers' sessions are ended again and again")
async def ended(run: Run) -> None:
    connection = await asyncpg.connect(run.world.addresses.database_url, ssl=False)
    for _ in range(20):
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' AND query ~ 'staging|COPY|SAVEPOINT|COMMIT|advisory|INSERT'"
        )
        await asyncio.sleep(run.rng.random() * 0.1)
    await connection.close()
    run.healed()


@asynccontextmanager
async def small_ledger_world(folder: Path) -> AsyncIterator[World]:
    """PostgreSQL's folder is a disk of 400 MB."""
    async with small_disk(folder / "postgres", "400m"), single_world(folder) as world:
        yield world


def _fill_disk(filler: Path) -> None:
    """Write until nothing is left of the disk."""
    free = shutil.disk_usage(filler.parent).free
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(free // FILL_BYTES + 2):
            file.write(bytes(FILL_BYTES))


@scenario("PostgreSQL's disk is full", world=small_ledger_world, needs=("root",), full=5)
async def disk_full(run: Run) -> None:
    postgres, began_s = run.world.postgres, time.monotonic()
    filler = postgres.folder / "filler"
    await asyncio.to_thread(_fill_disk, filler)  # else voters and proxies stood still for a second meanwhile
    await asyncio.sleep(4)
    every_like_went_on(run, began_s)
    filler.unlink()
    if postgres.death() is not None:
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
    run.healed()
