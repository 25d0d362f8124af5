"""PostgreSQL comes back older than it was: what it lacks has left the streams, and the store has kept it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

from dianzan.local.folder import database_url
from tests.faults.processes import restart
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.scenarios.controls import controls_world
from tests.faults.scenarios.postgres import every_like_went_on
from tests.faults.scenarios.standby import StandbyWorld, standby_world
from tests.support.wait import until

KEPT_S = "600"
LAG = 100  # likes that the older one surely lacks

Rows = set[tuple[int, bytes]]


async def _rows(run: Run) -> Rows:
    return set(await run.world.rows((await run.stored()).number))


async def _committed_since(run: Run, before: Rows) -> Rows:
    """The ledger, once it has so many likes more."""

    async def grown() -> Rows | None:
        rows = await _rows(run)
        return rows if len(rows) >= len(before) + LAG else None

    found = await until(grown, within_s=15, what=f"{LAG} likes more are committed")
    assert found is not None
    return found


async def _put_back(run: Run, had: Rows) -> None:
    async def whole() -> bool:
        return had <= await _rows(run)

    await until(whole, within_s=30, what="the ledger has again what it had")


@scenario("PostgreSQL failed over to a standby that lags, the store keeps what is committed", world=standby_world)
async def lagged(run: Run) -> None:
    world = run.world
    assert isinstance(world, StandbyWorld)
    await restart(*world.workers, DIANZAN_KEEP_COMMITTED_S=KEPT_S)
    number = (await run.stored()).number
    await world.leave_behind()
    had = await _committed_since(run, await _rows(run))
    began_s = time.monotonic()
    async with run.ledger_lacks():
        await world.lose_primary()
        await asyncio.to_thread(world.standby.start)
        assert had - set(await world.rows(number, database_url(world.standby.folder))), "the standby did not lag"
        await world.lead_to_standby()
        await _put_back(run, had)
    every_like_went_on(run, began_s)
    await world.pair_again()
    run.healed()


@scenario("PostgreSQL restored from an older backup, the store keeps what is committed")
async def restored(run: Run) -> None:
    await restart(*run.world.workers, DIANZAN_KEEP_COMMITTED_S=KEPT_S)
    copy = await _backup(run)
    for _ in range(2):  # the store has later versions of the rules than the copy
        await run.world.stores.lifecycle.publish(run.campaign)
    had = await _committed_since(run, await _rows(run))
    began_s = time.monotonic()
    async with run.ledger_lacks():
        await _bring_back(run, copy)
        await _put_back(run, had)
    every_like_went_on(run, began_s)
    # Refused if it does not pass them. While it runs a voter may be told that the rules moved, as at any publication.
    await run.world.stores.lifecycle.publish(run.campaign)
    await restart(*run.world.workers)
    run.healed()


@scenario(
    "control: PostgreSQL restored from an older backup, and nothing is kept",
    world=controls_world,
    must_fail=("lost",),
    full=3,
)
async def nothing_kept(run: Run) -> None:
    copy = await _backup(run)
    await _committed_since(run, await _rows(run))
    await _bring_back(run, copy)
    run.healed()


async def _backup(run: Run) -> Path:
    """A copy of the data folder, as it is now."""
    postgres = run.world.postgres
    copy = postgres.folder / "copy"
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(_copy, postgres.folder / "cluster", copy)
    await asyncio.to_thread(postgres.start)
    return copy


async def _bring_back(run: Run, copy: Path) -> None:
    postgres = run.world.postgres
    await asyncio.to_thread(postgres.kill)
    await asyncio.to_thread(shutil.rmtree, postgres.folder / "cluster")
    await asyncio.to_thread(copy.rename, postgres.folder / "cluster")
    await asyncio.to_thread(postgres.start)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)  # owners too
