"""Two installations in one database, each in a schema of its own: neither takes anything of the other's for its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from dianzan.domain.errors import CampaignError, LedgerRefuses
from dianzan.ledger.ledger import Ledger
from tests.support.casting import voter
from tests.support.ledger_rows import entry, insert, november, published

A = voter("a")
PARTITIONS = """
SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = '{schema}.likes'::regclass AND relnamespace = '{schema}'::regnamespace
"""


@pytest.fixture
async def first(empty_database_url: str) -> AsyncIterator[Ledger]:
    """The installation in `public`."""
    opened = await Ledger.connect(empty_database_url)
    await opened.migrate()
    yield opened
    await opened.aclose()


@pytest.fixture
async def second(first: Ledger, empty_database_url: str) -> AsyncIterator[Ledger]:
    """That of a role with a schema of its name, by the search path that every server has by default."""
    sql = await asyncpg.connect(empty_database_url, ssl=False)
    await sql.execute("DROP ROLE IF EXISTS second; CREATE ROLE second LOGIN PASSWORD 'second'")
    await sql.execute("CREATE SCHEMA second AUTHORIZATION second")
    parts = urlsplit(empty_database_url)
    opened = await Ledger.connect(urlunsplit(parts._replace(netloc=f"second:second@{parts.netloc.rpartition('@')[2]}")))
    await opened.migrate()
    yield opened
    await opened.aclose()
    await sql.execute("DROP OWNED BY second CASCADE; DROP ROLE second")
    await sql.close()


async def test_each_has_a_place_for_every_like(first: Ledger, second: Ledger, empty_database_url: str) -> None:
    rules = november()
    campaigns = [await published(ledger, rules) for ledger in (first, second)]
    assert campaigns[0].number == campaigns[1].number

    for ledger, campaign in zip((first, second), campaigns, strict=True):
        assert await insert(ledger, campaign, entry((A, [1, 2]))) == 2
        assert await insert(ledger, campaign, entry((A, [2, 3]))) == 1, "by way of the staging table"
        assert await ledger.recounts.rows(campaign) == {1: 1, 2: 1, 3: 1}

    sql = await asyncpg.connect(empty_database_url, ssl=False)
    windows = len(rules.window_dates())
    assert [await sql.fetchval(PARTITIONS.format(schema=schema)) for schema in ("public", "second")] == [windows] * 2
    await sql.close()


async def test_neither_holds_up_the_other(first: Ledger, second: Ledger) -> None:
    rules = november()
    mine, other = await published(first, rules), await published(second, rules)

    async with first.campaigns.step(rules.id), first.likes.locked_shard(mine, mine.shards[0]) as held:
        assert held is not None
        async with second.campaigns.step(rules.id) as step:
            assert step.campaign is not None
        async with second.likes.locked_shard(other, other.shards[0]) as flush:
            assert flush is not None


async def test_a_table_that_only_has_a_partitions_name_refuses_the_publication(
    first: Ledger, empty_database_url: str
) -> None:
    rules = november()
    campaign = await published(first, rules)
    sql = await asyncpg.connect(empty_database_url, ssl=False)
    name = f"likes_{campaign.number}_20261121"
    await sql.execute(f"ALTER TABLE likes DETACH PARTITION {name}")
    await sql.close()

    with pytest.raises(LedgerRefuses):
        await insert(first, campaign, entry((A, [1])))
    with pytest.raises(CampaignError, match=f"Not published: the table public.{name} is no partition of the ledger"):
        async with first.campaigns.step(rules.id) as step:
            await step.create_partitions(rules.window_dates())
