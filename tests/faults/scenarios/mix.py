"""A seeded random mix: several faults at once, on whatever they hit."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import Process

SERVICES_PAUSE_S, STORES_PAUSE_S = 1.0, 2.5  # between two faults of a kind; a service needs 1 s to start


async def _mix(run: Run, seconds: float) -> None:
    """Faults of services, links and stores side by side; each heals its own before the next of its kind."""
    deadline = time.monotonic() + seconds
    done: list[str] = []
    await asyncio.gather(
        _again_and_again(run, [_killed, _stopped], SERVICES_PAUSE_S, deadline, done),
        _again_and_again(run, [_cut, _stalled, _deaf, _slow], 0.3, deadline, done),
        _again_and_again(run, [_valkey_killed, _postgres_killed], STORES_PAUSE_S, deadline, done),
    )
    assert len(set(done)) >= min(4, len(done)), done
    run.healed()
    for process in run.world.processes:
        await process.answers("/readyz")


async def _again_and_again(
    run: Run, faults: list[Callable[[Run], Awaitable[None]]], pause_s: float, deadline: float, done: list[str]
) -> None:
    while time.monotonic() < deadline:
        fault = run.rng.choice(faults)
        await fault(run)
        done.append(fault.__name__)
        await asyncio.sleep(run.rng.random() * pause_s)


def _service(run: Run) -> Process:
    return run.rng.choice([*run.world.apis, *run.world.workers])


async def _killed(run: Run) -> None:
    process = _service(run)
    process.kill()
    process.start()
    await process.answers()


async def _stopped(run: Run) -> None:
    process = _service(run)
    process.signal(signal.SIGSTOP)
    await asyncio.sleep(run.rng.random() * 2)
    process.signal(signal.SIGCONT)


async def _on_a_link(run: Run, mode: Mode) -> None:
    link = run.world.proxies[run.rng.choice(sorted(run.world.proxies))]
    link.set(mode)
    await asyncio.sleep(run.rng.random() * 1.5)
    link.heal()


async def _cut(run: Run) -> None:
    run.world.proxies[run.rng.choice(sorted(run.world.proxies))].cut()


async def _stalled(run: Run) -> None:
    await _on_a_link(run, Mode.stall)


async def _deaf(run: Run) -> None:
    await _on_a_link(run, Mode.deaf)


async def _slow(run: Run) -> None:
    link = run.world.proxies[run.rng.choice(sorted(run.world.proxies))]
    link.delay_s = run.rng.random() * 0.2
    await asyncio.sleep(1.0)
    link.heal()


async def _valkey_killed(run: Run) -> None:
    [valkey] = run.world.store_servers
    await asyncio.to_thread(valkey.kill)
    await asyncio.to_thread(valkey.start)


async def _postgres_killed(run: Run) -> None:
    await asyncio.to_thread(run.world.postgres.kill)
    await asyncio.sleep(run.rng.random() * 2)
    await asyncio.to_thread(run.world.postgres.start)


@scenario("a random mix of faults for 8 s", full=1)
async def mix(run: Run) -> None:
    await _mix(run, 8.0)


@scenario("a random mix of faults for 60 s, for 20 min in all", smoke=0, full=20)
async def mix_long(run: Run) -> None:
    await _mix(run, 60.0)
