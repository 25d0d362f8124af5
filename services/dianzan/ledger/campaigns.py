"""Campaigns in the ledger: their rows, candidates and seals, and the lock under which a step changes one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.errors import CampaignError, LedgerError
from dianzan.domain.voters import Revocation, VoterClass
from dianzan.ledger.errors import mapped
from dianzan.ledger.queries import Pool, queries
from dianzan.ledger.records import Contents, RosterChange, Seal, StoredCampaign, StoredRevocation, Tally
from dianzan.ledger.step import CampaignStep, lock_campaign
from dianzan.roster.candidates import Candidate
from dianzan.roster.changes import Change


class Campaigns:
    """Every method raises LedgerAway where Postgres does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> list[StoredCampaign]:
        """All campaigns, oldest first."""
        with mapped():
            return [_campaign(record) for record in await self._pool.fetch(queries()["campaigns"])]

    async def one(self, campaign_id: str) -> StoredCampaign | None:
        """One campaign, None if there is none of this id."""
        with mapped():
            record = await self._pool.fetchrow(queries()["campaign"], campaign_id)
        return _campaign(record) if record else None

    @asynccontextmanager
    async def step(self, campaign_id: str) -> AsyncIterator[CampaignStep]:
        """One transaction in a campaign's life; two steps of one campaign never overlap.

        Raises CampaignError if another step still runs after LOCK_WAIT_S: a seal or a restore takes minutes.
        """
        with mapped():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries()["outlive_idle"])
                await lock_campaign(connection, campaign_id)
                record = await connection.fetchrow(queries()["campaign"], campaign_id)
                yield CampaignStep(connection, campaign_id, _campaign(record) if record else None)

    async def document(self, campaign: StoredCampaign) -> Document:
        """The document of a published campaign as the vote API reads it."""
        if campaign.width is None or campaign.secret is None:
            raise LedgerError(f"Campaign {campaign.id} has not been published, or its key is destroyed.")
        codes = tuple(candidate.code for candidate in (await self.candidates(campaign)).values())
        with mapped():
            publishers = await self._pool.fetch(queries()["publishers"], campaign.number)
        found = await self.revocations(campaign)
        return Document.model_validate(
            {
                "version": campaign.version,
                "state": campaign.state,
                "rules": campaign.rules,
                "width": campaign.width,
                "candidates": codes,
                "secret": campaign.secret.hex(),
                "publishers": {record["code"]: record["number"] for record in publishers},
                "revocations": [each.revocation for each in found if each.undone_at is None],
            }
        )

    async def candidates(self, campaign: StoredCampaign) -> dict[int, Candidate]:
        """Candidate index -> candidate, in order; indexes run from 1 without a gap."""
        with mapped():
            records = await self._pool.fetch(queries()["candidates"], campaign.number)
        return {record["candidate"]: Candidate(*list(record)[1:]) for record in records}

    async def roster_changes(self, campaign: StoredCampaign) -> list[RosterChange]:
        """What was changed in the roster while the campaign ran, in the order of time."""
        with mapped():
            records = await self._pool.fetch(queries()["roster_changes"], campaign.number)
        return [RosterChange(record["changed_at"], Change(*list(record)[1:])) for record in records]

    async def revocations(self, campaign: StoredCampaign) -> list[StoredRevocation]:
        """Which tokens are no longer taken, and which are again, in the order of their numbers."""
        with mapped():
            records = await self._pool.fetch(queries()["revocations"], campaign.number)
        return [_revocation(record) for record in records]

    async def keep_minted(self, campaign: StoredCampaign, voter_class: VoterClass, tokens: int) -> None:
        """Keep how many tokens an operator makes, before they are shown."""
        with mapped():
            await self._pool.execute(queries()["insert_minted"], campaign.number, voter_class, tokens)

    async def minted(self, campaign: StoredCampaign) -> int:
        """How many tokens operators have made."""
        with mapped():
            return int(await self._pool.fetchval(queries()["minted"], campaign.number))

    async def publisher_number(self, campaign: StoredCampaign, code: str) -> int:
        """A publisher's number. Raises CampaignError if the campaign has none of this code."""
        with mapped():
            records = await self._pool.fetch(queries()["publishers"], campaign.number)
        for record in records:
            if record["code"] == code:
                return int(record["number"])
        known = ", ".join(record["code"] for record in records) or "none"
        raise CampaignError(f"Campaign {campaign.id} has no publisher {code!r:.40}; it has {known}.")

    async def set_foreign(self, campaign: StoredCampaign, *, found: bool) -> None:
        """Remember that the ledger holds likes that the store never took, or that it does not any more."""
        with mapped():
            await self._pool.execute(queries()["set_foreign"], campaign.number, found)

    async def claim_comparison(self, campaign: StoredCampaign) -> bool:
        """Whether a sealed campaign is due to be compared with its seal, by whoever asks."""
        with mapped():
            return await self._pool.fetchval(queries()["claim_comparison"], campaign.number) is not None

    async def set_differences(self, campaign: StoredCampaign, number: int) -> None:
        """Keep how much differed from the seal."""
        with mapped():
            await self._pool.execute(queries()["set_differences"], campaign.number, number)

    async def differences(self, campaign: StoredCampaign) -> int:
        """How much differed from the seal when it was last compared."""
        with mapped():
            return int(await self._pool.fetchval(queries()["differences"], campaign.number) or 0)

    async def set_swept(self, campaign: StoredCampaign, day: date) -> None:
        """Remember the last window whose marks are gone from the store."""
        with mapped():
            await self._pool.execute(queries()["set_swept"], campaign.number, day)

    async def seal(self, campaign: StoredCampaign) -> Seal | None:
        """The published final tally, None before the seal."""
        with mapped():
            head = await self._pool.fetchrow(queries()["seal"], campaign.number)
            if head is None:
                return None
            records = await self._pool.fetch(queries()["sealed_tally"], campaign.number)
        tallies = {
            record["candidate"]: (record["rank"], Tally(record["likes"], record["people"])) for record in records
        }
        return Seal(head["sealed_at"], head["likes"], head["people"], tallies, head["digest"], head["parts"] or {})

    async def contents(self, campaign: StoredCampaign) -> Contents:
        """What a seal fixes beside the numbers."""
        with mapped():
            rules = await self._pool.fetchval(queries()["stored_rules"], campaign.number)
            candidates = await self._pool.fetch(queries()["candidates"], campaign.number)
            publishers = await self._pool.fetch(queries()["publishers"], campaign.number)
        return Contents(rules, [dict(record) for record in candidates], [dict(record) for record in publishers])


def _revocation(record: asyncpg.Record) -> StoredRevocation:
    number, voter_class, publisher, from_s, until_s, revoked_at, reason, undone_at, code = record
    named = None if voter_class is None else VoterClass(voter_class)
    return StoredRevocation(Revocation(number, named, publisher, from_s, until_s), revoked_at, reason, undone_at, code)


def _campaign(record: asyncpg.Record) -> StoredCampaign:
    return StoredCampaign(
        number=record["number"],
        rules=Rules.model_validate(record["rules"]),
        version=record["version"],
        state=State(record["state"]),
        width=record["width"],
        secret=record["secret"],
        swept_through=record["swept_through"],
        foreign_since=record["foreign_since"],
    )
