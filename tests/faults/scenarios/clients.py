"""Too many clients: ten times what can be taken, a ledger that does not keep up, and crowds that never finish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.controls.short_queue import QUEUED_MAX
from tests.faults.http import Connection
from tests.faults.journal import Attempt, Heard
from tests.faults.processes import Process, restart, stopped
from tests.faults.registry import scenario
from tests.faults.run import Run

CROWD = 80  # at once: twice QUEUED_MAX may wait and be on their way, and as many again are refused
OVERLOAD_S = 3.0
ROUND_TRIP_S = 0.5  # to the slow store and back, which makes QUEUED_MAX likes a round trip all that can be taken
# An accepted like waits for the batch that is on its way, then for its own; 1 s more for a machine shared with others.
ACCEPTED_S_MAX = 2 * ROUND_TRIP_S + 1.0
MEMORY_MB_MAX = 10
BACKLOG_BYTES = 30_000


@asynccontextmanager
async def _api(run: Run, *, module: str | None = None, **settings: str) -> AsyncIterator[Process]:
    """The first API process runs otherwise for the length of the block."""
    api = run.world.apis[0]
    await restart(api, module=module, **settings)
    try:
        yield api
    finally:
        await restart(api)


def _resident_mb(process: Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


# ---- ten times too many ---------------------------------------------------------------------------------------------


@scenario("ten times as many voters as can be taken, for 3 s", full=5)
async def overloaded(run: Run) -> None:
    link = run.world.proxies["api0-store"]
    async with _api(run, module="short_queue") as api:
        await run.load.serving_again(time.monotonic(), apis=[0], within_s=run.serving_s_max)  # its connection is open
        before_mb = _resident_mb(api)
        link.delay_s = ROUND_TRIP_S / 2
        try:
            asked = await _crowd(run)
            grown_mb = _resident_mb(api) - before_mb
        finally:
            link.heal()
    _each_was_told(asked)
    assert grown_mb < MEMORY_MB_MAX, f"the API process grew by {grown_mb:.0f} MB"
    run.healed()


async def _crowd(run: Run) -> list[Attempt]:
    """Ask as fast as answers come, each voter for one like, with nothing between the crowd and the process."""
    asked: list[Attempt] = []
    ends_s = time.monotonic() + OVERLOAD_S

    async def insist(number: int) -> None:
        connections = [Connection(run.world.apis[0].port)]
        turn = 0
        while time.monotonic() < ends_s:
            voter = run.document.key.voter_hash("device", b"crowd %d %d" % (number, turn))
            code = run.document.candidates[turn % len(run.document.candidates)]
            asked.append(await run.load.ask(connections, 0, voter, (code,)))
            turn += 1
        connections[0].close()

    await asyncio.gather(*(insist(number) for number in range(CROWD)))
    return asked


def _each_was_told(asked: Sequence[Attempt]) -> None:
    accepted = [attempt for attempt in asked if attempt.heard is Heard.ok]
    refused = [attempt for attempt in asked if attempt.code == "overloaded"]
    others = {(attempt.heard, attempt.code) for attempt in asked} - {(Heard.ok, ""), (Heard.fail, "overloaded")}
    assert not others, f"the crowd was answered {others}"
    assert len(accepted) >= QUEUED_MAX, f"only {len(accepted)} of {len(asked)} were accepted"
    assert len(asked) >= 10 * len(accepted), f"no overload: {len(accepted)} of {len(asked)} were accepted"
    slowest_s = max(attempt.heard_s - attempt.sent_s for attempt in accepted)
    assert slowest_s <= ACCEPTED_S_MAX, f"an accepted like took {slowest_s:.1f} s of {ACCEPTED_S_MAX:.1f}"
    assert refused, "nobody was refused"


# ---- the ledger does not keep up ------------------------------------------------------------------------------------


@scenario("the ledger does not keep up: likes are refused once too many bytes wait for it", full=5)
async def backlog(run: Run) -> None:
    async with _api(run, DIANZAN_BACKLOG_BYTES_MAX=str(BACKLOG_BYTES)):
        with stopped(*run.world.workers):
            await run.load.until_told("store_full", times=21, apis=[0])
        await run.load.serving_again(time.monotonic(), apis=[0], within_s=run.serving_s_max)
    run.healed()


# ---- clients that never finish --------------------------------------------------------------------------------------


@scenario("500 connections that send half a like and stay", full=5)
async def half_asked(run: Run) -> None:
    head = f"POST /v1/campaigns/{run.campaign}/likes HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n"
    halves = [head.encode()[:30], head.encode(), f"{head}\r\n".encode(), f"{head}\r\n{{".encode()]
    opened = [await asyncio.open_connection("127.0.0.1", run.world.apis[n % 2].port) for n in range(500)]
    try:
        for number, (_reader, writer) in enumerate(opened):
            writer.write(halves[number % len(halves)])
        began_s = time.monotonic()
        await run.load.until_liked(200)
        served_s = await run.load.serving_again(began_s, apis=[0, 1], within_s=run.serving_s_max)
        assert served_s < 1.0, f"the others waited {served_s:.1f} s"
    finally:
        for _reader, writer in opened:
            writer.transport.abort()
    run.healed()
