"""How the ledger's queries wait for long work, and which indexes and partitions they read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from dianzan.domain.errors import CampaignError, LedgerAway
from dianzan.ledger import ledger as ledger_module
from dianzan.ledger import step as step_module
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.queries import queries
from dianzan.ledger.records import StoredCampaign
from tests.support.casting import voter
from tests.support.ledger_rows import NOON, entry, insert, november, published
from tests.support.wait import until

A, B = voter("a"), voter("b")
Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def campaign(ledger: Ledger) -> StoredCampaign:
    return await published(ledger, november())


# ---- long work ------------------------------------------------------------------------------------------------------

IDLE_S = """
SELECT max(extract(epoch FROM clock_timestamp() - state_change))::float8
FROM pg_stat_activity WHERE application_name = 'idle' AND state = 'idle in transaction'
"""


async def _idle(sql: Sql) -> None:
    """Wait until the session called idle has waited for ten times as long as its server lets it."""

    async def long() -> bool:
        return (await sql.fetchval(IDLE_S) or 0) > 0.5

    await until(long, within_s=5, what="the session lives on")


@pytest.fixture
async def impatient(database_url: str) -> AsyncIterator[Ledger]:
    """A ledger whose server ends idle transactions at once."""
    opened = await Ledger.connect(f"{database_url}?application_name=idle&idle_in_transaction_session_timeout=50ms")
    yield opened
    await opened.aclose()


async def test_a_step_may_wait_for_long_work_on_other_connections(
    impatient: Ledger, campaign: StoredCampaign, sql: Sql
) -> None:
    async with impatient.campaigns.step(campaign.id) as step:
        await _idle(sql)
        assert await step.has_likes() is False


async def test_a_flush_that_stood_still_is_done_again(
    impatient: Ledger, ledger: Ledger, campaign: StoredCampaign, sql: Sql
) -> None:
    async def ended() -> bool:
        return not await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle'")

    async def stand_still() -> None:
        async with impatient.likes.locked_shard(campaign, campaign.shards[0]) as flush:
            assert flush is not None
            await until(ended, within_s=5, what="the server has ended the session")
            await flush.insert([entry((A, [1]))])

    with pytest.raises(LedgerAway):
        await stand_still()

    assert await insert(ledger, campaign, entry((A, [1]))) == 1


async def test_a_flush_that_another_s_lock_holds_up_is_done_again(
    database_url: str, campaign: StoredCampaign, sql: Sql
) -> None:
    impatient = await Ledger.connect(f"{database_url}?lock_timeout=50ms")
    async with sql.transaction():
        await sql.execute("LOCK TABLE likes, counts IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerAway):
            await insert(impatient, campaign, entry((A, [1])))

    assert await insert(impatient, campaign, entry((A, [1]))) == 1
    await impatient.aclose()


@pytest.mark.parametrize("reads", ["record", "voters"])
async def test_rows_may_be_read_slowly(impatient: Ledger, campaign: StoredCampaign, sql: Sql, reads: str) -> None:
    await insert(impatient, campaign, entry((A, [1]), (B, [1])))
    rows: AsyncIterator[tuple[object, ...]] = (
        impatient.likes.record(campaign) if reads == "record" else impatient.likes.voters_of(campaign, NOON.date())
    )

    await anext(rows)
    await _idle(sql)

    assert len([row async for row in rows]) == 1


async def test_the_first_row_of_a_large_window_may_take_longer_than_a_query_may(
    database_url: str, campaign: StoredCampaign, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "POSTGRES_TIMEOUT_S", 0.2)
    ledger = await Ledger.connect(f"{database_url}?application_name=slow")
    await insert(ledger, campaign, entry((A, [1])))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slow' AND wait_event_type = 'Lock'"

    async def read() -> list[bytes]:
        return [voter async for voter, _candidates in ledger.likes.voters_of(campaign, NOON.date())]

    async def waits_for_long() -> bool:
        query = f"{waiting} AND clock_timestamp() - state_change > '600ms'"
        return reading.done() or bool(await sql.fetchval(query))

    async with sql.transaction():
        await sql.execute("LOCK TABLE likes IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(read())
        await until(waits_for_long)
    assert await reading == [A]
    await ledger.aclose()


async def test_a_step_says_so_where_another_one_takes_long(
    ledger: Ledger, campaign: StoredCampaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "LOCK_WAIT_S", 1)
    async with ledger.campaigns.step(campaign.id):
        with pytest.raises(CampaignError, match=f"Another command on campaign {campaign.id} is running"):
            async with ledger.campaigns.step(campaign.id):
                pass


async def test_a_time_zone_that_postgres_does_not_know_is_found_out(ledger: Ledger) -> None:
    assert await ledger.knows_zone("Asia/Shanghai")
    assert not await ledger.knows_zone("Mars/Olympus")


# ---- plans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recount_ledger", "recount_identities", "recount_people", "record", "has_likes"])
async def test_a_query_over_the_ledger_reads_the_partitions_of_its_campaign_only(
    ledger: Ledger, sql: Sql, name: str
) -> None:
    mine, other = [await published(ledger, november()) for _ in range(2)]

    plan = await _plan(sql, name, mine.number)

    assert f"likes_{mine.number}_20261120" in plan
    assert f"likes_{other.number}_" not in plan


@pytest.mark.parametrize("name", ["hours", "recount_counts", "seal", "sealed_tally", "candidates"])
async def test_a_query_of_one_campaign_uses_the_primary_key(ledger: Ledger, sql: Sql, name: str) -> None:
    plan = await _plan(sql, name, 1)

    assert re.search(r"Index.* (on|using) \w+_pkey", plan), plan


async def test_the_flush_finds_known_likes_by_the_primary_key(ledger: Ledger, sql: Sql) -> None:
    plan = await _plan(sql, "insert_staged")

    assert re.search(r"Conflict Resolution: NOTHING\s+Conflict Arbiter Indexes: like_counts_once", plan), plan


async def test_new_likes_are_counted_by_the_primary_keys(ledger: Ledger, sql: Sql) -> None:
    rows = await sql.fetch(f"EXPLAIN {queries()['count_new']}", 1, 0, [1], [1], [NOON], [1])
    plan = "\n".join(row[0] for row in rows)

    assert "Conflict Arbiter Indexes: counts_pkey" in plan
    assert "Conflict Arbiter Indexes: hours_pkey" in plan


async def test_every_flush_finds_its_partition_by_indexes(ledger: Ledger, sql: Sql) -> None:
    await sql.execute("SET enable_seqscan = off")
    rows = await sql.fetch(f"EXPLAIN {queries()['partition_schema']}", "likes_1_20261120")
    plan = "\n".join(row[0] for row in rows)

    assert "pg_class_relname_nsp_index" in plan
    assert "Seq Scan" not in plan


async def _plan(sql: Sql, name: str, *arguments: int) -> str:
    """The plan of a named query, whatever the tests before have left in its tables.

    Sequential scans are off, since the tables of a test are too small for an index. Bitmap scans are off, since of two
    indexes that begin with the same column either may serve one.
    """
    await sql.execute("SET enable_seqscan = off")
    await sql.execute("SET enable_bitmapscan = off")
    async with sql.transaction():
        await sql.execute(queries()["create_staging"])
        rows = await sql.fetch(f"EXPLAIN {queries()[name]}", *arguments)
    return "\n".join(row[0] for row in rows)
