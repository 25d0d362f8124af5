"""The ledger of likes: the shard lock under which a flush adds to it, and its rows read in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg
from asyncpg.cursor import CursorFactory

from dianzan.domain.shard import Shard
from dianzan.ledger.errors import mapped
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.queries import READ_ALL_S, Connection, Pool, queries
from dianzan.ledger.records import StoredCampaign


class Likes:
    """Every method raises LedgerAway where Postgres does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def locked_shard(self, campaign: StoredCampaign, shard: Shard) -> AsyncIterator[ShardFlush | None]:
        """A transaction that holds the shard's advisory lock; None if another worker holds it.

        Raises LedgerAway, or LedgerRefuses if Postgres refuses the likes; then nothing is committed.
        """
        with mapped():
            async with self._pool.acquire() as connection, connection.transaction():
                try:
                    locked = await connection.fetchval(queries()["lock_shard"], campaign.number, shard.number)
                    yield ShardFlush(connection, campaign.number, shard.number) if locked else None
                except TimeoutError:
                    connection.terminate()  # or ROLLBACK would wait as long again for a server that has gone
                    raise

    async def shard_counts(self, campaign: StoredCampaign) -> dict[Shard, dict[int, int]]:
        """Shard -> candidate -> likes by the counts; a shard without likes has an empty one."""
        counts: dict[Shard, dict[int, int]] = {shard: {} for shard in campaign.shards}
        with mapped():
            for record in await self._pool.fetch(queries()["shard_counts"], campaign.number):
                counts[campaign.shards[record["shard"]]][record["candidate"]] = record["likes"]
        return counts

    async def record(self, campaign: StoredCampaign) -> AsyncIterator[tuple[date, int, bytes]]:
        """Every like as (window, candidate, voter), sorted by window and candidate, streamed by a cursor."""
        with mapped():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(queries()["outlive_idle"])
                async for row in await _rows(connection, queries()["record"], campaign.number):
                    yield row["window_day"], row["candidate"], row["voter"]

    async def voters_of(self, campaign: StoredCampaign, day: date) -> AsyncIterator[tuple[bytes, list[int]]]:
        """Each voter of one window with the candidates liked, in order; streamed by a cursor."""
        with mapped():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(queries()["outlive_idle"])
                async for row in await _rows(connection, queries()["voters"], campaign.number, day):
                    yield row["voter"], row["candidates"]


async def _rows(connection: Connection, query: str, *arguments: object) -> CursorFactory[asyncpg.Record]:
    """Every row of a query, streamed. Prepared first: a cursor names its own statement, and a pooler mixes up names."""
    prepared = await connection.prepare(query, timeout=READ_ALL_S)
    return prepared.cursor(*arguments, prefetch=10_000, timeout=READ_ALL_S)
