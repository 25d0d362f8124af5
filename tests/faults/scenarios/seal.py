"""Seals that are interrupted under load: run again they end as if nothing had been, and nothing is counted after."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import time
from functools import partial

from tests.faults.processes import stopped
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run

END = ("--yes", "--early", "the scenario ends it")


async def _sealed(run: Run) -> str:
    """Seal to the end, recount as an auditor does, and take the public record; what the seal has said."""
    said = await _done(run, "seal")
    counted, record = await asyncio.gather(_done(run, "recount", "--json"), _done(run, "record"))
    assert json.loads(counted)["equal"]
    rows = list(csv.reader(record.splitlines()))[1:]
    run.record = [(code, receipt) for _window, code, receipt in rows]
    assert run.record, "nothing was counted"
    return said


async def _done(run: Run, command: str, *options: str) -> str:
    code, said = await run.world.command(command, run.campaign, *options, *(END if command == "seal" else ()))
    assert code == 0, f"{command} ended with {code}: {said}"
    return said


async def _nothing_more(run: Run) -> None:
    """Every gate is closed: from now on nothing may be counted, and voters hear that it is over."""
    run.sealed_s = time.monotonic()
    await run.load.until_told("closed", since_s=run.sealed_s)


async def _interrupted(run: Run, *, point: str) -> None:
    code, said = await run.world.command("seal", run.campaign, *END, DIANZAN_FAULTS=f"{point}:kill")
    assert code == -signal.SIGKILL, f"seal ended with {code} at {point}: {said}"
    await _nothing_more(run)
    await _sealed(run)


for _point in ("close.before_commit", "close.after_commit", "seal.drained", "seal.before_commit", "seal.after_commit"):
    scenario(f"seal killed -9 at {_point}, and run again", full=6)(partial(_interrupted, point=_point))


@scenario("seal waits for a flush whose worker is killed -9 before COMMIT", full=6)
async def worker_dies_under_seal(run: Run) -> None:
    first, second = run.world.workers
    link = run.world.proxies["worker0-postgres"]
    with stopped(second):
        try:
            await asyncio.wait_for(link.set_at(b"COMMIT", Mode.stall).met.wait(), 15)
            sealing = asyncio.create_task(_done(run, "seal"))
            await run.load.until_told("closed")
            assert not sealing.done(), "the seal did not wait for the flush"
        finally:
            link.heal()
            first.kill()
            first.start()
    said = await sealing
    await _nothing_more(run)
    assert await _sealed(run) == said, "a seal that is run again says something else"
