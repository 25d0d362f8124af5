"""The Postgres edge: campaigns, the ledger of likes and the counts beside it; one typed method per named query."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.resources import files
from typing import Any, Self

import asyncpg

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.errors import CampaignError, LedgerError
from dianzan.domain.limits import POSTGRES_TIMEOUT_S
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.queries import Connection, queries
from dianzan.ledger.rows import partition_name
from dianzan.roster.candidates import Candidate

# What asyncpg raises where Postgres is away, shutting down, failing over, a standby not yet promoted, out of disk or
# connections, or chose this transaction to end a deadlock; the caller asks again.
AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a session that the server ends between two queries of ours
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    OSError,
    TimeoutError,
)
# What asyncpg raises where Postgres is there and refuses the rows themselves; asking again does not help.
REFUSED = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)
_READ_ALL_S = 86_400.0  # a query that reads every row: 250 million take minutes, before the first is given too
LOCK_WAIT_S = 10  # a step but seal and restore takes under a second


@dataclass(frozen=True, slots=True)
class StoredCampaign:
    """One row of `campaigns`."""

    number: int
    rules: Rules
    version: int
    state: State
    width: int | None
    secret: bytes | None
    swept_through: date | None

    @property
    def id(self) -> str:
        """The campaign's id in addresses and keys."""
        return self.rules.id

    @property
    def hidden(self) -> bool:
        """Whether its numbers are kept from the public now."""
        return self.rules.results == "hidden" and self.state is not State.sealed


@dataclass(frozen=True, slots=True)
class Tally:
    """Two numbers of one candidate: likes, and people (distinct voters; an estimate until sealed)."""

    likes: int
    people: int


@dataclass(frozen=True, slots=True)
class Seal:
    """The published final numbers of a campaign; `tallies` is candidate index -> (rank, tally)."""

    sealed_at: datetime
    likes: int
    people: int
    tallies: dict[int, tuple[int, Tally]]


async def _set_codecs(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


class Ledger:
    """Everything Postgres holds. Raises asyncpg's errors where Postgres is away (`AWAY`)."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

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
        instant: datetime = await self._pool.fetchval(queries()["now"])
        return instant

    async def knows_zone(self, name: str) -> bool:
        """Whether Postgres can tell a time zone's hours, as every flush asks it to."""
        try:
            await self._pool.fetchval(queries()["hour_in_zone"], name)
        except asyncpg.InvalidParameterValueError:
            return False
        return True

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing, in order; returns their names. Safe to run from many processes."""
        applied: list[str] = []
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

    # ---- campaigns ------------------------------------------------------------------------------------------------

    async def campaigns(self) -> list[StoredCampaign]:
        """All campaigns, oldest first."""
        return [_stored(record) for record in await self._pool.fetch(queries()["campaigns"])]

    async def campaign(self, campaign: str) -> StoredCampaign | None:
        """One campaign, None where there is none of this id."""
        record = await self._pool.fetchrow(queries()["campaign"], campaign)
        return _stored(record) if record else None

    @asynccontextmanager
    async def step(self, campaign: str) -> AsyncIterator[CampaignStep]:
        """One transaction in a campaign's life; two steps of one campaign never overlap.

        Raises CampaignError where another step still runs after LOCK_WAIT_S: a seal or a restore takes minutes.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(queries()["outlive_idle"])
            await _lock(connection, campaign)
            record = await connection.fetchrow(queries()["campaign"], campaign)
            yield CampaignStep(connection, campaign, _stored(record) if record else None)

    async def document(self, campaign: StoredCampaign) -> Document:
        """The document of a published campaign as the vote API reads it."""
        if campaign.width is None or campaign.secret is None:
            raise LedgerError(f"Campaign {campaign.id} has not been published, or its key is destroyed.")
        codes = tuple(candidate.code for candidate in (await self.candidates(campaign.number)).values())
        return Document.model_validate(
            {
                "version": campaign.version,
                "state": campaign.state,
                "rules": campaign.rules,
                "width": campaign.width,
                "candidates": codes,
                "secret": campaign.secret.hex(),
            }
        )

    async def candidates(self, campaign: int) -> dict[int, Candidate]:
        """Candidate index -> candidate, in order; indexes run from 1 without a gap."""
        records = await self._pool.fetch(queries()["candidates"], campaign)
        return {record["candidate"]: Candidate(*list(record)[1:]) for record in records}

    async def set_swept(self, campaign: int, day: date) -> None:
        """Remember the last window whose marks are gone from the store."""
        await self._pool.execute(queries()["set_swept"], campaign, day)

    # ---- likes ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def locked_shard(self, campaign: int, shard: int) -> AsyncIterator[ShardFlush | None]:
        """A transaction that holds the shard's advisory lock; None where another worker holds it."""
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                locked = await connection.fetchval(queries()["lock_shard"], campaign, shard)
                yield ShardFlush(connection, campaign, shard) if locked else None
            except TimeoutError:
                connection.terminate()  # else ROLLBACK would wait as long again for a server that has gone
                raise

    async def tallies(self) -> dict[int, dict[int, Tally]]:
        """Campaign number -> candidate index -> numbers by the counts; index 0 holds the people of the campaign."""
        found: dict[int, dict[int, Tally]] = {}
        for record in await self._pool.fetch(queries()["tallies"]):
            found.setdefault(record["campaign"], {})[record["candidate"]] = Tally(record["likes"], record["people"])
        return found

    async def hours(self, campaign: int) -> list[tuple[datetime, int]]:
        """Likes per hour, oldest first, hours without likes left out."""
        return [(record["hour"], record["likes"]) for record in await self._pool.fetch(queries()["hours"], campaign)]

    async def seal(self, campaign: int) -> Seal | None:
        """The published final tally, None before the seal."""
        head = await self._pool.fetchrow(queries()["seal"], campaign)
        if head is None:
            return None
        records = await self._pool.fetch(queries()["sealed_tally"], campaign)
        tallies = {
            record["candidate"]: (record["rank"], Tally(record["likes"], record["people"])) for record in records
        }
        return Seal(head["sealed_at"], head["likes"], head["people"], tallies)

    # ---- the recount ------------------------------------------------------------------------------------------------

    async def recount_counts(self, campaign: int) -> dict[int, int]:
        """Likes per candidate by the counts."""
        return await self._per_candidate("recount_counts", campaign)

    async def recount_ledger(self, campaign: int) -> dict[int, int]:
        """Likes per candidate by counting the ledger's rows."""
        return await self._per_candidate("recount_ledger", campaign)

    async def recount_identities(self, campaign: int) -> dict[int, int]:
        """Likes per candidate by counting distinct identities, without trusting the primary key."""
        return await self._per_candidate("recount_identities", campaign)

    async def recount_people(self, campaign: int) -> dict[int, int]:
        """Distinct voters per candidate, exactly; index 0 is the whole campaign."""
        return await self._per_candidate("recount_people", campaign)

    async def record(self, campaign: int) -> AsyncIterator[tuple[date, int, bytes]]:
        """Every like as (window, candidate, voter), sorted by window and candidate, streamed by a cursor."""
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(queries()["outlive_idle"])
            async for row in connection.cursor(queries()["record"], campaign, prefetch=10_000, timeout=_READ_ALL_S):
                yield row["window_day"], row["candidate"], row["voter"]

    async def shard_counts(self, campaign: int) -> dict[int, dict[int, int]]:
        """Shard -> candidate -> likes by the counts."""
        found: dict[int, dict[int, int]] = {}
        for record in await self._pool.fetch(queries()["shard_counts"], campaign):
            found.setdefault(record["shard"], {})[record["candidate"]] = record["likes"]
        return found

    async def voters_of(self, campaign: int, day: date) -> AsyncIterator[tuple[bytes, list[int]]]:
        """Each voter of one window with the candidates liked, in order; streamed by a cursor."""
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(queries()["outlive_idle"])
            async for row in connection.cursor(
                queries()["voters"], campaign, day, prefetch=10_000, timeout=_READ_ALL_S
            ):
                yield row["voter"], row["candidates"]

    async def _per_candidate(self, query: str, campaign: int) -> dict[int, int]:
        records = await self._pool.fetch(queries()[query], campaign, timeout=_READ_ALL_S)
        return {record[0]: record[1] for record in records}


async def _lock(connection: Connection, campaign: str) -> None:
    await connection.execute(queries()["limit_lock_wait"].format(seconds=LOCK_WAIT_S))
    try:
        await connection.execute(queries()["lock_campaign"], campaign)
    except asyncpg.LockNotAvailableError as error:
        raise CampaignError(
            f"Another command on campaign {campaign} is running: wait until it has ended, then run this again."
        ) from error


class CampaignStep:
    """The open transaction of one step; `stored` is the campaign as it was at the step's start."""

    def __init__(self, connection: Connection, campaign: str, stored: StoredCampaign | None) -> None:
        self._connection, self._id, self.stored = connection, campaign, stored

    async def create(self, rules: Rules, secret: bytes) -> None:
        """Insert a draft."""
        await self._connection.execute(queries()["insert_campaign"], rules.id, rules.model_dump(mode="json"), secret)

    async def change_rules(self, rules: Rules) -> None:
        """Replace the rules and raise the version."""
        await self._connection.execute(queries()["update_rules"], rules.id, rules.model_dump(mode="json"))

    async def candidate_codes(self, number: int) -> dict[str, int]:
        """Code -> index of the candidates so far."""
        records = await self._connection.fetch(queries()["candidates"], number)
        return {record["code"]: record["candidate"] for record in records}

    async def put_candidates(self, number: int, indexed: Sequence[tuple[int, Candidate]]) -> None:
        """Insert or correct candidates and raise the version."""
        rows = [
            (number, index, c.code, c.name, c.kind, c.district, c.category, c.summary, c.story, c.photo)
            for index, c in indexed
        ]
        await self._connection.executemany(queries()["upsert_candidate"], rows)
        await self._connection.execute(queries()["bump_version"], number)

    async def pass_version(self, version: int) -> int | None:
        """Raise the version past a later one; returns the new one, None where it was not behind."""
        later: int | None = await self._connection.fetchval(queries()["pass_version"], self._id, version)
        return later

    async def create_partitions(self, number: int, days: Iterable[date]) -> None:
        """One ledger partition per window, so that no like ever lacks a place."""
        for day in days:
            name = partition_name(number, day)
            if not await self._connection.fetchval(queries()["partition_exists"], name):
                bounds = {"name": name, "campaign": number, "day": day, "next_day": day + timedelta(days=1)}
                await self._connection.execute(queries()["create_partition"].format(**bounds))

    async def publish(self, width: int) -> int:
        """Move to published (or stay there) and return the new version."""
        version: int = await self._connection.fetchval(queries()["set_published"], self._id, width)
        return version

    async def close(self) -> None:
        """Move from published to closed; again changes nothing."""
        await self._connection.execute(queries()["set_closed"], self._id)

    async def lock_shards(self, number: int, shards: Iterable[int]) -> None:
        """Wait for the flushes of these shards that are in the middle; until the step ends no other begins.

        Raises CampaignError where one lasts longer than LOCK_WAIT_S.
        """
        try:
            for shard in shards:
                await self._connection.execute(queries()["wait_for_shard"], number, shard)
        except asyncpg.LockNotAvailableError as error:
            raise CampaignError("A worker's flush has not ended: run this again when it has.") from error

    async def has_likes(self, number: int) -> bool:
        """Whether the ledger holds any like of the campaign."""
        return bool(await self._connection.fetchval(queries()["has_likes"], number))

    async def seal(self, number: int, likes: int, people: int, tallies: Mapping[int, tuple[int, Tally]]) -> None:
        """Write the final tally and move to sealed."""
        await self._connection.execute(queries()["insert_seal"], number, likes, people)
        rows = [(number, candidate, rank, t.likes, t.people) for candidate, (rank, t) in tallies.items()]
        await self._connection.executemany(queries()["insert_sealed_tally"], rows)
        await self._connection.execute(queries()["set_sealed"], number)


def _migrations() -> list[tuple[str, str]]:
    folder = files("dianzan.ledger") / "migrations"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return [(name, (folder / name).read_text(encoding="utf-8")) for name in names]


def _stored(record: asyncpg.Record) -> StoredCampaign:
    return StoredCampaign(
        number=record["number"],
        rules=Rules.model_validate(record["rules"]),
        version=record["version"],
        state=State(record["state"]),
        width=record["width"],
        secret=record["secret"],
        swept_through=record["swept_through"],
    )
