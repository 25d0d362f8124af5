"""Faults of the store's disk and power: cuts, a full disk, a sync that fails or takes its time; and its total loss."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dianzan.domain.errors import Overloaded, StoreUnsafe
from dianzan.local.server import Server
from tests.faults.journal import Attempt, Heard
from tests.faults.power import aof_of, read_trace, small_disk, traced
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, single_world
from tests.support.wait import until

SYNC_S = 0.02  # each sync takes so long in a power cut: then the cut often falls between a write and its sync


def _store(run: Run) -> Server:
    [valkey] = run.world.store_servers
    return valkey


async def _power_cut(run: Run, *, torn: bool) -> None:
    """Kill the store and cut its file back to the last completed sync, or into the record that came after it."""
    valkey = _store(run)
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


@scenario("power cut of the store: its file ends at the last sync", needs=("strace",))
async def power_cut(run: Run) -> None:
    await _power_cut(run, torn=False)


@scenario("power cut of the store: its file ends inside a record", needs=("strace",))
async def torn_record(run: Run) -> None:
    await _power_cut(run, torn=True)


@scenario("the store's sync fails", needs=("strace",))
async def sync_fails(run: Run) -> None:
    valkey = _store(run)
    async with traced(valkey, run.world.folder / "strace.log", "fdatasync:error=EIO:when=20+"):

        async def ended() -> bool:
            return valkey.death() is not None

        await until(ended, within_s=20, what="the store ends rather than answer what it cannot keep")
    await asyncio.to_thread(valkey.kill)
    run.healed()
    await asyncio.to_thread(valkey.start)


@scenario("the store's sync takes 200 ms", needs=("strace",))
async def sync_slow(run: Run) -> None:
    async with traced(_store(run), run.world.folder / "strace.log", "fdatasync:delay_enter=200000"):
        began_s = time.monotonic()
        await run.load.until_liked(60)
    slow = [a for a in run.load.journal.attempts if a.asked_s > began_s and a.heard is Heard.ok]
    assert max(a.heard_s - a.asked_s for a in slow) > 0.2, "no voter has waited"
    run.healed()


# ---- a small disk ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def small_disk_world(folder: Path) -> AsyncIterator[World]:
    """The store's folder is a disk of 48 MB, which the vote APIs can see too."""
    async with small_disk(folder / "valkey", "48m"), single_world(folder) as world:
        yield world


def _fill(disk: Path, share: float) -> Path:
    """Write a file that leaves so much of the disk used."""
    usage = shutil.disk_usage(disk)
    filler = disk / "filler"
    filler.write_bytes(b"\0" * max(0, int(usage.total * share) - usage.used))
    return filler


@scenario("the store's disk is full", world=small_disk_world, needs=("root",), full=6)
async def disk_full(run: Run) -> None:
    valkey = _store(run)
    filler = _fill(valkey.folder, 0.999)
    try:

        async def ended() -> bool:
            return valkey.death() is not None

        await until(ended, within_s=30, what="the store ends rather than answer what it cannot keep")
    finally:
        filler.unlink()
    await asyncio.to_thread(valkey.kill)
    run.healed()
    await asyncio.to_thread(valkey.start)


@scenario(
    "the store's disk is 90% full: likes are refused before it is", world=small_disk_world, needs=("root",), full=5
)
async def disk_nearly_full(run: Run) -> None:
    valkey = _store(run)
    for api in run.world.apis:
        api.kill()
        api.start(DIANZAN_STORE_FOLDER=str(valkey.folder))
        await api.answers("/readyz")
    filler = _fill(valkey.folder, 0.9)
    try:
        await _refused(run, Overloaded.code)
        began_s = time.monotonic()
        await _refused(run, Overloaded.code)
        late = [a for a in run.load.journal.attempts if a.asked_s > began_s and a.heard is Heard.ok]
        assert not late, "a like was taken on a disk that is nearly full"
        assert valkey.death() is None
    finally:
        filler.unlink()
    run.healed()


async def _refused(run: Run, code: str) -> None:
    began_s = time.monotonic()

    def refused() -> list[Attempt]:
        return [a for a in run.load.journal.attempts if a.asked_s > began_s and a.code == code]

    async def by_both() -> bool:
        return {a.api for a in refused()} == {0, 1}

    await until(by_both, within_s=15, what=f"both vote APIs answer {code}")


# ---- total loss -----------------------------------------------------------------------------------------------------


async def _lose_everything(run: Run) -> None:
    """The store comes back empty. What only it held is lost by the one-node promise: so the ledger has all before."""
    valkey = _store(run)
    async with run.load.quiet():
        await run.world.at_rest(run.document)
        await asyncio.to_thread(valkey.kill)
        shutil.rmtree(valkey.folder / "appendonlydir")
        await asyncio.to_thread(valkey.start)
    await _refused(run, StoreUnsafe.code)


async def _restore(run: Run, **settings: str) -> int:
    code, _said = await run.world.command("restore", run.campaign, **settings)
    return code


@scenario("total loss of the store, then restore", full=6)
async def total_loss(run: Run) -> None:
    await _lose_everything(run)
    code, said = await run.world.command("migrate")
    assert code == 0, said
    await _refused(run, StoreUnsafe.code)
    run.healed()
    assert await _restore(run) == 0


for _point in ("restore.cleared", "restore.written"):

    def _killed(point: str) -> None:
        @scenario(f"total loss of the store, restore killed -9 at {point}, and run again", full=5)
        async def fault(run: Run) -> None:
            await _lose_everything(run)
            assert await _restore(run, DIANZAN_FAULTS=f"{point}:kill") == -9
            run.healed()
            assert await _restore(run) == 0

    _killed(_point)
