"""The worker's loop: it goes on after a store, a Postgres or a campaign that refuses, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dianzan.domain.errors import LedgerAway, StoreAway
from dianzan.domain.limits import SHARDS_AT_ONCE
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from dianzan.store.streams import Streams
from tally_worker.flush import Consumer, Flush
from tally_worker.flush_loop import FlushLoop
from tests.support.nodes import store_with
from tests.support.store_state import configured
from tests.support.wait import until
from tests.support.way import Way, ballots, make_way

EACH = dict.fromkeys(range(1, 6), 40)


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    return await make_way(valkey, ledger, valkey_link, shards=2)


@asynccontextmanager
async def looping(store: Store, ledger: Ledger) -> AsyncIterator[FlushLoop]:
    """A loop that runs for the length of the block and must end without an error."""
    loop = FlushLoop(Consumer(store, ledger), ledger, store, flush_every_s=0.01)
    running = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        async with asyncio.timeout(10):
            await running


def errors(kind: str) -> float:
    return REGISTRY.get_sample_value("dianzan_flush_errors_total", {"kind": kind}) or 0.0


def more_errors(kind: str) -> Callable[[], Awaitable[bool]]:
    """Whether an error of this kind was counted from now on."""
    before = errors(kind)

    async def look() -> bool:
        return errors(kind) > before

    return look


async def all_in(way: Way) -> None:
    """Wait until every like is in the ledger and all counts agree."""

    async def flushed() -> bool:
        try:
            return await way.in_ledger() == EACH and not any(await way.store.streams.backlog(way.campaign.shards))
        except LedgerAway:  # the test ends sessions, this one's too
            return False

    await until(flushed, what="all likes are in the ledger")
    await way.check(EACH)


async def test_the_loop_flushes_what_is_cast_and_stops_when_told(way: Way) -> None:
    async with looping(way.store, way.ledger) as loop:
        await way.cast(*ballots(0, 100))
        await all_in(way)

    assert loop.last_success_s > 0


async def test_shards_are_flushed_side_by_side_but_not_more_than_the_limit(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink
) -> None:
    class WaitsForOthers(Consumer):
        """No flush ends before as many as may run at once have begun."""

        running = most = 0
        full = asyncio.Event()

        async def run_once(self, campaign: StoredCampaign, shard: Shard) -> Flush:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == SHARDS_AT_ONCE:
                self.full.set()
            async with asyncio.timeout(10):
                await self.full.wait()
            try:
                return await super().run_once(campaign, shard)
            finally:
                self.running -= 1

    way = await make_way(valkey, ledger, valkey_link, shards=8)
    await way.cast(*ballots(0, 100))
    consumer = WaitsForOthers(way.store, ledger)

    assert await FlushLoop(consumer, ledger, way.store, flush_every_s=0.1).flush_all() == 200

    assert consumer.most == SHARDS_AT_ONCE
    await way.check(EACH)


async def test_an_error_of_one_shard_is_raised_when_the_other_flushes_have_ended(way: Way) -> None:
    class FailsInOne(Consumer):
        failed = ended = 0

        async def run_once(self, campaign: StoredCampaign, shard: Shard) -> Flush:
            if not self.failed:
                self.failed += 1
                raise LedgerAway("the session was ended")
            flush = await super().run_once(campaign, shard)
            self.ended += 1
            return flush

    await way.cast(*ballots(0, 100))
    consumer = FailsInOne(way.store, way.ledger)
    loop = FlushLoop(consumer, way.ledger, way.store, flush_every_s=0.1)

    with pytest.raises(LedgerAway):
        await loop.flush_all()

    assert consumer.ended == 1
    await loop.flush_all()
    await way.check(EACH)


async def test_the_loop_goes_on_after_the_store_was_away(way: Way, valkey: Redis) -> None:
    class AwayAtFirst(Streams):
        refusals = 2

        async def backlog(self, shards: Sequence[Shard]) -> list[int | None]:
            if self.refusals:
                self.refusals -= 1
                raise StoreAway("the store is away")
            return await super().backlog(shards)

    await way.cast(*ballots(0, 100))
    refused = more_errors("StoreAway")

    async with looping(store_with(valkey, AwayAtFirst), way.ledger):
        await all_in(way)

    assert await refused()


async def test_the_loop_goes_on_after_the_store_was_a_replica(way: Way, valkey: Redis) -> None:
    await way.cast(*ballots(0, 100))
    refused = more_errors("ReadOnlyError")
    await valkey.replicaof("127.0.0.1", 1)  # reads are answered, writes are not, as after a failover

    async with looping(way.store, way.ledger):
        try:
            await until(refused, what="a write was refused")
        finally:
            await valkey.replicaof("NO", "ONE")
        await all_in(way)


async def test_the_loop_goes_on_after_a_failover_between_commit_and_removal(way: Way, valkey: Redis) -> None:
    class FailsOver(Streams):
        async def remove(self, shard: Shard, committed: Sequence[tuple[bytes, bytes]]) -> int:
            if not await failed():
                await valkey.replicaof("127.0.0.1", 1)
            try:
                return await super().remove(shard, committed)
            finally:
                await valkey.replicaof("NO", "ONE")

    await way.cast(*ballots(0, 100))
    failed = more_errors("ReadOnlyError")

    async with looping(store_with(valkey, FailsOver), way.ledger):
        await all_in(way)

    assert await failed()


async def test_a_full_store_is_emptied(way: Way, valkey: Redis) -> None:
    await way.cast(*ballots(0, 100))
    refused = more_errors("OutOfMemoryError")

    async with configured(valkey, "maxmemory", "1mb"), looping(way.store, way.ledger):
        await all_in(way)

    assert await refused()


async def test_the_loop_goes_on_after_postgres_was_read_only(
    way: Way, database_url: str, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 100))
    name = await sql.fetchval("SELECT current_database()")
    refused = more_errors("ReadOnlySQLTransactionError")
    await sql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # as a standby is

    ledger = await Ledger.connect(database_url)
    async with looping(way.store, ledger):
        try:
            await until(refused, what="the insertion was refused")
        finally:
            await sql.execute("SET default_transaction_read_only = off")
            await sql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await _end_other_sessions(sql)
        await all_in(way)
    await ledger.aclose()


async def test_the_loop_goes_on_after_its_sessions_were_ended(
    way: Way, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with looping(way.store, way.ledger):
        for start in range(0, 100, 20):
            await way.cast(*ballots(start, start + 20))
            await _end_other_sessions(sql)
        await all_in(way)


@pytest.mark.logs_errors
async def test_a_campaign_whose_likes_are_refused_holds_back_no_other(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    bad, good = [await make_way(valkey, ledger, valkey_link, shards=2) for _ in range(2)]
    for day in bad.document.rules.window_dates():
        await sql.execute(f"DROP TABLE likes_{bad.campaign.number}_{day:%Y%m%d}")
    await bad.cast(*ballots(0, 100))
    await good.cast(*ballots(0, 100))
    refused = more_errors("CheckViolationError")

    with capture_logs() as logged:
        async with looping(good.store, ledger):
            await all_in(good)
            await until(refused, what="the refusal was counted")
    reasons = {line["reason"] for line in logged if line["log_level"] == "error"}
    assert reasons
    assert all(reason.startswith("Postgres refuses this (") and reason.endswith(")") for reason in reasons), reasons
    assert not [reason for reason in reasons if "\n" in reason], "no detail, in which a row may stand"

    async with looping(good.store, ledger):
        assert await bad.in_ledger() == {}
        await bad.lifecycle.publish(bad.campaign.id)
        await all_in(bad)


async def _end_other_sessions(sql: asyncpg.Connection[asyncpg.Record]) -> None:
    await sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
