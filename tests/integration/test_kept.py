"""Committed likes kept in the store for a Postgres that comes back older: put back, and nothing counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from redis.asyncio import Redis

from dianzan.domain.limits import KEPT_PER_READ
from dianzan.domain.shard import Shard
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.likes import Likes
from dianzan.ledger.records import StoredCampaign
from dianzan.life.recount import recount
from dianzan.process import metrics
from dianzan.store import keys
from dianzan.store.like_link import LikeLink
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tests.support.store_state import bring_back, configured, dump
from tests.support.wait import until
from tests.support.way import Way, ballots, make_way

SHARDS = 4
LONG_S = 3_600
EACH_OF_40 = dict.fromkeys(range(1, 6), 16)
EACH_OF_80 = dict.fromkeys(range(1, 6), 32)


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    return await make_way(valkey, ledger, valkey_link, shards=SHARDS)


@pytest.fixture
def keeper(way: Way) -> Consumer:
    return Consumer(way.store, way.ledger, keep_s=LONG_S)


def reconciler(way: Way, consumer: Consumer) -> Reconciler:
    return Reconciler(way.store, way.ledger, Comparison(way.store, consumer._ledger, consumer), way.restorer)


async def lose(sql: asyncpg.Connection[asyncpg.Record], way: Way) -> None:
    """Take every like from Postgres, as a copy from before them has it."""
    await sql.execute("DELETE FROM likes WHERE campaign = $1", way.campaign.number)
    await sql.execute("DELETE FROM counts WHERE campaign = $1", way.campaign.number)
    await sql.execute("DELETE FROM hours WHERE campaign = $1", way.campaign.number)
    await sql.execute("DELETE FROM people_estimates WHERE campaign = $1", way.campaign.number)


async def kept_entries(way: Way) -> int:
    """Entries kept of all shards."""
    return sum(
        [len(await way.store.streams.read_kept(Shard(way.campaign.id, shard), 10_000)) for shard in range(SHARDS)]
    )


def ahead(way: Way) -> float:
    likes: float = metrics.DRIFT.labels(way.campaign.id, "ahead")._value.get()
    return likes


def put_back(way: Way) -> float:
    likes: float = metrics.PUT_BACK.labels(way.campaign.id)._value.get()
    return likes


async def test_nothing_is_kept_unless_a_worker_is_set_to(way: Way) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    assert await kept_entries(way) == 0


async def test_rows_that_postgres_lost_come_back(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await way.check(EACH_OF_40)
    before = put_back(way)
    await lose(sql, way)
    await way.cast(*ballots(40, 80))

    await reconciler(way, keeper).run_once()

    assert (ahead(way), put_back(way) - before) == (0, 80)
    await way.check(EACH_OF_80)
    tallies = await way.ledger.tallies.all()
    assert tallies[way.campaign.number][0].people > 0, "people are estimated anew"
    assert await way.cast(*ballots(0, 80)) == 0, "every like is still known"


async def test_the_rows_of_one_commit_come_back_beside_those_that_stayed(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await sql.execute("CREATE TEMPORARY TABLE old_likes AS TABLE likes")
    await sql.execute("CREATE TEMPORARY TABLE old_counts AS TABLE counts")
    await sql.execute("CREATE TEMPORARY TABLE old_hours AS TABLE hours")
    await way.cast(*ballots(40, 80))
    await way.flush(keeper)
    await lose(sql, way)
    await sql.execute("INSERT INTO likes SELECT * FROM old_likes WHERE campaign = $1", way.campaign.number)
    await sql.execute("INSERT INTO counts SELECT * FROM old_counts WHERE campaign = $1", way.campaign.number)
    await sql.execute("INSERT INTO hours SELECT * FROM old_hours WHERE campaign = $1", way.campaign.number)
    assert await way.in_ledger() == EACH_OF_40

    await reconciler(way, keeper).run_once()

    await way.check(EACH_OF_80)


async def test_more_is_put_back_than_one_page_holds(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    way = await make_way(valkey, ledger, valkey_link, shards=1)
    keeper = Consumer(way.store, way.ledger, keep_s=LONG_S)
    number = KEPT_PER_READ * 2 + 3
    for ballot in ballots(0, number):
        await way.cast(ballot)
    await way.flush(keeper)
    counted = await way.in_ledger()
    assert sum(counted.values()) == number * 2
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    await way.check(counted)


async def test_a_worker_killed_before_removal_leaves_to_the_next_what_is_to_be_kept(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.killed("flush.after_commit")
    assert await kept_entries(way) == 0
    await way.flush(keeper)
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    await way.check(EACH_OF_40)


async def test_what_is_kept_is_dropped_once_old_enough_and_compared(way: Way) -> None:
    keeper = Consumer(way.store, way.ledger, keep_s=0.05)
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    assert await kept_entries(way) == SHARDS

    async def dropped() -> bool:
        await reconciler(way, keeper).run_once()
        return await kept_entries(way) == 0

    await until(dropped, what="what is kept is dropped")
    await way.check(EACH_OF_40)


async def test_what_is_kept_stays_while_it_is_young(way: Way, keeper: Consumer) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await reconciler(way, keeper).run_once()
    assert await kept_entries(way) == SHARDS


async def test_what_is_kept_stays_however_old_until_a_comparison_finds_nothing_missing(
    valkey: Redis, way: Way, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    keeper = Consumer(way.store, way.ledger, keep_s=0.001)
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await until(_older_than_kept(way), what="every entry is too old")
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    await way.check(EACH_OF_40)


def _older_than_kept(way: Way) -> Callable[[], Awaitable[bool]]:
    async def older() -> bool:
        newest = [(await way.store.streams.read_kept(Shard(way.campaign.id, s), 10))[-1][0] for s in range(SHARDS)]
        now_ms = await way.store.clock_ms(Shard(way.campaign.id, 0))
        return all(now_ms - int(entry_id.partition(b"-")[0]) > 10 for entry_id in newest)

    return older


async def test_likes_older_than_what_is_kept_are_told_and_left_to_an_operator(
    way: Way, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    keeper = Consumer(way.store, way.ledger, keep_s=0.001)
    await way.cast(*ballots(0, 40))
    await way.flush()
    await way.cast(*ballots(40, 80))
    await way.flush(keeper)
    await until(_older_than_kept(way), what="every entry is too old")
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    assert ahead(way) == 80
    assert sum((await way.in_ledger()).values()) == 80
    assert await kept_entries(way) == SHARDS, "nothing is dropped while something is missing"


async def test_likes_that_an_operator_gave_up_do_not_come_back(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await lose(sql, way)
    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)
    assert await kept_entries(way) == 0

    await reconciler(way, keeper).run_once()

    assert await way.in_ledger() == {}
    assert await way.cast(*ballots(0, 40)) == 80, "their voters may like again"
    await way.flush(keeper)
    await way.check(EACH_OF_40)


async def test_rows_lost_after_the_close_come_back_before_the_seal(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await way.lifecycle.close(way.campaign.id)
    await lose(sql, way)

    await reconciler(way, keeper).run_once()
    _counted, sealed = await way.sealer.seal(way.campaign.id, drain_s_max=5)

    assert sealed.likes == 80


async def test_rows_lost_with_the_close_come_back(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await way.store.gates.close(way.campaign.shards)
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    await way.check(EACH_OF_40)


async def test_rows_come_back_before_a_shard_that_the_store_lost_is_rebuilt(
    valkey: Redis, way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    copy = await dump(valkey)
    await way.cast(*ballots(40, 80))
    await way.flush(keeper)
    await bring_back(valkey, copy)
    await sql.execute("DELETE FROM likes WHERE campaign = $1 AND candidate <= 2", way.campaign.number)
    await sql.execute("DELETE FROM counts WHERE campaign = $1 AND candidate <= 2", way.campaign.number)

    await reconciler(way, keeper).run_once()

    counted = await recount(way.store, way.ledger, way.campaign)
    assert counted.counts_agree, counted.differences()
    assert counted.ledger == {1: 16, 2: 16, 3: 32, 4: 32, 5: 32}, "what neither had is lost, and only that"
    assert await way.cast(*ballots(0, 40)) == 0


class TellsWhenBusy(Likes):
    """Tells that a shard was asked for which another worker had locked."""

    busy: asyncio.Event

    @asynccontextmanager
    async def locked_shard(self, campaign: StoredCampaign, shard: Shard) -> AsyncIterator[ShardFlush | None]:
        async with super().locked_shard(campaign, shard) as flush:
            if flush is None:
                self.busy.set()
            yield flush


async def test_a_comparison_waits_for_the_flush_of_another_worker(
    way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await lose(sql, way)
    ledger = Ledger(way.ledger._pool)
    ledger.likes = likes = TellsWhenBusy(way.ledger._pool)
    likes.busy = asyncio.Event()
    async with way.ledger.likes.locked_shard(way.campaign, way.campaign.shards[0]) as flush:
        assert flush is not None
        looking = asyncio.create_task(reconciler(way, Consumer(way.store, ledger, keep_s=LONG_S)).run_once())
        async with asyncio.timeout(10):
            await likes.busy.wait()
    await looking

    await way.check(EACH_OF_40)


async def test_a_full_store_is_emptied_rather_than_kept(way: Way, valkey: Redis, keeper: Consumer) -> None:
    await way.cast(*ballots(0, 40))
    async with configured(valkey, "maxmemory", "1mb"):
        await way.flush(keeper)
    assert await kept_entries(way) == 0
    await way.check(EACH_OF_40)


async def test_a_store_that_fills_forgets_what_it_has_kept_before_it_refuses_likes(
    way: Way, valkey: Redis, keeper: Consumer
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    assert await kept_entries(way) > 0

    await way.cast(*ballots(40, 80))
    used = int((await valkey.info("memory"))["used_memory"])
    async with configured(valkey, "maxmemory", str(round(used / 0.8))):
        await way.flush(keeper)

    assert await kept_entries(way) == 0
    await way.check(EACH_OF_80)


async def test_a_kept_entry_nobody_can_read_holds_back_no_other(
    valkey: Redis, way: Way, keeper: Consumer, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await valkey.xadd(keys.kept(Shard(way.campaign.id, 0)), {"v": "9"})
    await way.cast(*ballots(0, 40))
    await way.flush(keeper)
    await lose(sql, way)

    await reconciler(way, keeper).run_once()

    await way.check(EACH_OF_40)
