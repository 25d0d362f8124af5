"""The steps in a campaign's life up to its end, over ledger and store: create, import candidates, publish, close.

Every step may be interrupted and run again: Postgres is written first, the store after it, and each write is the same
the second time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dianzan.domain import voters
from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.changes import next_width, refused_changes
from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import CANDIDATES_MAX
from dianzan.domain.voters import Revocation
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.ledger.step import CampaignStep
from dianzan.life.older_copy import (
    OLDER_COPY,
    lacking_codes,
    past_older_copy,
    published_document,
    rules_in_force,
    some,
)
from dianzan.process import faults
from dianzan.roster.candidates import Candidate, Roster
from dianzan.roster.changes import FIELDS, Change, changes, corrected
from dianzan.store.store import Store


class Lifecycle:
    """One method a step. Raises CampaignError with what to do if a step is refused."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def create(self, rules: Rules) -> bool:
        """Create a draft, or change the rules of a campaign that exists; returns whether it is new.

        A published campaign's changes are in force when this returns; those that would give likes already cast another
        meaning are refused.
        """
        if not await self._ledger.knows_zone(rules.timezone):
            raise CampaignError(f"timezone: Postgres does not know {rules.timezone!r}; write one like Asia/Shanghai.")
        async with self._ledger.campaigns.step(rules.id) as step:
            if step.campaign is None:
                await step.create(rules, voters.new_key())
                await step.put_publishers(rules.publishers)
                return True
            _require_before(step.campaign, State.closed)
            published = await published_document(self._store.documents, step.campaign)
            before = rules_in_force(published, step.campaign)
            if before is not None:
                refused = refused_changes(before, rules, datetime.now(UTC))
                if refused:
                    raise CampaignError(f"Campaign {rules.id} is published; refused:\n  " + "\n  ".join(refused))
            await step.change_rules(rules)
            await step.put_publishers(rules.publishers, first=published.publisher_number if published else ())
        await self._publish_changes(step.campaign)
        return False

    async def roster_changes(self, campaign_id: str, roster: Roster) -> list[Change]:
        """What importing this roster would change before the eyes of voters; in a draft nothing."""
        campaign = await self.stored(campaign_id)
        _require_before(campaign, State.closed)
        if campaign.state is State.draft:
            return []
        known = {each.code: each for each in (await self._ledger.campaigns.candidates(campaign)).values()}
        return changes(known, [corrected(known.get(each.code), each, roster.columns) for each in roster.candidates])

    async def import_candidates(
        self,
        campaign_id: str,
        candidates: Sequence[Candidate],
        *,
        columns: Collection[str] = FIELDS,
        agreed: Sequence[Change] | None = None,
    ) -> tuple[int, int]:
        """Add candidates, or correct those whose code exists; returns (added, corrected). None is ever removed.

        A field that is not among `columns` is left as it is. In a published campaign all is in force when this returns,
        and the changes are kept; they are refused if they are not those `agreed` to.
        """
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = require(step, campaign_id)
            _require_before(campaign, State.closed)
            known = {each.code: each for each in (await self._ledger.campaigns.candidates(campaign)).values()}
            codes = await self._codes_with(campaign, list(known), candidates)
            wanted = [corrected(known.get(each.code), each, columns) for each in candidates]
            differences = changes(known, wanted)
            if campaign.state is State.published:
                if agreed is not None and differences != list(agreed):
                    raise CampaignError(f"The roster of {campaign_id} was changed meanwhile: run this again.")
                await step.keep_changes(differences)
            index_of = {code: index for index, code in enumerate(codes, start=1)}
            await step.put_candidates([(index_of[each.code], each) for each in wanted])
        await self._publish_changes(campaign)
        added = len(codes) - len(known)
        return added, len({each.code for each in differences}) - added

    async def _codes_with(
        self, campaign: StoredCampaign, known: Sequence[str], candidates: Sequence[Candidate]
    ) -> list[str]:
        """All codes in the order of their indexes, those of `candidates` added. Raises CampaignError."""
        published = await published_document(self._store.documents, campaign)
        lacking = lacking_codes(published.candidates, known) if published else ()
        missing = set(lacking) - {candidate.code for candidate in candidates}
        if missing:
            raise CampaignError(
                f"{OLDER_COPY}, and lacks candidates that voters know: {some(lacking)}. "
                f"The roster must have them all, but has no {some(sorted(missing))}."
            )
        # In the store's order first: likes go by the index.
        codes = list(dict.fromkeys([*known, *lacking, *(candidate.code for candidate in candidates)]))
        if len(codes) > CANDIDATES_MAX:
            raise CampaignError(f"A campaign has at most {CANDIDATES_MAX} candidates, not {len(codes)}.")
        next_width(campaign.width, len(codes))
        return codes

    async def revoke(self, campaign_id: str, wanted: Revocation, reason: str) -> int:
        """Take no more likes by the tokens that `wanted` names; in force when this returns its number."""
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            _require_before(campaign, State.closed)
            number = await step.revoke(replace(wanted, number=0), reason)
        await self._publish_changes(campaign)
        return number or 0

    async def undo_revocation(self, campaign_id: str, number: int) -> None:
        """Take the tokens of a revocation again; in force when this returns."""
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            _require_before(campaign, State.closed)
            if not await step.undo_revocation(number):
                raise CampaignError(f"Campaign {campaign_id} has no revocation {number} that is in force.")
        await self._publish_changes(campaign)

    async def publish(self, campaign_id: str) -> Document:
        """Open the campaign's shards, or bring changed rules and candidates into the store.

        Partitions first, so that no like ever lacks a place in the ledger; then the gates; the document last, so that
        the vote API offers only what the shards take. A store that has lost a campaign's likes is not opened again.
        """
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            _require_before(campaign, State.closed)
            codes = await step.candidate_codes()
            if not codes:
                raise CampaignError(
                    f"Campaign {campaign_id} has no candidates: dianzan campaign import-candidates first."
                )
            await self._require_time_left(campaign)
            # Before anything reads the ledger: two readers that both come to want the whole table would deadlock.
            await step.create_partitions(campaign.rules.window_dates())
            if not await self._is_published(campaign):
                await step.publish(next_width(campaign.width, len(codes)))
        return await self._bring_into_store(campaign_id)

    async def _is_published(self, campaign: StoredCampaign) -> bool:
        """Whether the store has just this: then no vote API and no open page is told to read anything again."""
        if campaign.state is not State.published:
            return False
        return await self._store.documents.read(campaign.id) == await self._ledger.campaigns.document(campaign)

    async def close(self, campaign_id: str, *, early: str = "") -> None:
        """Take no more likes, permanently; `early` says why before `closes`. After this no like is accepted anywhere.

        A store that has lost a campaign's likes is not closed: an empty shard that is closed cannot be told from one
        that nobody liked in.
        """
        await self._store.load_library()
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            if campaign.state is State.draft:
                raise CampaignError(f"Campaign {campaign_id} was never published: there is nothing to close.")
            if await step.has_likes():
                await self._require_gates(campaign)
            await self._store.gates.close(campaign.shards)
            faults.hit("close.before_commit")
            await step.close(early)
        faults.hit("close.after_commit")
        await self.publish_document(campaign_id)

    async def publish_document(self, campaign_id: str) -> None:
        """Bring the campaign's state as it is committed now into the store."""
        async with self._ledger.campaigns.step(campaign_id) as step:
            document = await self._ledger.campaigns.document(require(step, campaign_id))
            await self._store.documents.publish(document)

    async def stored(self, campaign_id: str) -> StoredCampaign:
        """The campaign's row. Raises CampaignError if there is none."""
        campaign = await self._ledger.campaigns.one(campaign_id)
        if campaign is None:
            raise CampaignError(_unknown(campaign_id))
        return campaign

    async def _require_time_left(self, campaign: StoredCampaign) -> None:
        """Publishing fixes an id and its times permanently: not one that nobody could like in.

        Raises CampaignError. What the store has is published already, whatever an older copy of Postgres says.
        """
        rules = campaign.rules
        if campaign.state is not State.draft or rules.closes > datetime.now(UTC):
            return
        if await self._store.documents.read(campaign.id) is None:
            raise CampaignError(
                f"Campaign {campaign.id} is over before it begins: closes is {rules.closes.astimezone(rules.zone)}. "
                "Change opens and closes in the campaign file and run dianzan campaign create with it, then this again."
            )

    async def _publish_changes(self, before: StoredCampaign) -> None:
        if before.state is State.published:
            await self.publish(before.id)

    async def _bring_into_store(self, campaign_id: str) -> Document:
        """Bring the campaign as it is committed now into the store, under the campaign's lock.

        If two publications run at once, each brings the later one's rules, so no shard is left with the earlier ones.
        """
        await self._store.load_library()
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = require(step, campaign_id)
            _require_before(campaign, State.closed)
            has_likes = await step.has_likes()
            if has_likes:
                await self._require_gates(campaign)
            if await self._store.gates.closed(campaign.shards):
                raise CampaignError(
                    f"A close of campaign {campaign_id} was interrupted, and what is closed stays closed: "
                    f"run dianzan campaign close {campaign_id}."
                )
            document = await self._ledger.campaigns.document(campaign)
            await self._store.gates.open(document, campaign.shards, first=not has_likes)
            await self._store.documents.publish(document)
        return document

    async def _require_gates(self, campaign: StoredCampaign) -> None:
        missing = await self._store.gates.missing(campaign.shards)
        if missing:
            raise CampaignError(
                f"The store has lost {len(missing)} of {len(campaign.shards)} shards of campaign {campaign.id}, whose "
                f"likes are in the ledger: run dianzan restore {campaign.id}, then this again."
            )


def require(step: CampaignStep, campaign_id: str) -> StoredCampaign:
    """The campaign a step is about. Raises CampaignError if there is none."""
    if step.campaign is None:
        raise CampaignError(_unknown(campaign_id))
    return step.campaign


def _require_before(campaign: StoredCampaign, limit: State) -> None:
    if list(State).index(campaign.state) >= list(State).index(limit):
        raise CampaignError(f"Campaign {campaign.id} is {campaign.state}, permanently.")


def _unknown(campaign_id: str) -> str:
    return f"There is no campaign {campaign_id!r}: dianzan campaign list shows them all."
