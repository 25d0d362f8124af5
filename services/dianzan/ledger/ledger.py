"""The Postgres edge: the pool of connections, its migrations, and what it holds by kind."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files
from typing import Any, Self

import asyncpg

from dianzan.domain.limits import POSTGRES_TIMEOUT_S
from dianzan.ledger.campaigns import Campaigns
from dianzan.ledger.errors import mapped
from dianzan.ledger.likes import Likes
from dianzan.ledger.queries import Pool, queries
from dianzan.ledger.tallies import Recounts, Tallies


class Ledger:
    """Everything Postgres holds. Every method raises LedgerAway where Postgres does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.campaigns = Campaigns(pool)
        self.likes = Likes(pool)
        self.tallies = Tallies(pool)
        self.recounts = Recounts(pool)

    @classmethod
    async def connect(cls, url: str, *, connections_max: int = 8) -> Self:
        """Open a pool; no connection is made until one is needed, so Postgres may be down at this moment."""
        pool = asyncpg.create_pool(
            url, min_size=0, max_size=connections_max, command_timeout=POSTGRES_TIMEOUT_S, timeout=5, init=_set_codecs
        )
        return cls(await pool)

    async def aclose(self) -> None:
        """Close every connection, waiting for what runs."""
        await self._pool.close()

    async def now(self) -> datetime:
        """Postgres's clock."""
        with mapped():
            instant: datetime = await self._pool.fetchval(queries()["now"])
        return instant

    async def knows_zone(self, name: str) -> bool:
        """Whether Postgres can tell a time zone's hours, as every flush asks it to."""
        with mapped():
            try:
                await self._pool.fetchval(queries()["hour_in_zone"], name)
            except asyncpg.InvalidParameterValueError:
                return False
        return True

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing, in order; returns their names. Safe to run from many processes."""
        applied: list[str] = []
        with mapped():
            async with self._pool.acquire() as connection:
                await connection.execute(queries()["lock_migrations"])
                try:
                    await connection.execute(queries()["migrations_table"])
                    done = {record["name"] for record in await connection.fetch(queries()["migrations_applied"])}
                    for name, text in _migrations():
                        if name not in done:
                            async with connection.transaction():
                                await connection.execute(text)
                                await connection.execute(queries()["record_migration"], name)
                            applied.append(name)
                finally:
                    await connection.execute(queries()["unlock_migrations"])
        return applied


async def _set_codecs(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


def _migrations() -> list[tuple[str, str]]:
    folder = files("dianzan.ledger") / "migrations"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return [(name, (folder / name).read_text(encoding="utf-8")) for name in names]
