"""The Postgres edge: migrations, idempotent insertion, counts that equal rows, locks, partitions."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from dianzan.domain.errors import LedgerRefuses
from dianzan.domain.limits import LIKES_PER_FLUSH_MAX
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.queries import queries
from dianzan.ledger.records import StoredCampaign
from tests.support.casting import voter
from tests.support.ledger_rows import NOON, entry, insert, november, published

A, B, C = voter("a"), voter("b"), voter("c")
Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
MIGRATIONS = sorted(
    path.name for path in (files("dianzan.ledger") / "migrations").iterdir() if path.name.endswith(".sql")
)


@pytest.fixture
async def campaign(ledger: Ledger) -> StoredCampaign:
    return await published(ledger, november())


# ---- migrations and queries -----------------------------------------------------------------------------------------


async def test_migrations_apply_to_an_empty_database_once(empty_database_url: str) -> None:
    ledger = await Ledger.connect(empty_database_url)

    assert await ledger.migrate() == MIGRATIONS
    assert await ledger.migrate() == []

    assert await ledger.campaigns.all() == []
    await ledger.aclose()


async def test_migrations_apply_once_from_four_processes_at_the_same_time(empty_database_url: str) -> None:
    ledgers = [await Ledger.connect(empty_database_url) for _ in range(4)]

    applied = await asyncio.gather(*(ledger.migrate() for ledger in ledgers))

    assert sorted(applied) == [[], [], [], MIGRATIONS]
    for ledger in ledgers:
        await ledger.aclose()


async def test_publishers_of_an_older_database_keep_the_numbers_of_their_places(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url, ssl=False)
    folder = files("dianzan.ledger") / "migrations"
    await connection.execute((folder / MIGRATIONS[0]).read_text(encoding="utf-8"))
    await connection.execute(
        """INSERT INTO campaigns (id, rules) VALUES ('a', '{"publishers": ["paper", "radio"]}'), ('b', '{}')"""
    )

    await connection.execute((folder / MIGRATIONS[1]).read_text(encoding="utf-8"))

    rows = await connection.fetch("SELECT campaign, number, code, name, origins FROM publishers ORDER BY number")
    await connection.close()
    assert [tuple(row) for row in rows] == [(1, 1, "paper", "", []), (1, 2, "radio", "", [])]


def test_every_query_is_used_and_every_query_used_exists() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(str(files("dianzan.ledger"))).glob("*.py"))
    used = set(re.findall(r'queries\(\)\["(\w+)"\]', source)) | set(re.findall(r'_per_candidate\("(\w+)"', source))

    assert used == set(queries())


def test_every_query_has_a_name_of_its_own() -> None:
    text = (files("dianzan.ledger") / "queries.sql").read_text(encoding="utf-8")

    assert len(re.findall(r"^-- name: ", text, re.MULTILINE)) == len(queries())


# ---- inserting likes ------------------------------------------------------------------------------------------------


async def test_likes_are_inserted_once_by_their_identity(ledger: Ledger, campaign: StoredCampaign) -> None:
    first, second = entry((A, [1, 2]), (B, [1])), entry((A, [2, 3]))

    assert await insert(ledger, campaign, first) == 3
    assert await insert(ledger, campaign, first) == 0
    assert await insert(ledger, campaign, first, second, second) == 1

    assert await ledger.recounts.rows(campaign) == {1: 2, 2: 1, 3: 1}


async def test_one_like_twice_in_one_flush_is_one_row(ledger: Ledger, campaign: StoredCampaign) -> None:
    assert await insert(ledger, campaign, entry((A, [1, 1]), (A, [1])), entry((A, [1]))) == 1


@pytest.mark.parametrize("known", [0, 10_000, 19_999], ids=["first", "middle", "last"])
async def test_the_longest_flush_with_one_known_like_adds_all_others(
    ledger: Ledger, campaign: StoredCampaign, known: int
) -> None:
    voters = sorted(voter(n) for n in range(LIKES_PER_FLUSH_MAX))
    await insert(ledger, campaign, entry((voters[known], [1])))

    assert await insert(ledger, campaign, entry(*((each, [1]) for each in voters))) == LIKES_PER_FLUSH_MAX - 1

    assert await ledger.recounts.rows(campaign) == {1: LIKES_PER_FLUSH_MAX}
    assert await ledger.recounts.counts(campaign) == {1: LIKES_PER_FLUSH_MAX}
    assert sum(likes for _, likes in await ledger.tallies.hours(campaign)) == LIKES_PER_FLUSH_MAX


async def test_a_like_that_another_unique_index_refuses_is_not_taken_for_known(
    ledger: Ledger, campaign: StoredCampaign, sql: Sql
) -> None:
    await sql.execute(f"CREATE UNIQUE INDEX ON likes_{campaign.number}_20261121 (voter)")

    with pytest.raises(LedgerRefuses):
        await insert(ledger, campaign, entry((A, [1, 2])))

    assert await ledger.recounts.rows(campaign) == {}
    assert await ledger.recounts.counts(campaign) == {}


async def test_a_flush_across_midnight_fills_both_windows(ledger: Ledger, campaign: StoredCampaign) -> None:
    next_noon = NOON + timedelta(days=1)
    known = entry((B, [1]), at=next_noon)
    await insert(ledger, campaign, known)

    assert await insert(ledger, campaign, entry((A, [1, 2])), known, entry((A, [1]), at=next_noon)) == 3

    assert [day.day async for day, _, _ in ledger.likes.record(campaign)] == [21, 21, 22, 22]
    assert await ledger.tallies.hours(campaign) == [(NOON, 2), (next_noon, 2)]


async def test_a_like_of_the_next_window_is_another_like(ledger: Ledger, campaign: StoredCampaign) -> None:
    assert await insert(ledger, campaign, entry((A, [1])), entry((A, [1]), at=NOON + timedelta(days=1))) == 2


async def test_every_column_holds_what_the_entry_says(ledger: Ledger, campaign: StoredCampaign, sql: Sql) -> None:
    await insert(ledger, campaign, entry((A, [4])))

    [row] = await sql.fetch("SELECT * FROM likes WHERE campaign = $1", campaign.number)

    assert dict(row) == {
        "liked_at": NOON,
        "window_day": date(2026, 11, 21),
        "network": 7,
        "campaign": campaign.number,
        "candidate": 4,
        "publisher": 0,
        "voter_class": 1,
        "voter": A,
    }


async def test_counts_and_hours_equal_the_rows_really_inserted(ledger: Ledger, campaign: StoredCampaign) -> None:
    draw = random.Random(20_261_120)
    for _ in range(40):
        at = NOON + timedelta(minutes=draw.randrange(2_000))
        ballots = [(voter(draw.randrange(30)), draw.sample(range(1, 6), 3)) for _ in range(5)]
        await insert(ledger, campaign, entry(*ballots, at=at), shard=draw.randrange(4))

    rows = await ledger.recounts.rows(campaign)

    assert await ledger.recounts.counts(campaign) == rows
    assert await ledger.recounts.identities(campaign) == rows
    assert sum(likes for _, likes in await ledger.tallies.hours(campaign)) == sum(rows.values())
    assert len([like async for like in ledger.likes.record(campaign)]) == sum(rows.values())


async def test_an_hour_of_the_timeline_holds_the_likes_of_that_hour(ledger: Ledger, campaign: StoredCampaign) -> None:
    await insert(ledger, campaign, entry((A, [1, 2]), at=NOON), entry((B, [1]), at=NOON + timedelta(minutes=59)))
    await insert(ledger, campaign, entry((C, [1]), at=NOON + timedelta(minutes=60)), shard=1)

    assert await ledger.tallies.hours(campaign) == [(NOON, 3), (NOON + timedelta(hours=1), 1)]


async def test_an_insert_that_is_rolled_back_leaves_neither_rows_nor_counts(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    async def die_before_the_commit() -> None:
        async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
            assert flush is not None
            assert await flush.insert([entry((A, [1]))]) == 1
            raise RuntimeError("the worker died here")

    with pytest.raises(RuntimeError):
        await die_before_the_commit()

    assert await ledger.recounts.rows(campaign) == {}
    assert await ledger.recounts.counts(campaign) == {}
    assert await insert(ledger, campaign, entry((A, [1]))) == 1


async def test_two_flushes_of_the_same_likes_at_the_same_time_count_them_once(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    likes = [entry(*((voter(n), [1, 2, 3]) for n in range(start, start + 50))) for start in range(0, 500, 50)]

    # Other shards' numbers stand for the shard lock taken away.
    inserted = await asyncio.gather(
        *(insert(ledger, campaign, *random.Random(seed).sample(likes, 10), shard=seed) for seed in range(4))
    )

    assert sum(inserted) == 1_500
    assert await ledger.recounts.counts(campaign) == {1: 500, 2: 500, 3: 500}
    assert await ledger.recounts.rows(campaign) == {1: 500, 2: 500, 3: 500}


async def test_people_estimates_only_grow(ledger: Ledger, campaign: StoredCampaign) -> None:
    for estimate in ({0: 10, 1: 6}, {0: 9, 1: 7}):
        async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
            assert flush is not None
            await flush.estimate_people(estimate)

    async with ledger.likes.locked_shard(campaign, campaign.shards[1]) as flush:
        assert flush is not None
        await flush.estimate_people({0: 5})

    tally = (await ledger.tallies.all())[campaign.number]
    assert {index: numbers.people for index, numbers in tally.items()} == {0: 15, 1: 7}


async def test_people_are_counted_exactly_by_the_recount(ledger: Ledger, campaign: StoredCampaign) -> None:
    await insert(ledger, campaign, entry((A, [1, 2]), (B, [2])), entry((A, [2]), at=NOON + timedelta(days=1)))

    assert await ledger.recounts.people(campaign) == {0: 2, 1: 1, 2: 2}


# ---- locks and partitions -------------------------------------------------------------------------------------------


async def test_a_shard_that_is_being_flushed_is_skipped_by_a_second_worker(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    async with (
        ledger.likes.locked_shard(campaign, campaign.shards[0]) as first,
        ledger.likes.locked_shard(campaign, campaign.shards[0]) as second,
        ledger.likes.locked_shard(campaign, campaign.shards[1]) as other,
    ):
        assert first is not None
        assert second is None
        assert other is not None
    async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as again:
        assert again is not None


@pytest.mark.parametrize(("window", "days"), [("day", [20, 21, 22, 23]), ("campaign", [20])])
async def test_every_window_has_its_partition(ledger: Ledger, sql: Sql, window: str, days: list[int]) -> None:
    campaign = await published(ledger, november(window=window))
    async with ledger.campaigns.step(campaign.id) as step:
        await step.create_partitions(campaign.rules.window_dates())

    names = await _partitions(sql, campaign.number)

    assert names == [f"likes_{campaign.number}_202611{day}" for day in days]


async def test_likes_without_a_partition_are_refused_by_name(ledger: Ledger, campaign: StoredCampaign) -> None:
    with pytest.raises(LedgerRefuses, match='no partition of relation "likes" found'):
        await insert(ledger, campaign, entry((A, [1]), at=NOON + timedelta(days=9)))


async def test_likes_of_a_partition_that_was_detached_are_refused_too(
    ledger: Ledger, campaign: StoredCampaign, sql: Sql
) -> None:
    partition = f"likes_{campaign.number}_20261121"
    await sql.execute(f"ALTER TABLE likes DETACH PARTITION {partition}")
    try:
        with pytest.raises(LedgerRefuses, match='no partition of relation "likes" found'):
            await insert(ledger, campaign, entry((A, [1])))
        assert await ledger.recounts.counts(campaign) == {}
    finally:
        await sql.execute(f"DROP TABLE {partition}")  # the schema of this database is compared with its description


async def test_two_campaigns_are_given_further_windows_at_the_same_time(ledger: Ledger, sql: Sql) -> None:
    both = [await published(ledger, november()) for _ in range(2)]

    async def extend(campaign: StoredCampaign) -> None:
        async with ledger.campaigns.step(campaign.id) as step:
            await step.create_partitions([date(2026, 12, day) for day in range(1, 4)])

    await asyncio.gather(*map(extend, both))

    assert [len(await _partitions(sql, campaign.number)) for campaign in both] == [7, 7]


async def _partitions(sql: Sql, number: int) -> list[str]:
    rows = await sql.fetch(
        "SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = oid "
        "WHERE inhparent = 'likes'::regclass AND relname LIKE $1 ORDER BY relname",
        f"likes\\_{number}\\_%",
    )
    return [row["relname"] for row in rows]
