"""Faults of PostgreSQL: killed at any moment, away, locked, out of disk. No like needs it, and none is lost by it."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.faults.journal import Heard
from tests.faults.processes import crash
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.scenarios.disk import small_disks_world

FILL_BYTES = 1 << 20


def every_like_went_on(run: Run, began_s: float) -> None:
    """Voters did not notice: the vote API does not need PostgreSQL."""
    since = [a for a in run.load.since(began_s) if a.heard is not None]
    assert since
    noticed = [a for a in since if a.heard is not Heard.ok]
    assert not noticed, f"{len(noticed)} of {len(since)} voters have noticed, e.g. {noticed[0]}"


@scenario("PostgreSQL killed -9 under load")
async def killed(run: Run) -> None:
    began_s = time.monotonic()
    await crash(run.world.postgres)
    run.healed()
    every_like_went_on(run, began_s)


async def _killed_inside(run: Run, *, request: bytes) -> None:
    link = run.world.proxies["worker0-postgres"]
    carried = run.rng.random() < 0.5  # it has the request, and its answer is lost; else the request is held
    try:
        awaited = link.set_at(request, Mode.deaf if carried else Mode.stall)
        await asyncio.wait_for(awaited.met.wait(), 15)
        await asyncio.sleep(run.rng.random() * 0.005)
        await crash(run.world.postgres)
    finally:
        link.heal()
    run.healed()


for _request in (b"COPY", b"COMMIT"):
    scenario(f"PostgreSQL killed -9 inside {_request.decode()}")(partial(_killed_inside, request=_request))


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
    began_s = time.monotonic()
    async with run.world.sql() as connection, connection.transaction():
        await connection.execute("LOCK TABLE likes IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(3)
    run.healed()
    every_like_went_on(run, began_s)


@scenario("the workers' sessions are ended again and again")
async def ended(run: Run) -> None:
    async with run.world.sql() as connection:
        for _ in range(20):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' AND query ~ 'staging|COPY|SAVEPOINT|COMMIT|advisory|INSERT'"
            )
            await asyncio.sleep(run.rng.random() * 0.1)
    run.healed()


def _fill_disk(filler: Path) -> None:
    """Write until nothing is left of the disk."""
    free = shutil.disk_usage(filler.parent).free
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(free // FILL_BYTES + 2):
            file.write(bytes(FILL_BYTES))


@scenario("PostgreSQL's disk is full", world=small_disks_world, needs=("root",), full=5)
async def disk_full(run: Run) -> None:
    postgres, began_s = run.world.postgres, time.monotonic()
    filler = postgres.folder / "filler"
    await asyncio.to_thread(_fill_disk, filler)  # else voters and proxies stood still for a second meanwhile
    await asyncio.sleep(4)
    every_like_went_on(run, began_s)
    filler.unlink()
    if not postgres.is_running:
        await crash(postgres)
    run.healed()
