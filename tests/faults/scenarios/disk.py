"""Faults of the store's disk and power: cuts, a full disk, a sync that fails or takes its time; and its total loss."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from dianzan.domain.errors import NoRoom, StoreUnsafe
from tests.faults.journal import Heard
from tests.faults.power import aof_of, read_trace, small_disk, traced
from tests.faults.processes import restart
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, single_world
from tests.support.wait import until

SYNC_S = 0.02  # each sync takes so long in a power cut: then the cut often falls between a write and its sync


async def _power_cut(run: Run, *, torn: bool) -> None:
    """Kill the store and cut its file back to the last completed sync, or into the record that came after it."""
    valkey = run.world.valkey
    aof, log = aof_of(valkey), run.world.folder / "strace.log"
    async with traced(valkey, log, f"fdatasync:delay_enter={int(SYNC_S * 1e6)}"):
        await run.load.until_liked(100)
        await asyncio.sleep(run.rng.random() * 0.2)
        await asyncio.to_thread(valkey.kill)
    found = read_trace(log, aof)
    assert found.synced > 0, "no sync was seen"
    lost = found.written - found.synced  # counted from the end: what was written before the trace began is not in it
    os.truncate(aof, aof.stat().st_size - lost + (run.rng.randrange(lost) if torn and lost else 0))
    run.healed()
    await asyncio.to_thread(valkey.start)


for _where, _torn in (("at the last sync", False), ("inside a record", True)):
    scenario(f"power cut of the store: its file ends {_where}", needs=("strace",))(partial(_power_cut, torn=_torn))


async def _dies_by_itself(run: Run, *, within_s: float) -> None:
    async def ended() -> bool:
        return run.world.valkey.death() is not None

    await until(ended, within_s=within_s, what="the store ends rather than answer what it cannot keep")


async def _back(run: Run) -> None:
    await asyncio.to_thread(run.world.valkey.kill)
    run.healed()
    await asyncio.to_thread(run.world.valkey.start)


@scenario("the store's sync fails", needs=("strace",))
async def sync_fails(run: Run) -> None:
    async with traced(run.world.valkey, run.world.folder / "strace.log", "fdatasync:error=EIO:when=20+"):
        await _dies_by_itself(run, within_s=20)
    await _back(run)


@scenario("the store's sync takes 200 ms", needs=("strace",))
async def sync_slow(run: Run) -> None:
    async with traced(run.world.valkey, run.world.folder / "strace.log", "fdatasync:delay_enter=200000"):
        began_s = time.monotonic()
        await run.load.until_liked(60)
    slow = [a for a in run.load.since(began_s) if a.heard is Heard.ok]
    assert max(a.heard_s - a.asked_s for a in slow) > 0.2, "no voter has waited"
    run.healed()


# ---- a small disk ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def small_disks_world(folder: Path) -> AsyncIterator[World]:
    """The store's folder is a disk of 48 MB, which the vote APIs can see too; PostgreSQL's is one of 400 MB."""
    async with (
        small_disk(folder / "valkey", "48m"),
        small_disk(folder / "postgres", "400m"),
        single_world(folder) as world,
    ):
        yield world


def _fill(disk: Path, share: float) -> Path:
    """Write a file that leaves so much of the disk used."""
    usage = shutil.disk_usage(disk)
    filler = disk / "filler"
    filler.write_bytes(b"\0" * max(0, int(usage.total * share) - usage.used))
    return filler


@scenario("the store's disk is full", world=small_disks_world, needs=("root",), full=6)
async def disk_full(run: Run) -> None:
    filler = _fill(run.world.valkey.folder, 0.999)
    try:
        await _dies_by_itself(run, within_s=30)
    finally:
        filler.unlink()
    await _back(run)


@scenario(
    "the store's disk is 90% full: likes are refused before it is", world=small_disks_world, needs=("root",), full=5
)
async def disk_nearly_full(run: Run) -> None:
    valkey = run.world.valkey
    await restart(*run.world.apis, DIANZAN_STORE_FOLDER=str(valkey.folder))
    filler = _fill(valkey.folder, 0.9)
    try:
        await run.load.until_told(NoRoom.code)
        began_s = time.monotonic()
        await run.load.until_told(NoRoom.code)
        late = [a for a in run.load.since(began_s) if a.heard is Heard.ok]
        assert not late, "a like was taken on a disk that is nearly full"
        assert valkey.death() is None
    finally:
        filler.unlink()
    run.healed()


# ---- total loss -----------------------------------------------------------------------------------------------------


async def _lose_everything(run: Run) -> None:
    """The store comes back empty. What only it held is lost by the one-node promise: so the ledger has all before."""
    valkey = run.world.valkey
    async with run.load.quiet():
        await run.world.at_rest(run.document)
        await asyncio.to_thread(valkey.kill)
        shutil.rmtree(valkey.folder / "appendonlydir")
        await asyncio.to_thread(valkey.start)
    await run.load.until_told(StoreUnsafe.code)


async def _restored(run: Run) -> None:
    run.healed()
    code, said = await run.world.command("restore", run.campaign)
    assert code == 0, said


@scenario("total loss of the store, then restore", full=6)
async def total_loss(run: Run) -> None:
    await _lose_everything(run)
    code, said = await run.world.command("migrate")
    assert code == 0, said
    await run.load.until_told(StoreUnsafe.code)
    await _restored(run)


async def _restore_killed(run: Run, *, point: str) -> None:
    await _lose_everything(run)
    code, said = await run.world.command("restore", run.campaign, DIANZAN_FAULTS=f"{point}:kill")
    assert code == -signal.SIGKILL, f"restore ended with {code} at {point}: {said}"
    await _restored(run)


for _point in ("restore.cleared", "restore.written"):
    scenario(f"total loss of the store, restore killed -9 at {_point}, and run again", full=5)(
        partial(_restore_killed, point=_point)
    )
