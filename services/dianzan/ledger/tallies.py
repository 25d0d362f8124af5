"""The numbers kept beside the ledger, and the same numbers counted again from its rows."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dianzan.domain.voters import VoterClass
from dianzan.ledger.errors import mapped
from dianzan.ledger.queries import READ_ALL_S, Pool, queries
from dianzan.ledger.records import StoredCampaign, Tally


class Tallies:
    """What the results show, four times a second. Raises LedgerAway if Postgres does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> dict[int, dict[int, Tally]]:
        """Campaign number -> candidate index -> numbers by the counts; index 0 holds the people of the campaign."""
        tallies: dict[int, dict[int, Tally]] = {}
        with mapped():
            for record in await self._pool.fetch(queries()["tallies"]):
                of_campaign = tallies.setdefault(record["campaign"], {})
                of_campaign[record["candidate"]] = Tally(record["likes"], record["people"])
        return tallies

    async def hours(self, campaign: StoredCampaign) -> list[tuple[datetime, int]]:
        """Likes per hour, oldest first, hours without likes left out."""
        with mapped():
            records = await self._pool.fetch(queries()["hours"], campaign.number)
        return [(record["hour"], record["likes"]) for record in records]


TIMELINE: Final = "likes more or less in an hour of the timeline than the rows say"


class Recounts:
    """Likes or people per candidate, each counted in a way of its own. Raises LedgerAway."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def counts(self, campaign: StoredCampaign) -> dict[int, int]:
        """Likes by the counts."""
        return await self._per_candidate("recount_counts", campaign)

    async def rows(self, campaign: StoredCampaign) -> dict[int, int]:
        """Likes by counting the ledger's rows."""
        return await self._per_candidate("recount_ledger", campaign)

    async def identities(self, campaign: StoredCampaign) -> dict[int, int]:
        """Likes by counting distinct identities, without trusting the primary key."""
        return await self._per_candidate("recount_identities", campaign)

    async def people(self, campaign: StoredCampaign) -> dict[int, int]:
        """Distinct voters, exactly; index 0 is the whole campaign."""
        return await self._per_candidate("recount_people", campaign)

    async def counts_and_rows(self, campaign: StoredCampaign) -> tuple[dict[int, int], dict[int, int]]:
        """Likes by the counts and by the rows, of one instant: while likes are flushed they are equal too."""
        with mapped():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                found = [
                    await connection.fetch(queries()["recount_counts"], campaign.number),
                    await connection.fetch(queries()["recount_ledger"], campaign.number, timeout=READ_ALL_S),
                ]
        counts, rows = ({record[0]: record[1] for record in records} for records in found)
        return counts, rows

    async def strays(self, campaign: StoredCampaign) -> dict[str, int]:
        """What a like must not be -> how many are; the rules that all likes keep are those that only ever widen."""
        rules, number = campaign.rules, campaign.number
        classes = [VoterClass[name].value for name in rules.voter_classes]
        with mapped():
            [record] = await self._pool.fetch(
                queries()["recount_strays"], number, classes, rules.window_dates(), timeout=READ_ALL_S
            )
            quota = rules.likes_per_window
            over = await self._pool.fetchval(queries()["recount_over_quota"], number, quota, timeout=READ_ALL_S)
            hours = await self._pool.fetchval(queries()["recount_hours"], number, rules.timezone, timeout=READ_ALL_S)
        candidate, publisher, voter_class, window = record
        return {
            "likes of a candidate that there is not": candidate,
            "likes by a publisher that there is not": publisher,
            "likes of a voter class that is not allowed": voter_class,
            "likes of a window that the rules do not have": window,
            f"voters with more than {quota} likes in a window": over,
            TIMELINE: hours,
        }

    async def _per_candidate(self, query: str, campaign: StoredCampaign) -> dict[int, int]:
        with mapped():
            records = await self._pool.fetch(queries()[query], campaign.number, timeout=READ_ALL_S)
        return {record[0]: record[1] for record in records}
