"""Faults of the services themselves: killed, stopped for a while, asked to end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial

import psutil

from tests.faults.journal import Attempt, Heard
from tests.faults.processes import Process, restart, stopped
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.support.wait import until

WAITING_S = 0.1


async def _killed_at(run: Run, *, point: str) -> None:
    """Start a process again with a fault point armed, wait until it has killed itself there, and start it as usual."""
    is_api = point.startswith("batch")
    process = (run.world.apis if is_api else run.world.workers)[0]
    process.kill()
    process.start(DIANZAN_FAULTS=f"{point}:kill@{run.rng.randint(1, 5)}")
    code = await process.ended()
    assert code == -signal.SIGKILL, f"{process.module} ended with {code} at {point}"
    run.healed(*([0] if is_api else []))
    process.start()
    await process.answers("/readyz")


for _point in ("batch.before_send", "batch.after_send", "batch.before_answer"):
    scenario(f"vote API killed -9 at {_point}")(partial(_killed_at, point=_point))
for _point in ("flush.before_insert", "flush.before_commit", "flush.after_commit", "flush.after_removal"):
    scenario(f"tally worker killed -9 at {_point}")(partial(_killed_at, point=_point))


async def _stopped(run: Run, *, seconds: float) -> None:
    """Stop one worker somewhere in a flush: the other takes over what the first does not hold, and then the rest."""
    first, _second = run.world.workers
    await asyncio.sleep(run.rng.random() * 0.3)
    with stopped(first):
        await _stays_stopped(first)
        stopped_s, flushed = time.monotonic(), await run.flushed()
        await run.load.until_liked(100)
        await asyncio.sleep(seconds - (time.monotonic() - stopped_s))
        assert await run.flushed() > flushed, "the other worker did not take over"
    run.healed()


async def _stays_stopped(process: Process) -> None:
    async def still() -> bool:
        return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED

    await until(still, what=f"{process.module} is stopped")


for _seconds, _smoke, _full in ((2, 1, 6), (30, 0, 3)):
    scenario(f"tally worker stopped {_seconds} s, the other takes over, the first wakes", smoke=_smoke, full=_full)(
        partial(_stopped, seconds=_seconds)
    )


@scenario("both tally workers killed -9 again and again", full=10)
async def workers_killed(run: Run) -> None:
    for _ in range(4):
        for worker in run.world.workers:
            worker.kill()
            worker.start()
        await asyncio.sleep(run.rng.uniform(0.6, 1.5))
    run.healed()


@scenario("rolling restart of every process with SIGTERM", full=6)
async def rolling_restart(run: Run) -> None:
    for number, api in enumerate(run.world.apis):
        await _api_restarted(run, number, api)
    await asyncio.gather(*(_restarted(process) for process in run.world.processes if process not in run.world.apis))
    run.healed()


async def _restarted(process: Process) -> None:
    await _ends_in_order(process)
    process.start()
    await process.answers("/readyz")


async def _api_restarted(run: Run, number: int, api: Process) -> None:
    """While the store is so slow that many voters wait, the process is asked to end: it answers them first.

    Whose bytes have left less than WAITING_S before may still be on the way to it, on a connection that it closes.
    """
    link = run.world.proxies[f"api{number}-store"]
    link.delay_s = 2 * WAITING_S

    async def many_wait() -> bool:
        return len(_waiting(run, number, time.monotonic())) >= 3

    try:
        await until(many_wait, what="voters wait for an answer")
        waiting = _waiting(run, number, time.monotonic())
        await _ends_in_order(api)
    finally:
        link.heal()
    dropped = [attempt for attempt in waiting if attempt.heard is Heard.unknown]
    assert not dropped, f"{len(dropped)} of {len(waiting)} waiting voters were dropped, e.g. {dropped[0]}"
    api.start()
    await api.answers("/readyz")


def _waiting(run: Run, api: int, now_s: float) -> list[Attempt]:
    return [a for a in run.load.waiting(api) if 0.0 < a.sent_s < now_s - WAITING_S]


async def _ends_in_order(process: Process) -> None:
    """Ask a process to end. uvicorn ends by the same signal once it has shut down, which its log tells."""
    logged = process.log.stat().st_size
    os.kill(process.pid, signal.SIGTERM)
    code = await process.ended()
    with process.log.open("rb") as log:
        log.seek(logged)
        said = log.read().decode()
    assert code in (0, -signal.SIGTERM), f"{process.module} ended with {code}: {said}"
    assert "Finished server process" in said, f"{process.module} did not shut down: {said}"
    assert "Cancel" not in said, f"{process.module} did not wait for what it had accepted: {said}"


@scenario("results API killed -9 again and again: no number falls", full=5)
async def results_killed(run: Run) -> None:
    assert run.world.results is not None
    for _ in range(3):
        read = len(run.published)
        await restart(run.world.results)

        async def read_again(read: int = read) -> bool:
            return len(run.published) > read + 1

        await until(read_again, what="the new process is read")
    run.healed()
