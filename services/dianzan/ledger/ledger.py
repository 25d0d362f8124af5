"""The Postgres edge: the pool of connections, its migrations, and what it holds by kind."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Self

import asyncpg

from dianzan.domain.errors import LedgerAway, LedgerError
from dianzan.domain.limits import POSTGRES_TIMEOUT_S
from dianzan.ledger.address import connection_options
from dianzan.ledger.campaigns import Campaigns
from dianzan.ledger.errors import mapped
from dianzan.ledger.likes import Likes
from dianzan.ledger.queries import Pool, queries
from dianzan.ledger.schema import migrate, refuse_unknown
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
        """Open a pool; no connection is made until one is needed, so Postgres may be down at this moment.

        Raises LedgerError for what is no address of PostgreSQL.
        """
        options = connection_options(url)
        pool = asyncpg.create_pool(
            min_size=0, max_size=connections_max, command_timeout=POSTGRES_TIMEOUT_S, init=_set_codecs, **options
        )
        return cls(await pool)

    @classmethod
    async def refuse_unusable(cls, url: str) -> None:
        """Return where this release can serve from the database of an address, or it does not answer yet.

        Raises LedgerError, in one sentence, for a wrong address or login, and for tables of another release.
        """
        ledger = await cls.connect(url, connections_max=1)
        try:
            with mapped():
                async with ledger._pool.acquire() as connection:
                    await refuse_unknown(connection)
        except LedgerAway:
            return
        finally:
            await ledger.aclose()

    async def aclose(self) -> None:
        """Close every connection, waiting for what runs."""
        await self._pool.close()

    async def now(self) -> datetime:
        """Postgres's clock."""
        with mapped():
            instant: datetime = await self._pool.fetchval(queries()["now"])
        return instant

    async def lag_s(self) -> float:
        """Seconds by which what is read here is older than the primary's; 0 of a primary."""
        with mapped():
            lag_s: float = await self._pool.fetchval(queries()["lag"])
        return lag_s

    async def knows_zone(self, name: str) -> bool:
        """Whether Postgres can tell a time zone's hours, as every flush asks it to."""
        with mapped():
            try:
                await self._pool.fetchval(queries()["hour_in_zone"], name)
            except asyncpg.InvalidParameterValueError:
                return False
        return True

    async def migrate(self) -> list[str]:
        """Bring the tables to this release's; returns the migrations that were missing. See `schema.migrate`."""
        with mapped():
            async with self._pool.acquire() as connection:
                return await migrate(connection)

    async def grant_reader(self, role: str) -> None:
        """Let a role read what the results API shows, and nothing else: no key and no like.

        Raises LedgerError if there is no such role, or it may be given nothing by ours.
        """
        with mapped():
            async with self._pool.acquire() as connection:
                if not await connection.fetchval(queries()["role_exists"], role):
                    raise LedgerError(
                        f"PostgreSQL has no role {role!r}: CREATE ROLE {role} LOGIN PASSWORD '…', then run this again."
                    )
                schema = await connection.fetchval(queries()["ledger_schema"])
                name = await connection.fetchval(queries()["quoted"], role)
                await connection.execute(queries()["grant_reader"].format(role=name, schema=schema))

    async def make_reader(self, role: str, password: str) -> None:
        """Make a role that can log in, or give it this password, and let it read as `grant_reader` does."""
        with mapped():
            async with self._pool.acquire() as connection:
                name = await connection.fetchval(queries()["quoted"], role)
                secret = await connection.fetchval(queries()["quoted_text"], password)
                if not await connection.fetchval(queries()["role_exists"], role):
                    await connection.execute(queries()["create_role"].format(role=name))
                await connection.execute(queries()["set_password"].format(role=name, password=secret))
        await self.grant_reader(role)


async def _set_codecs(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
