"""What a rehearsal asks of its own Postgres: likes by window, bytes on disk, the server's version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Self, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_SECTIONS = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8").split("-- name: ")[1:]
QUERIES = {name.strip(): body.strip() for name, _, body in (section.partition("\n") for section in _SECTIONS)}


class Database:
    """One connection; counting hundreds of millions of rows takes minutes, so no query has a time-out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """Connected for the length of the block."""
        connection = await asyncpg.connect(url, ssl=False)
        try:
            yield cls(connection)
        finally:
            await connection.close()

    async def windows(self, campaign: int) -> dict[tuple[date, int], int]:
        """Likes per (window, candidate) by counting the ledger's rows."""
        records = await self._connection.fetch(QUERIES["recount_windows"], campaign)
        return {(record["window_day"], record["candidate"]): record["likes"] for record in records}

    async def size_on_disk(self, campaign: int) -> tuple[int, int]:
        """Bytes of a campaign's rows, and of their indexes."""
        record = await self._connection.fetchrow(QUERIES["size_on_disk"], campaign)
        return (record["rows"] or 0, record["indexes"] or 0) if record else (0, 0)

    async def server_version(self) -> str:
        """Postgres's version."""
        return str(await self._connection.fetchval(QUERIES["server_version"])).split()[0]
