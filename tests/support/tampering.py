"""What somebody with the database's password may do to a campaign behind the back of the services."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import asyncpg

from dianzan.domain import wire
from dianzan.domain.windows import now_ms
from dianzan.ledger.records import StoredCampaign
from tests.support.casting import voter

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ADD_ROW = """
INSERT INTO likes (liked_at, window_day, network, campaign, candidate, publisher, voter_class, voter)
VALUES (now(), $1, 0, $2, $3, 0, 1, $4)
"""
ADD_COUNT = """
INSERT INTO counts AS c VALUES ($1, $2, $3, $4)
ON CONFLICT (campaign, candidate, shard) DO UPDATE SET likes = c.likes + excluded.likes
"""
ADD_HOUR = """
INSERT INTO hours AS h
SELECT number, date_trunc('hour', now(), rules ->> 'timezone'), $2, $3 FROM campaigns WHERE number = $1
ON CONFLICT (campaign, hour, shard) DO UPDATE SET likes = h.likes + excluded.likes
"""
TAKE_COUNT = "UPDATE counts SET likes = likes - $4 WHERE campaign = $1 AND candidate = $2 AND shard = $3"
TAKE_HOUR = "UPDATE hours SET likes = likes - $3 WHERE campaign = $1 AND shard = $2"
REMOVE_ROWS = "DELETE FROM likes WHERE campaign = $1 AND voter = ANY($2)"


def invented(count: int) -> list[bytes]:
    """Voters that nobody has made a token for."""
    return [voter(f"invented {number}") for number in range(count)]


async def add_rows(sql: Sql, campaign: StoredCampaign, count: int, *, candidate: int = 1) -> None:
    """Likes of invented voters, in the ledger's rows alone."""
    day = campaign.rules.window_at(now_ms()).date
    await sql.executemany(ADD_ROW, [(day, campaign.number, candidate, each) for each in invented(count)])


async def add_counts(sql: Sql, campaign: StoredCampaign, count: int, *, candidate: int = 1) -> None:
    """Their number, in all that Postgres counts."""
    shards = Counter(wire.shard_of(each, len(campaign.shards)) for each in invented(count))
    for shard, likes in shards.items():
        await sql.execute(ADD_COUNT, campaign.number, candidate, shard, likes)
        await sql.execute(ADD_HOUR, campaign.number, shard, likes)


async def take_counts(sql: Sql, campaign: StoredCampaign, count: int, *, candidate: int = 1) -> None:
    """Take their number out again, where all likes are of one hour."""
    shards = Counter(wire.shard_of(each, len(campaign.shards)) for each in invented(count))
    for shard, likes in shards.items():
        await sql.execute(TAKE_COUNT, campaign.number, candidate, shard, likes)
        await sql.execute(TAKE_HOUR, campaign.number, shard, likes)


async def take_rows(sql: Sql, campaign: StoredCampaign, count: int) -> None:
    """Take them out again, and no count with them."""
    await sql.execute(REMOVE_ROWS, campaign.number, invented(count))
