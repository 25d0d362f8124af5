"""Looking into, and tampering with, what Postgres holds, behind the back of the services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from tests.support.client import CampaignClient
from tests.support.wait import until


async def sql(campaign: CampaignClient, query: str, *args: Any) -> list[asyncpg.Record]:
    """Run one statement on the campaign's database."""
    connection = await asyncpg.connect(campaign.system.stores.database_url)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()


async def number_of(campaign: CampaignClient) -> int:
    """The campaign's number in the database."""
    return (await campaign.stores.lifecycle.stored(campaign.id)).number


async def ledger_rows(campaign: CampaignClient) -> list[asyncpg.Record]:
    """Every like of the campaign that has reached the ledger."""
    query = "SELECT * FROM likes WHERE campaign = $1 ORDER BY liked_at, candidate"
    return await sql(campaign, query, await number_of(campaign))


async def until_in_ledger(campaign: CampaignClient, likes: int, *, within_s: float = 10) -> list[asyncpg.Record]:
    """Wait until the ledger holds that many likes of the campaign."""

    async def there() -> list[asyncpg.Record]:
        rows = await ledger_rows(campaign)
        return rows if len(rows) == likes else []

    return await until(there, within_s=within_s, what=f"{likes} likes of {campaign.id} are in the ledger")


async def forget(campaigns: Sequence[CampaignClient]) -> None:
    """Let the services pass over these campaigns from now on.

    A worker asks for the likes of each campaign ten times a second: those of tests that have ended would soon cost it
    more than all that the tests do.
    """
    await sql(campaigns[0], "UPDATE campaigns SET state = 'draft' WHERE id = ANY($1)", [each.id for each in campaigns])
