"""Wrong clocks: of one process at a time, which jumps by an hour and by a year, forwards and back, while it runs."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from dianzan.domain.shard import Shard
from dianzan.life.recount import recount
from dianzan.local.folder import database_url, redis_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.processes import Account
from dianzan.local.server import Server
from dianzan.local.stores import StoreAddresses
from dianzan.local.valkey import ValkeyServer
from dianzan.store import keys
from tests.faults.processes import Process, stopped
from tests.faults.registry import faketime_library, scenario
from tests.faults.run import Run
from tests.faults.world import World, running, serving
from tests.support.wait import until

HOUR_S, YEAR_S = 3_600, 365 * 86_400
JUMPS = {"+1h": HOUR_S, "-1h": -HOUR_S, "+1y": YEAR_S, "-1y": -YEAR_S}
RIGHT = "+0"
SHARED_MEMORY = Path("/dev", "shm")
UTC_HOUR = datetime.now(UTC).hour
# A zone in which it is noon now: a run of an hour never meets a midnight, and has one window a campaign.
NOON = "Etc/GMT" if UTC_HOUR == 12 else f"Etc/GMT{UTC_HOUR - 12:+d}"


@dataclass(frozen=True)
class Clock:
    """The clock of the process that is started with this environment; it jumps as soon as it is told to."""

    file: Path

    def jump(self, offset: str) -> float:
        """From now on the process reads this much too late or too early; returns the test's own time."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.rename(self.file)
        return time.monotonic()

    @property
    def environment(self) -> Mapping[str, str]:
        """Only what tells the date is faked: a process may still measure how long something takes."""
        return {
            "LD_PRELOAD": faketime_library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


class ClockValkey(ValkeyServer):
    """Valkey by a clock of its own."""

    def _account(self) -> Account:
        return _by_clock(super()._account(), self)


class ClockPostgres(PostgresServer):
    """PostgreSQL by a clock of its own."""

    def _account(self) -> Account:
        return _by_clock(super()._account(), self)


def _by_clock(account: Account, server: Server) -> Account:
    # The library is loaded behind the change of user: what it shares among processes belongs to the first of them.
    words = ("env", *(f"{name}={value}" for name, value in _clock(server).environment.items()))
    return Account(account.uid, account.gid, (*account.prefix, *words))


def _clock(process: Process | Server) -> Clock:
    """The clock of a service or server, beside its log or folder."""
    beside = process.log if isinstance(process, Process) else process.folder
    return Clock(beside.with_suffix(".clock"))


@asynccontextmanager
async def clocks_world(folder: Path) -> AsyncIterator[World]:
    """One Valkey, the one-node promise; each service and server has a clock of its own, right at first."""
    valkey, postgres = ClockValkey(folder / "valkey", 0, []), ClockPostgres(folder / "postgres", 0, [])

    async def by_clocks(world: World) -> None:
        for process in world.processes:
            _clock(process).jump(RIGHT)
            process.environment = {**process.environment, **_clock(process).environment}

    for server in (valkey, postgres):
        _clock(server).jump(RIGHT)
    async with running(valkey, postgres):
        addresses = StoreAddresses(redis_url(valkey.folder), database_url(postgres.folder))
        async with serving(World(folder, [valkey], postgres, addresses), by_clocks) as world:
            pids = [valkey.pid, postgres.pid, *(process.pid for process in world.processes)]
            yield world
    for pid in pids:  # libfaketime leaves behind what processes share that end by a signal
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (SHARED_MEMORY / name).unlink(missing_ok=True)


CLOCKS: dict[str, Any] = {"world": clocks_world, "window": "day", "timezone": NOON, "needs": ("faketime",), "full": 6}


@contextmanager
def _clock_of(process: Process | Server) -> Iterator[Clock]:
    """A clock that may be wrong for the length of the block."""
    clock = _clock(process)
    try:
        yield clock
    finally:
        clock.jump(RIGHT)


def _jumps(run: Run) -> list[str]:
    return run.rng.sample(list(JUMPS), len(JUMPS))


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
    await run.load.until_told("clock_skewed", apis=apis, since_s=since_s)
    liked = [a for a in run.load.attempts if a.sent_s > since_s and a.results and a.api in apis]
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
    await run.until_flushed(await run.flushed(), what="the ledger grows")


async def _in_their_time(run: Run) -> None:
    """Every like in the ledger stands in today's window, at a time between the campaign's opening and now."""
    number = (await run.stored()).number
    today = run.document.rules.window_at(run.document.rules.opens_ms).date
    latest = datetime.now(UTC) + timedelta(seconds=10)  # a store may be trusted with 5 s too many
    async with run.world.sql() as connection:
        astray = await connection.fetchval(
            "SELECT count(*) FROM likes WHERE campaign = $1 AND (window_day <> $2 OR liked_at NOT BETWEEN $3 AND $4)",
            *(number, today, run.document.rules.opens, latest),
        )
    assert astray == 0, f"{astray} likes stand in a wrong window or hour"


# ---- the scenarios --------------------------------------------------------------------------------------------------


@scenario("vote API's clock jumps by an hour and a year", **CLOCKS)
async def api_clock(run: Run) -> None:
    with _clock_of(run.world.apis[0]) as clock:
        for offset in _jumps(run):
            await _refused(run, clock.jump(offset), 0)
        await _served(run, clock.jump(RIGHT), 0)
    run.healed()
    await _in_their_time(run)


async def _jumps_and_grows(run: Run, process: Process, grows: Callable[[Run], Awaitable[None]]) -> None:
    """Whatever time it is for this process, what it makes grows."""
    with _clock_of(process) as clock:
        for number, offset in enumerate(_jumps(run)):
            clock.jump(offset)
            if number == 0:
                await _reads(process, offset)
            await grows(run)
    run.healed()


@scenario("tally worker's clock jumps by an hour and a year", **CLOCKS)
async def worker_clock(run: Run) -> None:
    first, second = run.world.workers
    with stopped(second):  # else nobody knows whose flush it was
        await _jumps_and_grows(run, first, _ledger_grows)
    run.healed()
    await _in_their_time(run)


@scenario("tally worker rebuilds a shard that lost likes, its clock a year ahead", **CLOCKS)
async def worker_rebuilds(run: Run) -> None:
    first, second = run.world.workers
    run.load.voter_count = 40  # who ask again for what they have liked
    await run.load.until_liked(100)
    with _clock_of(first) as clock, ExitStack() as alone:
        clock.jump("+1y")
        await _reads(first, "+1y")
        async with run.load.quiet():
            await run.world.at_rest(run.document)
            alone.enter_context(stopped(second))  # at rest: in the middle of a flush it would hold a shard's lock
            await _lose_a_shard(run)
            run.world.proxies["worker0-store"].cut()  # a disturbance: it compares
            await _rebuilt(run)
        await run.load.until_liked(200)
    run.healed()


async def _lose_a_shard(run: Run) -> None:
    """Take marks and counters of a shard from the store, as if it had come back from an older copy."""
    tag = keys.tag(Shard(run.campaign, run.rng.randrange(run.document.rules.shards)))
    async with run.world.client() as client:
        lost = [key async for key in client.scan_iter(match=f"{tag}:m:*")]
        assert await client.delete(*lost, f"{tag}:counts") > 1, "nobody had liked in the shard"
        await client.delete(f"{tag}:agreed")  # in an older copy it is the word of an earlier life


async def _rebuilt(run: Run) -> None:
    stores, stored = run.world.stores, await run.stored()

    async def whole() -> bool:
        opened = await stores.store.gates.taking_likes(stored.shards)
        counted = await recount(stores.store, stores.ledger, stored)
        return len(opened) == stored.rules.shards and counted.equal

    await until(whole, within_s=20, what="the shard is rebuilt")


@scenario("results API's clock jumps by an hour and a year", **CLOCKS)
async def results_clock(run: Run) -> None:
    assert run.world.results is not None
    await _jumps_and_grows(run, run.world.results, _published_grows)


@scenario("the store's clock jumps by an hour and a year", **CLOCKS)
async def store_clock(run: Run) -> None:
    with _clock_of(run.world.valkey) as clock:
        for offset in _jumps(run):
            await _refused(run, clock.jump(offset), 0, 1)
        await _served(run, clock.jump("+3s"), 0, 1)  # what is let pass, so that entries get later ids than the next
        await _served(run, clock.jump(RIGHT), 0, 1)
    run.healed()
    await _in_their_time(run)


@scenario("PostgreSQL's clock jumps by an hour and a year", **CLOCKS)
async def postgres_clock(run: Run) -> None:
    with _clock_of(run.world.postgres) as clock:
        for offset in _jumps(run):
            clock.jump(offset)
            ahead = await run.world.stores.ledger.now() - datetime.now(UTC)
            assert abs(ahead.total_seconds() - JUMPS[offset]) < HOUR_S / 2, f"PostgreSQL is {ahead} ahead"
            await _ledger_grows(run)
    run.healed()
    await _in_their_time(run)
