"""One shard's flush: likes that are new into the ledger, and their number into the counts, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import asyncpg

from dianzan.domain.errors import LedgerError
from dianzan.domain.windows import from_ms, to_ms
from dianzan.domain.wire import Entry
from dianzan.ledger.queries import Connection, queries
from dianzan.ledger.rows import COLUMNS, New, Rows, pack


class ShardFlush:
    """The open transaction of one shard's flush; committed when the `locked_shard` block ends without an error."""

    def __init__(self, connection: Connection, campaign: int, shard: int) -> None:
        self._connection, self._campaign, self._shard = connection, campaign, shard

    async def insert(self, entries: Iterable[Entry]) -> int:
        """Insert the entries' likes and count those that were new; returns how many were. Idempotent by identity."""
        return sum([await self._insert_window(rows) for rows in pack(entries, self._campaign)])

    async def _insert_window(self, rows: Rows) -> int:
        """All at once if every like is new, as nearly always; otherwise those that are, found one by one.

        By way of the ledger itself, too, where the window has no partition: it refuses such likes by name.
        """
        schema = await self._connection.fetchval(queries()["partition_schema"], rows.partition)
        if schema is None:
            return await self._insert_staged(rows)
        savepoint = self._connection.transaction()
        await savepoint.start()
        try:
            await self._copy(rows, rows.partition, schema)
        except asyncpg.UniqueViolationError:
            await savepoint.rollback()  # after no other error: it would wait as long again for a server that has gone
            return await self._insert_staged(rows)
        await savepoint.commit()
        return await self._count(rows.new)

    async def _insert_staged(self, rows: Rows) -> int:
        await self._connection.execute(queries()["create_staging"])
        await self._copy(rows, "staging", "pg_temp")
        new = New()
        for candidate, liked_at, likes in await self._connection.fetch(queries()["insert_staged"]):
            new.likes[candidate] += likes
            new.times[to_ms(liked_at)] += likes
        return await self._count(new)

    async def _count(self, new: New) -> int:
        """Add the likes that this transaction inserted to every aggregate kept of them; returns how many they are."""
        await self._connection.execute(
            queries()["count_new"],
            self._campaign,
            self._shard,
            list(new.likes),
            list(new.likes.values()),
            [from_ms(time_ms) for time_ms in new.times],
            list(new.times.values()),
        )
        return new.count

    async def _copy(self, rows: Rows, table: str, schema: str) -> None:
        copied = await self._connection.copy_to_table(
            table, schema_name=schema, source=rows.pieces(), columns=COLUMNS, format="binary"
        )
        if copied != f"COPY {rows.new.count}":
            raise LedgerError(f"Postgres answered {copied} to {rows.new.count} likes.")

    async def counts(self) -> dict[int, int]:
        """Likes per candidate index of this shard by the counts, those inserted in this transaction included."""
        records = await self._connection.fetch(queries()["counts_of_shard"], self._campaign, self._shard)
        return {record["candidate"]: record["likes"] for record in records}

    async def estimate_people(self, people: Mapping[int, int]) -> None:
        """Keep the shard's estimates of distinct voters per candidate index (0: of any)."""
        query = queries()["estimate_people"]
        await self._connection.execute(query, self._campaign, self._shard, list(people), list(people.values()))
