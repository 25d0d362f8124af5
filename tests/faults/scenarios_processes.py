"""Faults of the services themselves: killed, stopped for a while, asked to end."""

from __future__ import annotations

import asyncio
import signal

from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import Process


async def killed_at(run: Run, process: Process, point: str) -> None:
    """Start a process again with a fault point armed, wait until it has killed itself there, and start it as usual."""
    process.kill()
    process.start(DIANZAN_FAULTS=f"{point}:kill@{run.rng.randint(1, 5)}")
    code = await process.ended()
    assert code == -signal.SIGKILL, f"{process.module} ended with {code} at {point}"
    process.start()
    await process.answers("/readyz")


def _api_dies(point: str) -> None:
    @scenario(f"vote API killed -9 at {point}")
    async def fault(run: Run) -> None:
        await killed_at(run, run.world.apis[0], point)
        run.healed(0)


for _point in ("batch.before_send", "batch.after_send", "batch.before_answer"):
    _api_dies(_point)


def _worker_dies(point: str) -> None:
    @scenario(f"tally worker killed -9 at {point}")
    async def fault(run: Run) -> None:
        await killed_at(run, run.world.workers[0], point)
        run.healed()


for _point in ("flush.before_insert", "flush.before_commit", "flush.after_commit", "flush.after_removal"):
    _worker_dies(_point)


@scenario("Valkey killed -9 under load")
async def store_killed(run: Run) -> None:
    [valkey] = run.world.store_servers
    await asyncio.to_thread(valkey.kill)
    await asyncio.to_thread(valkey.start)
    run.healed()
