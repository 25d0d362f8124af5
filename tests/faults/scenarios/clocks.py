"""Wrong clocks: of one process at a time, which jumps by an hour and by a year, forwards and back, while it runs."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg

from dianzan.domain.shard import Shard
from dianzan.life.recount import recount
from dianzan.local.folder import redis_url
from dianzan.local.processes import Account
from dianzan.local.server import Server
from dianzan.store import keys
from dianzan.store.nodes import open_client
from tests.faults.registry import faketime_library, scenario
from tests.faults.run import Run
from tests.faults.world import Process
from tests.support.wait import until

HOUR_S, YEAR_S = 3_600, 365 * 86_400
JUMPS = {"+1h": HOUR_S, "-1h": -HOUR_S, "+1y": YEAR_S, "-1y": -YEAR_S}
RIGHT = "+0"
SHARED_MEMORY = Path("/dev", "shm")
UTC_HOUR = datetime.now(UTC).hour
# A zone in which it is noon now: a run of an hour never meets a midnight, and has one window a campaign.
NOON = "Etc/GMT" if UTC_HOUR == 12 else f"Etc/GMT{UTC_HOUR - 12:+d}"
DAILY: dict[str, Any] = {"window": "day", "timezone": NOON, "needs": ("faketime",)}


class Clock:
    """The clock of a process that is started with this environment; it jumps as soon as it is told to."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"clock{time.monotonic_ns()}"
        self.jump(RIGHT)

    def jump(self, offset: str) -> float:
        """From now on the process reads this much too late or too early; returns the test's own time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.rename(self._file)
        return time.monotonic()

    @property
    def environment(self) -> Mapping[str, str]:
        """Only what tells the date is faked: a process may still measure how long something takes."""
        return {
            "LD_PRELOAD": faketime_library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def _jumps(run: Run) -> list[str]:
    return run.rng.sample(list(JUMPS), len(JUMPS))


# ---- one process at a time ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _clock_of(run: Run, process: Process) -> AsyncIterator[Clock]:
    """A service runs by a clock of its own for the length of the block."""
    clock = Clock(run.world.folder)
    await _restarted(process, clock.environment)
    try:
        yield clock
    finally:
        await _restarted(process, {})


async def _restarted(process: Process, environment: Mapping[str, str]) -> None:
    process.signal(signal.SIGTERM)
    await process.ended()
    if process.running is not None:
        _tidy(process.running.pid)
    process.start(**environment)
    await process.answers("/readyz")


@asynccontextmanager
async def _clock_of_server(run: Run, server: Server) -> AsyncIterator[Clock]:
    clock = Clock(run.world.folder)
    account = server._account()
    # The library is loaded behind the change of user: what it shares among processes belongs to the first of them.
    words = ("env", *(f"{name}={value}" for name, value in clock.environment.items()))
    own = Account(account.uid, account.gid, (*account.prefix, *words))
    with mock.patch.object(server, "_account", return_value=own):
        await _restarted_server(server)
    pid = server.pid
    try:
        yield clock
    finally:
        await _restarted_server(server)
        _tidy(pid)


async def _restarted_server(server: Server) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


def _tidy(pid: int) -> None:
    """libfaketime leaves what its processes share behind where they end by a signal."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


async def _reads(process: Process, offset: str) -> None:
    """Wait until the date in a service's answers is off by so much: that its clock has jumped at all."""

    def ahead_s() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/healthz", timeout=5) as answer:
            return (parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds()

    async def jumped() -> bool:
        return abs(await asyncio.to_thread(ahead_s) - JUMPS[offset]) < HOUR_S / 2

    await until(jumped, within_s=5, what=f"the clock of {process.module} reads {offset}")


# ---- what must be seen ----------------------------------------------------------------------------------------------


async def _refused(run: Run, since_s: float, *apis: int) -> None:
    """Voters of these APIs are told of the wrong clock, and nobody who asked since then was answered 200."""

    async def told() -> bool:
        codes = {a.api for a in run.load.journal.attempts if a.sent_s > since_s and a.code == "clock_skewed"}
        return codes.issuperset(apis)

    await until(told, within_s=15, what="voters are told that the clocks differ")
    liked = [a for a in run.load.journal.attempts if a.sent_s > since_s and a.results and a.api in apis]
    assert not liked, f"{len(liked)} likes were answered by a wrong clock, e.g. {liked[0]}"


async def _served(run: Run, since_s: float, *apis: int) -> None:
    async def served() -> bool:
        return all(run.load.answered(since_s=since_s, api=api) for api in apis)

    await until(served, within_s=run.serving_s_max, what="a clock that is right again serves")


async def _published_grows(run: Run) -> None:
    before = len(run.published)

    async def grown() -> bool:
        totals = [sum(likes.values()) for _read_s, likes in run.published[before:]]
        return len(totals) > 1 and totals[-1] > totals[0]

    await until(grown, within_s=15, what="the published numbers grow")


async def _ledger_grows(run: Run) -> None:
    before = await _rows(run)

    async def grown() -> bool:
        return await _rows(run) > before

    await until(grown, within_s=15, what="the ledger grows")


async def _rows(run: Run) -> int:
    stored = await run.world.stores.lifecycle.stored(run.campaign)
    return sum((await run.world.stores.ledger.recounts.counts(stored)).values())


async def _in_their_time(run: Run) -> None:
    """Every like in the ledger stands in today's window, at a time between the campaign's opening and now."""
    stored = await run.world.stores.lifecycle.stored(run.campaign)
    today = run.document.rules.window_at(run.document.rules.opens_ms).date
    latest = datetime.now(UTC) + timedelta(seconds=10)  # a store may be trusted with 5 s too many
    connection = await asyncpg.connect(run.world.addresses.database_url, ssl=False)
    try:
        astray = await connection.fetchval(
            "SELECT count(*) FROM likes WHERE campaign = $1 AND (window_day <> $2 OR liked_at NOT BETWEEN $3 AND $4)",
            *(stored.number, today, run.document.rules.opens, latest),
        )
    finally:
        await connection.close()
    assert astray == 0, f"{astray} likes stand in a wrong window or hour"


# ---- the scenarios --------------------------------------------------------------------------------------------------


@scenario("vote API's clock jumps by an hour and a year", full=6, **DAILY)
async def api_clock(run: Run) -> None:
    async with _clock_of(run, run.world.apis[0]) as clock:
        for offset in _jumps(run):
            await _refused(run, clock.jump(offset), 0)
        await _served(run, clock.jump(RIGHT), 0)
    run.healed()
    await _in_their_time(run)


@scenario("tally worker's clock jumps by an hour and a year", full=6, **DAILY)
async def worker_clock(run: Run) -> None:
    first, second = run.world.workers
    async with _clock_of(run, first) as clock:
        second.signal(signal.SIGSTOP)  # else nobody knows whose flush it was
        try:
            for number, offset in enumerate(_jumps(run)):
                clock.jump(offset)
                if number == 0:
                    await _reads(first, offset)
                await _ledger_grows(run)
        finally:
            second.signal(signal.SIGCONT)
    run.healed()
    await _in_their_time(run)


@scenario("tally worker rebuilds a shard that lost likes, its clock a year ahead", full=6, **DAILY)
async def worker_rebuilds(run: Run) -> None:
    first, second = run.world.workers
    run.load.voter_count = 40  # who ask again for what they have liked
    await run.load.until_liked(100)
    async with _clock_of(run, first) as clock:
        clock.jump("+1y")
        await _reads(first, "+1y")
        try:
            async with run.load.quiet():
                await run.world.at_rest(run.document)
                second.signal(signal.SIGSTOP)  # at rest, since in the middle of a flush it would hold a shard's lock
                await _lose_a_shard(run)
                run.world.proxies["worker0-store"].cut()  # a disturbance: it compares
                await _rebuilt(run)
            await run.load.until_liked(200)
        finally:
            second.signal(signal.SIGCONT)
    run.healed()


async def _lose_a_shard(run: Run) -> None:
    """Take marks and counters of a shard from the store, as if it had come back from an older copy."""
    stored = await run.world.stores.lifecycle.stored(run.campaign)
    client = open_client(redis_url(run.world.store_servers[0].folder))
    tag = keys.tag(Shard(run.campaign, run.rng.randrange(stored.rules.shards)))
    try:
        lost = [key async for key in client.scan_iter(match=f"{tag}:m:*")]
        assert await client.delete(*lost, f"{tag}:counts") > 1, "nobody had liked in the shard"
    finally:
        await client.aclose()


async def _rebuilt(run: Run) -> None:
    stores = run.world.stores
    stored = await stores.lifecycle.stored(run.campaign)

    async def whole() -> bool:
        opened = await stores.store.gates.taking_likes(stored.shards)
        counted = await recount(stores.store, stores.ledger, stored)
        return len(opened) == stored.rules.shards and counted.equal

    await until(whole, within_s=20, what="the shard is rebuilt")


@scenario("results API's clock jumps by an hour and a year", full=6, **DAILY)
async def results_clock(run: Run) -> None:
    assert run.world.results is not None
    async with _clock_of(run, run.world.results) as clock:
        for number, offset in enumerate(_jumps(run)):
            clock.jump(offset)
            if number == 0:
                await _reads(run.world.results, offset)
            await _published_grows(run)
    run.healed()


@scenario("the store's clock jumps by an hour and a year", full=6, **DAILY)
async def store_clock(run: Run) -> None:
    async with _clock_of_server(run, run.world.store_servers[0]) as clock:
        await _served(run, time.monotonic(), 0, 1)
        for offset in _jumps(run):
            await _refused(run, clock.jump(offset), 0, 1)
        await _served(run, clock.jump("+3s"), 0, 1)  # what is let pass, so that entries get later ids than the next
        await _served(run, clock.jump(RIGHT), 0, 1)
    run.healed()
    await _in_their_time(run)


@scenario("PostgreSQL's clock jumps by an hour and a year", full=6, **DAILY)
async def postgres_clock(run: Run) -> None:
    async with _clock_of_server(run, run.world.postgres) as clock:
        for offset in _jumps(run):
            clock.jump(offset)
            ahead = await run.world.stores.ledger.now() - datetime.now(UTC)
            assert abs(ahead.total_seconds() - JUMPS[offset]) < HOUR_S / 2, f"PostgreSQL is {ahead} ahead"
            await _ledger_grows(run)
    run.healed()
    await _in_their_time(run)
