"""Faults of the services themselves: killed, stopped for a while, asked to end."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.faults.journal import Heard
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import Process


async def killed_at(run: Run, process: Process, point: str, *apis: int) -> None:
    """Start a process again with a fault point armed, wait until it has killed itself there, and start it as usual."""
    process.kill()
    process.start(DIANZAN_FAULTS=f"{point}:kill@{run.rng.randint(1, 5)}")
    code = await process.ended()
    assert code == -signal.SIGKILL, f"{process.module} ended with {code} at {point}"
    run.healed(*apis)
    process.start()
    await process.answers("/readyz")


def _api_dies(point: str) -> None:
    @scenario(f"vote API killed -9 at {point}")
    async def fault(run: Run) -> None:
        await killed_at(run, run.world.apis[0], point, 0)


for _point in ("batch.before_send", "batch.after_send", "batch.before_answer"):
    _api_dies(_point)


def _worker_dies(point: str) -> None:
    @scenario(f"tally worker killed -9 at {point}")
    async def fault(run: Run) -> None:
        await killed_at(run, run.world.workers[0], point)


for _point in ("flush.before_insert", "flush.before_commit", "flush.after_commit", "flush.after_removal"):
    _worker_dies(_point)


async def _stopped(run: Run, seconds: float) -> None:
    first, second = run.world.workers
    await asyncio.sleep(run.rng.random() * 0.3)  # anywhere in a flush
    first.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
        await run.load.until_liked(100)
        assert second.running is not None
    finally:
        first.signal(signal.SIGCONT)
    run.healed()


@scenario("tally worker stopped 2 s, the other takes over, the first wakes")
async def worker_stopped(run: Run) -> None:
    await _stopped(run, 2.0)


@scenario("tally worker stopped 30 s, the other takes over, the first wakes", smoke=0, full=3)
async def worker_stopped_long(run: Run) -> None:
    await _stopped(run, 30.0)


@scenario("both tally workers killed -9 again and again")
async def workers_killed(run: Run) -> None:
    for _ in range(4):
        for worker in run.world.workers:
            worker.kill()
            worker.start()
        await asyncio.sleep(run.rng.uniform(0.6, 1.5))
    run.healed()


@scenario("rolling restart of every process with SIGTERM", full=10)
async def rolling_restart(run: Run) -> None:
    for process in run.world.processes:
        ended_s = await _ended_in_order(process)
        process.start()
        await process.answers("/readyz")
        if process in run.world.apis:
            _nobody_was_dropped(run, run.world.apis.index(process), ended_s)
    run.healed()


async def _ended_in_order(process: Process) -> float:
    asked_s = time.monotonic()
    process.signal(signal.SIGTERM)
    code = await process.ended()
    assert code == 0, f"{process.module} ended with {code}"
    return asked_s


def _nobody_was_dropped(run: Run, api: int, asked_to_end_s: float) -> None:
    """Whoever was waiting for an answer when the API was asked to end has got one, and not a dead connection."""
    waiting = [
        a
        for a in run.load.journal.attempts
        if a.api == api and 0.0 < a.sent_s < asked_to_end_s - 0.02 and (a.heard is None or a.heard_s > asked_to_end_s)
    ]
    dropped = [a for a in waiting if a.heard is Heard.unknown]
    assert not dropped, f"{len(dropped)} of {len(waiting)} waiting voters were dropped, e.g. {dropped[0]}"


@scenario("results API killed -9: no number falls")
async def results_killed(run: Run) -> None:
    assert run.world.results is not None
    run.world.results.kill()
    run.world.results.start()
    await run.world.results.answers("/readyz")
    run.healed()
