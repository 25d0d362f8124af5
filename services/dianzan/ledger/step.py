"""One step in a campaign's life: one transaction under the campaign's lock, and what a step may write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from dianzan.domain.campaign import Publisher, Rules
from dianzan.domain.errors import CampaignError
from dianzan.domain.shard import Shard
from dianzan.domain.voters import Revocation
from dianzan.ledger.queries import READ_ALL_S, Connection, queries
from dianzan.ledger.records import Seal, StoredCampaign
from dianzan.ledger.rows import partition_name
from dianzan.roster.candidates import Candidate
from dianzan.roster.changes import Change

LOCK_WAIT_S: Final = 10  # a step but seal and restore takes under a second


async def lock_campaign(connection: Connection, campaign: str) -> None:
    """Wait for another step of the campaign. Raises CampaignError after LOCK_WAIT_S."""
    await connection.execute(queries()["limit_lock_wait"].format(seconds=LOCK_WAIT_S))
    try:
        await connection.execute(queries()["lock_campaign"], campaign)
    except asyncpg.LockNotAvailableError as error:
        raise CampaignError(
            f"Another command on campaign {campaign} is running: wait until it has ended, then run this again."
        ) from error


class CampaignStep:
    """The open transaction of one step; `campaign` is the campaign as it was at the step's start, if it existed."""

    def __init__(self, connection: Connection, campaign_id: str, campaign: StoredCampaign | None) -> None:
        self._connection, self._id, self.campaign = connection, campaign_id, campaign
        self._number = campaign.number if campaign else 0

    async def create(self, rules: Rules, secret: bytes) -> None:
        """Insert a draft."""
        values = (rules.id, rules.model_dump(mode="json"), secret)
        self._number = await self._connection.fetchval(queries()["insert_campaign"], *values)

    async def change_rules(self, rules: Rules) -> None:
        """Replace the rules and raise the version."""
        await self._connection.execute(queries()["update_rules"], rules.id, rules.model_dump(mode="json"))

    async def candidate_codes(self) -> dict[str, int]:
        """Code -> index of the candidates so far."""
        records = await self._connection.fetch(queries()["candidates"], self._number)
        return {record["code"]: record["candidate"] for record in records}

    async def put_candidates(self, indexed: Sequence[tuple[int, Candidate]]) -> None:
        """Insert or correct candidates and raise the version."""
        rows = [
            (self._number, index, c.code, c.name, c.kind, c.district, c.category, c.summary, c.story, c.photo)
            for index, c in indexed
        ]
        await self._connection.executemany(queries()["upsert_candidate"], rows)
        await self._connection.execute(queries()["bump_version"], self._number)

    async def keep_changes(self, changes: Iterable[Change]) -> None:
        """Keep what this step changes in the roster of a campaign that runs."""
        rows = [(self._number, each.code, each.field, each.before, each.after) for each in changes]
        await self._connection.executemany(queries()["insert_roster_change"], rows)

    async def revoke(self, wanted: Revocation, reason: str) -> int | None:
        """Keep a revocation and raise the version; returns its number, a new one for 0, None if that is taken."""
        values = (wanted.number or None, wanted.voter_class, wanted.publisher, wanted.made_from_s, wanted.made_until_s)
        number: int | None = await self._connection.fetchval(
            queries()["insert_revocation"], self._number, *values, reason
        )
        await self._connection.execute(queries()["bump_version"], self._number)
        return number

    async def take_revocation(self, found: Revocation) -> None:
        """Keep one that the store has and an older copy of Postgres lacks."""
        values = (found.voter_class, found.publisher, found.made_from_s, found.made_until_s)
        reason = "made before Postgres came back as an older copy"
        await self._connection.execute(queries()["insert_revocation"], self._number, found.number, *values, reason)

    async def undo_revocation(self, number: int) -> bool:
        """Let its tokens be taken again, and raise the version; whether it was in force."""
        undone = await self._connection.fetchval(queries()["undo_revocation"], self._number, number)
        await self._connection.execute(queries()["bump_version"], self._number)
        return undone is not None

    async def publisher_codes(self) -> dict[str, int]:
        """Code -> number of the publishers so far, in the order of their numbers."""
        records = await self._connection.fetch(queries()["publishers"], self._number)
        return {record["code"]: record["number"] for record in records}

    async def put_publishers(self, publishers: Iterable[Publisher], *, first: Iterable[str] = ()) -> None:
        """Insert publishers, those of the codes `first` before all others, or correct them; a number never changes."""
        number_of = await self.publisher_codes()
        publisher_of = {publisher.code: publisher for publisher in publishers}
        for code in [*(code for code in first if code in publisher_of), *publisher_of]:
            number_of.setdefault(code, len(number_of) + 1)
        rows = [(self._number, number_of[p.code], p.code, p.name, list(p.origins)) for p in publisher_of.values()]
        await self._connection.executemany(queries()["upsert_publisher"], rows)

    async def pass_version(self, version: int) -> int | None:
        """Raise the version past a later one; returns the new one, None if it was not behind."""
        later: int | None = await self._connection.fetchval(queries()["pass_version"], self._id, version)
        return later

    async def create_partitions(self, days: Iterable[date]) -> None:
        """One ledger partition per window, so that no like ever lacks a place.

        Raises CampaignError if a table that is no partition of this ledger stands in a partition's place.
        """
        schema = await self._connection.fetchval(queries()["ledger_schema"])
        for day in days:
            name = partition_name(self._number, day)
            if await self._connection.fetchval(queries()["partition_schema"], name) is None:
                bounds = {"schema": schema, "name": name, "campaign": self._number}
                bounds |= {"day": day, "next_day": day + timedelta(days=1)}
                try:
                    await self._connection.execute(queries()["create_partition"].format(**bounds))
                except asyncpg.DuplicateTableError as error:
                    raise CampaignError(
                        f"Not published: the table {schema}.{name} is no partition of the ledger, and likes of {day} "
                        "would have no place. Attach it, or rename it, then run this again."
                    ) from error

    async def publish(self, width: int) -> int:
        """Move to published (or stay there) and return the new version."""
        version: int = await self._connection.fetchval(queries()["set_published"], self._id, width)
        return version

    async def close(self, early: str = "") -> None:
        """Move from published to closed, and keep why it ends early; again changes nothing."""
        await self._connection.execute(queries()["set_closed"], self._id, early or None)

    async def lock_shards(self, shards: Iterable[Shard]) -> None:
        """Wait for the flushes of these shards that are in the middle; until the step ends no other begins.

        Raises CampaignError if one lasts longer than LOCK_WAIT_S.
        """
        try:
            for shard in shards:
                await self._connection.execute(queries()["wait_for_shard"], self._number, shard.number)
        except asyncpg.LockNotAvailableError as error:
            raise CampaignError("A worker's flush has not ended: run this again when it has.") from error

    async def recount(self, shards: int) -> None:
        """Make the counts, and those by the hour, what the ledger's rows are; the shards are locked meanwhile."""
        await self._connection.execute(queries()["clear_counts"], self._number)
        await self._connection.execute(queries()["clear_hours"], self._number)
        await self._connection.execute(queries()["recount_into_counts"], self._number, shards, timeout=READ_ALL_S)
        await self._connection.execute(queries()["recount_into_hours"], self._number, shards, timeout=READ_ALL_S)

    async def has_likes(self) -> bool:
        """Whether the ledger holds any like of the campaign."""
        return bool(await self._connection.fetchval(queries()["has_likes"], self._number))

    async def now(self) -> datetime:
        """The instant of this transaction, by Postgres's clock."""
        instant: datetime = await self._connection.fetchval(queries()["transaction_time"])
        return instant

    async def seal(self, seal: Seal) -> None:
        """Write the final tally and move to sealed."""
        head = (seal.sealed_at, seal.likes, seal.people, seal.digest, dict(seal.parts))
        await self._connection.execute(queries()["insert_seal"], self._number, *head)
        rows = [(self._number, candidate, rank, t.likes, t.people) for candidate, (rank, t) in seal.tallies.items()]
        await self._connection.executemany(queries()["insert_sealed_tally"], rows)
        await self._connection.execute(queries()["set_sealed"], self._number)
