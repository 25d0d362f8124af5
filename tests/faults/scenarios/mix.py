"""A seeded random mix: several faults at once, on whatever they hit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from tests.faults.processes import Process, crash, stopped
from tests.faults.proxy import Mode, Proxy
from tests.faults.registry import scenario
from tests.faults.run import Fault, Run

SERVICES_PAUSE_S, STORES_PAUSE_S = 1.0, 2.5  # between two faults of a kind; a service needs 1 s to start


async def _mix(run: Run, *, seconds: float) -> None:
    """Faults of services, links and stores side by side; each heals its own before the next of its kind."""
    deadline = time.monotonic() + seconds
    on_a_link: list[Fault] = [_cut, partial(_broken, mode=Mode.stall), partial(_broken, mode=Mode.deaf), _slow]
    done: list[object] = []
    await asyncio.gather(
        _again_and_again(run, [_killed, _stopped], SERVICES_PAUSE_S, deadline, done),
        _again_and_again(run, on_a_link, 0.3, deadline, done),
        _again_and_again(run, [_valkey_killed, _postgres_killed], STORES_PAUSE_S, deadline, done),
    )
    assert len(set(done)) >= min(4, len(done)), done
    run.healed()
    for process in run.world.processes:
        await process.answers("/readyz")


async def _again_and_again(
    run: Run, faults: Sequence[Fault], pause_s: float, deadline: float, done: list[object]
) -> None:
    while time.monotonic() < deadline:
        fault = run.rng.choice(faults)
        await fault(run)
        done.append(fault)
        await asyncio.sleep(run.rng.random() * pause_s)


def _service(run: Run) -> Process:
    return run.rng.choice([*run.world.apis, *run.world.workers])


async def _killed(run: Run) -> None:
    process = _service(run)
    process.kill()
    process.start()
    await process.answers()


async def _stopped(run: Run) -> None:
    with stopped(_service(run)):
        await asyncio.sleep(run.rng.random() * 2)


def _link(run: Run) -> Proxy:
    return run.world.proxies[run.rng.choice(sorted(run.world.proxies))]


async def _broken(run: Run, *, mode: Mode) -> None:
    link = _link(run)
    link.set(mode)
    await asyncio.sleep(run.rng.random() * 1.5)
    link.heal()


async def _cut(run: Run) -> None:
    _link(run).cut()


async def _slow(run: Run) -> None:
    link = _link(run)
    link.delay_s = run.rng.random() * 0.2
    await asyncio.sleep(1.0)
    link.heal()


async def _valkey_killed(run: Run) -> None:
    await crash(run.world.valkey)


async def _postgres_killed(run: Run) -> None:
    await asyncio.to_thread(run.world.postgres.kill)
    await asyncio.sleep(run.rng.random() * 2)
    await asyncio.to_thread(run.world.postgres.start)


scenario("a random mix of faults for 8 s", full=1)(partial(_mix, seconds=8.0))
scenario("a random mix of faults for 60 s, for 20 min in all", smoke=0, full=20)(partial(_mix, seconds=60.0))
